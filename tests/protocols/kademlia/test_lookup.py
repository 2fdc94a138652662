import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contact import Contact, node_id
from protocols.identity import SigningKey
from protocols.kademlia.lookup import CANDIDATES_MAX, ENDPOINTS_MAX, Lookup
from protocols.kademlia.messages import KademliaError
from protocols.kademlia.records import Record
from protocols.kademlia.routing import RoutingTable

RNG = random.Random(11)
OWN = b"own".ljust(32)
CONTACTS = [Contact(RNG.randbytes(32), number) for number in range(2_000)]
KEY = SigningKey(bytes(32))


def nearest(contacts: list[Contact], target: int, n: int) -> list[Contact]:
    return sorted(contacts, key=lambda contact: node_id(contact.device) ^ target)[:n]


def record(sequence: int) -> Record:
    return Record.sign(KEY, b"", sequence, b"", 60)


def lookup(seeds: list[Contact], k: int = 20, alpha: int = 3, target: int = 0, quorum: int = 0) -> Lookup:
    return Lookup(OWN, target, seeds, k=k, alpha=alpha, quorum=quorum)


def ended(search: Lookup) -> bool:
    return search.done


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(2, 150),
    k=st.sampled_from([2, 5, 20]),
    alpha=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    dead_share=st.sampled_from([0.0, 0.2]),
)
def test_a_lookup_without_loss_finds_exactly_the_nearest_live_nodes(
    size: int, k: int, alpha: int, seed: int, dead_share: float
) -> None:
    """Whatever the order of answers, with slow nodes, and with dead ones among those it begins with.

    Tables hold live nodes only: a k-bucket half full of dead nodes can hide a live one from any lookup.
    """
    rng = random.Random(seed)
    everybody = rng.sample(CONTACTS, size)
    dead = {contact.device for contact in everybody if rng.random() < dead_share}
    live = [contact for contact in everybody if contact.device not in dead]
    if not live:
        return
    tables = {}
    for contact in live:
        own = node_id(contact.device)
        table = RoutingTable(own, k=k)
        table.fill([*nearest(live, own, k + 1), *rng.sample(live, len(live))], 0)
        tables[contact.device] = table
    target = rng.getrandbits(256)
    search = lookup([rng.choice(live), *rng.sample(everybody, min(3, size))], k, min(alpha, k), target)
    in_flight: list[Contact] = []
    while not ended(search):
        in_flight += search.next()
        assert in_flight, "the lookup waits for nobody"
        contact = in_flight.pop(rng.randrange(len(in_flight)))
        if rng.random() < 0.2:
            search.slow(contact.device)
            in_flight.append(contact)
        elif contact.device in dead:
            search.failed(contact.device)
        else:
            search.responded(contact.device, tables[contact.device].closest(target, k))
    assert search.closest() == nearest(live, target, k)


def test_no_more_than_alpha_are_asked_at_a_time_and_nearest_first() -> None:
    search = lookup(CONTACTS[:50])
    order = nearest(CONTACTS[:50], 0, 50)
    assert search.next() == order[:3]
    assert search.next() == []
    search.responded(order[1].device, [])
    assert search.next() == [order[3]]


def test_a_slow_node_gives_up_its_share_but_its_answer_still_counts() -> None:
    order = nearest(CONTACTS[:4], 0, 4)
    search = lookup(order, k=4, alpha=1)
    assert search.next() == [order[0]]
    search.slow(order[0].device)
    for contact in order[1:]:
        assert search.next() == [contact]
        search.responded(contact.device, [])
    assert not ended(search)
    search.responded(order[0].device, [])
    assert ended(search)
    assert search.closest() == order


def test_nodes_being_asked_are_not_forgotten_when_nearer_ones_appear() -> None:
    """They would end the lookup early if those nearer turn out dead."""
    order = nearest(CONTACTS[:60], 0, 60)
    search = lookup(order[40:60], k=5, alpha=3)
    asked = search.next()
    search.responded(asked[0].device, order[:5])
    for contact in search.next():
        search.failed(contact.device)
    while not ended(search):
        for contact in search.next():
            if contact in order[:5]:
                search.failed(contact.device)
            else:
                search.responded(contact.device, [])
        for contact in asked[1:]:
            search.responded(contact.device, [])
    assert search.closest() == order[40:45]


def test_hops_count_the_path_and_not_the_calls() -> None:
    order = nearest(CONTACTS[:9], 0, 9)
    search = lookup([order[8]], k=3, alpha=1)
    for contact, named in pairwise([order[8], order[5], order[0]]):
        search.next()
        search.responded(contact.device, [named])
    search.next()
    search.responded(order[0].device, [])
    assert ended(search)
    assert search.hops == 3


