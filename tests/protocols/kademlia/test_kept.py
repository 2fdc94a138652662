"""What a node finds again after a crash is what it had, to the last floor."""

from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contact import Contact
from protocols.errors import LocalError
from protocols.identity import SigningKey
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.kept import HELD, KEPT_VERSION, OWN, Change, Kept
from protocols.kademlia.messages import REQUESTS, RESPONSES, GetDone, PutDone, Query, Reply, Store, Stored
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.records import Held, Record, record_key
from tests.protocols.kademlia.world import SECOND

OURS = SigningKey(bytes(32))
OWNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
CONFIG = KademliaConfig(records_max=4, owner_records_max=3, published_max=3, settle_ms=0, refresh_ms=0, lookups_max=2)
CALLER = Contact(OWNERS[0].public, 1)


def fresh(snapshot: bytes | None = None, changes: list[Change] | None = None, now: int = 0) -> KademliaNode:
    """A node that comes up and finds this."""
    node = KademliaNode(OURS.public, CONFIG)
    assert node.recover(snapshot, changes or [], now) == 0
    return node


@cache
def record(owner: int, name: bytes, sequence: int, ttl_s: int = 100) -> Record:
    return Record.sign(OWNERS[owner], name, sequence, b"value", ttl_s)


def own(name: bytes, sequence: int, ttl_s: int = 100) -> Record:
    return Record.sign(OURS, name, sequence, b"value", ttl_s)


def offer(node: KademliaNode, what: Record, remaining_s: int, now: int) -> str:
    body, _ = node.receive(CALLER.device, CALLER.endpoint, REQUESTS.encode(Store(what, remaining_s)), now)
    stored = RESPONSES.decode(body)
    assert isinstance(stored, Stored)
    return stored.outcome


def written(node: KademliaNode) -> tuple[list[tuple[Record, int, int]], list[tuple[bytes, tuple[int, int]]]]:
    """Everything that its answers depend on: not when somebody last asked to store a record."""
    state = node.store.to_state()
    return [(held.record, held.expires_at, held.ends_at) for held in state.held], state.floors


def test_what_was_stored_is_found_again() -> None:
    node = fresh()
    assert offer(node, record(0, b"a", 1), 50, 7 * SECOND) == "stored"
    [change] = node.changes()
    assert change == Change.of(HELD, Held(record(0, b"a", 1), 57 * SECOND, 107 * SECOND, 7 * SECOND))
    assert node.changes() == []
    again = fresh(None, [change], 20 * SECOND)
    assert written(again) == written(node)
    held = again.store.find(record(0, b"a", 1).key, 20 * SECOND)
    assert held is not None
    assert held.remaining_s(20 * SECOND) == 37


def test_a_rollback_is_refused_after_a_crash_too() -> None:
    """Attack D6: the record has expired, and the node was down when it did."""
    node = fresh()
    offer(node, record(0, b"a", 5), 100, 0)
    again = fresh(None, node.changes(), 200 * SECOND)
    assert len(again.store) == 0
    assert offer(again, record(0, b"a", 4), 100, 200 * SECOND) == "stale"
    assert offer(again, record(0, b"a", 5), 100, 200 * SECOND) == "stale"
    assert offer(again, record(0, b"a", 6), 100, 200 * SECOND) == "stored"


def test_what_was_checked_in_an_earlier_life_is_not_counted_again() -> None:
    node = fresh()
    offer(node, record(0, b"a", 1), 50, 0)
    assert fresh(node.kept()).store.verifications == 1


def test_only_what_there_is_to_write_down_is_written_down() -> None:
    node = fresh()
    offer(node, record(0, b"a", 1), 50, 0)
    assert len(node.changes()) == 1
    for what, remaining_s, outcome, changes in (
        (record(0, b"a", 1), 50, "stored", 0),
        (record(0, b"a", 1), 60, "stored", 1),
        (record(0, b"a", 0), 60, "stale", 0),
    ):
        assert offer(node, what, remaining_s, 0) == outcome
        assert len(node.changes()) == changes


def test_a_node_that_nobody_keeps_collects_nothing() -> None:
    node = KademliaNode(OURS.public, CONFIG)
    offer(node, record(0, b"a", 1), 50, 0)
    assert node.store.taken is None
    assert node.changes() == []


