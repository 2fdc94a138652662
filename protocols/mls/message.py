"""``MLSMessage`` (RFC 9420 §6): the outermost structure, and the first of the stages that bytes go through."""

from collections.abc import Callable
from typing import Final, TypeAlias

from protocols.mls.codec import Reader, decode, uint16
from protocols.mls.errors import MlsError
from protocols.mls.framing import PrivateMessage, PublicMessage, WireFormat
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.welcome import GroupInfo, Welcome

MlsMessage: TypeAlias = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_FORMATS: Final[dict[type, WireFormat]] = {
    PublicMessage: WireFormat.PUBLIC_MESSAGE,
    PrivateMessage: WireFormat.PRIVATE_MESSAGE,
    Welcome: WireFormat.WELCOME,
    GroupInfo: WireFormat.GROUP_INFO,
    KeyPackage: WireFormat.KEY_PACKAGE,
}
_READERS: Final[tuple[Callable[[Reader], MlsMessage], ...]] = (
    PublicMessage.read,
    PrivateMessage.read,
    Welcome.read,
    GroupInfo.read,
    KeyPackage.read,
)
"""In the order of their wire formats, which begin at 1."""


def encode_message(message: MlsMessage) -> bytes:
    return uint16(MLS_1_0) + uint16(_FORMATS[type(message)]) + message.encode()


def read_message(reader: Reader) -> MlsMessage:
    version, wire_format = reader.uint16(), reader.uint16()
    if version != MLS_1_0:
        raise MlsError("6/unknown-version", f"version {version}")
    if not 1 <= wire_format <= len(_READERS):
        raise MlsError("6/unknown-wire-format", f"wire format {wire_format}")
    message = _READERS[wire_format - 1](reader)
    if isinstance(message, KeyPackage) and message.version != version:
        raise MlsError("10/version", f"a key package of version {message.version}")
    return message


def parse(data: bytes) -> MlsMessage:
    """Bytes from anybody, taken apart and not yet believed.

    Raises:
        MlsError: of section 2, or a structure's own.
    """
    return decode(read_message, data)
