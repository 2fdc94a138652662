"""The bytes that a signature covers, built in one way only.

A signature made for one purpose must never verify for another, and two different statements must never
have the same bytes. Joining strings loses both: ``"ab" + "c"`` is ``"a" + "bc"``, and a signed record is
a signed challenge if the bytes happen to agree. So every signature in SpacePanda covers

    magic || length of domain || domain || number of fields || (length || field) for each

with lengths as 4 big-endian bytes. Domain and fields can be read back, so the map is injective. A number in a
field is the caller's to encode, at a fixed width. The domain names purpose and version, such as
``"spacepanda/dht-record/1"``.
"""

from protocols.errors import LocalError

# So that nothing signed by another program under the same key can be one of ours.
MAGIC = b"SpacePanda signed transcript 1\0"
DOMAIN_SIZE_MAX = 255
FIELD_SIZE_MAX = 2**32 - 1


def transcript(domain: str, *fields: bytes) -> bytes:
    if not 0 < len(domain) <= DOMAIN_SIZE_MAX or not domain.isascii():
        raise LocalError(f"a transcript's domain is 1 to {DOMAIN_SIZE_MAX} ASCII characters, not {domain!r}")
    tag = domain.encode()
    parts = [MAGIC, len(tag).to_bytes(4, "big"), tag, len(fields).to_bytes(4, "big")]
    for field in fields:
        if len(field) > FIELD_SIZE_MAX:
            raise LocalError(f"a transcript field of {len(field)} bytes does not fit a length of 4 bytes")
        parts += len(field).to_bytes(4, "big"), field
    return b"".join(parts)
