"""A member who breaks the rules, with real keys and whatever it can sign: refused by the right rule, at a bounded
price, and with everything as it was.

Where a rule is one proposal's or one leaf's own, ``test_proposal_rules`` and its neighbours break it; here are the
attacks that need a live group: who speaks for whom, replays and floods. Commits that lie have a file of their own.
"""

from typing import Any

import msgspec
import pytest

from protocols.errors import LocalError
from protocols.mls import message_keys, ratchets
from protocols.mls.codec import VECTOR_SIZE_MAX, varint
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.committing import Welcomes
from protocols.mls.errors import MlsError
from protocols.mls.external import make_external_commit
from protocols.mls.framing import AuthenticatedContent, FramedContent, PublicMessage, WireFormat, member
from protocols.mls.group import Group
from protocols.mls.kept import (
    COMMITS_FROM_OUTSIDE_MAX,
    COMMITS_PER_SIGNER_MAX,
    PROPOSALS_MAX,
    PROPOSALS_PER_SENDER_MAX,
    STAGED_MAX,
)
from protocols.mls.message import encode_message
from protocols.mls.message_keys import GENERATION_SKIP_MAX
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal
from protocols.mls.outcomes import Echo
from protocols.mls.proposals import Add, PreSharedKey, Remove
from protocols.mls.psk import PSKS_MAX, ExternalPsk
from protocols.mls.ratchets import Ratchet
from protocols.mls.secret_tree import LEAVES_MAX
from protocols.mls.services import Retention
from protocols.mls.staging import StagedCommit
from tests.protocols.mls.room import (
    GROUP_ID,
    NOW_NS,
    Room,
    altered,
    external,
    key_of,
    name_at,
    person,
    private,
    public,
    refuses,
    signed,
    text,
    untouched,
)


@pytest.fixture
def room() -> Room:
    """Ada, Bob, Cyd and Mal; no parent is blank."""
    room = Room.of("ada", "bob", "cyd", "mal")
    room.fill()
    return room


# -- who speaks for whom ----------------------------------------------------------------------------


def test_member_cannot_speak_for_another(room: Room) -> None:
    """It has the group's keys, all of them, and not the other's signature key."""
    mal = room["mal"]
    for body in (text(b"I, Ada"), Remove(room.leaf("cyd")), Commit((Remove(room.leaf("cyd")),), None)):
        forged = signed(mal, body, sender=room.leaf("ada"), wire_format=WireFormat.PRIVATE_MESSAGE)
        with refuses(room["bob"], "6.1/signature"):
            room["bob"].receive(private(mal, forged, key_of(mal, room.leaf("ada"), body, 0)))
    forged = signed(mal, Remove(room.leaf("cyd")), sender=room.leaf("ada"))
    with refuses(room["bob"], "6.1/signature"):
        room["bob"].receive(public(mal, forged))
    # The forgeries used up no key: Ada's own first message is opened.
    assert isinstance(room["bob"].receive(room.say("ada")).content, ApplicationMessage)


def test_stolen_signature_key_is_not_enough_without_the_groups_secrets(room: Room) -> None:
    """Somebody outside with Ada's key: a public message needs the membership key, a private one more."""
    forged = signed(room["ada"], Remove(room.leaf("cyd")))
    bare = encode_message(PublicMessage(forged.content, forged.auth, bytes(32)))
    with refuses(room["bob"], "6.2/membership-tag"):
        room["bob"].receive(bare)


def test_commit_in_our_own_name_is_not_adopted_and_is_evidence_that_our_key_is_stolen(room: Room) -> None:
    ada, mal = room["ada"], room["mal"]
    forged = public(mal, signed(mal, Commit((), None), sender=room.leaf("ada"), signer=room.client("ada")))
    with untouched(ada):
        assert ada.receive(forged).content == Echo(ada.current.authenticator)
        assert ada.receive(forged).evidence is None
    own = room.make("ada")
    with untouched(ada):
        received = ada.receive(forged)
    assert received.evidence is not None
    received.evidence.verify()
    assert isinstance(ada.receive(own.message).content, Echo)


