"""A member's group: what happens in which order, all or nothing, forwards and back. Long stories, with crashes, are in
``test_histories``; lies in ``test_byzantine``."""

from collections.abc import Callable

import pytest

from protocols.errors import LocalError
from protocols.mls.committing import LeafChange
from protocols.mls.credentials import BasicCredential, Credential
from protocols.mls.errors import MlsError
from protocols.mls.external import propose_from_outside, propose_oneself
from protocols.mls.framing import PublicMessage, Sender
from protocols.mls.group import Group
from protocols.mls.message import encode_message, parse
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal
from protocols.mls.outcomes import Echo
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add, PreSharedKey, Proposal, Remove, SelfRemove, Update
from protocols.mls.protection import no_padding
from protocols.mls.psk import ExternalPsk, ResumptionPsk, ResumptionUsage
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention
from protocols.mls.suite import SUITES, Entropy
from tests.protocols.mls.kit import client
from tests.protocols.mls.refusals import OPEN, SENDER
from tests.protocols.mls.room import NOW_NS, SERVICES, Room, name_at, person, public, refuses, signed, untouched
from tests.protocols.mls.trees import counting_entropy

SECOND = 10**9


@pytest.fixture
def room() -> Room:
    return Room.of("ada", "bob", "cyd")


# -- the way forward --------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("public", [False, True])
def test_members_talk_propose_commit_join_and_leave(suite: int, public: bool) -> None:
    room = Room.of("ada", "bob", "cyd", suite=SUITES[suite])
    heard = room.receive(room.say("cyd", b"hello"), ["ada", "bob"])
    for received in heard.values():
        assert isinstance(received.content, ApplicationMessage)
        assert (received.content.data, received.content.sender) == (b"hello", 2)
    update = room["cyd"].propose_update(entropy=room.entropy, public=public).message
    room.receive(update, ["ada", "bob"])
    room.propose("bob", Add(room.key_package("dan")), public=public)
    assert room.commit("ada", public=public).commit.updated == (2,)
    room.propose("dan", Remove(room.leaf("bob")), public=public)
    room.commit("cyd", public=public)
    assert sorted(room.groups) == ["ada", "cyd", "dan"]
    room.receive(room["dan"].leave(entropy=room.entropy).message, ["ada", "cyd"])
    room.commit("cyd", public=public)
    assert sorted(room.groups) == ["ada", "cyd"]


def test_staged_commit_shows_the_next_epoch_before_anybody_is_in_it(room: Room) -> None:
    own = room.make("ada", Remove(room.leaf("cyd")), Add(room.key_package("dan")))
    bob = room["bob"]
    here = bob.current
    staged = room.stage("bob", own.message)
    assert staged.next is not None
    assert bob.current is here
    assert staged.removed == (2,)
    assert [(leaf, package) for leaf, package in staged.added] == [(2, room.key_package("dan"))]
    assert name_at(staged.next, 2) == "dan"
    assert staged.next.export(b"label", b"", 16) == own.commit.next.export(b"label", b"", 16)  # type: ignore[union-attr]
    assert staged.next.authenticator not in bob.epochs


def test_several_commits_are_staged_on_one_parent_and_each_can_be_adopted(room: Room) -> None:
    commits = [room.make(name) for name in ("ada", "cyd")]
    bob = room["bob"]
    parent = bob.current.authenticator
    left, right = (room.stage("bob", each.message) for each in commits)
    assert list(bob.staged()) == [left, right]
    bob.adopt(left, now_ns=NOW_NS)
    bob.return_to(parent)
    bob.adopt(right, now_ns=NOW_NS)
    assert right.next is not None
    assert bob.current.authenticator == right.next.authenticator
    assert [bob.parent(each) for each in bob.epochs[-2:]] == [parent, parent]


