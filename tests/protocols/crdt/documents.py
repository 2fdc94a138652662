"""Documents of worlds, and what they come to by definition: written down once more, over the whole set and slowly."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from protocols.crdt.changes import Add, Append, Assign, AssignMulti, Clear, Increment, Path, Remove, Value
from protocols.crdt.document import Document
from protocols.crdt.history import Held, History
from protocols.crdt.operations import NOTHING
from protocols.crdt.state import Kind
from tests.protocols.crdt.worlds import World, Written, deliver

ORDERS_MAX: Final = 40

CONTAINERS: Final = (
    (Kind.REGISTER, Assign), (Kind.MULTI, AssignMulti), (Kind.COUNTER, Increment), (Kind.SET, Add),
    (Kind.TIMELINE, Append),
)  # fmt: skip


def replay(
    world: World, order: Sequence[Written], inert: Collection[Written] = (), looks: Collection[int] = ()
) -> Document:
    """The document after these, of which ``inert`` do not count; somebody looks at it after some of them."""
    history = History(world.channel)
    document = Document(history)
    for number, written in enumerate(order):
        held = deliver(history, written)
        held.counts = written not in inert
        document.apply(held)
        if number in looks:
            document.value()
    return document


def document_of(world: World, inert: Collection[Written] = ()) -> Document:
    """The document of all that was written, after some forty orders of arrival have been found to give the same."""
    document = replay(world, world.written, inert)
    for order in islice(_orders(world.written, []), ORDERS_MAX):
        assert replay(world, order, inert).state_bytes() == document.state_bytes()
    return document


def live_by_definition(history: History) -> list[tuple[Path, Kind, set[bytes]]]:
    """What is live in which container but texts: what counts, and is seen by nothing that counts and takes it away."""
    counting = [each for each in history if each.counts]
    found: dict[tuple[Path, Kind], set[bytes]] = {}
    for kind, change_type in CONTAINERS:
        for each in counting:
            if isinstance(each.operation.change, change_type) and not any(_takes_away(it, each) for it in counting):
                found.setdefault((each.operation.change.path, kind), set()).add(each.id)
    return [(path, kind, ids) for (path, kind), ids in sorted(found.items())]


def _takes_away(held: Held, other: Held) -> bool:
    if held is other or not held.sees(other):
        return False
    change, gone = held.operation.change, other.operation.change
    assert isinstance(gone, Assign | AssignMulti | Increment | Add | Append)
    match change:
        case Clear(path):
            return gone.path[: len(path)] == path
        case Assign() | AssignMulti():
            return type(change) is type(gone) and change.path == gone.path
        case Add() | Remove():
            return isinstance(gone, Add) and change.path == gone.path and same(change.element, gone.element)
        case _:
            return False


def same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _orders(written: Sequence[Written], order: list[Written]) -> Iterator[list[Written]]:
    """All causal orders, the one that is farthest from the order of writing first."""
    there = {NOTHING, *(each.id for each in order)}
    rest = [each for each in written if each not in order]
    if not rest:
        yield order
    for each in reversed(rest):
        if each.operation.previous in there and there.issuperset(each.operation.dependencies):
            yield from _orders(written, [*order, each])
