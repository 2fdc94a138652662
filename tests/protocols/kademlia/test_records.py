import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contact import node_id
from protocols.errors import LocalError
from protocols.identity import SigningKey
from protocols.kademlia.records import TTL_MAX_S, Record, RecordError, RecordStore, record_key
from protocols.messages import Codec, CodecError

KEY, OTHER_KEY = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
OWNER, OTHER = KEY.public, OTHER_KEY.public
OWN = node_id(b"own".ljust(32))
SECOND = 1_000_000_000


def record(
    sequence: int = 1, value: bytes = b"value", name: bytes = b"name", ttl_s: int = 100, key: SigningKey = KEY
) -> Record:
    return Record.sign(key, name, sequence, value, ttl_s)


def store(records_max: int = 8, owner_max: int = 4) -> RecordStore:
    return RecordStore(OWN, records_max=records_max, owner_max=owner_max, ttl_max_s=1_000)


def altered(original: Record, **fields: object) -> Record:
    values = {name: getattr(original, name) for name in original.__struct_fields__}
    return Record(**(values | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": OTHER},
        {"name": b"nam"},
        {"sequence": 2},
        {"value": b"valu"},
        {"ttl_s": 101},
        {"signature": bytes(64)},
        {"name": b"namev", "value": b"alue"},
    ],
)
def test_a_record_altered_in_any_field_is_refused_and_changes_nothing(fields: dict[str, object]) -> None:
    held = store()
    forged = altered(record(), **fields)
    with pytest.raises(RecordError, match="bad_signature"):
        held.offer(forged, 100, 0)
    assert len(held) == 0
    assert held.offer(record(), 100, 0) == "stored"


def test_a_key_belongs_to_one_owner_and_name() -> None:
    keys = {record_key(owner, name) for owner in (OWNER, OTHER) for name in (b"", b"a", b"b")}
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("name", "value", "ttl_s"), [(bytes(65), b"", 1), (b"", bytes(1025), 1), (b"", b"", TTL_MAX_S + 1)]
)
def test_no_record_beyond_the_limits_is_signed_or_decoded(name: bytes, value: bytes, ttl_s: int) -> None:
    with pytest.raises(LocalError):
        record(name=name, value=value, ttl_s=ttl_s)
    codec = Codec(Record)
    with pytest.raises(CodecError):
        codec.decode(codec.encode(altered(record(), name=name, value=value, ttl_s=ttl_s)))


def test_an_older_record_never_replaces_a_newer_one() -> None:
    held = store()
    assert held.offer(record(5), 100, 0) == "stored"
    assert held.offer(record(4), 100, 0) == "stale"
    assert held.offer(record(6), 100, 0) == "stored"
    found = held.find(record().key, 0)
    assert found is not None
    assert found.record == record(6)


@settings(max_examples=25, deadline=None)
@given(st.permutations([record(1), record(2, b"a"), record(2, b"b"), record(2, b"c"), record(2, b"c", ttl_s=7)]))
def test_every_order_of_arrival_ends_with_the_same_record(records: list[Record]) -> None:
    held = store()
    for each in records:
        held.offer(each, 100, 0)
    found = held.find(record().key, 0)
    assert found is not None
    assert found.record == max(records, key=lambda each: each.rank)


def test_an_expired_record_cannot_come_back_but_a_newer_one_can() -> None:
    """Attack D6: without the memory of its sequence, the old record verifies as it always did."""
    held = store()
    held.offer(record(5), 100, 0)
    held.expire(100 * SECOND)
    assert len(held) == 0
    assert held.offer(record(5), 100, 101 * SECOND) == "stale"
    assert held.offer(record(4), 100, 101 * SECOND) == "stale"
    assert held.offer(record(6), 100, 101 * SECOND) == "stored"