def test_discarded_commit_makes_room_and_can_be_staged_again(room: Room) -> None:
    own, bob = room.make("ada"), room["bob"]
    stored = bob.to_bytes()
    received = bob.receive(own.message)
    assert isinstance(received.content, VerifiedCommit)
    first = bob.stage(received.content, now_ns=NOW_NS)
    gone = bob.discard(first.commit)
    assert bob.staged() == ()
    with untouched(bob), pytest.raises(LocalError, match="not staged"):
        bob.adopt(first.commit, now_ns=NOW_NS)
    with untouched(room["ada"]), pytest.raises(LocalError, match="ours"):
        room["ada"].discard(own.commit)
    restored = Group.from_bytes(stored, bob.ledger)
    for record in (received.record, first.record, gone.record):
        restored.replay(record)
    assert restored.to_bytes() == bob.to_bytes()
    again = bob.stage(received.content, now_ns=NOW_NS)
    bob.adopt(again.commit, now_ns=NOW_NS)
    room["ada"].adopt(own.commit, now_ns=NOW_NS)
    assert bob.current.authenticator == room["ada"].current.authenticator


def test_own_commit_is_adopted_on_another_branch_than_the_one_we_were_on(room: Room) -> None:
    """It cannot be opened again: its secrets stay until its parent goes."""
    ours, theirs = room.make("ada"), room.make("bob")
    ada = room["ada"]
    room.follow(theirs.message, ["ada"])
    ada.return_to(ours.commit.parent)
    assert ada.receive(ours.message).content == Echo(ours.commit.parent, ours.commit)
    ada.adopt(ours.commit, now_ns=NOW_NS)
    room.follow(ours.message, ["cyd", "bob"])
    room.check_agreement()


@pytest.mark.parametrize("who", ["external sender", "stranger"])
def test_what_is_proposed_from_outside_stands_in_every_branch_of_its_number(who: str) -> None:
    """It is signed over no context. Cyd holds two branches and hears it once; Bob commits it on the one where Cyd is
    not."""
    room = Room.of("ada", "bob", "cyd", extensions=(OPEN,), policy=Policy(accept=lambda *_: True))
    cyd, bob = room["cyd"], room["bob"]
    theirs, ours = room.make("bob"), room.make("ada")
    left, right = room.stage("cyd", theirs.message), room.stage("cyd", ours.message)
    for staged in (left, right):
        cyd.adopt(staged, now_ns=NOW_NS)
    bob.adopt(theirs.commit, now_ns=NOW_NS)
    here, there = cyd.current.authenticator, bob.current.authenticator
    snapshot = cyd.to_bytes()

    group_info = bob.current.group_info()
    if who == "stranger":
        message = encode_message(propose_oneself(group_info, room.client("dan").bundle))
    else:
        message = encode_message(propose_from_outside(group_info, Remove(room.leaf("ada")), 0, SENDER.signature))
    bob.receive(message)
    record = cyd.receive(message).record
    assert [each.epoch for each in cyd.proposals(here) + cyd.proposals(there)] == [here, there]
    with untouched(cyd):
        cyd.receive(message)

    restored = Group.from_bytes(snapshot, cyd.ledger, services=room.services)
    restored.replay(record)
    assert restored.to_bytes() == cyd.to_bytes()
    own = room.make("bob")
    assert own.commit.commit.proposals
    assert own.commit.next is not None
    for group in (cyd, restored, Group.from_bytes(cyd.to_bytes(), cyd.ledger, services=room.services)):
        room.groups["cyd"] = group
        following = room.stage("cyd", own.message).next
        assert following is not None
        assert following.authenticator == own.commit.next.authenticator


def test_proposal_from_outside_reaches_a_branch_that_is_entered_later_when_it_comes_again() -> None:
    room = Room.of("ada", "bob", "cyd", extensions=(OPEN,))
    cyd, bob = room["cyd"], room["bob"]
    theirs, ours = room.make("bob"), room.make("ada")
    bob.adopt(theirs.commit, now_ns=NOW_NS)
    left, right = room.stage("cyd", theirs.message), room.stage("cyd", ours.message)
    message = propose_from_outside(bob.current.group_info(), Remove(room.leaf("ada")), 0, SENDER.signature)
    cyd.adopt(right, now_ns=NOW_NS)
    here = cyd.current.authenticator
    cyd.receive(encode_message(message))
    cyd.adopt(left, now_ns=NOW_NS)
    cyd.return_to(here)
    there = bob.current.authenticator
    assert cyd.proposals(there) == ()
    cyd.receive(encode_message(message))
    assert [each.epoch for each in cyd.proposals(there)] == [there]


