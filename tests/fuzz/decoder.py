"""Fuzzing the decoder: any bytes, read as each structure of the wire.

Promised: nothing but ``MlsError`` comes out, and what decodes encodes to the same bytes. Work and memory are
bounded by libFuzzer's limits on time and size per input, which these bytes cannot exceed by claiming lengths.
"""

from collections.abc import Callable
from typing import Any, Final

from protocols.mls.codec import Reader, decode
from protocols.mls.commit import Commit
from protocols.mls.credentials import read_credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, ExternalSender, RequiredCapabilities
from protocols.mls.framing import AuthenticatedContent, FramedContent, PrivateMessage, PublicMessage
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import Capabilities, LeafNode
from protocols.mls.message import encode_message, parse
from protocols.mls.proposals import read_proposal
from protocols.mls.psk import read_psk_id
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import cipher_suite
from protocols.mls.tree_nodes import ParentNode
from protocols.mls.update_path import UpdatePath
from protocols.mls.welcome import GroupInfo, GroupSecrets, Welcome
from tests.fuzz.world import world

READERS: Final[tuple[Callable[[Reader], Any], ...]] = (
    PublicMessage.read,
    PrivateMessage.read,
    Welcome.read,
    GroupInfo.read,
    KeyPackage.read,
    LeafNode.read,
    ParentNode.read,
    UpdatePath.read,
    Commit.read,
    read_proposal,
    read_psk_id,
    read_credential,
    GroupContext.read,
    GroupSecrets.read,
    FramedContent.read,
    AuthenticatedContent.read,
    Capabilities.read,
    Extension.read,
    ExternalSender.read,
    RequiredCapabilities.read,
)
"""Of every structure that is sent, alone or in another one."""

_TREE: Final = len(READERS)
_MESSAGE: Final = 0xFF


def run(data: bytes) -> None:
    """The first byte says as what the others are read: by default as a message."""
    kind, body = data[:1], data[1:]
    try:
        encoded = _encoded_again(kind[0] if kind else _MESSAGE, body)
    except MlsError:
        return
    assert encoded == body, f"{body.hex()} decodes, and encodes to {encoded.hex()}"


def _encoded_again(kind: int, body: bytes) -> bytes:
    if kind < len(READERS):
        encoded: bytes = decode(READERS[kind], body).encode()
        return encoded
    if kind == _TREE:
        return RatchetTree.decode(cipher_suite(1), body).encode()
    return encode_message(parse(body))


def seeds() -> list[bytes]:
    """Messages as they are sent, and as every structure something that is one."""
    made = world(1)
    whole = [bytes((_MESSAGE,)) + each for each in made.messages]
    tree = bytes((_TREE,)) + made.restored("alice").current.tree.encode()
    return [*whole, tree, *map(_seed, range(len(READERS)))]


def _seed(kind: int) -> bytes:
    for sample in world(1).donors.all():
        encoded: bytes = sample.encode()
        try:
            if decode(READERS[kind], encoded).encode() == encoded:
                return bytes((kind,)) + encoded
        except MlsError:
            continue
    return bytes((kind,))