def test_our_own_record_is_published_again_and_its_sequence_never_used_twice() -> None:
    node = fresh()
    change = node.publish(own(b"a", 7), 0)
    assert change is not None
    assert change.kind == OWN
    again = fresh(None, [change], SECOND)
    key = record_key(OURS.public, b"a")
    [reply] = again.get("app", 1, key, SECOND)
    assert isinstance(reply, Reply)
    assert isinstance(reply.result, GetDone)
    assert reply.result.record == own(b"a", 7)
    for node, now in ((again, 0), (fresh(None, [change], 1_000 * SECOND), 0)):
        assert node.next_sequence(key, now) == 8, "even if the clock went back, or the record has expired"
    assert fresh(again.kept(), [], SECOND).next_sequence(key, 0) == 8


def test_a_record_that_is_durable_is_sent_and_one_without_room_never_taken_up() -> None:
    node = fresh()
    node.adopt([CALLER], 0)
    assert all(node.publish(own(b"%d" % number, 1), 0) is not None for number in range(3))
    assert node.publish(own(b"3", 1), 0) is None
    sent = node.put("app", 1, own(b"0", 1), 0)
    assert [type(output) for output in sent] == [Query]
    [reply] = node.put("app", 2, own(b"3", 1), 0)
    assert isinstance(reply, Reply)
    assert isinstance(reply.result, PutDone)
    assert reply.result.stored == 0


def test_an_older_record_that_becomes_durable_late_does_not_replace_a_newer_one() -> None:
    node = fresh()
    for sequence in (1, 2):
        assert node.publish(own(b"a", sequence), 0) is not None
    node.put("app", 1, own(b"a", 1), SECOND)
    assert [held.record.sequence for held in Kept.from_bytes(node.kept()).published] == [2]


def test_somebody_elses_record_is_not_published() -> None:
    with pytest.raises(LocalError, match="own device"):
        fresh().publish(record(0, b"a", 1), 0)


def test_a_record_that_does_not_verify_is_left_out() -> None:
    forged = msgspec.structs.replace(record(0, b"a", 1), value=b"other")
    node = KademliaNode(OURS.public, CONFIG)
    before = node.store.verifications
    changes = [Change.of(HELD, Held(each, 100 * SECOND, 100 * SECOND, 0)) for each in (forged, record(0, b"b", 1))]
    assert node.recover(None, changes, 0) == 1
    assert node.store.verifications - before == 2
    assert node.store.find(forged.key, 0) is None
    assert len(node.store) == 1


@pytest.mark.parametrize(
    ("snapshot", "changes"),
    [
        (b"", []),
        (fresh().kept()[:-1], []),
        (msgspec.structs.replace(Kept.from_bytes(fresh().kept()), version=KEPT_VERSION + 1).to_bytes(), []),
        (None, [Change(HELD, b"\x90")]),
        (None, [Change("kad.other", Change.of(HELD, Held(record(0, b"a", 1), 1, 1, 0)).payload)]),
    ],
)
def test_what_cannot_be_read_is_said(snapshot: bytes | None, changes: list[Change]) -> None:
    with pytest.raises(LocalError):
        KademliaNode(OURS.public, CONFIG).recover(snapshot, changes, 0)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.one_of(
            st.tuples(
                st.integers(0, 2), st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 4), st.sampled_from([5, 40, 100])
            ),
            st.sampled_from(["crash", "snapshot", "expire"]),
        ),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_a_node_that_crashes_at_any_time_goes_on_as_one_that_never_did(
    steps: list[tuple[int, tuple[int, bytes, int, int] | str]],
) -> None:
    mortal, immortal = fresh(), fresh()
    snapshot: bytes | None = None
    changes: list[Change] = []
    now = 0
    for delay, step in steps:
        now += delay * SECOND
        match step:
            case "crash":
                mortal = fresh(snapshot, changes, now)
            case "snapshot":
                snapshot, changes = mortal.kept(), []
            case "expire":
                mortal.store.expire(now)
            case owner, name, sequence, remaining_s:
                what = record(int(owner), bytes(name), int(sequence))
                assert offer(mortal, what, int(remaining_s), now) == offer(immortal, what, int(remaining_s), now)
                changes += mortal.changes()
        mortal.store.expire(now)
        immortal.store.expire(now)
        assert written(mortal) == written(immortal)