def test_own_messages_come_back_as_echoes(room: Room) -> None:
    ada = room["ada"]
    messages = [room.say("ada")]
    messages += [ada.propose(Remove(1), entropy=room.entropy, public=each).message for each in (False, True)]
    messages += [ada.propose_update(entropy=room.entropy, public=True).message]
    for group in (ada, Group.from_bytes(ada.to_bytes(), ada.ledger)):
        for message in messages:
            with untouched(group):
                received = group.receive(message)
                assert received.content == Echo(ada.current.authenticator)
                assert received.record == b""
    own = room.make("bob", public=True)
    echo = room["bob"].receive(own.message).content
    assert echo == Echo(own.commit.parent, own.commit)
    assert room["bob"].message_of(own.commit) == own.message


def test_application_message_of_an_epoch_that_was_left_is_still_heard(room: Room) -> None:
    late = room.say("ada", b"late")
    room.commit("bob")
    for name in ("bob", "cyd"):
        content = room[name].receive(late).content
        assert isinstance(content, ApplicationMessage)
        assert content.epoch == room[name].parent(room[name].current.authenticator)


def test_nothing_is_said_while_proposals_wait(room: Room) -> None:
    """§12.4; whoever leaves the committing to another says that it knows."""
    room.propose("bob", Remove(room.leaf("cyd")))
    with untouched(room["ada"]), pytest.raises(LocalError, match="proposals wait"):
        room["ada"].send(b"secret of two", entropy=room.entropy)
    room["ada"].send(b"no secret", entropy=room.entropy, despite_proposals=True)


def test_nobody_is_silenced_by_what_no_one_would_commit(room: Room) -> None:
    ada, bob, epoch = room["ada"], room["bob"], room["ada"].current
    stranger = encode_message(propose_oneself(epoch.group_info(), person("eve").bundle))
    for message in (
        stranger,
        public(bob, signed(bob, Remove(17))),
        public(bob, signed(bob, Add(room.key_package("cyd")))),
        public(bob, signed(bob, PreSharedKey(ExternalPsk(b"secret", bytes(32))))),
    ):
        ada.receive(message)
    assert len(ada.proposals()) == 4
    assert ada.waiting() == ()
    ada.send(b"still heard", entropy=room.entropy)
    ada.receive(bob.propose(Remove(room.leaf("cyd")), entropy=room.entropy).message)
    assert [each.proposal for each in ada.waiting()] == [Remove(2)]


def test_stranger_who_asks_is_waited_for_where_the_application_decides_on_it() -> None:
    asked: list[Proposal] = []

    def accept(proposal: Proposal, _sender: Sender) -> bool:
        asked.append(proposal)
        return proposal == Add(eve.key_package)

    eve, fay = person("eve"), person("fay")
    room = Room.of("ada", policy=Policy(accept=accept))
    ada = room["ada"]
    for each in (eve, fay):
        ada.receive(encode_message(propose_oneself(ada.current.group_info(), each.bundle)))
    asked.clear()
    for _ in range(3):
        assert [each.proposal for each in ada.waiting()] == [Add(eve.key_package)]
    assert asked == [Add(eve.key_package), Add(fay.key_package)]


def test_member_leaves_in_public_and_says_so_once(room: Room) -> None:
    cyd = room["cyd"]
    message = parse(cyd.propose(SelfRemove(), entropy=room.entropy).message)
    assert isinstance(message, PublicMessage)
    with untouched(cyd), pytest.raises(LocalError, match="already"):
        cyd.leave(entropy=room.entropy)
    with pytest.raises(LocalError, match="already"):
        Group.from_bytes(cyd.to_bytes(), cyd.ledger).leave(entropy=room.entropy)
    room.commit("ada")
    cyd.leave(entropy=room.entropy)


