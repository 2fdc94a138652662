"""A history that begins at a frontier takes in what has seen all of it, and snapshots that contradict themselves are
no replicas."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import encode_bundle, encode_single, parse, path_of, seal_bundle
from protocols.crdt.changes import Acknowledge, Assign, Change
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held
from protocols.crdt.operations import NOTHING
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import Sealed, body_of, seal
from tests.protocols.crdt.channels import Channel
from tests.protocols.crdt.test_compaction import HONEST, MEMBERS, compacted, copy, same, settle
from tests.protocols.crdt.worlds import KEYS

PATH = ("a",)


def busy() -> Channel:
    """All have written something of every kind, and know of everything."""
    channel = Channel()
    for who in MEMBERS:
        channel.write(who, Assign(PATH, who), Assign(("b", "c"), who))
        channel.type(who, who, who, "abc")
        channel.tell_all(MEMBERS)
    settle(channel)
    return channel


def chain(replica: Replica, author: int) -> list[Held]:
    return [each for each in replica.history if each.operation.author == KEYS[author].public]


def written(replica: Replica, author: int, previous: Held | None, change: Change, seen: tuple[bytes, ...]) -> bytes:
    """What a liar signs: after ``previous``, as if it had seen nothing else but ``seen``."""
    first, back_link, clock = (
        (1, NOTHING, 0) if previous is None else (previous.sequence + 1, previous.id, previous.operation.clock)
    )
    clock = max(clock, *(replica.history.operations[each].operation.clock for each in seen), 0) + 1
    parcel = seal_bundle(KEYS[author], replica.channel, [(change, clock, seen)], first, back_link)
    return encode_bundle(parcel.seal, parcel.operations)


def refusal(replica: Replica, unit: bytes) -> str | None:
    before = replica.to_bytes()
    receipt = replica.receive(unit, b"", 2**62)
    assert receipt.refused is None or replica.to_bytes() == before
    return None if receipt.refused is None else receipt.refused.reason


def test_operation_that_has_not_seen_the_frontier_is_refused_and_no_lie() -> None:
    channel = busy()
    whole, shorter = channel.replicas[0], compacted(channel.replicas[0])
    tip = chain(whole, 3)[-1]
    beside = written(whole, 3, tip, Acknowledge(), ())
    assert refusal(shorter, beside) is None, "its own chain has seen the frontier"
    stranger = written(whole, 5, None, Acknowledge(), (whole.channel,))
    assert refusal(shorter, stranger) == "behind_frontier"


def test_second_branch_from_what_was_dropped_is_refused_wherever_it_begins() -> None:
    channel = busy()
    whole, shorter = channel.replicas[0], compacted(channel.replicas[0])
    own = chain(whole, 3)
    others = tuple(
        each for each in whole.heads if whole.history.operations[each].operation.author != own[0].operation.author
    )
    for previous in (None, *own[:-2]):
        fork = written(whole, 3, previous, Assign(PATH, "late"), others)
        assert refusal(copy(whole), fork) == "unproven_fork"
        assert refusal(copy(shorter), fork) in ("behind_frontier", "unproven_fork")
        alone = written(whole, 3, previous, Assign(PATH, "late"), () if previous else (whole.channel,))
        assert refusal(copy(shorter), alone) == "behind_frontier"
    beside = written(whole, 3, own[-2], Assign(PATH, "late"), others)
    assert refusal(copy(whole), beside) is refusal(copy(shorter), beside) is None, "a fork in front, to be proved"


def test_proof_about_what_was_dropped_is_taken_and_has_the_same_effect() -> None:
    channel = busy()
    shorter = compacted(channel.replicas[0])
    channel.replicas[4] = copy(channel.replicas[3])
    channel.write(3, Assign(PATH, "one"))
    channel.write(4, Assign(PATH, "two"))
    channel.tell_all((0, 1, 3, 4))
    channel.write(1, Acknowledge())
    known = channel.replicas[0].judge.fenced
    channel.tell(1, 0)
    assert not known
    assert KEYS[3].public in channel.replicas[0].judge.fenced
    for unit in channel.units[0]:
        shorter.receive(unit, b"", channel.now_ns)
    assert same(shorter, channel.replicas[0])


def test_bundle_that_is_partly_behind_the_frontier_is_taken_from_there() -> None:
    channel = Channel()
    settle(channel)
    unit = channel.replicas[3].write(KEYS[3], [Assign(PATH, number) for number in range(8)], channel.now_ns)
    parcel = parse(channel.replicas[0].channel, unit)
    for index in range(4):
        single = encode_single(parcel.seal, parcel.operations[index], path_of(parcel.operations, index))
        for who in HONEST:
            assert channel.replicas[who].receive(single, b"", channel.now_ns).refused is None
    for who in HONEST:
        channel.write(who, Acknowledge())
    channel.tell_all(HONEST)
    whole, shorter = channel.replicas[0], compacted(channel.replicas[0])
    for replica in (whole, shorter):
        receipt = replica.receive(unit, b"", channel.now_ns)
        assert receipt.refused is None
        assert [each.id for each in receipt.added] == [each.id for each in parcel.operations[4:]]
    assert same(shorter, whole)
    assert same(copy(shorter), whole), "what was taken can be shown to others"


def test_equivocator_that_was_settled_cannot_come_back_with_a_branch() -> None:
    channel = busy()
    channel.replicas[4] = copy(channel.replicas[3])
    channel.write(3, Assign(PATH, "one"))
    channel.write(4, Assign(PATH, "two"))
    channel.tell_all((0, 3, 4))
    settle(channel, HONEST)
    whole, shorter = channel.replicas[0], compacted(channel.replicas[0])
    assert KEYS[3].public in shorter.judge.fenced
    tip = chain(whole, 3)[-1]
    more = written(whole, 3, tip, Assign(PATH, "three"), ())
    assert refusal(shorter, more) == "behind_frontier"
    whole.receive(more, b"", channel.now_ns)
    assert same(shorter, whole), "where it is held it does not count"


def leaves(data: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if not isinstance(data, list):
        return [path]
    return [path, *(each for index, part in enumerate(data) for each in leaves(part, (*path, index)))]


def changed(body: bytes, place: int, how: int) -> bytes:
    """A snapshot with one thing in it changed, and well encoded."""
    data = msgspec.msgpack.decode(body)
    found = leaves(data)[1:]
    path = found[place % len(found)]
    holder = data
    for index in path[:-1]:
        holder = holder[index]
    at, value = path[-1], holder[path[-1]]
    match value:
        case bool():
            holder[at] = not value
        case int():
            holder[at] = (value + 1, max(value - 1, 0), 2**40, 0)[how % 4]
        case bytes():
            holder[at] = value[:-1] + bytes((value[-1] ^ 1,)) if value else b"\1"
        case str():
            holder[at] = value + "x"
        case _:
            holder[at : at + 1] = ([], [value, value], [list(reversed(value))])[how % 3]
    return msgspec.msgpack.encode(data)


def sealed_of(channel: Channel) -> Sealed:
    channel.write(0, Assign(PATH, "tail"))
    sealed = channel.replicas[0].snapshot()
    assert sealed is not None
    return sealed


SEALED = busy()
SNAPSHOT = sealed_of(SEALED)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 11))
def test_snapshot_with_anything_changed_is_refused_or_is_another_one_that_holds_together(place: int, how: int) -> None:
    """What cannot be checked without the operations, as what somebody had seen, is for the signatures to tell."""
    body = changed(body_of(SNAPSHOT.body, SNAPSHOT.size), place, how)
    sealed = seal(body, SNAPSHOT.units, SNAPSHOT.tail)
    try:
        replica = Replica.restored(SEALED.genesis, sealed)
    except CrdtError:
        return
    assert Replica.from_bytes(replica.to_bytes(), replica.channel).to_bytes() == replica.to_bytes()
    assert body == body_of(SNAPSHOT.body, SNAPSHOT.size) or not SEALED.replicas[0].confirms(sealed)


def test_document_that_is_not_what_the_digest_says_is_refused() -> None:
    body = body_of(SNAPSHOT.body, SNAPSHOT.size)
    assert b"abc" in body
    with pytest.raises(CrdtError, match="bad_snapshot"):
        Replica.restored(SEALED.genesis, seal(body.replace(b"abc", b"abd"), SNAPSHOT.units, SNAPSHOT.tail))


@pytest.mark.parametrize("units", [(), SNAPSHOT.units * 2, SNAPSHOT.tail[:1]])
def test_acts_are_those_of_the_snapshot(units: tuple[bytes, ...]) -> None:
    with pytest.raises(CrdtError, match=r"bad_snapshot|bad_signature|malformed"):
        Replica.restored(SEALED.genesis, seal(body_of(SNAPSHOT.body, SNAPSHOT.size), units, SNAPSHOT.tail))


def test_tail_is_checked_like_anything_else() -> None:
    unit = bytearray(SNAPSHOT.tail[-1])
    unit[-1] ^= 1
    with pytest.raises(CrdtError):
        Replica.restored(
            SEALED.genesis,
            seal(body_of(SNAPSHOT.body, SNAPSHOT.size), SNAPSHOT.units, (*SNAPSHOT.tail[:-1], bytes(unit))),
        )


def test_snapshot_of_another_channel_is_refused() -> None:
    other = Replica.found(KEYS[0], {}, nonce=bytes(31) + b"\1", now_ns=1)
    with pytest.raises(CrdtError, match="another channel"):
        Replica.restored(other.genesis, SNAPSHOT)
