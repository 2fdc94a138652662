"""A keystore's bytes: a header that anybody may read and nobody may change, and what it seals.

    MAGIC(8) | VERSION(1) | ROLE(1) | DEVICE(32) | GENERATION(8) | KDF(10) | SALT(16) | NONCE(24) | COMMITMENT(32)
    | CIPHERTEXT | TAG(16)

XChaCha20-Poly1305 takes a nonce of 24 bytes, not the 12 of ChaCha20-Poly1305, and that is why it was chosen: one of
192 random bits never repeats, so one derived key serves all saves of a session, under one salt. With 96 bits each
save would need a fresh salt, and so a key derivation.

Argon2id's output is split by HKDF-SHA256 into an encryption key and a commitment key. The commitment is a MAC of the
header before it. Poly1305 alone commits to no key: a ciphertext can be made that opens under many passphrases, and
whoever watches which are tried learns more from each guess. And the two answers differ: a commitment that does not
match is a wrong passphrase or an altered header; one that matches over a ciphertext that does not open is tampering,
and no passphrase will help. The whole header with the commitment is associated data, so it holds for a ciphertext
of its own only.

There is no plaintext mode: a file that says it needs no passphrase is what an attacker would like to hand us.

Keys live in bytearrays that ``lock`` wipes. Python copies what it hands to C, and those copies are freed, not wiped:
the wiping shortens how long a key lies in memory, and promises no more.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from hmac import compare_digest
from types import TracebackType
from typing import Final, Self

from protocols.crypto import (
    AEAD_TAG_SIZE,
    SHA256,
    XCHACHA_NONCE_SIZE,
    CryptoError,
    xchacha20_poly1305_open,
    xchacha20_poly1305_seal,
)
from protocols.errors import LocalError
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.kdf import (
    KEY_SIZE,
    PARAMETERS_SIZE,
    SALT_SIZE,
    Argon2Parameters,
    argon2id,
    wipe,
)

MAGIC: Final = b"PANDAKEY"
VERSION: Final = 1
NONCE_SIZE: Final = XCHACHA_NONCE_SIZE
COMMITMENT_SIZE: Final = 32
DEVICE_SIZE: Final = 32
GENERATION_SIZE: Final = 8
GENERATION_MAX: Final = 2**63 - 1

_DEVICE: Final = len(MAGIC) + 2
_GENERATION: Final = _DEVICE + DEVICE_SIZE
_KDF: Final = _GENERATION + GENERATION_SIZE
_SALT: Final = _KDF + PARAMETERS_SIZE
_NONCE: Final = _SALT + SALT_SIZE
_COMMITMENT: Final = _NONCE + NONCE_SIZE
HEADER_SIZE: Final = _COMMITMENT + COMMITMENT_SIZE

PLAINTEXT_SIZE_MAX: Final = 1024 * 1024
"""The bounds of a keystore's content add up to 640,000."""
KEYSTORE_SIZE_MAX: Final = HEADER_SIZE + PLAINTEXT_SIZE_MAX + AEAD_TAG_SIZE


class Role(IntEnum):
    """What a file is for. The numbers are stored."""

    KEYSTORE = 1
    """A device's own."""
    EXPORT = 2
    """A copy to carry elsewhere; it opens by being imported, never as a keystore."""

    def __str__(self) -> str:
        return "a keystore" if self is Role.KEYSTORE else "an export"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself. Until a commitment has been checked it is what somebody wrote there."""

    role: Role
    device: bytes
    """The public key of the device whose file this is."""
    generation: int
    """How many saves came before; a journal tells an older file by it."""
    parameters: Argon2Parameters
    salt: bytes
    nonce: bytes
    commitment: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The header of a file, as far as it can be judged without the passphrase.

        Raises:
            KeystoreError: see there.
        """
        if len(data) <= len(MAGIC) and MAGIC.startswith(data):
            raise KeystoreError("truncated", "it ends within the first bytes of a keystore")
        if not data.startswith(MAGIC):
            raise KeystoreError("not_a_keystore", "it is not a keystore")
        if (version := data[len(MAGIC)]) != VERSION:
            if version > VERSION:
                raise KeystoreError(
                    "future_version", f"it has version {version} of the format, and this program knows {VERSION} only"
                )
            raise KeystoreError("not_a_keystore", f"it is not a keystore: no format has version {version}")
        if len(data) < HEADER_SIZE + AEAD_TAG_SIZE:
            raise KeystoreError("truncated", f"it has {len(data)} bytes; no keystore is that short")
        if len(data) > KEYSTORE_SIZE_MAX:
            raise KeystoreError("too_large", f"it has more than {KEYSTORE_SIZE_MAX} bytes; no keystore is that long")
        parameters = Argon2Parameters.from_bytes(data[_KDF:_SALT])
        try:
            role = Role(data[len(MAGIC) + 1])
        except ValueError:
            raise KeystoreError("wrong_role", "it is neither a keystore nor an export") from None
        return cls(
            role,
            data[_DEVICE:_GENERATION],
            int.from_bytes(data[_GENERATION:_KDF], "big"),
            parameters,
            data[_SALT:_NONCE],
            data[_NONCE:_COMMITMENT],
            data[_COMMITMENT:HEADER_SIZE],
        )

    @classmethod
    def expect(cls, data: bytes, role: Role, device: bytes | None = None) -> Self:
        """The header of a file that is to have this role, and to be of this device if one is given."""
        header = cls.parse(data)
        if header.role is not role:
            raise KeystoreError("wrong_role", f"it is {header.role}, not {role}")
        if device is not None and header.device != device:
            raise KeystoreError("wrong_device", f"it is of device {header.device.hex()[:16]}, not {device.hex()[:16]}")
        return header