def test_private_message_that_claims_to_be_our_own_moves_nothing(room: Room) -> None:
    ada, mal = room["ada"], room["mal"]
    forged = signed(mal, text(b"x"), sender=room.leaf("ada"), wire_format=WireFormat.PRIVATE_MESSAGE)
    data = private(mal, forged, key_of(mal, room.leaf("ada"), text(b""), 0))
    with untouched(ada):
        assert ada.receive(data).content == Echo(ada.current.authenticator)


def test_sender_who_is_no_leaf_is_refused(room: Room) -> None:
    mal = room["mal"]
    for leaf in (4, 7, LEAVES_MAX - 1, 2**32 - 1):
        with refuses(room["bob"], "6/sender-not-member"):
            room["bob"].receive(public(mal, signed(mal, Remove(0), sender=leaf)))
        body = signed(mal, text(b""), sender=leaf, wire_format=WireFormat.PRIVATE_MESSAGE)
        key = msgspec.structs.replace(key_of(mal, 0, text(b""), 0), leaf=leaf)
        with refuses(room["bob"], "6.3.2/unknown-leaf"):
            room["bob"].receive(private(mal, body, key))


def test_blank_leaf_sends_nothing(room: Room) -> None:
    room.commit("ada", Remove(room.leaf("bob")))
    mal = room["mal"]
    with refuses(room["cyd"], "6/sender-not-member"):
        room["cyd"].receive(public(mal, signed(mal, Remove(0), sender=1)))
    body = signed(mal, text(b""), sender=1, wire_format=WireFormat.PRIVATE_MESSAGE)
    with refuses(room["cyd"], "6/sender-not-member"):
        room["cyd"].receive(private(mal, body, key_of(mal, 1, text(b""), 0)))


def test_removed_member_says_commits_and_opens_nothing_more(room: Room) -> None:
    """With every key that it ever had, and its epochs all kept."""
    mal = room["mal"]
    late = room.make("mal", public=True).message  # signed before it knew
    out = room.say("mal")
    room.commit("ada", Remove(room.leaf("mal")), public=True)
    assert mal.removed
    for message in (room.say("ada"), room.make("bob", public=True).message, room.make("cyd").message):
        with untouched(mal), pytest.raises(MlsError) as refused:
            mal.receive(message)
        assert refused.value.reason == "6/future-epoch"
    with pytest.raises(LocalError, match="removed"):
        mal.send(b"still here?", entropy=room.entropy)
    # What it said in its own time is of that time; a commit of that time races the one that removed it.
    for name in ("ada", "bob", "cyd"):
        old = room[name].receive(out).content
        assert isinstance(old, ApplicationMessage)
        assert old.epoch == mal.current.authenticator != room[name].current.authenticator
        assert isinstance(room[name].receive(late).content, VerifiedCommit)
    # What it makes with the old keys in the new epoch's name is refused.
    epoch = room["bob"].current
    pretended = FramedContent(epoch.group_id, epoch.number, member(3), b"", Remove(0))
    signature = signed(mal, Remove(0)).auth
    with refuses(room["bob"], "6.2/membership-tag"):
        room["bob"].receive(public(mal, AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, pretended, signature)))


def test_message_of_an_old_epoch_is_attributed_to_who_sat_there_then(room: Room) -> None:
    """Cyd's leaf is Dan's by now."""
    late = room.say("cyd", b"before")
    leaf = room.leaf("cyd")
    room.commit("ada", Remove(leaf), Add(room.key_package("dan")))
    assert room.leaf("dan") == leaf
    now = room.say("dan", b"after")
    for name in ("ada", "bob"):
        old, new = room[name].receive(late).content, room[name].receive(now).content
        assert isinstance(old, ApplicationMessage)
        assert isinstance(new, ApplicationMessage)
        assert (old.sender, new.sender) == (leaf, leaf)
        assert old.credential == room.client("cyd").leaf.credential
        assert new.credential == room.client("dan").leaf.credential
        assert old.epoch != new.epoch
    with refuses(room["dan"], "6/past-epoch"):
        room["dan"].receive(late)


