"""What a keystore holds, as a value: who its user is, the keys of their devices, and what the journal hangs from.

Every change makes another value; saving it is somebody else's. The encoding is the canonical MessagePack of a
message, so bytes and meaning are one to one, and its version is the file's.

The user's seed may be absent: a device needs its own keys and its certificate only, and the key that certifies devices
is best kept where it is seldom used. Retired keys stay for a while, as what was sealed to a device before it was
rotated can still arrive; they certify and sign nothing.

What is opened is immutable ``bytes``, which nobody can wipe: whoever has a content lets go of it when it is used.
"""

from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from protocols.crypto import ED25519_SEED_SIZE
from protocols.errors import LocalError
from protocols.identity.certificates import ALL_PURPOSES, DeviceCertificate, DeviceRequest, Purpose
from protocols.identity.device import IDENTITY_ENTROPY_SIZE, NETWORK_ID_SIZE_MAX, DeviceIdentity
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.sealed import PLAINTEXT_SIZE_MAX, Header, Role, Unlocked, unlock
from protocols.identity.signing import SigningKey
from protocols.messages import Codec, CodecError, Key32, Message, Uint64

DEVICES_MAX: Final = 64
"""On one machine: a device for each network that it is in."""
ARCHIVE_MAX: Final = 256
"""Retired keys; after that the oldest is forgotten. Four rotations of every device."""
ANCHORS_MAX: Final = 4096
"""Streams of a journal: two for each of 2,000 groups."""
STREAM_NAME_SIZE_MAX: Final = 96

JOURNAL_ROOT_SIZE: Final = 32
CONTENT_ENTROPY_SIZE: Final = ED25519_SEED_SIZE + IDENTITY_ENTROPY_SIZE + JOURNAL_ROOT_SIZE

NetworkId = Annotated[bytes, Meta(min_length=1, max_length=NETWORK_ID_SIZE_MAX)]


class _Secretive(msgspec.Struct, frozen=True):
    """Prints what may be seen, and does not pickle."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        raise NotImplementedError

    def __reduce__(self) -> str:
        raise LocalError(f"{type(self).__name__} is not pickled: it has to_bytes, to be sealed")


class DeviceKeys(_Secretive, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The private keys of a device, and the user's certificate once there is one."""

    signing_seed: Key32
    static_private: Key32
    network_id: NetworkId
    certificate: DeviceCertificate | None
    created_at: Uint64

    @classmethod
    def generate(cls, entropy: bytes, network_id: bytes, now: int) -> Self:
        if len(entropy) != IDENTITY_ENTROPY_SIZE or not 0 < len(network_id) <= NETWORK_ID_SIZE_MAX:
            raise LocalError(f"no device of {len(entropy)} bytes of entropy and a network id of {len(network_id)}")
        return cls(entropy[:ED25519_SEED_SIZE], entropy[ED25519_SEED_SIZE:], network_id, None, now)

    @property
    def signing(self) -> SigningKey:
        return SigningKey(self.signing_seed)

    @property
    def public(self) -> bytes:
        return self.signing.public

    def identity(self) -> DeviceIdentity:
        """All the keys, made ready for the protocols that use them."""
        return DeviceIdentity.generate(self.signing_seed + self.static_private, self.network_id)

    def request(
        self, user_public: bytes, purposes: tuple[Purpose, ...] = ALL_PURPOSES, replaces: bytes = b""
    ) -> DeviceRequest:
        """Ask the user to certify this device."""
        return DeviceRequest.sign(self.signing, user_public, purposes, replaces)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("public", self.public.hex()[:16]), ("network_id", self.network_id)]