def test_member_does_not_leave_where_nobody_could_commit_it() -> None:
    room = Room.of("ada")
    room.clients["bob"] = client("bob")
    room.commit("ada", Add(room.key_package("bob")))
    with untouched(room["ada"]), pytest.raises(LocalError, match="SelfRemove"):
        room["ada"].leave(entropy=room.entropy)


def test_update_changes_key_and_credential_as_the_application_allows() -> None:
    def renamed(old: Credential, new: Credential) -> bool:
        return (
            isinstance(old, BasicCredential)
            and isinstance(new, BasicCredential)
            and new.identity[:3] == old.identity[:3]
        )

    room = Room.of("ada", "bob", policy=Policy(may_succeed=renamed))
    signature = room.suite.signature_key_pair(room.entropy)
    change = LeafChange(signature=signature, credential=BasicCredential(b"bob of the new device"))
    update = room["bob"].propose_update(entropy=room.entropy, change=change).message
    room.receive(update, ["ada"])
    room.commit("ada")
    assert room["bob"].current.own_leaf_node.signature_key == signature.public
    content = room["ada"].receive(room.say("bob")).content
    assert isinstance(content, ApplicationMessage)
    assert content.credential == BasicCredential(b"bob of the new device")
    again = room.suite.signature_key_pair(room.entropy)
    room.commit("bob", change=LeafChange(signature=again))
    assert room["ada"].current.tree.leaf(room.leaf("bob")).signature_key == again.public  # type: ignore[union-attr]
    room.commit("bob")


def test_resumption_psk_is_looked_up_among_the_ancestors_of_the_branch(room: Room) -> None:
    """Two branches number their epochs alike and have other secrets."""
    ours, theirs = room.make("ada"), room.make("bob")
    for name in room.groups:
        for own in (theirs, ours):
            staged = (
                own.commit if room[name].current.own_leaf == own.commit.committer else room.stage(name, own.message)
            )
            room[name].adopt(staged, now_ns=NOW_NS)
            room[name].return_to(own.commit.parent)
        staged = next(each for each in room[name].staged() if each.id == ours.commit.id)
        room[name].adopt(staged, now_ns=NOW_NS)
    room.check_agreement()
    psk = ResumptionPsk(ResumptionUsage.APPLICATION, room["ada"].group_id, room["ada"].current.number, bytes(32))
    room.commit("cyd", PreSharedKey(psk))