def test_member_of_one_branch_cannot_speak_on_the_other(room: Room) -> None:
    """Both branches number their epochs alike; Bob has both, Mal is removed on one."""
    ours, theirs = room.make("ada", Remove(room.leaf("mal"))), room.make("mal")
    bob = room["bob"]
    left, right = room.stage("bob", ours.message), room.stage("bob", theirs.message)
    room["mal"].adopt(theirs.commit, now_ns=NOW_NS)
    bob.adopt(right, now_ns=NOW_NS)
    bob.return_to(left.parent)
    bob.adopt(left, now_ns=NOW_NS)
    heard = bob.receive(room.say("mal")).content
    assert isinstance(heard, ApplicationMessage)
    assert right.next is not None
    assert heard.epoch == right.next.authenticator != bob.current.authenticator
    room.follow(ours.message, ["cyd"])
    with untouched(room["cyd"]), pytest.raises(MlsError) as refused:
        room["cyd"].receive(room.say("mal"))
    assert refused.value.reason == "6.3.2/sender-data"


# -- replays and generations ------------------------------------------------------------------------


def test_private_message_is_opened_once(room: Room) -> None:
    message, proposal = room.say("ada"), room["ada"].propose(Remove(room.leaf("mal")), entropy=room.entropy).message
    bob = room["bob"]
    for data in (message, proposal):
        bob.receive(data)
        with refuses(bob, "9.2/generation-used"):
            bob.receive(data)
    restored = Group.from_bytes(bob.to_bytes(), bob.ledger, services=room.services)
    with refuses(restored, "9.2/generation-used"):
        restored.receive(message)


def test_replay_is_called_one_on_whichever_branch_we_are(room: Room) -> None:
    ours, theirs = room.make("ada"), room.make("bob")
    cyd = room["cyd"]
    left, right = room.stage("cyd", ours.message), room.stage("cyd", theirs.message)
    room["ada"].adopt(ours.commit, now_ns=NOW_NS)
    said = room.say("ada")
    for staged in (left, right):
        cyd.adopt(staged, now_ns=NOW_NS)
    assert isinstance(cyd.receive(said).content, ApplicationMessage)
    for staged in (left, right):
        cyd.adopt(staged, now_ns=NOW_NS)
        with refuses(cyd, "9.2/generation-used"):
            cyd.receive(said)


def test_public_proposal_and_commit_again_change_nothing(room: Room) -> None:
    proposal = room.propose("ada", Remove(room.leaf("mal")), public=True)
    commit = room.make("ada", public=True).message
    room["bob"].receive(commit)
    with untouched(room["bob"]):
        for data in (proposal, commit):
            again = room["bob"].receive(data)
            assert isinstance(again.content, VerifiedProposal | VerifiedCommit)
            assert again.evidence is None


def test_commit_that_was_adopted_is_the_same_commit_when_it_comes_again(room: Room) -> None:
    own = room.commit("ada", public=True)
    bob = room["bob"]
    here = bob.current.authenticator
    staged = room.stage("bob", own.message)
    assert staged.next is not None
    assert staged.next.authenticator == here
    with untouched(bob):
        bob.adopt(staged, now_ns=NOW_NS)


def test_message_of_another_group_is_refused(room: Room) -> None:
    other = Room.of("ada", "bob")
    copy = room.say("ada").replace(b"\4" + GROUP_ID, b"\4rOOm")
    with refuses(room["bob"], "6/other-group"):
        room["bob"].receive(copy)
    with untouched(room["bob"]), pytest.raises(MlsError):
        room["bob"].receive(other.say("ada"))


