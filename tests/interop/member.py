"""What a story asks of a member, whichever implementation it is: plain bytes and numbers in, the same out.

A story that is told to this interface runs with ts-mls throughout, which shows that the driver tells the truth, and
then with some of its members ours. Every message is the encoding of an MLSMessage.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Extensions = Sequence[tuple[int, bytes]]


class Refused(Exception):  # noqa: N818 - the implementation's verdict, not a fault of the test
    """The implementation raised: the class and the text of what it threw. The member is as it was."""


class Add(NamedTuple):
    """Of whom the KeyPackage is."""

    key_package: bytes


class Remove(NamedTuple):
    """Of the member at a leaf."""

    leaf: int


class Update(NamedTuple):
    """Only to be proposed: a committer updates by its path."""


class ExternalPsk(NamedTuple):
    """Of a secret that was stored under an id."""

    psk_id: bytes


class ResumptionPsk(NamedTuple):
    """Of an epoch of this group, for application usage."""

    epoch: int


class GroupContextExtensions(NamedTuple):
    """In place of all that are there."""

    extensions: Extensions


class ReInit(NamedTuple):
    """Which freezes the group."""

    group_id: bytes
    suite: int
    extensions: Extensions = ()


class Custom(NamedTuple):
    """Of a type that the RFC does not define."""

    proposal_type: int
    data: bytes


Proposal = Add | Remove | Update | ExternalPsk | ResumptionPsk | GroupContextExtensions | ReInit | Custom


class Committed(NamedTuple):
    """A Commit, which its author has applied already, and the Welcome for whom it adds."""

    commit: bytes
    welcome: bytes | None


class Received(NamedTuple):
    """What a message turned out to be; ``data`` is empty but for application messages."""

    kind: Literal["application", "proposal", "commit"]
    data: bytes = b""
    removed: bool = False


class Status(NamedTuple):
    """A group as one member sees it."""

    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    epoch_authenticator: bytes
    extensions: tuple[tuple[int, bytes], ...]
    members: dict[int, bytes]
    """Leaf index to the identity of the basic credential there."""


class Member(Protocol):
    """A client, in at most one group at a time."""

    changes_context_by_path: bool
    """Whether its Commits of GroupContextExtensions have the path that section 12.4 requires."""

    def key_package(self, suite: int | None = None) -> bytes:
        """A fresh KeyPackage; the client can join with any that it has made."""

    def create_group(self, group_id: bytes, extensions: Extensions = ()) -> None: ...

    def join(self, welcome: bytes, tree: bytes = b"", resume: bool = False) -> None:
        """``tree``: where the Welcome carries none. ``resume``: the Welcome continues the client's present group."""

    def external_commit(self, group_info: bytes, tree: bytes = b"", resync: bool = False) -> bytes:
        """Join by oneself; ``resync``: in place of the leaf that has the same signature key."""

    def propose_to_join(self, group_info: bytes) -> bytes:
        """An Add of oneself by a ``new_member_proposal`` sender."""

    def propose(self, proposal: Proposal, public: bool = False) -> bytes: ...

    def commit(self, *proposals: Proposal, public: bool = False, with_tree: bool = True) -> Committed:
        """Commit to these by value and to everything proposed so far by reference; applied at once."""

    def process(self, message: bytes) -> Received: ...

    def encrypt(self, data: bytes, authenticated_data: bytes = b"") -> bytes: ...

    def succeed(
        self, usage: Literal["reinit", "branch"], group_id: bytes, key_packages: Sequence[bytes], suite: int
    ) -> bytes:
        """Found the group that continues the present one; its Welcome, which carries no tree."""

    def store_psk(self, psk_id: bytes, psk: bytes) -> None: ...

    def group_info(self, with_tree: bool = True) -> bytes:
        """With ``external_pub``."""

    def ratchet_tree(self) -> bytes: ...

    def export(self, label: str, context: bytes, length: int) -> bytes: ...

    def status(self) -> Status: ...

    def own_index(self) -> int: ...
