"""Bundles of many operations, and histories to which they come whole, in part, and one by one."""

from collections.abc import Sequence
from typing import Final

from protocols.crdt.bundles import Parcel, parse, path_of, seal_bundle
from protocols.crdt.changes import Append, Change, Genesis, Role
from protocols.crdt.history import Held, History
from protocols.crdt.operations import NOTHING, Operation
from tests.protocols.crdt.worlds import KEYS

ALICE, BOB = KEYS[:2]

GENESIS: Final = seal_bundle(
    ALICE,
    NOTHING,
    [(Genesis(((ALICE.public, Role.OWNER), (BOB.public, Role.MEMBER)), bytes(32), 2**20, 1024), 1, ())],
    1,
    NOTHING,
)
CHANNEL: Final = GENESIS.operations[0].id


def chain(
    *changes: Change | int,
    after: Operation = GENESIS.operations[0],
    seen: Sequence[Operation] = (),
    author: int = 0,
) -> Parcel:
    """A bundle of one author's; a number stands for an entry in a log. ``after`` is its last operation before, or what
    the first of its life depends on; of ``seen``, each operation of the bundle depends on another one, from its end.
    """
    key, clock = KEYS[author], after.clock
    dated: list[tuple[Change, int, tuple[bytes, ...]]] = []
    own = after.author == key.public
    for number, change in enumerate(changes, len(seen) - len(changes)):
        depends = list(seen[number : number + 1]) if number >= 0 else []
        clock = max(clock, *(each.clock for each in depends), 0) + 1
        if not own and not dated and after not in depends:
            depends.append(after)
        written = Append(("log",), change) if isinstance(change, int) else change
        dated.append((written, clock, tuple(each.id for each in depends)))
    return seal_bundle(key, CHANNEL, dated, after.sequence + 1 if own else 1, after.id if own else NOTHING)


def beginning() -> History:
    history = History(CHANNEL)
    take(history, GENESIS)
    return history


def take(history: History, parcel: Parcel) -> list[Held]:
    """A bundle as it came."""
    added = []
    for operation in parcel.operations:
        if operation.id not in history:
            held = history.place(operation, parcel.seal, parcel.path)
            history.add(held)
            added.append(held)
    return added


def take_alone(history: History, parcel: Parcel, *indexes: int) -> list[Held]:
    """Some of a bundle, each with its path."""
    added = []
    for index in indexes:
        operation = parcel.operations[index]
        held = history.place(operation, parcel.seal, path_of(parcel.operations, index))
        history.add(held)
        added.append(held)
    return added


def read(units: Sequence[bytes], channel: bytes = CHANNEL) -> History:
    """What an archive's units, or any others in such an order, come to. Each is verified."""
    history = History(channel)
    for number, unit in enumerate(units):
        signed_for = channel if number else NOTHING
        parcel = parse(signed_for, unit)
        parcel.seal.verify(signed_for)
        take(history, parcel)
    return history