def test_jump_of_2_to_the_32_generations_costs_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    mal, bob = room["mal"], room["bob"]
    mine = mal._kept[mal.current.authenticator].keys.advance(Ratchet.APPLICATION, 0)
    body = signed(mal, text(b"far away"), wire_format=WireFormat.PRIVATE_MESSAGE)
    derived = 0
    derive = ratchets.next_secret

    def counted(*args: Any) -> bytes:
        nonlocal derived
        derived += 1
        return derive(*args)

    monkeypatch.setattr(message_keys, "next_secret", counted)
    for generation in (2**32 - 1, 2**31, GENERATION_SKIP_MAX + 1):
        with refuses(bob, "15.3/generation-too-far"):
            bob.receive(private(mal, body, msgspec.structs.replace(mine, generation=generation)))
    assert derived == 0
    with refuses(bob, "6.3.1/decrypt"):
        bob.receive(private(mal, body, msgspec.structs.replace(mine, generation=GENERATION_SKIP_MAX)))
    assert derived == GENERATION_SKIP_MAX


def test_message_resealed_by_another_member_is_still_its_authors(room: Room) -> None:
    """The signature covers neither key nor generation: a member who opened a message can encrypt it again under the
    author's next key. So a message may come twice, and what must happen once has to carry a name of its own."""
    mal, bob = room["mal"], room["bob"]
    said = signed(room["ada"], text(b"pay 10"), wire_format=WireFormat.PRIVATE_MESSAGE)
    for generation in (0, 1):
        heard = bob.receive(private(mal, said, key_of(mal, room.leaf("ada"), text(b""), generation))).content
        assert isinstance(heard, ApplicationMessage)
        assert (heard.data, heard.sender) == (b"pay 10", room.leaf("ada"))


# -- floods -----------------------------------------------------------------------------------------


def test_flood_of_proposals_is_stopped_and_leaves_room_for_others(room: Room) -> None:
    mal, bob = room["mal"], room["bob"]
    for number in range(PROPOSALS_PER_SENDER_MAX):
        bob.receive(public(mal, signed(mal, PreSharedKey(ExternalPsk(b"%d" % number, bytes(32))))))
    with refuses(bob, "limit/proposals"):
        bob.receive(public(mal, signed(mal, Remove(0))))
    assert isinstance(bob.receive(room.propose("ada", Remove(room.leaf("mal")), public=True)).content, VerifiedProposal)
    # And they stop nobody's commit: what cannot stand together is left out.
    own = room.make("bob")
    assert own.commit.removed == (room.leaf("mal"),)


