"""Replicas of one channel that write and tell each other what they hold, and an equivocator: two with one key."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from hypothesis import strategies as st

from protocols.crdt.changes import (
    Acknowledge,
    Add,
    Append,
    Assign,
    AssignMulti,
    Change,
    Clear,
    Grant,
    Increment,
    Path,
    Remove,
    Revoke,
    Role,
)
from protocols.crdt.replica import Replica
from protocols.errors import LocalError
from tests.protocols.crdt.worlds import KEYS

ROLES: Final = (Role.OWNER, Role.ADMIN, Role.MEMBER, Role.MEMBER)
NOW: Final = 1_800_000_000 * 10**9
TEXT: Final[Path] = ("text",)


class Channel:
    """Replica ``i`` writes with key ``i``; the last one, with the key of the one before it."""

    def __init__(self, burst: int = 2**20) -> None:
        roles = {KEYS[number].public: role for number, role in enumerate(ROLES)}
        founded = Replica.found(KEYS[0], roles, nonce=bytes(32), now_ns=NOW, burst=burst)
        self.genesis: Final = founded.genesis
        self.keys: Final = (*KEYS[: len(ROLES)], KEYS[len(ROLES) - 1])
        self.replicas: Final = [Replica(self.genesis) for _ in self.keys]
        self.units: Final[list[list[bytes]]] = [[] for _ in self.keys]
        """What each wrote and was told."""
        self.now_ns = NOW

    def write(self, who: int, *changes: Change) -> bool:
        """Whether it may; if it knows of an equivocation, it says so first."""
        self.now_ns += 10**6
        replica, key = self.replicas[who], self.keys[who]
        try:
            accusation = replica.accuse(key, self.now_ns)
            if accusation is not None:
                self.units[who].append(accusation)
            for change in changes:
                self.units[who].append(replica.write(key, [change], self.now_ns))
        except LocalError:
            return False
        return True

    def type(self, who: int, position: int, deleted: int, typed: str) -> bool:
        """The same for an edit of the text."""
        self.write(who)
        try:
            draft = self.replicas[who].draft(TEXT)
        except LocalError:
            return False
        size = len(draft)
        if deleted and size:
            draft.delete(position % size, min(deleted, size - position % size))
        if typed:
            draft.insert(position % (len(draft) + 1), typed)
        try:
            self.units[who] += self.replicas[who].seal(self.keys[who], self.now_ns)
        except LocalError:
            return False
        return True

    def tell(self, who: int, whom: int) -> None:
        """All that one holds; the other has most of it already."""
        told = dict.fromkeys(self.units[whom])
        for unit in self.units[who]:
            if unit not in told:
                self.replicas[whom].receive(unit, self.keys[who].public, self.now_ns)
                self.units[whom].append(unit)

    def tell_all(self, among: Sequence[int] | None = None) -> None:
        """Everything to everybody."""
        among = range(len(self.keys)) if among is None else among
        for _ in range(2):
            for who in among:
                for whom in among:
                    self.tell(who, whom)


class Step(NamedTuple):
    """What one replica does."""

    who: int
    change: Change | None
    """None: it types."""
    position: int
    tells: int


_names: Final = st.sampled_from(["a", "b"])
_values: Final = st.integers(0, 3)
_paths: Final = st.tuples(_names) | st.tuples(_names, _names)
_devices: Final = st.sampled_from([key.public for key in KEYS[1:5]])
CHANGES: Final[st.SearchStrategy[Change | None]] = st.one_of(
    st.none(),
    st.none(),
    st.builds(Assign, _paths, _values),
    st.builds(AssignMulti, _paths, _values),
    st.builds(Add, _paths, _values),
    st.builds(Remove, _paths, _values),
    st.builds(Increment, _paths, st.integers(-3, 3)),
    st.builds(Append, _paths, _values),
    st.builds(Clear, _paths),
    st.just(Acknowledge()),
)
ACTS: Final[st.SearchStrategy[Change]] = st.one_of(
    st.builds(Grant, _devices, st.sampled_from([Role.READER, Role.MEMBER])), st.builds(Revoke, _devices)
)


def steps(writers: int, acts: bool = False, size_max: int = 30) -> st.SearchStrategy[list[Step]]:
    """What the first ``writers`` replicas do, most of it on documents."""
    changes = st.one_of(CHANGES, CHANGES, CHANGES, ACTS) if acts else CHANGES
    who = st.integers(0, writers - 1)
    return st.lists(st.builds(Step, who, changes, st.integers(0, 63), who), min_size=4, max_size=size_max)


def take_steps(channel: Channel, todo: Sequence[Step]) -> None:
    for step in todo:
        if step.change is not None:
            channel.write(step.who, step.change)
        else:
            channel.type(step.who, step.position, step.position % 3, "abc"[: 1 + step.position % 3])
        channel.tell(step.who, step.tells)