def test_a_liar_cannot_end_a_record_by_passing_it_on_with_a_second_to_live() -> None:
    held = store()
    held.offer(record(), 1, 0)
    assert held.offer(record(), 100, SECOND // 2) == "stored"
    assert held.deadline() == 100 * SECOND
    held = store()
    held.offer(record(), 1, 0)
    held.expire(SECOND)
    assert held.offer(record(), 100, 2 * SECOND) == "stored"
    assert held.deadline() == 100 * SECOND


def test_ending_and_storing_a_record_by_turns_does_not_prolong_its_life() -> None:
    held = store()
    for now in range(0, 300, 3):
        held.offer(record(), 1, now * SECOND)
        held.expire((now + 2) * SECOND)
    assert held.offer(record(), 100, 301 * SECOND) == "stale"


def test_storing_the_same_record_again_does_not_prolong_its_life() -> None:
    """Attack D7: immortal records."""
    held = store()
    held.offer(record(), 100, 0)
    assert held.offer(record(), 100, 99 * SECOND) == "stored"
    assert held.find(record().key, 100 * SECOND) is None


def test_a_life_is_the_shortest_of_what_owner_sender_and_receiver_say() -> None:
    for ttl_s, remaining_s, life in [(50, 90, 50), (50, 20, 20), (5_000, 5_000, 1_000)]:
        held = store()
        held.offer(record(ttl_s=ttl_s), remaining_s, 0)
        assert held.deadline() == life * SECOND


def test_an_owner_fills_only_its_quota() -> None:
    held = store(records_max=100, owner_max=4)
    outcomes = [held.offer(record(name=bytes([n])), 100, 0) for n in range(6)]
    assert outcomes == ["stored"] * 4 + ["quota"] * 2
    assert held.offer(record(key=OTHER_KEY), 100, 0) == "stored"


def test_a_full_store_keeps_the_records_nearest_to_its_node() -> None:
    held = store(records_max=8, owner_max=100)
    records = [record(name=bytes([n])) for n in range(40)]
    for each in records:
        held.offer(each, 100, 0)
    assert len(held) == 8
    nearest = sorted(records, key=lambda each: int.from_bytes(each.key) ^ OWN)[:8]
    assert all(held.find(each.key, 0) for each in nearest)


def test_an_evicted_record_may_come_back_but_not_an_older_one() -> None:
    held = store(records_max=1)
    far, near = sorted([record(5, name=b"a"), record(5, name=b"b")], key=lambda each: -(int.from_bytes(each.key) ^ OWN))
    held.offer(far, 100, 0)
    held.offer(near, 10, 0)
    held.expire(10 * SECOND)
    assert held.offer(record(4, name=far.name), 100, 10 * SECOND) == "stale"
    assert held.offer(far, 100, 10 * SECOND) == "stored"
    assert held.deadline() == 100 * SECOND, "its life began when it first came"


def test_what_would_be_refused_anyway_is_not_verified() -> None:
    held = store(records_max=2, owner_max=2)
    for n in range(2):
        held.offer(record(5, name=bytes([n])), 100, 0)
    before = held.verifications
    held.offer(altered(record(4, name=b"\0"), signature=bytes(64)), 100, 0)
    held.offer(altered(record(name=b"x"), signature=bytes(64)), 100, 0)
    assert held.verifications == before


def test_a_flood_leaves_the_store_and_its_memory_bounded() -> None:
    held = store(records_max=4, owner_max=4)
    for n in range(60):
        held.offer(record(n, ttl_s=1), 1, 2 * n * SECOND)
        held.offer(record(name=bytes([n]), ttl_s=1), 1, 2 * n * SECOND)
    state = held.to_state()
    assert len(state.held) <= 4
    assert len(state.floors) <= 8


def test_a_restored_store_goes_on_as_the_saved_one() -> None:
    held = store()
    held.offer(record(3), 100, 0)
    held.offer(record(3, name=b"b", ttl_s=10), 10, 0)
    held.expire(10 * SECOND)
    restored = store()
    restored.restore(held.to_state())
    for each in (held, restored):
        assert each.offer(record(3, name=b"b", ttl_s=10), 100, 11 * SECOND) == "stale"
        assert each.offer(record(4), 50, 11 * SECOND) == "stored"
        assert each.deadline() == 61 * SECOND
    assert restored.to_state().held == held.to_state().held
    assert restored.to_state().floors == held.to_state().floors