def test_joiner_does_not_have_the_resumption_psk_of_before(room: Room) -> None:
    old = ResumptionPsk(ResumptionUsage.APPLICATION, room["ada"].group_id, room["ada"].current.number, bytes(32))
    room.commit("ada", Add(room.key_package("dan")))
    own = room.make("bob", PreSharedKey(old))
    room.follow(own.message, ["ada", "cyd"])
    found = room["dan"].receive(own.message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(room["dan"], "8.4/unknown-psk"):
        room["dan"].stage(found, now_ns=NOW_NS)


# -- all or nothing ---------------------------------------------------------------------------------


class DryError(Exception):
    pass


@pytest.mark.parametrize("end", [b"", None], ids=["short", "raises"])
def test_call_that_fails_for_want_of_entropy_changes_nothing(room: Room, end: bytes | None) -> None:
    """Wherever the source runs dry, no position in the group or the ledger is used up."""
    state, ledger = room["ada"].to_bytes(), room["ada"].ledger.to_bytes()
    dan = Add(room.key_package("dan"))
    calls: tuple[Callable[[Group, Entropy], object], ...] = (
        lambda ada, entropy: ada.send(b"x", entropy=entropy),
        lambda ada, entropy: ada.propose(Remove(1), entropy=entropy),
        lambda ada, entropy: ada.propose_update(entropy=entropy),
        lambda ada, entropy: ada.commit([dan], entropy=entropy, now_ns=NOW_NS),
    )
    for call in calls:
        drawn = 0
        while True:
            ada = Group.from_bytes(state, SendLedger.from_bytes(ledger), services=room.services)
            try:
                call(ada, draws(drawn, end))
            except (LocalError, DryError):
                assert (ada.to_bytes(), ada.ledger.to_bytes()) == (state, ledger)
                drawn += 1
            else:
                break
        assert drawn


def draws(count: int, end: bytes | None) -> Entropy:
    """A source that gives out so often."""
    entropy = counting_entropy(count)
    left = count

    def draw(size: int) -> bytes:
        nonlocal left
        left -= 1
        if left >= 0:
            return entropy(size)
        if end is None:
            raise DryError
        return end

    return draw


def test_message_that_nobody_would_read_takes_no_key(room: Room) -> None:
    with untouched(room["ada"]):
        with pytest.raises(LocalError, match="bytes"):
            room["ada"].send(bytes(2**26), entropy=room.entropy, padding=no_padding)
        with pytest.raises(LocalError, match="bytes"):
            room["ada"].commit(entropy=room.entropy, now_ns=NOW_NS, padding=lambda _: 2**26)


def test_own_proposals_that_cannot_be_committed_leave_the_right_to_commit(room: Room) -> None:
    ada = room["ada"]
    for proposals, rule in (
        ([Remove(9)], "12.1.3/blank-leaf"),
        ([Remove(0)], "12.2/committer-remove"),
        ([Add(room.key_package("bob"))], "12.2/already-member"),
        ([Remove(1), Remove(1)], "12.2/same-leaf"),
    ):
        with refuses(ada, rule):
            ada.commit(proposals, entropy=room.entropy, now_ns=NOW_NS)
    with refuses(ada, "12.4/path-required"):
        ada.commit([Remove(1)], with_path=False, entropy=room.entropy, now_ns=NOW_NS)
    room.commit("ada")


def test_misuse_is_ours_and_changes_nothing(room: Room) -> None:
    ada = room["ada"]
    foreign = Room.of("ada", "eve").make("ada").commit
    staged = room.stage("ada", room.make("bob").message)
    leaf = ada.current.own_leaf_node
    calls: list[Callable[[], object]] = [
        lambda: ada.adopt(foreign, now_ns=NOW_NS),
        lambda: ada.message_of(foreign),
        lambda: ada.message_of(staged),
        lambda: ada.return_to(bytes(32)),
        lambda: ada.epoch(bytes(32)),
        lambda: ada.propose(Update(leaf), entropy=room.entropy),
        lambda: ada.commit(entropy=room.entropy, now_ns=NOW_NS, with_path=False, change=LeafChange(extensions=())),
        lambda: Group(
            ada.current,
            ada._kept[ada.current.authenticator].keys,
            ledger=SendLedger(),
            now_ns=0,
            retention=Retention(0),
        ),
    ]
    for call in calls:
        with untouched(ada), pytest.raises((LocalError, MlsError)):
            call()


# -- kept epochs ------------------------------------------------------------------------------------


def test_epochs_are_kept_as_many_and_as_long_as_retention_says() -> None:
    room = Room.of("ada", "bob")
    bob = room.groups["bob"] = Group.from_bytes(
        room["bob"].to_bytes(), room["bob"].ledger, services=room.services, retention=Retention(3, 60 * SECOND)
    )
    kept = bob._kept[bob.current.authenticator].keys
    for _ in range(4):
        room.commit("ada")
    assert len(bob.epochs) == 3
    assert kept.wiped
    moved = bob.expire(NOW_NS + 61 * SECOND)
    assert len(moved.erase) == 2
    assert list(bob.epochs) == [bob.current.authenticator]
    with untouched(bob):
        assert bob.expire(NOW_NS + 3600 * SECOND).record == b""
    with pytest.raises(LocalError, match="resynchronise"):
        bob.return_to(moved.erase[0])


def test_epoch_is_not_dropped_before_its_parent() -> None:
    """The parent could make it again whole, with message keys that were used: they would open a message twice."""
    room = Room.of("ada", "bob")
    bob = room.groups["bob"] = Group.from_bytes(
        room["bob"].to_bytes(), room["bob"].ledger, services=room.services, retention=Retention(5, 60 * SECOND)
    )
    parent = bob.current.authenticator
    own = room.commit("ada")
    said = room.say("ada")
    bob.receive(said)
    bob.return_to(parent)
    assert bob.expire(NOW_NS + 1000 * SECOND).erase == ()
    with refuses(bob, "9.2/generation-used"):
        bob.receive(said)
    [staged] = bob.staged()
    assert staged.id == own.commit.id
    bob.adopt(staged, now_ns=NOW_NS + 1000 * SECOND)
    assert bob.epochs == (bob.current.authenticator,)
    with refuses(bob, "9.2/generation-used"):
        bob.receive(said)


def test_position_of_an_epoch_never_goes_back_with_it(room: Room) -> None:
    ada, bob = room["ada"], room["bob"]
    here = ada.current.authenticator
    old = ada.to_bytes()
    said = [room.say("ada", b"one")]
    room.commit("bob")
    ada.return_to(here)
    said.append(room.say("ada", b"two"))
    restored = Group.from_bytes(old, ada.ledger, services=room.services)
    said.append(restored.send(b"three", entropy=room.entropy).message)
    heard = [bob.receive(each).content for each in said]
    assert [each.data for each in heard if isinstance(each, ApplicationMessage)] == [b"one", b"two", b"three"]


def test_removal_can_be_undone_as_long_as_the_parent_is_kept(room: Room) -> None:
    out, other = room.make("ada", Remove(room.leaf("cyd"))), room.make("bob")
    cyd = room["cyd"]
    cyd.adopt(room.stage("cyd", out.message), now_ns=NOW_NS)
    restored = Group.from_bytes(cyd.to_bytes(), cyd.ledger)
    for group in (cyd, restored):
        assert group.removed
        with pytest.raises(LocalError, match="removed"):
            group.send(b"x", entropy=room.entropy)
    room.follow(other.message, ["cyd", "ada"])
    assert not restored.return_to(out.commit.parent).erase
    room["bob"].adopt(other.commit, now_ns=NOW_NS)
    room.check_agreement()


def test_proposals_are_of_their_epoch(room: Room) -> None:
    room.propose("bob", Remove(room.leaf("cyd")), public=True)
    parent = room["ada"].current.authenticator
    room.commit("ada", pending=False)
    assert room["ada"].proposals() == ()
    assert [type(each) for each in room["ada"].proposals(parent)] == [VerifiedProposal]


def test_who_lost_the_end_of_its_ledger_goes_on_behind_what_others_saw(room: Room) -> None:
    """Only whoever asks is told, and what it notes is written down again."""
    parent, leaf = room["bob"].current.authenticator, room.leaf("bob")
    stored = room["bob"].to_bytes()
    for message in (room.say("bob"), room.say("bob"), room.make("bob").message):
        room.receive(message, ["ada"])
    assert room["cyd"].sent_by(leaf, parent) == (0, 0, 0)
    seen = room["ada"].sent_by(leaf, parent)
    assert seen == (1, 2, 1)
    again = Group.from_bytes(stored, SendLedger(), services=SERVICES)
    reservations = again.note_sent(parent, seen)
    assert len(reservations) == 3
    assert again.note_sent(parent, seen) == ()
    for reservation in reservations:
        room["bob"].ledger.apply(reservation)
    assert room["bob"].ledger.to_bytes() == again.ledger.to_bytes()
    with pytest.raises(LocalError, match="committed in epoch"):
        again.commit(entropy=room.entropy, now_ns=NOW_NS)
    heard = room["ada"].receive(again.send(b"on", entropy=room.entropy).message).content
    assert isinstance(heard, ApplicationMessage)
    with pytest.raises(LocalError, match="not kept"):
        again.note_sent(bytes(32), seen)
