"""Units for others: whole bundles or single operations, causes first, as many as fit."""

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import BUNDLE, SINGLE, encode_single, path_of, seal_bundle
from protocols.crdt.changes import Acknowledge, Append, Blob, Role
from protocols.crdt.history import Held
from protocols.crdt.messages import UNIT_SIZE_MAX
from protocols.crdt.operations import NOTHING
from protocols.crdt.outgoing import BATCH_SIZE, pack
from tests.protocols.crdt.peers import Author, Peer
from tests.protocols.crdt.worlds import World

LARGE: Final = Append(("log",), Blob(bytes(16 * 1024)))


def peers(count: int, authors: int = 3) -> tuple[list[Peer], list[Author]]:
    world = World(Role.OWNER, *[Role.MEMBER] * authors)
    return [Peer(world.channel, [world.genesis]) for _ in range(count)], [Author(key) for key in world.keys[1:]]


def held(peer: Peer, start: int, stop: int | None = None) -> list[Held]:
    return list(peer.history)[start:stop]


def test_a_bundle_that_is_wanted_as_a_whole_travels_as_a_whole() -> None:
    (ours, theirs), (author, *_) = peers(2)
    author.write(ours, 64)
    batch = pack(ours.history, held(ours, 1))
    assert [unit[0] for unit in batch.units] == [BUNDLE]
    assert theirs.receive(batch.units) == 64


def test_of_a_bundle_the_end_is_sent_with_the_rest_and_a_few_operations_alone() -> None:
    (ours, theirs, third), (author, *_) = peers(3)
    author.write(ours, 64)
    assert [unit[0] for unit in pack(ours.history, held(ours, 20)).units] == [BUNDLE]
    batch = pack(ours.history, held(ours, 1, 11))
    assert [unit[0] for unit in batch.units] == [SINGLE] * 10
    assert theirs.receive(batch.units) == 10
    batch = pack(theirs.history, held(theirs, 1))
    assert [unit[0] for unit in batch.units] == [SINGLE] * 10
    assert third.receive(batch.units) == 10


def test_a_bundle_that_came_one_by_one_travels_as_a_whole_again() -> None:
    (ours, theirs, third), (author, *_) = peers(3)
    parcel = author.write(ours, 10)
    singles = [
        encode_single(parcel.seal, each, path_of(parcel.operations, index))
        for index, each in enumerate(parcel.operations)
    ]
    theirs.receive(singles)
    batch = pack(theirs.history, held(theirs, 1))
    assert [unit[0] for unit in batch.units] == [BUNDLE]
    assert third.receive(batch.units) == 10


def test_nothing_that_needs_more_than_what_is_asked_for_is_sent_along() -> None:
    (ours, theirs), (author, other, _) = peers(2)
    theirs.take(other.write(ours, 1))
    theirs.take(author.write(ours, 1))
    beside = other.write(ours, 1)
    clock = beside.operations[-1].clock
    dated = [(Acknowledge(), clock + 1 + i, (beside.operations[0].id,) if i == 3 else ()) for i in range(5)]
    parcel = seal_bundle(author.key, ours.history.channel, dated, author.sequence + 1, author.previous)
    ours.take(parcel)
    wanted = [ours.history.operations[each.id] for each in parcel.operations[:3]]
    batch = pack(ours.history, wanted)
    assert [unit[0] for unit in batch.units] == [SINGLE] * 3
    assert theirs.receive(batch.units) == 3
    assert not theirs.waiting


def test_who_signs_an_operation_in_two_bundles_has_nobody_else_blamed() -> None:
    (ours, theirs), (author, *_) = peers(2)
    clock = next(iter(ours.history)).operation.clock
    for size in (1, 2):  # the beginning of both is the same
        changes = [
            (Append(("log",), 9 if number else 7), clock + 1 + number, () if number else (ours.history.channel,))
            for number in range(2 * size)
        ]
        parcel = seal_bundle(author.key, ours.history.channel, changes, 1, NOTHING)
        for operation in parcel.operations:
            if operation.id not in ours.history:
                ours.history.add(ours.history.place(operation, parcel.seal, None))
    wanted = held(ours, 1)
    assert len({each.seal for each in wanted}) == 2
    batch = pack(ours.history, wanted)
    assert [unit[0] for unit in batch.units] == [BUNDLE, BUNDLE]
    assert theirs.receive(batch.units) == 4


