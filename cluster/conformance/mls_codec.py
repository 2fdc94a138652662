"""The MLS working group's vectors of the presentation language: ``deserialization`` and ``messages``.

What decodes must encode to the bytes that it came from, as signatures, hashes and references are taken over a
re-encoding. The proposals of ``messages`` come without their types, so each is given its own before it is read.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, numbered, octets
from protocols.mls.codec import Reader, decode, uint16
from protocols.mls.commit import Commit
from protocols.mls.framing import ContentType, PrivateMessage, PublicMessage, content_type
from protocols.mls.key_package import KeyPackage
from protocols.mls.message import MlsMessage, encode_message, parse
from protocols.mls.proposals import ProposalType, read_proposal
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import SUITES
from protocols.mls.welcome import GroupInfo, GroupSecrets, Welcome

_ANY_SUITE = SUITES[1]
"""A tree on the wire does not say its suite, which makes a difference to its hashes only."""


class _Encodable(Protocol):
    def encode(self) -> bytes: ...


# -- deserialization (§2.1.2) -----------------------------------------------------------------------


def _deserialization_cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, case in enumerate(document):
        yield f"{number}: {case.get('vlbytes_header') if isinstance(case, dict) else 'not an object'}", case


def _run_deserialization(case: dict[str, Any]) -> None:
    expect_equal("length", decode(Reader.varint, octets(case["vlbytes_header"])), case["length"])


# -- messages (§6 to §13) ---------------------------------------------------------------------------

_MESSAGES: dict[str, tuple[type, ContentType | None]] = {
    "mls_welcome": (Welcome, None),
    "mls_group_info": (GroupInfo, None),
    "mls_key_package": (KeyPackage, None),
    "public_message_application": (PublicMessage, ContentType.APPLICATION),
    "public_message_proposal": (PublicMessage, ContentType.PROPOSAL),
    "public_message_commit": (PublicMessage, ContentType.COMMIT),
    "private_message": (PrivateMessage, None),
}
"""Each an ``MLSMessage`` of one kind."""

_PROPOSALS: dict[str, ProposalType] = {
    "add_proposal": ProposalType.ADD,
    "update_proposal": ProposalType.UPDATE,
    "remove_proposal": ProposalType.REMOVE,
    "pre_shared_key_proposal": ProposalType.PSK,
    "re_init_proposal": ProposalType.REINIT,
    "external_init_proposal": ProposalType.EXTERNAL_INIT,
    "group_context_extensions_proposal": ProposalType.GROUP_CONTEXT_EXTENSIONS,
}

_STRUCTURES: dict[str, Callable[[bytes], _Encodable]] = {
    "ratchet_tree": lambda data: RatchetTree.decode(_ANY_SUITE, data),
    "group_secrets": lambda data: decode(GroupSecrets.read, data),
    "commit": lambda data: decode(Commit.read, data),
}


def _run_messages(case: dict[str, Any]) -> None:
    for name, (kind, content) in _MESSAGES.items():
        data = octets(case[name])
        message = parse(data)
        if not isinstance(message, kind) or content not in (None, _content_of(message)):
            raise MismatchError(f"{name}: it is a {type(message).__name__} of another kind")
        expect_equal(name, encode_message(message), data)
    for name, proposal_type in _PROPOSALS.items():
        data = uint16(proposal_type) + octets(case[name])
        expect_equal(name, decode(read_proposal, data).encode(), data)
    for name, read in _STRUCTURES.items():
        data = octets(case[name])
        expect_equal(name, read(data).encode(), data)


def _content_of(message: MlsMessage) -> ContentType | None:
    return content_type(message.content.content) if isinstance(message, PublicMessage) else None


register(
    Kind("MLS deserialization", cases_with("vlbytes_header", "length"), _deserialization_cases, _run_deserialization)
)
register(Kind("MLS messages", cases_with("mls_welcome", "group_secrets", "private_message"), numbered, _run_messages))
