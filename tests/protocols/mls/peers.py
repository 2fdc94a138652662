"""What a history knows of its peers, whose groups it runs: their disks, what they sent, and what they must agree on.

A peer's group can be thrown away at any time, and comes back from the snapshot, the records and the reservations that
were durable by then.
"""

from dataclasses import dataclass, field

import msgspec

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle
from protocols.mls.commit import Commit
from protocols.mls.errors import MlsError
from protocols.mls.framing import PublicMessage
from protocols.mls.group import Group
from protocols.mls.group_context import GroupContext
from protocols.mls.message import parse
from protocols.mls.message_keys import MessageKeys
from protocols.mls.proposals import Proposal
from protocols.mls.records import STATES, GroupState
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention
from protocols.mls.welcome import Welcome
from tests.protocols.mls.kit import Client
from tests.protocols.mls.room import SERVICES, name_at

RETENTION = Retention(epochs=4, age_ns=3_600 * 10**9)


@dataclass
class Peer:
    """A person, the group they hold, and their disk."""

    client: Client
    group: Group | None = None
    bundles: list[KeyPackageBundle] = field(default_factory=list)
    snapshot: bytes = b""
    records: list[bytes] = field(default_factory=list)
    reservations: list[bytes] = field(default_factory=list)
    """All there ever were: the store that is never rolled back."""
    opened: set[int] = field(default_factory=set)
    """Messages, by their place in the log, that were received durably: of private ones the key is gone."""
    committed: set[bytes] = field(default_factory=set)
    """Epochs in which the right to commit is gone, durably."""
    answered: set[bytes] = field(default_factory=set)
    """Epochs joined by a Welcome: its init key is used once."""
    joined_on: set[bytes] = field(default_factory=set)
    """Parents of external commits: also of these, one is signed."""
    values: dict[bytes, bytes] = field(default_factory=dict)
    """Epochs as they were when they were first seen."""

    @property
    def name(self) -> str:
        return self.client.name

    @property
    def live(self) -> Group:
        assert self.group is not None
        return self.group

    def ledger(self) -> SendLedger:
        """Rebuilt in another order than it was written, and with each entry twice."""
        ledger = SendLedger()
        for each in (*reversed(self.reservations), *self.reservations):
            ledger.apply(each)
        return ledger

    def save(self) -> None:
        self.snapshot, self.records = self.live.to_bytes(), []

    def restore(self) -> None:
        self.group = Group.from_bytes(self.snapshot, self.ledger(), services=SERVICES, retention=RETENTION)
        for record in self.records:
            self.group.replay(record)


class Sent(msgspec.Struct, frozen=True):
    """A message that left its sender."""

    author: str
    epoch: bytes
    data: bytes
    said: bytes | Proposal | Commit
    commit_id: bytes = b""

    @property
    def public(self) -> bool:
        return isinstance(parse(self.data), PublicMessage)

    @property
    def external(self) -> bool:
        message = parse(self.data)
        return isinstance(message, PublicMessage) and message.membership_tag is None


class View(msgspec.Struct, frozen=True):
    """What all members of an epoch must see alike."""

    context: GroupContext
    roster: tuple[tuple[int, str], ...]
    exported: bytes


class Invitation(msgspec.Struct, frozen=True):
    """A Welcome on its way, of a commit that was adopted."""

    to: str
    welcome: Welcome
    epoch: bytes


def view(group: Group) -> View:
    epoch = group.current
    roster = tuple((int(leaf), name_at(epoch, leaf)) for leaf, _ in epoch.tree.members())
    return View(epoch.context, roster, epoch.export(b"test", b"", 16))


def durable_part(group: Group) -> GroupState:
    """The state without what comes from the ledger (our own ratchets) or is never used again."""
    state = STATES.decode(group.to_bytes())
    assert isinstance(state, GroupState)
    kept = []
    for each in state.kept:
        keys = MessageKeys.from_bytes(each.keys)
        received = [(n, c.encode()) for n, c in sorted(keys._chains.items()) if n >> 1 != keys.own_leaf]
        staged = tuple(msgspec.structs.replace(commit, keys=b"") for commit in each.staged)
        kept.append(msgspec.structs.replace(each, keys=repr(received).encode(), staged=staged))
    return msgspec.structs.replace(state, kept=tuple(kept))


class Unmoved:
    """Epochs are values: whatever is done, those that a member has seen stay as they were; if it fails, so does all."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def __enter__(self) -> None:
        group = self.peer.live
        self.before = group.to_bytes()
        for name in group.epochs:
            self.peer.values.setdefault(name, group.epoch(name).to_bytes())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        group = self.peer.live
        if kind is not None and issubclass(kind, MlsError | LocalError):
            assert group.to_bytes() == self.before
        for name in group.epochs:
            now = group.epoch(name).to_bytes()
            assert self.peer.values.setdefault(name, now) == now
