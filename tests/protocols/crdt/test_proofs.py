import pytest

from protocols.crdt.bundles import BUNDLE_COUNT_MAX, encode_single, parse, path_of
from protocols.crdt.changes import Append
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.proofs import bundle_of, path_to
from tests.protocols.crdt.chains import CHANNEL, beginning, chain, take, take_alone


def travels_alone(history: History, held: Held) -> bool:
    parcel = parse(CHANNEL, encode_single(held.seal, held.operation, path_to(history, held)))
    parcel.seal.verify(CHANNEL)
    return parcel.operations == (held.operation,)


@pytest.mark.parametrize("count", [1, 2, 5, BUNDLE_COUNT_MAX])
def test_what_came_whole_goes_whole_or_alone(count: int) -> None:
    history, parcel = beginning(), chain(*range(count))
    added = take(history, parcel)
    for held in added:
        assert bundle_of(history, held) == tuple(added)
        assert path_to(history, held) == path_of(parcel.operations, held.sequence - parcel.seal.first)
        assert travels_alone(history, held)


def test_what_came_alone_goes_whole_once_all_of_it_is_here() -> None:
    history, parcel = beginning(), chain(*range(5))
    added = take_alone(history, parcel, 0, 1, 2, 3)
    assert [bundle_of(history, each) for each in added] == [None] * 4
    added += take_alone(history, parcel, 4)
    assert [bundle_of(history, each) for each in added] == [tuple(added)] * 5
    assert all(travels_alone(history, each) for each in added)


def test_a_bundle_is_whole_though_its_beginning_came_alone() -> None:
    history, parcel = beginning(), chain(*range(5))
    added = take_alone(history, parcel, 0, 1) + take(history, parcel)
    assert [bundle_of(history, each) for each in added] == [tuple(added)] * 5
    assert all(travels_alone(history, each) for each in added)


def test_operations_that_were_signed_twice_go_with_the_signature_they_came_with() -> None:
    history, short, long = beginning(), chain(1, 2), chain(1, 2, 3, 4)
    added = take(history, short) + take(history, long)
    assert [each.seal for each in added] == [short.seal, short.seal, long.seal, long.seal]
    assert bundle_of(history, added[0]) == tuple(added[:2])
    assert bundle_of(history, added[3]) == tuple(added)
    assert all(travels_alone(history, each) for each in added)


def test_a_bundle_that_goes_on_in_another_lane_is_found() -> None:
    history, one = beginning(), chain(1, 2, 3)
    take(history, one)
    branch = take(history, chain(1, 20, 30))
    assert len(branch) == 2
    assert branch[0].lane != history.operations[one.operations[0].id].lane
    for held in branch:
        bundle = bundle_of(history, held)
        assert bundle is not None
        assert [each.sequence for each in bundle] == [2, 3, 4]
        assert bundle[1:] == tuple(branch)
        assert travels_alone(history, held)


def test_what_began_alone_goes_alone_if_the_rest_of_its_bundle_is_in_another_lane() -> None:
    history, one, other = beginning(), chain(1, 2, 3), chain(1, 20, 30)
    first = take_alone(history, other, 0)
    take(history, one)
    rest = take(history, other)
    assert first[0].lane != rest[0].lane
    assert bundle_of(history, first[0]) is None
    assert travels_alone(history, first[0])
    assert bundle_of(history, rest[1]) == (*first, *rest)


def test_what_is_too_large_for_a_bundle_goes_alone() -> None:
    history = beginning()
    parcel = chain(*[Append(("log",), "x" * 16_000)] * 17)
    added = take_alone(history, parcel, *range(17))
    assert [bundle_of(history, each) for each in added] == [None] * 17
    assert all(travels_alone(history, each) for each in added)


def test_what_lost_the_rest_of_its_bundle_has_no_path() -> None:
    history, parcel = beginning(), chain(1, 2, 3)
    held = history.place(parcel.operations[0], parcel.seal, None)
    history.add(held)
    assert bundle_of(history, held) is None
    with pytest.raises(CrdtError, match="no_path"):
        path_to(history, held)
