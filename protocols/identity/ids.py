"""Names of users, devices and nodes: hashes of their keys.

A name is a hash under a tag that is the sort of thing it names, and each sort is a type. So one key as a user's and
as a device's has two unrelated names, and a name of one sort is never equal to one of another, nor taken for it by
the type checker. Names cannot be chosen but by making keys until one fits.

Keys are what is sent, signed and looked up; a name is derived where it is needed and travels nowhere, so nobody can
name another key than they use.
"""

import hashlib
from typing import Final, Self

import msgspec

from protocols.crypto import ED25519_PUBLIC_SIZE
from protocols.errors import LocalError

ID_SIZE: Final = 32


class Id(msgspec.Struct, frozen=True, gc=False, order=True):
    """The BLAKE2b hash of a public key, with the sort of its owner as BLAKE2's personalisation."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != ID_SIZE:
            raise ValueError(f"an id has {ID_SIZE} bytes, not {len(self.value)}")

    def __bytes__(self) -> bytes:
        return self.value

    def __str__(self) -> str:
        return self.value.hex()[:16]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class UserId(Id, frozen=True, gc=False, order=True):
    """A person, or whoever holds the key that certifies devices."""

    @classmethod
    def of(cls, user_public: bytes) -> Self:
        return cls(_digest(user_public, b"spacepanda user"))


class DeviceId(Id, frozen=True, gc=False, order=True):
    """A device's present key: after a rotation it is another one."""

    @classmethod
    def of(cls, device_public: bytes) -> Self:
        return cls(_digest(device_public, b"spacepanda dev"))


class NodeId(Id, frozen=True, gc=False, order=True):
    """A device's place in the DHT, as it is written; ``contact.node_id`` is the number that is reckoned with."""

    @classmethod
    def of(cls, device_public: bytes) -> Self:
        return cls(_digest(device_public, b"spacepanda node"))

    def __int__(self) -> int:
        return int.from_bytes(self.value)


def _digest(public: bytes, person: bytes) -> bytes:
    if len(public) != ED25519_PUBLIC_SIZE:
        raise LocalError(f"an id is made of a key of {ED25519_PUBLIC_SIZE} bytes, not {len(public)}")
    return hashlib.blake2b(public, digest_size=ID_SIZE, person=person).digest()