class RetiredKeys(_Secretive, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A device that was removed or rotated away: its key opens what was sealed to it before."""

    signing_seed: Key32
    network_id: NetworkId
    created_at: Uint64
    retired_at: Uint64

    @property
    def public(self) -> bytes:
        return SigningKey(self.signing_seed).public

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("public", self.public.hex()[:16]), ("retired_at", self.retired_at)]


class Anchor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far a stream of the journal went when this was saved: a journal that goes less far was cut."""

    stream: Annotated[bytes, Meta(min_length=1, max_length=STREAM_NAME_SIZE_MAX)]
    sequence: Uint64
    tag: Key32


class Content(_Secretive, Message, frozen=True, tag="keystore.content"):
    """Everything that a keystore seals."""

    generation: Uint64
    """That of the header it is sealed under."""
    user_public: Key32
    user_seed: Key32 | None
    devices: Annotated[tuple[DeviceKeys, ...], Meta(min_length=1, max_length=DEVICES_MAX)]
    """The first is the one whose file this is."""
    archive: Annotated[tuple[RetiredKeys, ...], Meta(max_length=ARCHIVE_MAX)]
    """The oldest first."""
    journal_root: Key32
    anchors: Annotated[tuple[Anchor, ...], Meta(max_length=ANCHORS_MAX)]
    """By stream. None if this keystore never had a journal."""
    imported: bool
    """Whether it came from an export, and nobody has said since how far its devices were: they may have signed and
    sent more, from the place that it was exported from."""

    def __post_init__(self) -> None:
        """What field types cannot say. A ``ValueError`` in a struct is the codec's ``invalid``."""
        if self.user_seed is not None and SigningKey(self.user_seed).public != self.user_public:
            raise ValueError("the user's seed and key are not a pair")
        keys = [each.public for each in self.devices]
        if len({*keys, self.user_public}) != len(keys) + 1:
            raise ValueError("two keys are one")
        for key, device in zip(keys, self.devices, strict=True):
            certificate = device.certificate
            if certificate is not None and (certificate.user, certificate.device) != (self.user_public, key):
                raise ValueError("a certificate is of somebody else")
        if any(first.stream >= second.stream for first, second in zip(self.anchors, self.anchors[1:], strict=False)):
            raise ValueError("anchors are not in order, each once")

    @classmethod
    def generate(cls, entropy: bytes, network_id: bytes, now: int, not_after: int) -> Self:
        """A new user, and a first device that they certify for every purpose."""
        if len(entropy) != CONTENT_ENTROPY_SIZE:
            raise LocalError(f"a new user takes {CONTENT_ENTROPY_SIZE} bytes of entropy, not {len(entropy)}")
        user_seed, rest = entropy[:ED25519_SEED_SIZE], entropy[ED25519_SEED_SIZE:]
        user = SigningKey(user_seed)
        keys = DeviceKeys.generate(rest[:IDENTITY_ENTROPY_SIZE], network_id, now)
        certificate = DeviceCertificate.issue(user, keys.request(user.public), 0, now, not_after)
        devices = (replace(keys, certificate=certificate),)
        return cls(0, user.public, user_seed, devices, (), rest[IDENTITY_ENTROPY_SIZE:], (), False)

    @classmethod
    def for_device(cls, user_public: bytes, keys: DeviceKeys, journal_root: bytes) -> Self:
        """A device of a user whose seed is elsewhere."""
        return cls(0, user_public, None, (keys,), (), journal_root, (), False)

    @property
    def device_public(self) -> bytes:
        """Whose file this is."""
        return self.devices[0].public

    def device(self, public: bytes) -> DeviceKeys:
        return self.devices[self._index(public)]

    # -- changes: each is another value ---------------------------------------------------------------------

    def add_device(self, keys: DeviceKeys) -> Self:
        self._require_new(keys)
        if len(self.devices) == DEVICES_MAX:
            raise LocalError(f"a keystore holds at most {DEVICES_MAX} devices")
        return replace(self, devices=(*self.devices, keys))

    def remove_device(self, public: bytes, now: int) -> Self:
        """Its key is retired. The user's revocation is another matter, and has to be told to others."""
        index = self._index(public)
        if index == 0:
            raise LocalError("the first device is the one whose keystore this is: rotate it instead")
        devices = self.devices[:index] + self.devices[index + 1 :]
        return replace(self, devices=devices, archive=self._retire(self.devices[index], now))

    def rotate_device(self, public: bytes, keys: DeviceKeys, now: int) -> Self:
        """``keys`` take the place of a device, whose key is retired."""
        index = self._index(public)
        self._require_new(keys)
        devices = (*self.devices[:index], keys, *self.devices[index + 1 :])
        return replace(self, devices=devices, archive=self._retire(self.devices[index], now))

    def certify_device(
        self,
        public: bytes,
        now: int,
        not_after: int,
        purposes: tuple[Purpose, ...] = ALL_PURPOSES,
        replaces: bytes = b"",
    ) -> Self:
        """Let the user, whose seed has to be here, certify a device; anew if it has a certificate."""
        if self.user_seed is None:
            raise LocalError("the user's seed is not in this keystore, so it certifies nothing")
        keys = self.device(public)
        version = keys.certificate.version + 1 if keys.certificate else 0
        request = keys.request(self.user_public, purposes, replaces)
        user = SigningKey(self.user_seed, self.user_public)
        return self.install(DeviceCertificate.issue(user, request, version, now, not_after))

    def install(self, certificate: DeviceCertificate) -> Self:
        """Put a certificate beside the device that it is of.

        Raises:
            IdentityError: the user or the device did not sign it.
        """
        index = self._index(certificate.device)
        if certificate.user != self.user_public:
            raise LocalError("the certificate is of another user")
        certificate.verify()
        keys = replace(self.devices[index], certificate=certificate)
        return replace(self, devices=(*self.devices[:index], keys, *self.devices[index + 1 :]))

    def without_user_seed(self) -> Self:
        """For a machine that only acts in the user's name."""
        return replace(self, user_seed=None)

    def from_elsewhere(self, journal_root: bytes) -> Self:
        """What an import makes of an export. The journal stayed behind, so this one gets another."""
        return replace(self, journal_root=journal_root, anchors=(), imported=True)

    def confirmed(self) -> Self:
        """Others have said how far its devices were, or they got fresh keys."""
        return replace(self, imported=False)

    # -- bytes ----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Raises:
        LocalError: they would not come back. Types are checked when bytes are read, and then it would be too late.
        """
        data = _CODEC.encode(self)
        try:
            self.from_bytes(data)
        except KeystoreError:
            raise LocalError("a keystore does not hold this: it would not open again") from None
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Content":
        """Raises:
        KeystoreError: ``malformed_content``. What exactly is wrong is not said, as a decoder might quote it.
        """
        try:
            return _CODEC.decode(data)
        except CodecError:
            raise KeystoreError("malformed_content", "it opened, but it holds what no keystore does") from None

    def seal(self, keys: Unlocked, nonce: bytes, role: Role = Role.KEYSTORE) -> bytes:
        """A whole file."""
        return keys.seal(role, self.device_public, self.generation, self.to_bytes(), nonce)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        user = self.user_public.hex()[:16]
        return [("user", user), ("generation", self.generation), ("devices", list(self.devices))]

    def _index(self, public: bytes) -> int:
        for index, keys in enumerate(self.devices):
            if keys.public == public:
                return index
        raise LocalError(f"the keystore has no device {public.hex()[:16]}")

    def _require_new(self, keys: DeviceKeys) -> None:
        known = [each.public for each in self.devices] + [each.public for each in self.archive]
        if keys.public in known or keys.public == self.user_public:
            raise LocalError(f"the keystore has, or had, device {keys.public.hex()[:16]}")
        if keys.certificate is not None:
            if (keys.certificate.user, keys.certificate.device) != (self.user_public, keys.public):
                raise LocalError("the device's certificate is of somebody else")
            keys.certificate.verify()

    def _retire(self, keys: DeviceKeys, now: int) -> tuple[RetiredKeys, ...]:
        retired = RetiredKeys(keys.signing_seed, keys.network_id, keys.created_at, now)
        return (*self.archive, retired)[-ARCHIVE_MAX:]


_CODEC: Final[Codec[Content]] = Codec(Content, size_max=PLAINTEXT_SIZE_MAX)


def unlock_content(
    data: bytes, passphrase: bytes | bytearray, role: Role = Role.KEYSTORE, device: bytes | None = None
) -> tuple[Unlocked, Content]:
    """The keys of a file and what it holds.

    Raises:
        KeystoreError: see there; the keys are wiped.
    """
    keys, plaintext = unlock(data, passphrase, role, device)
    try:
        header, content = Header.parse(data), Content.from_bytes(plaintext)
        if (header.device, header.generation) != (content.device_public, content.generation):
            raise KeystoreError("malformed_content", "it opened, but its header is of another content")
    except KeystoreError:
        keys.lock()
        raise
    return keys, content
