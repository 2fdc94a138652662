"""A snapshot is settled when the owners and most admins have made the same one and signed it."""

import msgspec
import pytest

from protocols.crdt.answering import Answerer
from protocols.crdt.changes import Assign
from protocols.crdt.errors import CrdtError
from protocols.crdt.exchange import Exchange
from protocols.crdt.messages import REQUESTS, RESPONSES, Fetch, Push
from protocols.crdt.reconciliation import KeyedSets
from protocols.crdt.replica import Replica
from protocols.crdt.settling import NOTHING_SETTLED, Offer, Proposal, followed, is_settled
from protocols.crdt.snapshot import body_of, digest_of, sign_digest
from protocols.errors import LocalError
from tests.protocols.crdt.channels import Channel
from tests.protocols.crdt.test_restoring import PATH, busy
from tests.protocols.crdt.worlds import KEYS


def proposed(channel: Channel, *signers: int) -> Proposal:
    sealed = channel.replicas[0].snapshot()
    assert sealed is not None
    proposal = Proposal(channel.replicas[0].channel, sealed, 7)
    for who in signers:
        proposal.sign(((KEYS[who].public, sign_digest(KEYS[who], proposal.channel, proposal.digest)),))
    return proposal


def test_others_make_the_same_snapshot_and_go_on_with_it() -> None:
    channel = busy()
    proposal = proposed(channel, 0, 1)
    sealed = channel.replicas[1].snapshot_at(proposal.frame)
    assert sealed is not None
    assert digest_of(body_of(sealed.body, sealed.size)) == proposal.digest
    first = channel.replicas[0].compacted(proposal.sealed)
    assert first is not None
    mark = Offer(first.settled).mark
    assert mark.digest == proposal.digest
    found = followed(channel.replicas[1], mark)
    assert found is not None
    second = channel.replicas[1].compacted(found)
    assert second is not None
    assert second.digest() == first.digest() == channel.replicas[2].digest()
    assert Offer(second.settled).mark == mark
    assert second.from_bytes(second.to_bytes(), second.channel).settled == second.settled


def test_the_owners_and_more_than_half_of_all_who_lead_have_to_sign() -> None:
    channel = busy()
    replica = channel.replicas[0]
    for signers, enough in (((), False), ((0,), False), ((1,), False), ((1, 2, 3), False), ((0, 1), True)):
        proposal = proposed(channel, *signers)
        assert is_settled(replica, proposal.signers) is enough
        mark = msgspec.structs.replace(
            NOTHING_SETTLED, digest=proposal.digest, frame=proposal.frame, signatures=proposal.sealed.signatures
        )
        assert (followed(replica, mark) is not None) is enough


def test_signature_of_something_else_is_refused_and_changes_nothing() -> None:
    proposal = proposed(busy(), 0)
    before = proposal.to_bytes()
    with pytest.raises(CrdtError, match="bad_signature"):
        proposal.sign(((KEYS[1].public, sign_digest(KEYS[1], proposal.channel, bytes(32))),))
    assert proposal.to_bytes() == before


def test_snapshot_that_is_not_what_is_held_here_is_not_followed() -> None:
    channel = busy()
    proposal = proposed(channel, 0, 1)
    lie = bytes(32)
    signatures = tuple(sorted((KEYS[who].public, sign_digest(KEYS[who], proposal.channel, lie)) for who in (0, 1)))
    mark = msgspec.structs.replace(NOTHING_SETTLED, digest=lie, frame=proposal.frame, signatures=signatures)
    assert followed(channel.replicas[0], mark) is None
    swapped = msgspec.structs.replace(proposal.frame, ends=proposal.frame.ends[:1])
    found = channel.replicas[0].snapshot_at(swapped)
    assert found is None or digest_of(body_of(found.body, found.size)) != proposal.digest
    assert channel.replicas[0].snapshot_at(msgspec.structs.replace(swapped, named=(lie,))) is None


def test_what_comes_before_enough_have_signed_is_kept_in_front() -> None:
    channel = busy()
    proposal = proposed(channel, 0, 1)
    channel.write(0, Assign(PATH, "meanwhile"))
    compacted = channel.replicas[0].compacted(proposal.sealed)
    assert compacted is not None
    assert compacted.digest() == channel.replicas[0].digest()


def test_pages_are_of_the_snapshot_that_was_asked_for() -> None:
    offer = Offer(proposed(busy(), 0, 1).sealed)
    channel = bytes(32)
    page = offer.page(Fetch(channel, offer.mark.digest, 0))
    assert page.size == len(page.data)
    assert offer.page(Fetch(channel, bytes(32), 0)).size == 0
    assert offer.page(Fetch(channel, offer.mark.digest, 10**8)).data == b""
    assert Offer(None).mark == NOTHING_SETTLED
    assert Offer(None).page(Fetch(channel, bytes(32), 0)).size == 0


def test_proposal_goes_to_bytes_and_back() -> None:
    proposal = proposed(busy(), 0)
    again = Proposal.from_bytes(proposal.to_bytes())
    assert again.to_bytes() == proposal.to_bytes()
    assert again.question == proposal.question
    with pytest.raises(LocalError):
        Proposal.from_bytes(b"\x90")


def test_who_lacks_what_was_dropped_is_told_and_who_holds_it_goes_on() -> None:
    channel = busy()
    shorter = channel.replicas[0].compacted(proposed(channel, 0, 1).sealed)
    assert shorter is not None
    channel.write(1, Assign(PATH, "new"))
    answerer = Answerer(shorter.history, KeyedSets(shorter.history))
    for asker, is_behind in ((Replica(channel.genesis), True), (channel.replicas[1], False)):
        exchange = Exchange(asker.history, KeyedSets(asker.history))
        while (body := exchange.request()) is not None:
            question = REQUESTS.decode(body)
            if isinstance(question, Push):
                for unit in question.units:
                    assert shorter.receive(unit, b"", channel.now_ns).refused is None
                answer = RESPONSES.encode(answerer.pushed(question, bytes(32), taken=0, parked=0, refused=0))
            else:
                answer = RESPONSES.encode(answerer.answer(question, bytes(32)))
            for unit in exchange.answer(answer, bytes(32)):
                assert asker.receive(unit, b"", channel.now_ns).refused is None
        assert exchange.is_behind is is_behind
        assert exchange.is_complete is not is_behind
    assert shorter.digest() == channel.replicas[1].digest()