def test_a_batch_is_as_large_as_it_may_be_and_the_rest_comes_next() -> None:
    (ours, theirs), (author, *_) = peers(2)
    for _ in range(20):
        author.write(ours, 1, LARGE)
    wanted = held(ours, 1)
    sizes = []
    while wanted:
        batch = pack(ours.history, wanted)
        assert theirs.receive(batch.units) == len(batch.units)
        assert [each.id for each in batch.rest] == [each.id for each in wanted[len(batch.units) :]]
        sizes.append(sum(map(len, batch.units)))
        wanted = list(batch.rest)
    assert max(sizes) <= BATCH_SIZE
    assert len(sizes) == 7
    assert theirs.ids == ours.ids


def test_a_unit_that_is_larger_than_a_batch_goes_alone() -> None:
    (ours, theirs), (author, other, _) = peers(2)
    other.write(ours, 1)
    author.write(ours, 15, LARGE)
    batch = pack(ours.history, held(ours, 1))
    assert len(batch.units) == 1
    batch = pack(ours.history, batch.rest)
    assert len(batch.units) == 1
    assert BATCH_SIZE < len(batch.units[0]) <= UNIT_SIZE_MAX
    assert batch.rest == ()
    theirs.receive(pack(ours.history, held(ours, 1), 10**6).units)
    assert theirs.ids == ours.ids


def test_a_bundle_too_large_for_one_unit_travels_one_by_one() -> None:
    """Nobody could send it whole, so its author sent it so."""
    (ours, theirs), (author, *_) = peers(2)
    dated = [(LARGE, 10 + i, (ours.history.channel,) if not i else ()) for i in range(20)]
    parcel = seal_bundle(author.key, ours.history.channel, dated, 1, NOTHING)
    ours.receive(
        encode_single(parcel.seal, each, path_of(parcel.operations, i)) for i, each in enumerate(parcel.operations)
    )
    batch = pack(ours.history, held(ours, 1), 10**6)
    assert [unit[0] for unit in batch.units] == [SINGLE] * 20
    assert theirs.receive(batch.units) == 20


def test_bundles_that_wait_for_each_other_are_sent_all_the_same() -> None:
    """Two authors who sign together: each bundle has an operation that depends on one of the other's."""
    (ours, theirs), (first, second, _) = peers(2)
    channel = ours.history.channel
    begun = seal_bundle(first.key, channel, [(Acknowledge(), 10, (channel,))], 1, NOTHING).operations[0]
    between = seal_bundle(second.key, channel, [(Acknowledge(), 11, (begun.id,))], 1, NOTHING).operations[0]
    one = seal_bundle(
        first.key, channel, [(Acknowledge(), 10, (channel,)), (Acknowledge(), 12, (between.id,))], 1, NOTHING
    )
    changes = [(Acknowledge(), 11, (begun.id,)), (Acknowledge(), 13, (one.operations[1].id,))]
    two = seal_bundle(second.key, channel, changes, 1, NOTHING)
    for parcel, index in ((one, 0), (two, 0), (one, 1), (two, 1)):
        ours.receive([encode_single(parcel.seal, parcel.operations[index], path_of(parcel.operations, index))])
    assert len(ours.history) == 5
    theirs.receive(pack(ours.history, held(ours, 1)).units)
    assert theirs.ids == ours.ids


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=12), st.data())
def test_what_honest_authors_wrote_never_waits_at_who_lacks_it(
    written: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Through a peer that got it in single operations in any causal order, in batches of any size."""
    (ours, middle, theirs), authors = peers(3)
    parcels = [authors[author].write(ours, size) for author, size in written]
    singles = [
        encode_single(parcel.seal, each, path_of(parcel.operations, index))
        for parcel in parcels
        for index, each in enumerate(parcel.operations)
    ]
    middle.receive(data.draw(st.permutations(singles)))
    assert middle.ids == ours.ids
    prefix = data.draw(st.integers(1, len(middle.history)))
    for each in held(middle, 1, prefix):
        theirs.receive(pack(middle.history, [each]).units)
    lacking = [each for each in middle.history if each.id not in theirs.ids]
    wanted = tuple(data.draw(st.permutations(lacking)))
    size = data.draw(st.sampled_from([1, 300, 10_000]))
    while wanted:
        batch = pack(middle.history, wanted, size)
        for unit in batch.units:
            assert theirs.receive([unit])
            assert not theirs.waiting
        wanted = batch.rest
    assert theirs.ids == ours.ids
