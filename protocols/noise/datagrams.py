"""The five datagrams of a session, as bytes. Everything here is cheap enough to do for a stranger.

    INIT      1 | sender index | cookie | Noise message 1
    RESPONSE  2 | receiver index | Noise message 2 (responder's index, certificate)
    FINAL     3 | receiver index | Noise message 3 (certificate)
    DATA      4 | receiver index | counter | ciphertext
    COOKIE    5 | receiver index | cookie

Indexes are 4 bytes, counters 8, big-endian. An index is drawn at random by who receives under it and is
never zero, so to reach somebody's handshake one must have seen its datagrams. No index can be rewritten on
the way: the initiator's is part of the prologue, the responder's is a payload, DATA's is associated data.

Every handshake datagram has exactly one size, checked before anything is looked up. INIT's payload is padding: a
responder cannot know that the source is not spoofed, and repeats its RESPONSE, so whatever it may send for
one INIT stays within three times its size (the limit of QUIC, RFC 9000 §8.1).
"""

from struct import Struct
from typing import Final

from protocols.crypto import AEAD_TAG_SIZE, X25519_KEY_SIZE
from protocols.identity import CERTIFICATE_SIZE
from protocols.messages import DATAGRAM_SIZE_MAX
from protocols.noise.errors import NoiseError

INIT: Final = 1
RESPONSE: Final = 2
FINAL: Final = 3
DATA: Final = 4
COOKIE: Final = 5

INDEX_SIZE: Final = 4
COOKIE_SIZE: Final = 16
NO_COOKIE: Final = bytes(COOKIE_SIZE)

INIT_HEADER: Final = Struct(">BI16s")
HEADER: Final = Struct(">BI")
DATA_HEADER: Final = Struct(">BIQ")
DATA_HEADER_SIZE: Final = DATA_HEADER.size
COOKIE_DATAGRAM: Final = Struct(">BI16s")

RESPONSES_MAX: Final = 4
"""How often a responder sends RESPONSE unasked: at 0, 1, 3 and 7 s of the 10 that a handshake may take."""

_SEALED_STATIC_SIZE: Final = X25519_KEY_SIZE + AEAD_TAG_SIZE
RESPONSE_SIZE: Final = (
    HEADER.size + X25519_KEY_SIZE + _SEALED_STATIC_SIZE + INDEX_SIZE + CERTIFICATE_SIZE + AEAD_TAG_SIZE
)
FINAL_SIZE: Final = HEADER.size + _SEALED_STATIC_SIZE + CERTIFICATE_SIZE + AEAD_TAG_SIZE
INIT_SIZE: Final = -(-RESPONSES_MAX * RESPONSE_SIZE // 3)
INIT_PADDING: Final = bytes(INIT_SIZE - INIT_HEADER.size - X25519_KEY_SIZE)
DATA_SIZE_MIN: Final = DATA_HEADER_SIZE + AEAD_TAG_SIZE

PLAINTEXT_SIZE_MAX: Final = DATAGRAM_SIZE_MAX - DATA_SIZE_MIN
"""The largest frame that a session carries."""

_SIZES: Final = {
    INIT: (INIT_SIZE, INIT_SIZE),
    RESPONSE: (RESPONSE_SIZE, RESPONSE_SIZE),
    FINAL: (FINAL_SIZE, FINAL_SIZE),
    DATA: (DATA_SIZE_MIN, DATAGRAM_SIZE_MAX),
    COOKIE: (COOKIE_DATAGRAM.size, COOKIE_DATAGRAM.size),
}


class SessionError(NoiseError):
    """A datagram that no honest peer of this protocol sends; nothing was changed.

    Reasons: ``unknown_datagram``, ``bad_size``, ``malformed_init``, ``wrong_endpoint``, ``own_device``,
    ``bad_static``, ``decrypt_failed``, ``counter_too_far``.
    """


class StaleDatagramError(SessionError):
    """A datagram that a network which loses, repeats and delays may deliver between honest peers.

    Reasons: ``replayed``, ``counter_too_old``, ``unknown_session``, ``unknown_handshake``,
    ``finished_handshake``, ``simultaneous_dial``, ``half_open_full``, ``early_data_full``, ``expired``,
    ``unused_cookie``.
    """


def kind_of(data: bytes) -> int:
    """The type of a datagram that has a size this type can have."""
    sizes = _SIZES.get(data[0]) if data else None
    if sizes is None:
        raise SessionError("unknown_datagram", f"type {data[0]}" if data else "empty")
    if not sizes[0] <= len(data) <= sizes[1]:
        raise SessionError("bad_size", f"{len(data)} bytes of type {data[0]}")
    return data[0]


def index_bytes(index: int) -> bytes:
    return index.to_bytes(INDEX_SIZE, "big")
