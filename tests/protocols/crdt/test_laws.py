"""The laws of replicas: whatever order, loss, doubling, restarts and lies they meet, the same set is the same state.

A history is a list of steps, so that a failing one shrinks to few and reads like a story. Units travel through a
network that the steps play: each is delivered to whom and when a step says, or never, or twice. In the end the honest
hand each other all that they hold, and must hold the same, think the same of each operation, and show the same.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import encode_bundle, seal_bundle
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
    Remove,
    Revoke,
    Role,
)
from protocols.crdt.operations import NOTHING
from protocols.crdt.replica import Replica
from tests.protocols.crdt.worlds import KEYS

SECOND: Final = 10**9
NOW: Final = 10**18

ROLES: Final = (Role.OWNER, Role.ADMIN, Role.ADMIN, Role.MEMBER, Role.MEMBER, Role.MEMBER, Role.READER, None)
"""Of the devices, by number. The last two of those who may write lie if the history has liars."""
LIARS: Final = (2, 5)

PATHS: Final = (("a",), ("a", "b"), ("c",))
paths = st.sampled_from(PATHS)
values = st.sampled_from((None, True, 1, "x", "y"))

TYPES: Final[dict[str, st.SearchStrategy[Change]]] = {
    "last-writer-wins register": st.builds(Assign, paths, values) | st.builds(Clear, paths),
    "multi-value register": st.builds(AssignMulti, paths, values) | st.builds(Clear, paths),
    "counter": st.builds(Increment, paths, st.integers(-3, 3)) | st.builds(Clear, paths),
    "set": st.builds(Add, paths, values) | st.builds(Remove, paths, values) | st.builds(Clear, paths),
    "timeline": st.builds(Append, paths, values) | st.builds(Clear, paths),
}
TYPES["map of all types"] = st.one_of(*TYPES.values())


class Write(NamedTuple):
    """A replica writes what its user wants, after the accusations that it owes."""

    who: int
    change: Change


class Type(NamedTuple):
    """A replica's user types, or deletes if ``text`` is empty."""

    who: int
    place: int
    text: str


class Deliver(NamedTuple):
    """A unit reaches a replica, again perhaps; ``unit`` counts from the newest."""

    unit: int
    to: int


class Restart(NamedTuple):
    """A replica goes to bytes and comes back."""

    who: int


class Lie(NamedTuple):
    """A liar signs what it likes: on an old back-link, having seen what it says."""

    who: int
    back: int
    seen: tuple[int, ...]
    change: Change


Step = Write | Type | Deliver | Restart | Lie

devices = st.sampled_from([key.public for key in KEYS])
powers = st.builds(Grant, devices, st.sampled_from((Role.READER, Role.MEMBER, Role.ADMIN))) | st.builds(Revoke, devices)
whos = st.integers(0, 6)


def steps(changes: st.SearchStrategy[Change], *, text: bool, liars: bool, power: bool) -> st.SearchStrategy[list[Step]]:
    written = changes | powers if power else changes
    kinds: list[st.SearchStrategy[Step]] = [
        st.builds(Write, whos, written),
        st.builds(Deliver, st.integers(0, 12), whos),
        st.builds(Deliver, st.integers(0, 3), whos),
        st.builds(Restart, whos),
    ]
    if text:
        kinds.append(st.builds(Type, whos, st.integers(0, 9), st.sampled_from(("ab", "xyz", ""))))
    if liars:
        seen = st.lists(st.integers(0, 9), max_size=2).map(tuple)
        kinds.append(st.builds(Lie, st.sampled_from(LIARS), st.integers(0, 3), seen, written))
    step = st.one_of(*kinds)
    return st.lists(step, max_size=20) | st.lists(step, min_size=20, max_size=60)


