import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contact import Contact, node_id
from protocols.errors import LocalError
from protocols.kademlia.routing import RoutingTable

RNG = random.Random(5)
CONTACTS = [Contact(RNG.randbytes(32), number) for number in range(3_000)]
OWN = node_id(b"own".ljust(32))


def distance(contact: Contact, target: int) -> int:
    return node_id(contact.device) ^ target


def same_bucket(n: int, bucket: int = 255) -> list[Contact]:
    return [contact for contact in CONTACTS if (distance(contact, OWN)).bit_length() - 1 == bucket][:n]


@settings(max_examples=60, deadline=None)
@given(
    members=st.sets(st.integers(0, 2_999), max_size=300),
    target=st.integers(0, 2**256 - 1) | st.sampled_from([OWN, node_id(CONTACTS[7].device)]),
    n=st.integers(0, 40),
    k=st.sampled_from([1, 20, 300]),
)
def test_closest_is_what_sorting_everybody_gives(members: set[int], target: int, n: int, k: int) -> None:
    table = RoutingTable.from_contacts(OWN, [CONTACTS[member] for member in sorted(members)], 0, k=k)
    assert table.closest(target, n) == sorted(table.contacts(), key=lambda contact: distance(contact, target))[:n]


def test_the_k_nearest_are_known_whoever_comes_first() -> None:
    table = RoutingTable(OWN, k=20)
    crowd = same_bucket(100)
    for contact in sorted(crowd, key=lambda contact: -distance(contact, OWN)):
        table.responded(contact, 0)
    assert len(table) == 40, "keys made ever nearer fill a bucket twice and no more"
    table = RoutingTable(OWN, k=20)
    for contact in crowd[:30]:
        table.responded(contact, 0)
    assert table.closest(OWN, 20) == sorted(crowd[:30], key=lambda contact: distance(contact, OWN))[:20]


def test_entering_one_by_one_gives_the_table_that_entering_in_bulk_gives() -> None:
    bulk = RoutingTable.from_contacts(OWN, sorted(CONTACTS, key=lambda contact: distance(contact, OWN)), 3)
    single = RoutingTable(OWN, replacements_max=0)
    for contact in sorted(CONTACTS, key=lambda contact: distance(contact, OWN)):
        single.responded(contact, 3)
    assert single.to_state() == bulk.to_state()
    assert max(size for _, size in bulk.buckets()) == 20


def test_only_an_empty_table_is_filled() -> None:
    table = RoutingTable.from_contacts(OWN, CONTACTS[:1], 0)
    with pytest.raises(LocalError):
        table.fill(CONTACTS[1:2], 0)
    assert table.contacts() == CONTACTS[:1]


def test_the_owner_of_a_table_never_enters_it() -> None:
    table = RoutingTable(OWN)
    assert not table.responded(Contact(b"own".ljust(32), 1), 0)
    table.offer(Contact(b"own".ljust(32), 1))
    assert len(table) == 0


def test_a_full_bucket_keeps_its_old_contacts_and_lets_the_newcomer_wait() -> None:
    *old, new = sorted(same_bucket(21), key=lambda contact: distance(contact, OWN))
    table = RoutingTable(OWN)
    assert all(table.responded(contact, now) for now, contact in enumerate(old))
    assert not table.responded(new, 99)
    assert table.find(new.device) is None
    assert table.replacement(255) == new
    assert table.oldest(255) == (old[0], 0)


def test_the_oldest_is_who_was_heard_of_longest_ago() -> None:
    table = RoutingTable(OWN)
    for now, contact in enumerate(same_bucket(5)):
        table.responded(contact, now)
    assert table.heard(same_bucket(5)[0], 10)
    assert table.responded(same_bucket(5)[1], 11)
    assert table.oldest(255) == (same_bucket(5)[2], 2)


def test_failures_count_only_in_a_row_and_only_at_the_endpoint_that_failed() -> None:
    contact = same_bucket(1)[0]
    table = RoutingTable(OWN, failures_max=2)
    table.responded(contact, 0)
    assert not table.failed(contact)
    table.responded(contact, 1)
    assert not table.failed(contact)
    assert not table.failed(Contact(contact.device, 12345))
    assert table.find(contact.device) == contact
    assert table.failed(contact)
    assert table.find(contact.device) is None


def test_a_contact_that_calls_from_elsewhere_moves_only_when_it_answers_there() -> None:
    contact = same_bucket(1)[0]
    moved = Contact(contact.device, 777)
    table = RoutingTable(OWN)
    table.responded(contact, 0)
    assert not table.heard(moved, 1)
    assert table.find(contact.device) == contact
    assert table.responded(moved, 2)
    assert table.find(contact.device) == moved
    assert len(table) == 1


def test_strangers_wait_in_a_bounded_cache_and_the_latest_is_first() -> None:
    table = RoutingTable(OWN, replacements_max=3)
    strangers = same_bucket(5)
    for stranger in strangers:
        table.offer(stranger)
    assert table.replacement(255) == strangers[4]
    for stranger in reversed(strangers):
        table.failed(stranger)
    assert table.replacement(255) is None


def test_attackers_of_one_network_hold_less_than_a_tenth_of_the_table() -> None:
    """Attack D1: 200 attackers in one /16."""
    honest = [Contact(contact.device, (number + 1) << 16) for number, contact in enumerate(CONTACTS[:400])]
    attackers = [Contact(contact.device, 0xBAD_0000 + number) for number, contact in enumerate(CONTACTS[400:600])]
    table = RoutingTable(OWN, group_shift=16, group_bucket_max=2, group_table_max=10)
    for contact in attackers + honest:
        table.responded(contact, 0)
    held = sum(contact.endpoint >> 16 == 0xBAD for contact in table.contacts())
    assert 0 < held < len(table) / 10


def test_a_restored_table_goes_on_as_the_saved_one() -> None:
    table = RoutingTable.from_contacts(OWN, CONTACTS[:100], 7)
    table.failed(table.contacts()[3])
    for stranger in CONTACTS[100:140]:
        table.responded(stranger, 8)
    restored = RoutingTable(OWN)
    restored.restore(table.to_state())
    for each in (table, restored):
        each.failed(each.contacts()[3])
        each.responded(CONTACTS[150], 9)
    assert restored.to_state() == table.to_state()


def test_an_entry_costs_at_most_50_bytes_beside_the_shared_contact() -> None:
    contacts = CONTACTS[:1_000]
    tables = [RoutingTable.from_contacts(OWN, contacts, 0)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tables += [RoutingTable.from_contacts(node_id(contacts[i].device), contacts, 0) for i in range(100)]
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / sum(len(table) for table in tables[1:]) < 50
