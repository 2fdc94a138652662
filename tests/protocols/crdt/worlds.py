"""Histories by the dozen: a channel, its authors and what they wrote, to be delivered in any causal order.

A ``World`` knows everything at once, so a test says what each operation had seen: everything so far by default, or
what it names with ``after``; its author's own last operation always, unless it equivocates with ``previous``.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from hypothesis import strategies as st

from protocols.crdt.bundles import Seal, encode_bundle, seal_bundle
from protocols.crdt.changes import Acknowledge, Change, Genesis, Role
from protocols.crdt.history import Held, History
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING, Operation
from protocols.identity.signing import SigningKey


class Written(NamedTuple):
    """A signed operation, as it travels in a bundle of one."""

    operation: Operation
    seal: Seal

    @property
    def id(self) -> bytes:
        return self.operation.id

    @property
    def data(self) -> bytes:
        return encode_bundle(self.seal, [self.operation])


def key_of(author: int) -> SigningKey:
    """The same in all worlds."""
    return SigningKey.generate(sha256(b"author %d" % author).digest())


KEYS: Final = tuple(map(key_of, range(8)))


class World:
    """One channel and all that was ever written in it."""

    def __init__(self, *roles: Role | None, burst: int = 2**20, rate_per_s: int = 1024, clock: int = 1) -> None:
        """The authors 0, 1, ... have these roles, or none; 0 is an owner and writes the genesis.

        Without roles: an owner and three members.
        """
        roles = roles or (Role.OWNER, Role.MEMBER, Role.MEMBER, Role.MEMBER)
        self.keys: Final = [KEYS[i] if i < len(KEYS) else key_of(i) for i in range(len(roles))]
        given = tuple(sorted((key.public, role) for key, role in zip(self.keys, roles, strict=True) if role))
        genesis = Genesis(given, bytes(32), burst, rate_per_s)
        parcel = seal_bundle(self.keys[0], NOTHING, [(genesis, clock, ())], 1, NOTHING)
        self.genesis: Final = Written(parcel.operations[0], parcel.seal)
        self.channel: Final = self.genesis.id
        self.written: Final = [self.genesis]
        """Causes before effects."""
        self._tips: Final[dict[int, Written]] = {0: self.genesis}
        self._pasts: Final[dict[bytes, set[bytes]]] = {self.genesis.id: set()}
        self._heads: Final[dict[bytes, Written]] = {self.genesis.id: self.genesis}

    def public(self, author: int) -> bytes:
        return self.keys[author].public

    def tip(self, author: int) -> Written | None:
        """What this author wrote last."""
        return self._tips.get(author)

    def sees(self, one: Written, other: Written) -> bool:
        """Whether one is after the other."""
        return other.id in self._pasts[one.id]

    def write(
        self,
        author: int,
        change: Change,
        after: Iterable[Written] | None = None,
        previous: Written | None = None,
        beside: Written | None = None,
        clock: int | None = None,
    ) -> Written:
        """Write an operation.

        Args:
            after: what it depends on besides its author's last operation: all heads if None, and the genesis if it
                would depend on nothing.
            previous: the author's last operation on this branch; what it wrote last, if None.
            beside: an equivocation: an operation of the author's, on whose back-link this one is too.
            clock: one above what it depends on, if None.
        """
        key = self.keys[author]
        if previous is None:
            previous = self._tips.get(author)
        if beside is not None:
            previous = next((each for each in self.written if each.id == beside.operation.previous), None)
        seen = list(self._heads.values() if after is None else after)
        if previous is None and not seen:
            seen = [self.genesis]
        named = [*seen, *([previous] if previous else [])]
        depends = {
            each.id: each
            for each in seen
            if (previous is None or each.id != previous.id) and not any(self.sees(other, each) for other in named)
        }
        latest = max(each.operation.clock for each in named)
        parcel = seal_bundle(
            key,
            self.channel,
            [(change, latest + 1 if clock is None else clock, tuple(depends)[:DEPENDENCIES_MAX])],
            previous.operation.sequence + 1 if previous else 1,
            previous.id if previous else NOTHING,
        )
        written = Written(parcel.operations[0], parcel.seal)
        before = {written.operation.previous, *written.operation.dependencies} - {NOTHING}
        self._pasts[written.id] = before.union(*(self._pasts[each] for each in before))
        for identifier in (written.operation.previous, *written.operation.dependencies):
            self._heads.pop(identifier, None)
        if all(each.id != written.id for each in self.written):
            self._heads[written.id] = written
            self.written.append(written)
        self._tips[author] = written
        return written

    def history(self, order: Sequence[Written] | None = None) -> History:
        """A history to which these were delivered, or all that was written."""
        history = History(self.channel)
        for each in self.written if order is None else order:
            deliver(history, each)
        return history


def deliver(history: History, written: Written) -> Held:
    """Place and add, without anybody's judgement."""
    held = history.place(written.operation, written.seal, None)
    history.add(held)
    return held


def causal(written: Sequence[Written], ranks: Sequence[int]) -> list[Written]:
    """The causal order in which what is ready goes by rank: any one can be had. Ranks are of the same order."""
    waiting = sorted(zip(ranks, range(len(written)), strict=True))
    order: list[Written] = []
    there: set[bytes] = {NOTHING}
    while waiting:
        place, index = next(
            (place, index)
            for place, (_, index) in enumerate(waiting)
            if written[index].operation.previous in there and there.issuperset(written[index].operation.dependencies)
        )
        del waiting[place]
        there.add(written[index].id)
        order.append(written[index])
    return order


def causal_orders(written: Sequence[Written]) -> st.SearchStrategy[list[Written]]:
    """Any causal order; it shrinks to the one in which they were written."""
    return st.permutations(range(len(written))).map(lambda ranks: causal(written, ranks))


@st.composite
def worlds(
    draw: st.DrawFn,
    changes: st.SearchStrategy[Change] | None = None,
    *roles: Role | None,
    size_max: int = 12,
    forks: bool = True,
) -> World:
    """A world in which authors who see each other sometimes wrote these changes; some on a back-link of before."""
    world = World(*roles)
    if changes is None:
        changes = st.just(Acknowledge())
    authors = st.integers(0, len(world.keys) - 1)
    steps = st.tuples(authors, changes, st.lists(st.integers(0, 63), max_size=3), st.integers(0, 7))
    for author, change, seen, fork in draw(st.lists(steps, max_size=size_max)):
        tip, before = world.tip(author), len(world.written)
        beside = tip if forks and fork == 7 and tip is not world.genesis else None
        world.write(author, change, [world.written[-1 - index % before] for index in seen], beside=beside)
    return world