class Play:
    """Plays the steps of a history."""

    def __init__(self) -> None:
        roles = {KEYS[number].public: role for number, role in enumerate(ROLES) if role is not None}
        founder = Replica.found(KEYS[0], roles, nonce=bytes(32), now_ns=NOW)
        self.genesis = founder.genesis
        self.replicas = [Replica(self.genesis) for _ in range(7)]
        self.now = NOW
        self.units: list[bytes] = []
        self.honest_units: list[bytes] = []

    def play(self, step: Step) -> None:
        self.now += SECOND
        match step:
            case Write(who, change):
                self.write(who, change)
            case Type(who, place, text):
                self.type(who, place, text)
            case Deliver(unit, to):
                if self.units:
                    self.replicas[to].receive(self.units[-1 - unit % len(self.units)], KEYS[7].public, self.now)
            case Restart(who):
                before = self.replicas[who]
                self.replicas[who] = after = Replica.from_bytes(before.to_bytes(), before.channel)
                assert (after.set_digest, after.digest()) == (before.set_digest, before.digest())
            case Lie(who, back, seen, change):
                self.lie(who, back, seen, change)

    def write(self, who: int, change: Change) -> None:
        replica, key = self.replicas[who], KEYS[who]
        if not may(replica, who, change):
            return
        while (accusation := replica.accuse(key, self.now)) is not None:
            self.send(accusation)
        if may(replica, who, change):  # it may have accused itself
            self.send(replica.write(key, [change], self.now))

    def type(self, who: int, place: int, text: str) -> None:
        replica, key = self.replicas[who], KEYS[who]
        if not may(replica, who, Acknowledge()) or (replica.judge.role(key.public) or 0) < Role.MEMBER:
            return
        while (accusation := replica.accuse(key, self.now)) is not None:
            self.send(accusation)
        if (replica.judge.role(key.public) or 0) < Role.MEMBER or key.public in replica.judge.fenced:
            return
        with replica.draft(("t",)) as draft:
            if text:
                draft.insert(place % (len(draft) + 1), text)
            elif len(draft):
                draft.delete(place % len(draft), 1)
        for unit in replica.seal(key, self.now):
            self.send(unit)

    def lie(self, who: int, back: int, seen: Sequence[int], change: Change) -> None:
        replica, key = self.replicas[who], KEYS[who]
        held = list(replica.history)
        own = [each for each in held if each.operation.author == key.public]
        previous = own[-1 - back] if back < len(own) else None
        dependencies = {held[-1 - each % len(held)].id for each in seen} - {previous.id if previous else b""}
        if previous is None:
            dependencies.add(replica.channel)
        names = tuple(sorted(dependencies))
        clocks = [replica.history.operations[each].operation.clock for each in names]
        clock = 1 + max([*clocks, previous.operation.clock if previous else 0])
        first, back_link = (previous.sequence + 1, previous.id) if previous else (1, NOTHING)
        parcel = seal_bundle(key, replica.channel, [(change, clock, names)], first, back_link)
        unit = encode_bundle(parcel.seal, parcel.operations)
        self.units.append(unit)
        replica.receive(unit, key.public, self.now)

    def send(self, unit: bytes) -> None:
        self.units.append(unit)
        self.honest_units.append(unit)

    def heal(self, honest: Sequence[int]) -> None:
        """All that an honest replica holds reaches all others, in some order that differs from one to the next."""
        replicas = [self.replicas[each] for each in honest]
        held = {operation for each in replicas for operation in each.history.operations}
        for number, replica in enumerate(replicas):
            for unit in [*self.units[number:], *self.units[:number]][:: 1 if number % 2 else -1]:
                replica.receive(unit, KEYS[7].public, self.now)
        # What no honest one had taken before may have come in with the rest; it did so everywhere.
        assert all(held <= set(each.history.operations) for each in replicas)

    def check(self, honest: Sequence[int]) -> None:
        first, *others = (self.replicas[each] for each in honest)
        for other in others:
            assert sorted(other.history.operations) == sorted(first.history.operations)
            assert other.set_digest == first.set_digest
            assert other.judge.members == first.judge.members
            assert list(other.judge.fenced) == list(first.judge.fenced) or sorted(other.judge.fenced) == sorted(
                first.judge.fenced
            )
            counts = {each.id: each.counts for each in first.history}
            assert {each.id: each.counts for each in other.history} == counts
            assert other.document.value() == first.document.value()
            assert other.digest() == first.digest()
        fresh = Replica.from_bytes(first.to_bytes(), first.channel)
        assert fresh.digest() == first.digest()


def may(replica: Replica, who: int, change: Change) -> bool:
    """Whether the replica says that its device may."""
    device = KEYS[who].public
    if device in replica.judge.fenced:
        return False
    role = replica.judge.role(device) or 0
    if isinstance(change, Revoke):
        target = replica.judge.role(change.device)
        return target != Role.OWNER and (role >= Role.ADMIN or (change.device == device and role > 0))
    if isinstance(change, Grant):
        return role >= Role.ADMIN
    return role >= (Role.READER if isinstance(change, Acknowledge) else Role.MEMBER)


def run(history: Sequence[Step], honest: Sequence[int]) -> None:
    note("\n".join(map(repr, history)))
    play = Play()
    for step in history:
        play.play(step)
    play.heal(honest)
    play.check(honest)
    everything = set(play.replicas[honest[0]].history.operations)
    for unit in play.honest_units:  # what an honest device wrote is taken by all
        receipt = play.replicas[honest[-1]].receive(unit, KEYS[7].public, play.now)
        assert (receipt.refused, receipt.added, receipt.parked) == (None, (), False)
    assert everything == set(play.replicas[honest[0]].history.operations)


@pytest.mark.parametrize("kind", TYPES)
def test_replicas_that_hold_the_same_show_the_same(kind: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(steps(TYPES[kind], text=False, liars=False, power=False))
    def law(history: list[Step]) -> None:
        run(history, range(7))

    law()


@settings(max_examples=40, deadline=None)
@given(steps(TYPES["set"], text=True, liars=False, power=False))
def test_so_do_their_texts(history: list[Step]) -> None:
    run(history, range(7))


@settings(max_examples=60, deadline=None)
@given(steps(TYPES["map of all types"], text=True, liars=False, power=True))
def test_whoever_comes_in_or_is_thrown_out(history: list[Step]) -> None:
    run(history, range(7))


@settings(max_examples=100, deadline=None)
@given(steps(TYPES["map of all types"], text=True, liars=True, power=True))
def test_whoever_equivocates(history: list[Step]) -> None:
    run(history, [each for each in range(7) if each not in LIARS])