@pytest.mark.parametrize(
    ("contacts", "reason"),
    [
        (CONTACTS[1:22], "too_many_contacts"),
        ([Contact(OWN, 5)], "self_in_answer"),
        ([CONTACTS[0]], "self_in_answer"),
        ([CONTACTS[3], Contact(CONTACTS[3].device, 99)], "duplicate_contacts"),
    ],
)
def test_an_answer_that_no_honest_node_gives_fails_its_node_and_teaches_nothing(
    contacts: list[Contact], reason: str
) -> None:
    search = lookup([CONTACTS[0]])
    assert search.next() == [CONTACTS[0]]
    with pytest.raises(KademliaError, match=reason):
        search.responded(CONTACTS[0].device, contacts)
    assert ended(search)
    assert search.closest() == []


def test_the_asker_never_asks_itself() -> None:
    search = lookup([Contact(OWN, 3)])
    assert ended(search)


def test_only_who_was_asked_can_answer() -> None:
    search = lookup(CONTACTS[:1])
    search.responded(CONTACTS[0].device, CONTACTS[1:3])
    search.responded(CONTACTS[5].device, CONTACTS[1:3])
    assert search.next() == CONTACTS[:1]


def test_a_false_endpoint_does_not_hide_a_node_from_who_hears_the_true_one() -> None:
    liar, honest, hidden = CONTACTS[:3]
    search = lookup([liar, honest], alpha=2)
    search.next()
    search.responded(liar.device, [Contact(hidden.device, 666)])
    search.responded(honest.device, [hidden])
    assert search.next() == [Contact(hidden.device, 666)]
    search.failed(hidden.device)
    assert search.next() == [hidden]
    search.responded(hidden.device, [])
    assert hidden in search.closest()


def test_liars_who_invent_ever_nearer_nodes_cost_a_bounded_number_of_calls() -> None:
    endless = iter(sorted(CONTACTS, key=lambda contact: -node_id(contact.device)))
    search = lookup([next(endless)])
    calls = 0
    while not ended(search):
        for contact in search.next():
            calls += 1
            search.responded(contact.device, [invented for _, invented in zip(range(20), endless, strict=False)])
    assert calls <= CANDIDATES_MAX


def test_liars_who_invent_endpoints_cost_a_bounded_number_of_calls() -> None:
    search = lookup(CONTACTS[:20], alpha=1)
    victim = CONTACTS[30].device
    calls = 0
    for number, _ in enumerate(CONTACTS[:20]):
        for contact in search.next():
            if contact.device == victim:
                calls += 1
                search.failed(victim)
            else:
                search.responded(contact.device, [Contact(victim, 1_000 + number)])
    assert calls <= ENDPOINTS_MAX


def test_a_search_ends_with_a_quorum_and_believes_the_newest() -> None:
    order = nearest(CONTACTS[:10], 0, 10)
    search = lookup(order, quorum=3)
    search.next()
    search.responded(order[0].device, [], record(1), 60)
    search.responded(order[1].device, [])
    assert not ended(search)
    search.next()
    search.responded(order[2].device, [], record(3), 50)
    search.responded(order[3].device, [], record(3), 40)
    assert ended(search)
    assert search.best == record(3)
    assert search.remaining_s == 40
    assert search.lagging() == [order[0], order[1]]


def test_a_search_without_a_quorum_asks_all_the_nearest() -> None:
    order = nearest(CONTACTS[:6], 0, 6)
    search = lookup(order, quorum=3, k=6)
    while not ended(search):
        for contact in search.next():
            search.responded(contact.device, [], record(1) if contact == order[4] else None, 9)
    assert search.closest() == order
    assert search.best == record(1)


def test_our_own_copy_counts_as_one_holder() -> None:
    search = lookup(CONTACTS[:5], quorum=2)
    search.begin_with(record(1), 9)
    first = search.next()[0]
    search.responded(first.device, [], record(2), 9)
    assert ended(search)
    assert search.best == record(2)


def test_a_restored_lookup_goes_on_as_the_saved_one() -> None:
    rng = random.Random(3)
    search = lookup(CONTACTS[:30], quorum=30)
    pending: list[Contact] = []
    for step in range(60):
        restored = Lookup.from_state(OWN, search.to_state(), k=20, alpha=3)
        assert restored.to_state() == search.to_state()
        asked = search.next()
        assert restored.next() == asked
        search = restored
        pending += asked
        if not pending:
            break
        contact = pending.pop(rng.randrange(len(pending)))
        match step % 3:
            case 0:
                search.failed(contact.device)
            case 1:
                search.responded(contact.device, rng.sample(CONTACTS[40:], 10), record(step), 5)
            case _:
                search.slow(contact.device)
                pending.append(contact)
