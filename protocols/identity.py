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

from protocols.crypto import (
    ED25519_PUBLIC_SIZE,
    ED25519_SEED_SIZE,
    ED25519_SIGNATURE_SIZE,
    X25519_KEY_SIZE,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    x25519_public,
)
from protocols.errors import LocalError, ProtocolError
from protocols.transcript import transcript

PROTOCOL_NAME: Final = b"spacepanda-session"
PROTOCOL_VERSION: Final = 1
PURPOSE_SESSION: Final = b"session"

CERTIFICATE_SIZE: Final = ED25519_PUBLIC_SIZE + ED25519_SIGNATURE_SIZE
"""The device's public key, then its signature. What it certifies is known to the verifier and not repeated."""

IDENTITY_ENTROPY_SIZE: Final = ED25519_SEED_SIZE + X25519_KEY_SIZE
NETWORK_ID_SIZE_MAX: Final = 64
"""A network id is a name or a hash; both fit."""


class IdentityError(ProtocolError):
    """A certificate that does not certify this static: ``bad_certificate``, ``bad_certificate_length``."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """All the keys of one device. It is given to the cores that need it and never sent."""

    device_seed: bytes = field(repr=False)
    device_public: bytes
    static_private: bytes = field(repr=False)
    static_public: bytes
    certificate: bytes
    network_id: bytes

    @classmethod
    def generate(cls, entropy: bytes, network_id: bytes) -> Self:
        """The identity that these 64 bytes of entropy determine."""
        if len(entropy) != IDENTITY_ENTROPY_SIZE:
            raise LocalError(f"an identity takes {IDENTITY_ENTROPY_SIZE} bytes of entropy, not {len(entropy)}")
        device_seed, static_private = entropy[:ED25519_SEED_SIZE], entropy[ED25519_SEED_SIZE:]
        device_public, static_public = ed25519_public(device_seed), x25519_public(static_private)
        certificate = certify(device_seed, device_public, static_public, network_id)
        return cls(device_seed, device_public, static_private, static_public, certificate, network_id)


def certify(
    device_seed: bytes,
    device_public: bytes,
    static_public: bytes,
    network_id: bytes,
    purpose: bytes = PURPOSE_SESSION,
) -> bytes:
    statement = _statement(static_public, network_id, purpose)
    return device_public + ed25519_sign(device_seed, device_public, statement)


def certified_device(
    certificate: bytes, static_public: bytes, network_id: bytes, purpose: bytes = PURPOSE_SESSION
) -> bytes:
    """The device that certified ``static_public`` for this network and purpose.

    Raises:
        IdentityError: nobody did.
    """
    if len(certificate) != CERTIFICATE_SIZE:
        raise IdentityError("bad_certificate_length", f"{len(certificate)} bytes, not {CERTIFICATE_SIZE}")
    device, signature = certificate[:ED25519_PUBLIC_SIZE], certificate[ED25519_PUBLIC_SIZE:]
    if not ed25519_verify(device, _statement(static_public, network_id, purpose), signature):
        raise IdentityError("bad_certificate", f"not signed by {device.hex()[:16]} for this static, here")
    return device


@lru_cache(maxsize=16)  # one process simulates few networks, and every peer of one shares these bytes
def prologue(network_id: bytes) -> bytes:
    """What both sides of a handshake must agree on before it: protocol, version, network."""
    if not 0 < len(network_id) <= NETWORK_ID_SIZE_MAX:
        raise LocalError(f"a network id has 1 to {NETWORK_ID_SIZE_MAX} bytes, not {len(network_id)}")
    version = PROTOCOL_VERSION.to_bytes(2, "big")
    return transcript("spacepanda/prologue/1", PROTOCOL_NAME, version, network_id)


def _statement(static_public: bytes, network_id: bytes, purpose: bytes) -> bytes:
    return transcript("spacepanda/static/1", static_public, prologue(network_id), purpose)
