"""The one way in which SpacePanda signs.

Every signature is made by ``sign`` and checked by ``verify``: under a domain of the list below, over the fields of
a transcript that frames each of them. So a signature says what it was made for, two statements never have the same
bytes, and a new purpose is a line in ``Domain``, beside all others, where a second use of one would be seen. MLS is
the exception, as RFC 9420 §5.1.2 has a construction of the same kind; it cannot collide, as no transcript begins
like one of its structures.

A key checks strictly, as libsodium does: S is below the group's order, the public key and R are canonical and of
large order, and the equation is the one without cofactor. All replicas agree about every signature, and nobody can
make a second one out of it.
"""

from enum import StrEnum
from typing import Annotated, Final, Self

from msgspec import Meta

from protocols.crypto import (
    ED25519_PUBLIC_SIZE,
    ED25519_SEED_SIZE,
    ED25519_SIGNATURE_SIZE,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
)
from protocols.errors import LocalError
from protocols.transcript import transcript

PUBLIC_KEY_SIZE: Final = ED25519_PUBLIC_SIZE
SIGNATURE_SIZE: Final = ED25519_SIGNATURE_SIZE

Signature = Annotated[bytes, Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class Domain(StrEnum):
    """What a key signs for. The number is the version of the statement's fields: other fields, another number."""

    DEVICE = "spacepanda/device/1"
    """A user: this key is a device of mine."""
    DEVICE_REQUEST = "spacepanda/device-request/1"
    """A new key of a device: certify me. It proves that whoever asks has it."""
    REVOCATION = "spacepanda/revocation/1"
    """A user: this device is mine no more."""
    STATIC = "spacepanda/static/1"
    """A device: this X25519 key is mine, for sessions."""
    MLS_LEAF = "spacepanda/mls-leaf/1"
    """A device: this signature key is mine, for leaves of MLS groups."""
    PSEUDONYM = "spacepanda/pseudonym/1"
    """A user, and the pseudonym itself: these two are one."""
    POSSESSION = "spacepanda/possession/1"
    """A device, to who challenged it: I have my key."""
    RECORD = "spacepanda/record/1"
    """A device: this is my record in the DHT."""
    CRDT_BUNDLE = "spacepanda/crdt-bundle/1"
    """A device: these operations on a document are mine."""
    CRDT_SNAPSHOT = "spacepanda/crdt-snapshot/1"
    """A member of a channel: this is what its operations come to, up to where it says."""
    JOURNAL_HEAD = "spacepanda/journal-head/1"
    """A device: this is how far my journal goes."""


class SigningKey:
    """An Ed25519 key pair. The halves stay together: with another public key a signature would give the private
    one away. It does not print, compare or pickle its seed."""

    __slots__ = ("_seed", "public")

    def __init__(self, seed: bytes, public: bytes | None = None) -> None:
        """``public`` spares its derivation, as dear as a signature; it must be the seed's own."""
        if len(seed) != ED25519_SEED_SIZE:
            raise LocalError(f"an Ed25519 seed has {ED25519_SEED_SIZE} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self.public = ed25519_public(self._seed) if public is None else public

    @classmethod
    def generate(cls, entropy: bytes) -> Self:
        return cls(entropy)

    @property
    def seed(self) -> bytes:
        """The private half, for whoever seals or derives from it."""
        return self._seed

    def __eq__(self, other: object) -> bool:
        """Equal public halves: the private ones follow."""
        return self.public == other.public if isinstance(other, SigningKey) else NotImplemented

    def __hash__(self) -> int:
        """Of bytes that nobody chose, and the same in every process."""
        return int.from_bytes(self.public[:8], "big")

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()[:16]})"

    def __reduce__(self) -> str:
        raise LocalError("a SigningKey is not pickled: seal its seed where keys are stored")


def sign(key: SigningKey, domain: Domain, *fields: bytes) -> bytes:
    """The signature of ``key`` under the statement that ``domain`` and ``fields`` make."""
    return ed25519_sign(key.seed, key.public, transcript(domain, *fields))


def verify(public: bytes, domain: Domain, *fields: bytes, signature: bytes) -> bool:
    """Whether ``public`` signed this statement. Wrong lengths and bad keys are false, never an exception."""
    return ed25519_verify(public, transcript(domain, *fields), signature)
