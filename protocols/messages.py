"""Messages and their canonical MessagePack encoding.

A message is a frozen, typed struct with a stable tag, declared beside the protocol that owns it. It
encodes as the MessagePack array ``[tag, field, field, ...]``. Bytes and meaning are one to one: a decoder
refuses unknown tags, wrong types, values out of bounds, extra or missing fields, trailing bytes and any
encoding that is not the one our encoder would have produced. The last rule is enforced in the only way
that cannot be forgotten for a new type: what was decoded is encoded again and compared (150 ns).

Floats and maps are kept out of messages: neither has one natural encoding. Every variable-size field
says its limit with ``Annotated[..., msgspec.Meta(max_length=...)]``.
"""

from typing import Annotated, Any, Final, Generic, TypeVar, Union

import msgspec

from protocols.errors import LocalError, ProtocolError

DATAGRAM_SIZE_MAX: Final = 65_535
"""The largest datagram that peers exchange; UDP's own limit on its length field."""

TAG_SIZE_MAX: Final = 31
"""A tag fits MessagePack's one-byte string header, which lets ``peek_tag`` read it without decoding."""

Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""A 32-byte public key, identifier or hash."""

Uint64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A non-negative integer below 2**63, so that it also fits the signed columns of a table."""


class CodecError(ProtocolError):
    """These bytes are not the canonical encoding of any message accepted here."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What every message is: immutable, typed, tagged. Subclasses give ``tag="subject.name"``."""


class Packet(Message, frozen=True, gc=False, tag="packet"):
    """A datagram that arrived from the network; anybody can have sent it."""

    source: Uint64
    """The endpoint it claims to come from. Endpoints can be spoofed."""
    data: Annotated[bytes, msgspec.Meta(max_length=DATAGRAM_SIZE_MAX)]


MessageT = TypeVar("MessageT", bound=Message)

_ENCODER: Final = msgspec.msgpack.Encoder()
encode: Final = _ENCODER.encode
"""Encode any message; the hot path, without a size check."""


def tag_of(message_type: type[Message]) -> str:
    """The stable tag of a message type."""
    tag = message_type.__struct_config__.tag
    if not isinstance(tag, str) or not 0 < len(tag) <= TAG_SIZE_MAX or not tag.isascii():
        raise LocalError(f"{message_type.__name__} needs tag='subject.name' of at most {TAG_SIZE_MAX} ASCII bytes")
    return tag


def peek_tag(data: bytes) -> str:
    """The tag at the head of an encoded message, read without decoding the rest.

    Raises:
        CodecError: ``malformed`` if no tag stands there.
    """
    if len(data) >= 2 and 0x91 <= data[0] <= 0x9F and 0xA1 <= data[1] <= 0xBF:
        end = 2 + (data[1] & 0x1F)
        if len(data) >= end:
            try:
                return data[2:end].decode("ascii")
            except UnicodeDecodeError:
                pass
    raise CodecError("malformed", "no message tag at the start")


class Codec(Generic[MessageT]):
    """Encodes and decodes a closed set of message types, up to a size."""

    __slots__ = ("_decoder", "size_max", "tags")

    def __init__(self, *types: type[MessageT], size_max: int = DATAGRAM_SIZE_MAX) -> None:
        self.tags: Final = {tag_of(message_type): message_type for message_type in types}
        if len(self.tags) != len(types):
            raise LocalError(f"two of these message types share a tag: {[t.__name__ for t in types]}")
        self.size_max: Final = size_max
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[types])  # noqa: UP007

    def encode(self, message: MessageT) -> bytes:
        """The canonical bytes of ``message``.

        Raises:
            LocalError: the message is larger than this codec lets anybody decode.
        """
        data = encode(message)
        if len(data) > self.size_max:
            raise LocalError(f"{type(message).__name__} encodes to {len(data)} bytes; the limit is {self.size_max}")
        return data

    def decode(self, data: bytes) -> MessageT:
        """The message whose canonical encoding ``data`` is.

        Raises:
            CodecError: ``too_large``, ``malformed``, ``unknown_tag``, ``invalid`` (a field of the wrong type or
                out of bounds) or ``non_canonical``.
        """
        if len(data) > self.size_max:
            raise CodecError("too_large", f"{len(data)} bytes; the limit is {self.size_max}")
        try:
            message: MessageT = self._decoder.decode(data)
        except msgspec.ValidationError as error:
            raise CodecError(*self._explain(data, error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodecError("malformed", str(error)) from None
        if encode(message) != data:
            raise CodecError("non_canonical", f"{type(message).__name__} has another, canonical encoding")
        return message

    def _explain(self, data: bytes, error: msgspec.ValidationError) -> tuple[str, str]:
        try:
            tag = peek_tag(data)
        except CodecError:
            return "malformed", str(error)
        if tag not in self.tags:
            return "unknown_tag", repr(tag)
        return "invalid", f"{self.tags[tag].__name__}: {error}"
