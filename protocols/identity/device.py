"""A device's long-term keys, and the certificate that ties its session key to its name.

A device is its Ed25519 public key. Sessions agree keys with X25519, so a second key is needed. Converting
one into the other was rejected: a key that both signs and agrees makes every proof about either depend on
the other, and neither could be kept in separate hardware. Instead the Ed25519 key certifies an X25519
static: a signature over the static, what the session protocol is (name, version, network id) and what
the static is for. So a certificate says nothing in another network, in another version or for another purpose.

Noise proves that a peer holds the static; the certificate says whose static it is. Together they
authenticate the device (attack N4 of the notes: misbinding, and reuse of a key across protocols).
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

from protocols.crypto import ED25519_SEED_SIZE, X25519_KEY_SIZE, x25519_public
from protocols.errors import LocalError
from protocols.identity.certificates import Purpose
from protocols.identity.errors import IdentityError
from protocols.identity.signing import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Domain, SigningKey, sign, verify
from protocols.transcript import transcript

PROTOCOL_NAME: Final = b"spacepanda-session"
PROTOCOL_VERSION: Final = 1

CERTIFICATE_SIZE: Final = PUBLIC_KEY_SIZE + SIGNATURE_SIZE
"""The device's public key, then its signature. What it certifies is known to the verifier and not repeated."""

IDENTITY_ENTROPY_SIZE: Final = ED25519_SEED_SIZE + X25519_KEY_SIZE
NETWORK_ID_SIZE_MAX: Final = 64
"""A network id is a name or a hash; both fit."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """All the keys of one device. It is given to the cores that need it and never sent."""

    signing: SigningKey
    static_private: bytes = field(repr=False)
    static_public: bytes
    certificate: bytes
    network_id: bytes

    @classmethod
    def generate(cls, entropy: bytes, network_id: bytes) -> Self:
        """The identity that these 64 bytes of entropy determine."""
        if len(entropy) != IDENTITY_ENTROPY_SIZE:
            raise LocalError(f"an identity takes {IDENTITY_ENTROPY_SIZE} bytes of entropy, not {len(entropy)}")
        signing, static_private = SigningKey(entropy[:ED25519_SEED_SIZE]), entropy[ED25519_SEED_SIZE:]
        static_public = x25519_public(static_private)
        return cls(signing, static_private, static_public, certify(signing, static_public, network_id), network_id)

    @property
    def device_public(self) -> bytes:
        return self.signing.public


def certify(key: SigningKey, static_public: bytes, network_id: bytes, purpose: Purpose = Purpose.SESSION) -> bytes:
    return key.public + sign(key, Domain.STATIC, static_public, prologue(network_id), purpose.encode())


def certified_device(
    certificate: bytes, static_public: bytes, network_id: bytes, purpose: Purpose = Purpose.SESSION
) -> bytes:
    """The device that certified ``static_public`` for this network and purpose.

    Raises:
        IdentityError: ``bad_static_length``, ``bad_static``: nobody did.
    """
    if len(certificate) != CERTIFICATE_SIZE:
        raise IdentityError("bad_static_length", f"{len(certificate)} bytes, not {CERTIFICATE_SIZE}")
    device, signature = certificate[:PUBLIC_KEY_SIZE], certificate[PUBLIC_KEY_SIZE:]
    fields = static_public, prologue(network_id), purpose.encode()
    if not verify(device, Domain.STATIC, *fields, signature=signature):
        raise IdentityError("bad_static", f"not certified by {device.hex()[:16]} for this static, here")
    return device


@lru_cache(maxsize=16)  # one process simulates few networks, and every peer of one shares these bytes
def prologue(network_id: bytes) -> bytes:
    """What both sides of a handshake must agree on before it: protocol, version, network."""
    if not 0 < len(network_id) <= NETWORK_ID_SIZE_MAX:
        raise LocalError(f"a network id has 1 to {NETWORK_ID_SIZE_MAX} bytes, not {len(network_id)}")
    version = PROTOCOL_VERSION.to_bytes(2, "big")
    return transcript("spacepanda/prologue/1", PROTOCOL_NAME, version, network_id)