@dataclass(slots=True, eq=False)
class Unlocked:
    """The keys that a passphrase gave: opens and seals until it is locked, without deriving them again."""

    parameters: Argon2Parameters
    salt: bytes
    _encryption_key: bytearray = field(repr=False)
    _commitment_key: bytearray = field(repr=False)

    @classmethod
    def derive(cls, passphrase: bytes | bytearray, salt: bytes, parameters: Argon2Parameters) -> Self:
        """A fresh ``salt`` for a new passphrase. This is what takes the time and the memory."""
        if len(salt) != SALT_SIZE:
            raise LocalError(f"a keystore's salt has {SALT_SIZE} bytes, not {len(salt)}")
        master = argon2id(passphrase, salt, parameters.memory_kib, parameters.passes, parameters.lanes)
        extracted = SHA256.hkdf_extract(b"spacepanda/keystore/1", master)  # type: ignore[arg-type]  # read only
        wipe(master)
        encryption_key, commitment_key = (
            bytearray(SHA256.hkdf_expand(extracted, label, KEY_SIZE)) for label in (b"encryption", b"commitment")
        )
        return cls(parameters, salt, encryption_key, commitment_key)

    @property
    def locked(self) -> bool:
        return not self._encryption_key

    def seal(self, role: Role, device: bytes, generation: int, plaintext: bytes, nonce: bytes) -> bytes:
        """A whole file. ``nonce`` is random and never used again."""
        self._require_keys()
        if len(device) != DEVICE_SIZE or len(nonce) != NONCE_SIZE:
            raise LocalError(f"a device of {len(device)} bytes and a nonce of {len(nonce)}")
        if not 0 <= generation <= GENERATION_MAX or len(plaintext) > PLAINTEXT_SIZE_MAX:
            raise LocalError(f"generation {generation} with {len(plaintext)} bytes is more than a keystore holds")
        header = (
            MAGIC
            + bytes([VERSION, role])
            + device
            + generation.to_bytes(GENERATION_SIZE, "big")
            + self.parameters.to_bytes()
            + self.salt
            + nonce
        )
        header += self._commitment(header)
        return header + xchacha20_poly1305_seal(bytes(self._encryption_key), nonce, header, plaintext)

    def open(self, data: bytes, role: Role, device: bytes | None = None) -> bytes:
        """What a file seals.

        Raises:
            KeystoreError: ``wrong_passphrase`` also for a file under another salt or other parameters than these
                keys were derived with, and whatever ``Header.expect`` says.
        """
        self._require_keys()
        header = Header.expect(data, role, device)
        if not compare_digest(self._commitment(data[:_COMMITMENT]), header.commitment):
            raise KeystoreError("wrong_passphrase", "the passphrase is wrong, or the file's header was altered")
        try:
            return xchacha20_poly1305_open(
                bytes(self._encryption_key), header.nonce, data[:HEADER_SIZE], data[HEADER_SIZE:]
            )
        except CryptoError:
            raise KeystoreError("tampered", "the passphrase is right, but what it sealed was altered") from None

    def lock(self) -> None:
        """Wipe the keys; again is no mistake."""
        wipe(self._encryption_key, self._commitment_key)
        self._encryption_key, self._commitment_key = bytearray(), bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock()

    def __reduce__(self) -> str:
        raise LocalError("the keys of a keystore are not pickled")

    def _commitment(self, header: bytes) -> bytes:
        return SHA256.hmac(self._commitment_key, header)  # type: ignore[arg-type]  # read only

    def _require_keys(self) -> None:
        if self.locked:
            raise LocalError("the keystore is locked")


def unlock(
    data: bytes, passphrase: bytes | bytearray, role: Role = Role.KEYSTORE, device: bytes | None = None
) -> tuple[Unlocked, bytes]:
    """The keys of a file and what it seals. What can be refused without the passphrase is, before any work.

    Raises:
        KeystoreError: see there; the keys are wiped.
    """
    header = Header.expect(data, role, device)
    keys = Unlocked.derive(passphrase, header.salt, header.parameters)
    try:
        return keys, keys.open(data, role, device)
    except KeystoreError:
        keys.lock()
        raise
