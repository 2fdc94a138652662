"""Framing (RFC 9420 §6): content, who sent it, and the two envelopes that carry it in public or encrypted."""

from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from protocols.mls.codec import Reader, opaque, uint16, uint32, uint64
from protocols.mls.commit import Commit
from protocols.mls.errors import MlsError
from protocols.mls.key_package import MLS_1_0
from protocols.mls.proposals import Proposal, read_proposal


class WireFormat(IntEnum):
    """§17.2."""

    PUBLIC_MESSAGE = 1
    PRIVATE_MESSAGE = 2
    WELCOME = 3
    GROUP_INFO = 4
    KEY_PACKAGE = 5


class ContentType(IntEnum):
    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


class SenderType(IntEnum):
    MEMBER = 1
    EXTERNAL = 2
    NEW_MEMBER_PROPOSAL = 3
    NEW_MEMBER_COMMIT = 4


FRAMED_CONTENT_LABEL: Final = b"FramedContentTBS"


class Sender(msgspec.Struct, frozen=True, gc=False):
    """``index`` is a leaf's for a member, a row of ``external_senders`` for an external sender, else 0."""

    sender_type: int
    index: int = 0

    def encode(self) -> bytes:
        if self.sender_type <= SenderType.EXTERNAL:
            return bytes((self.sender_type,)) + uint32(self.index)
        return bytes((self.sender_type,))

    @classmethod
    def read(cls, reader: Reader) -> "Sender":
        sender_type = reader.uint8()
        if not 1 <= sender_type <= 4:
            raise MlsError("6/unknown-sender-type", f"type {sender_type}")
        return cls(sender_type, reader.uint32() if sender_type <= SenderType.EXTERNAL else 0)


NEW_MEMBER_PROPOSAL: Final = Sender(SenderType.NEW_MEMBER_PROPOSAL)
NEW_MEMBER_COMMIT: Final = Sender(SenderType.NEW_MEMBER_COMMIT)


def member(leaf_index: int) -> Sender:
    return Sender(SenderType.MEMBER, leaf_index)


class ApplicationData(msgspec.Struct, frozen=True, gc=False):
    data: bytes

    def encode(self) -> bytes:
        return opaque(self.data)


Content: TypeAlias = ApplicationData | Proposal | Commit


def content_type(content: Content) -> ContentType:
    if isinstance(content, ApplicationData):
        return ContentType.APPLICATION
    return ContentType.COMMIT if isinstance(content, Commit) else ContentType.PROPOSAL


def read_content(reader: Reader, kind: int) -> Content:
    match kind:
        case ContentType.APPLICATION:
            return ApplicationData(reader.opaque())
        case ContentType.PROPOSAL:
            return read_proposal(reader)
        case ContentType.COMMIT:
            return Commit.read(reader)
        case _:
            raise MlsError("6/unknown-content-type", f"type {kind}")


class FramedContent(msgspec.Struct, frozen=True, gc=False):
    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content: Content

    def encode(self) -> bytes:
        return b"".join(
            (
                opaque(self.group_id),
                uint64(self.epoch),
                self.sender.encode(),
                opaque(self.authenticated_data),
                bytes((content_type(self.content),)),
                self.content.encode(),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "FramedContent":
        return cls(
            reader.opaque(),
            reader.uint64(),
            Sender.read(reader),
            reader.opaque(),
            read_content(reader, reader.uint8()),
        )


class FramedContentAuthData(msgspec.Struct, frozen=True, gc=False):
    """``confirmation_tag`` is there if and only if the content is a commit."""

    signature: bytes
    confirmation_tag: bytes | None = None

    def encode(self) -> bytes:
        tag = b"" if self.confirmation_tag is None else opaque(self.confirmation_tag)
        return opaque(self.signature) + tag

    @classmethod
    def read(cls, reader: Reader, kind: int) -> "FramedContentAuthData":
        return cls(reader.opaque(), reader.opaque() if kind == ContentType.COMMIT else None)


class AuthenticatedContent(msgspec.Struct, frozen=True, gc=False):
    """What the signature covers, with it: the thing that transcripts and proposal references hash (§6.1)."""

    wire_format: int
    content: FramedContent
    auth: FramedContentAuthData

    def encode(self) -> bytes:
        return uint16(self.wire_format) + self.content.encode() + self.auth.encode()

    @classmethod
    def read(cls, reader: Reader) -> "AuthenticatedContent":
        wire_format = reader.uint16()
        content = FramedContent.read(reader)
        return cls(wire_format, content, FramedContentAuthData.read(reader, content_type(content.content)))


def to_be_signed(wire_format: int, content: FramedContent, context: bytes) -> bytes:
    """``FramedContentTBS`` (§6.1); ``context`` is the encoded group context, for members and their likes."""
    head = uint16(MLS_1_0) + uint16(wire_format) + content.encode()
    if content.sender.sender_type in (SenderType.MEMBER, SenderType.NEW_MEMBER_COMMIT):
        return head + context
    return head


class PublicMessage(msgspec.Struct, frozen=True, gc=False):
    """§6.2. ``membership_tag`` is there if and only if the sender is a member."""

    content: FramedContent
    auth: FramedContentAuthData
    membership_tag: bytes | None = None

    def encode(self) -> bytes:
        tag = b"" if self.membership_tag is None else opaque(self.membership_tag)
        return self.content.encode() + self.auth.encode() + tag

    @classmethod
    def read(cls, reader: Reader) -> "PublicMessage":
        content = FramedContent.read(reader)
        auth = FramedContentAuthData.read(reader, content_type(content.content))
        is_member = content.sender.sender_type == SenderType.MEMBER
        return cls(content, auth, reader.opaque() if is_member else None)

    @property
    def group_id(self) -> bytes:
        return self.content.group_id

    @property
    def epoch(self) -> int:
        return self.content.epoch


class PrivateMessage(msgspec.Struct, frozen=True, gc=False):
    """§6.3."""

    group_id: bytes
    epoch: int
    content_type: int
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        return b"".join(
            (
                opaque(self.group_id),
                uint64(self.epoch),
                bytes((self.content_type,)),
                opaque(self.authenticated_data),
                opaque(self.encrypted_sender_data),
                opaque(self.ciphertext),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "PrivateMessage":
        group_id, epoch, kind = reader.opaque(), reader.uint64(), reader.uint8()
        if not 1 <= kind <= 3:
            raise MlsError("6/unknown-content-type", f"type {kind}")
        return cls(group_id, epoch, kind, reader.opaque(), reader.opaque(), reader.opaque())