def test_room_that_is_full_refuses_nothing_that_a_commit_refers_to(room: Room) -> None:
    """Mal fills Ada's room with some proposals and Bob's with others. Ada commits hers: had Bob no room for them, he
    could not follow, and the group would be split."""
    mal, bob = room["mal"], room["bob"]
    psks = [PreSharedKey(ExternalPsk(b"%d" % number, bytes(32))) for number in range(2 * PROPOSALS_PER_SENDER_MAX)]
    messages = [public(mal, signed(mal, each)) for each in psks]
    hers, his = messages[:PROPOSALS_PER_SENDER_MAX], messages[PROPOSALS_PER_SENDER_MAX:]
    room.receive(hers[0], ["cyd"])
    for one, other in zip(hers, his, strict=True):
        room["ada"].receive(one)
        bob.receive(other)
    for message in hers:
        with refuses(bob, "limit/proposals"):
            bob.receive(message)
    own = room.make("ada")
    found = bob.receive(own.message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(bob, "erratum-8815/unknown-proposal"):
        bob.stage(found, now_ns=NOW_NS)
    for message in hers:
        bob.receive(message)
    staged = bob.stage(found, now_ns=NOW_NS).commit
    assert len(staged.commit.proposals) == PROPOSALS_PER_SENDER_MAX
    assert own.commit.next is not None
    assert staged.next is not None
    assert staged.next.authenticator == own.commit.next.authenticator


def test_proposals_that_only_a_false_commit_lets_in_take_no_place_and_are_not_committed(room: Room) -> None:
    """Mal refers to a thousand of its own."""
    mal, bob = room["mal"], room["bob"]
    count = 4 * PROPOSALS_PER_SENDER_MAX
    made = [signed(mal, PreSharedKey(ExternalPsk(b"%d" % number, bytes(32)))) for number in range(count + 1)]
    references = tuple(ProposalRef(room.suite.proposal_ref(each.encode())) for each in made)
    bob.receive(public(mal, signed(mal, Commit(references, None))))
    for each in made[:-1]:
        bob.receive(public(mal, each))
    with refuses(bob, "limit/proposals"):
        bob.receive(public(mal, made[-1]))  # more than an honest commit names
    assert len(bob.proposals()) == count >= PROPOSALS_MAX
    bob.receive(room.propose("ada", Remove(room.leaf("mal")), public=True))
    own = room.make("bob")
    assert own.commit.removed == (room.leaf("mal"),)
    assert len(own.commit.commit.proposals) + len(own.rejected) == PROPOSALS_PER_SENDER_MAX + 1


def test_psk_that_nobody_has_stops_no_commit(room: Room) -> None:
    room.propose("mal", PreSharedKey(ExternalPsk(b"secret", bytes(32))))
    own = room.make("bob")
    assert [each.error.reason for each in own.rejected] == ["8.4/unknown-psk"]
    assert own.commit.commit.proposals == ()


def test_flood_of_commits_by_a_member_is_stopped_at_the_evidence(room: Room) -> None:
    mal, bob = room["mal"], room["bob"]
    for number in range(COMMITS_PER_SIGNER_MAX):
        received = bob.receive(public(mal, signed(mal, Commit((Remove(number),), None))))
        assert (received.evidence is not None) == (number > 0)
    with refuses(bob, "limit/commits"):
        bob.receive(public(mal, signed(mal, Commit((Remove(2),), None))))
    room.follow(room.make("ada").message, ["bob"])


def test_flood_of_external_commits_keeps_no_member_out(room: Room) -> None:
    """Not even of sound ones that are all staged; which of those are let go of is for the application to say."""
    bob = room["bob"]
    flood = [external(each) for each in external_commits(room, COMMITS_FROM_OUTSIDE_MAX + 1)]
    for message in flood[:-1]:
        room.stage("bob", message)
    found = bob.receive(flood[-1]).content
    assert isinstance(found, VerifiedCommit)
    with refuses(bob, "limit/staged"):
        bob.stage(found, now_ns=NOW_NS)
    assert len(bob.staged()) == COMMITS_FROM_OUTSIDE_MAX < STAGED_MAX
    bob.discard(bob.staged()[0])
    bob.stage(found, now_ns=NOW_NS)
    room.follow(room.make("ada").message, ["bob"])


def test_flood_of_external_commits_keeps_no_joiner_out(room: Room) -> None:
    """A lie from outside costs a signature. Ada heard the joiner before the flood and follows; Bob hears it after."""
    bob = room["bob"]
    *flood, joiner = external_commits(room, COMMITS_FROM_OUTSIDE_MAX + 2)
    for each in flood:
        false = altered(each.authenticated, confirmation_tag=bytes(32))
        bob.receive(encode_message(PublicMessage(false.content, false.auth)))
    assert len(bob.commits()) == COMMITS_FROM_OUTSIDE_MAX
    room.follow(external(joiner), ["ada", "bob"])
    assert bob.current.authenticator == room["ada"].current.authenticator


def external_commits(room: Room, count: int) -> list[StagedCommit]:
    """By so many strangers."""
    group_info = room["ada"].current.group_info()
    return [
        make_external_commit(group_info, person(f"x{number}").bundle, entropy=room.entropy) for number in range(count)
    ]


def test_commit_with_altered_tags_keeps_the_true_one_from_nobody(room: Room) -> None:
    """Nothing signed covers the confirmation tag, so any member can send Ada's commit with others."""
    own = room.make("ada", public=True)
    mal, bob = room["mal"], room["bob"]
    for number in range(10):
        false = public(mal, altered(own.commit.authenticated, confirmation_tag=bytes((number,)) * 32))
        found = bob.receive(false)
        assert isinstance(found.content, VerifiedCommit)
        assert found.evidence is None
        with refuses(bob, "12.4.2/confirmation-tag"):
            bob.stage(found.content, now_ns=NOW_NS)
    room.follow(own.message, ["bob"])
    assert own.commit.next is not None
    assert bob.current.authenticator == own.commit.next.authenticator


def test_staged_commits_are_bounded(room: Room) -> None:
    bob = room["bob"]
    kept = bob._kept[bob.current.authenticator]
    one = room.stage("bob", room.make("ada").message)
    for number in range(STAGED_MAX - 1):
        kept.staged[b"%d" % number] = one
    found = bob.receive(room.make("cyd").message).content
    assert isinstance(found, VerifiedCommit)
    with pytest.raises(MlsError, match="limit/staged"):
        bob.stage(found, now_ns=NOW_NS)
    bob.commit(entropy=room.entropy, now_ns=NOW_NS)  # of our own there is always room for one


def test_more_psks_than_can_be_counted_are_refused(room: Room) -> None:
    items = tuple(PreSharedKey(ExternalPsk(b"", number.to_bytes(32, "big"))) for number in range(PSKS_MAX + 1))
    found = room["bob"].receive(public(room["mal"], signed(room["mal"], Commit(items, None)))).content
    assert isinstance(found, VerifiedCommit)
    with refuses(room["bob"], "8.4/psk-count"):
        room["bob"].stage(found, now_ns=NOW_NS)


def test_lengths_that_are_not_there_allocate_nothing(room: Room) -> None:
    huge = varint(VECTOR_SIZE_MAX)
    head = b"\0\1\0\2" + b"\4" + GROUP_ID + room["bob"].current.number.to_bytes(8, "big") + b"\1"
    for data in (head + huge, head + b"\0" + huge, head + b"\0\0" + huge + bytes(100), b"\0\1\0\1" + huge):
        with refuses(room["bob"], "2.1/truncated"):
            room["bob"].receive(data)
    for data, rule in (
        (head + b"\x40\0", "2.1.2/non-minimal-length"),
        (head + b"\xc0" + bytes(7), "2.1.2/invalid-length"),
        (room.say("ada") + b"\0", "2.1/trailing-bytes"),
        (b"\0\2" + room.say("ada")[2:], "6/unknown-version"),
        (b"\0\1\0\6", "6/unknown-wire-format"),
        (encode_message(room.key_package("ada")), "6/not-a-group-message"),
        (b"", "2.1/truncated"),
    ):
        with refuses(room["bob"], rule):
            room["bob"].receive(data)


def test_entropy_that_repeats_repeats_no_key() -> None:
    """A virtual machine that is copied draws the same bytes again; the ledger does not give the same key again."""
    room = Room.of("ada", "bob")
    ada = room["ada"]
    stuck = bytes(4096)
    state = ada.to_bytes()
    first = ada.send(b"one", entropy=lambda size: stuck[:size]).message
    again = Group.from_bytes(state, ada.ledger, services=room.services)
    second = again.send(b"two", entropy=lambda size: stuck[:size]).message
    for message in (first, second):
        assert isinstance(room["bob"].receive(message).content, ApplicationMessage)


def test_forgotten_ancestor_is_named(room: Room) -> None:
    """What comes for an epoch that was dropped is neither ignored nor taken for garbage."""
    short = Group.from_bytes(
        room["bob"].to_bytes(), room["bob"].ledger, services=room.services, retention=Retention(epochs=1)
    )
    late = room.say("ada")
    room.groups["bob"] = short
    room.commit("ada")
    with refuses(short, "6/past-epoch"):
        short.receive(late)
    assert name_at(short.current, 0) == "ada"


def test_one_welcome_each_hides_whom_else_was_added(room: Room) -> None:
    own = room.make("ada", Add(room.key_package("dan")), Add(room.key_package("eve")), welcomes=Welcomes.ONE_EACH)
    assert [len(each.welcome.secrets) for each in own.commit.welcomes] == [1, 1]
