"""Welcomes and group infos (RFC 9420 §12.4.3): how somebody outside comes to know a group."""

from typing import Final

import msgspec

from protocols.mls.codec import Reader, opaque, optional, uint16, uint32, vector
from protocols.mls.extensions import Extensions, encode_extensions, read_extensions
from protocols.mls.group_context import GroupContext
from protocols.mls.psk import PSKS_MAX, PreSharedKeyId, read_psk_id
from protocols.mls.update_path import HpkeCiphertext

GROUP_INFO_LABEL: Final = b"GroupInfoTBS"

JOINERS_MAX: Final = 2**17
"""Joiners of one Welcome, as many as a commit can add. Each entry has 100 bytes and more, unless it is junk."""


class GroupInfo(msgspec.Struct, frozen=True, gc=False):
    """§12.4.3: an epoch as its signer shows it to those who are not in it."""

    group_context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: int
    signature: bytes

    def to_be_signed(self) -> bytes:
        """``GroupInfoTBS``."""
        return b"".join(
            (
                self.group_context.encode(),
                encode_extensions(self.extensions),
                opaque(self.confirmation_tag),
                uint32(self.signer),
            )
        )

    def encode(self) -> bytes:
        return self.to_be_signed() + opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "GroupInfo":
        return cls(
            GroupContext.read(reader), read_extensions(reader), reader.opaque(), reader.uint32(), reader.opaque()
        )


class GroupSecrets(msgspec.Struct, frozen=True, gc=False):
    """§12.4.3.1: what the Welcome encrypts to each joiner."""

    joiner_secret: bytes
    path_secret: bytes | None
    psks: tuple[PreSharedKeyId, ...]

    def encode(self) -> bytes:
        path_secret = None if self.path_secret is None else opaque(self.path_secret)
        return opaque(self.joiner_secret) + optional(path_secret) + vector(each.encode() for each in self.psks)

    @classmethod
    def read(cls, reader: Reader) -> "GroupSecrets":
        return cls(reader.opaque(), reader.optional(Reader.opaque), reader.vector(read_psk_id, PSKS_MAX))

    def __repr__(self) -> str:
        return f"GroupSecrets({len(self.psks)} PSKs)"


class EncryptedGroupSecrets(msgspec.Struct, frozen=True, gc=False):
    new_member: bytes
    """The joiner's ``KeyPackageRef``."""
    encrypted_group_secrets: HpkeCiphertext

    def encode(self) -> bytes:
        return opaque(self.new_member) + self.encrypted_group_secrets.encode()

    @classmethod
    def read(cls, reader: Reader) -> "EncryptedGroupSecrets":
        return cls(reader.opaque(), HpkeCiphertext.read(reader))


class Welcome(msgspec.Struct, frozen=True, gc=False):
    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    def encode(self) -> bytes:
        return b"".join(
            (
                uint16(self.cipher_suite),
                vector(each.encode() for each in self.secrets),
                opaque(self.encrypted_group_info),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "Welcome":
        return cls(reader.uint16(), reader.vector(EncryptedGroupSecrets.read, JOINERS_MAX), reader.opaque())
