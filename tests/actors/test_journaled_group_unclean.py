"""A group that was not closed in order may have done more than it knows of."""

from collections.abc import Callable, Iterator

import pytest

from actors.group_journal import recovered_ledger
from actors.group_mail import Entered, Heard, Post, Seen
from actors.journaled_group import AHEAD_MAX, LOST_MAX, UNSEEN_MAX, JournaledGroup, UnconfirmedError
from protocols.errors import LocalError
from protocols.journal.messages import Recovered
from protocols.mls.external import external_message, make_external_commit
from protocols.mls.group import Group
from protocols.mls.message import encode_message
from protocols.mls.proposals import Remove
from protocols.mls.send_ledger import SendLedger
from tests.actors.group_world import RETENTION, World, acknowledge, meet, recovered, watched
from tests.protocols.mls.kit import Client
from tests.protocols.mls.room import NOW_NS, SERVICES, fresh


@pytest.fixture
def world() -> Iterator[World]:
    with watched(World()) as made:
        meet(made)
        yield made


def test_who_closed_in_order_speaks_at_once(world: World) -> None:
    bob = world["bob"]
    bob.close()
    assert bob.recover()
    assert bob.group.confirmed
    world.say("bob", b"back")
    world.deliver("ada")
    assert [each.data for each in world["ada"].read.values()] == [b"back"]


def test_who_was_confirmed_and_then_closed_in_order_speaks_at_once(world: World) -> None:
    bob = world["bob"]
    assert not recovered(bob).confirmed
    bob.close()
    assert not recovered(bob).confirmed, "to close in order settles nothing"
    assert bob.recover()
    world.confirm("bob")
    bob.close()
    assert recovered(bob).confirmed
    assert bob.recover()
    world.say("bob", b"hello")
    assert not recovered(bob).confirmed, "nor does what was settled cover what came after"


def test_who_did_not_close_in_order_listens_until_others_have_confirmed(world: World) -> None:
    bob = world["bob"]
    world.commit("ada")
    world.say("ada", b"hello")
    bob.held = None
    assert bob.recover()
    says: list[Callable[[JournaledGroup], object]] = [
        lambda group: group.send(b"no", entropy=bob.entropy),
        lambda group: group.propose(Remove(world["cyd"].group.current.own_leaf), entropy=bob.entropy),
        lambda group: group.propose_update(entropy=bob.entropy),
        lambda group: group.leave(entropy=bob.entropy),
        lambda group: group.commit(entropy=bob.entropy, now_ns=NOW_NS),
    ]
    for step in says:
        with pytest.raises(UnconfirmedError):
            step(bob.group)
    world.deliver("bob")
    assert [each.data for each in bob.read.values()] == [b"hello"]
    assert bob.group.current.authenticator == world["ada"].group.current.authenticator
    world.confirm("bob")
    world.say("bob", b"yes")
    world.deliver("ada")
    assert [each.data for each in world["ada"].read.values()] == [b"yes"]


def test_an_old_copy_of_the_store_repeats_no_key_once_others_have_confirmed(world: World) -> None:
    bob = world["bob"]
    world.say("bob", b"before")
    copy = dict(bob.rows)
    for text in (b"one", b"two", b"three"):
        world.say("bob", text)
    world.deliver("ada")
    bob.rows = copy
    assert bob.recover()
    world.confirm("bob")
    world.say("bob", b"after")
    world.deliver("ada", "cyd")
    for name in ("ada", "cyd"):
        heard = [each.data for each in world[name].read.values()]
        assert heard == [b"before", b"one", b"two", b"three", b"after"]


def test_messages_that_nobody_has_seen_yet_are_skipped_too(world: World) -> None:
    bob = world["bob"]
    copy = dict(bob.rows)
    for number in range(UNSEEN_MAX):
        world.say("bob", b"on its way %d" % number)
    bob.rows = copy
    assert bob.recover()
    world.confirm("bob")
    world.say("bob", b"after")
    world.deliver("ada")
    assert len(world["ada"].read) == UNSEEN_MAX + 1


def test_an_old_copy_of_the_store_that_is_trusted_repeats_a_key(world: World) -> None:
    """What the gate is for; and that ``World`` would see it."""
    bob = world["bob"]
    copy = dict(bob.rows)
    world.say("bob", b"one")
    bob.rows = copy
    assert bob.recover()
    bob.group.confirmed = True
    with pytest.raises(AssertionError, match="sealed two messages"):
        world.say("bob", b"two")


def test_a_commit_that_others_have_seen_is_not_made_twice(world: World) -> None:
    bob = world["bob"]
    copy = dict(bob.rows)
    world.commit("bob")
    world.deliver("ada", adopt=False)
    bob.rows = copy
    assert bob.recover()
    world.confirm("bob")
    with pytest.raises(LocalError, match="committed in epoch"):
        bob.group.commit(entropy=bob.entropy, now_ns=NOW_NS)
    assert bob.recover()
    world.confirm("bob")
    with pytest.raises(LocalError, match="committed in epoch"):
        bob.group.commit(entropy=bob.entropy, now_ns=NOW_NS)


def test_whoever_lies_about_how_far_we_were_seen_cannot_lead_us_out_of_reach(world: World) -> None:
    bob = world["bob"]
    world.say("bob", b"one")
    world.deliver("ada")
    name, mine = bob.group.current.authenticator, 1
    bob.held = None
    assert bob.recover()
    ledger = bob.group._group.ledger.to_bytes()
    with pytest.raises(LocalError, match="others saw"):
        bob.group.confirm([Seen(name, (0, mine + AHEAD_MAX + 1, 0)), Seen(bytes(32), (1, 1, 1))])
    assert bob.group._group.ledger.to_bytes() == ledger
    assert not bob.group.confirmed
    bob.group.confirm([Seen(name, (0, mine + AHEAD_MAX, 0))])
    bob.pump()
    world.say("bob", b"two")
    world.deliver("ada", "cyd")
    assert [each.data for each in world["ada"].read.values()] == [b"one", b"two"]
    assert [each.data for each in world["cyd"].read.values()] == [b"one", b"two"]


def test_what_a_confirmation_skipped_the_next_one_does_not_give_out(world: World) -> None:
    """Whoever loses messages twice, of which nobody has seen any, is further ahead than others can tell."""
    bob = world["bob"]
    for text in (b"one", b"two"):
        copy = dict(bob.rows)
        world.say("bob", text)
        bob.rows = copy
        assert bob.recover()
        world.confirm("bob")
    world.say("bob", b"three")
    world.deliver("ada")
    assert [each.data for each in world["ada"].read.values()] == [b"one", b"two", b"three"]


def test_crash_after_crash_stays_within_reach(world: World) -> None:
    bob = world["bob"]
    for _ in range(40):
        bob.held = None
        assert bob.recover()
        world.confirm("bob")
    world.say("bob", b"still here")
    world.deliver("ada")
    assert [each.data for each in world["ada"].read.values()] == [b"still here"]
    name = bob.group.current.authenticator
    assert [
        each.following[1] for each in world["ada"].group.seen_of(bob.group.current.own_leaf) if each.epoch == name
    ] == [UNSEEN_MAX + 39 * LOST_MAX + 1]


def return_with_a_fresh_leaf(world: World) -> tuple[Recovered, SendLedger]:
    """Bob, after a crash; returns what his group's stream had, and his ledger."""
    bob, ada = world["bob"], world["ada"]
    bob.held = None
    old, stored = bob.open()
    ledger = recovered_ledger(stored)
    commit = make_external_commit(
        ada.group.current.group_info(), fresh(bob.client), entropy=bob.entropy, replaces=world.leaf("bob", "ada")
    )
    group = Group.join(commit, now_ns=NOW_NS, ledger=ledger, services=SERVICES, retention=RETENTION)
    bob.held = JournaledGroup.begin(group, message=encode_message(external_message(commit)))
    bob.pump()
    return old, ledger


def test_a_fresh_leaf_speaks_at_once_in_the_place_of_the_old_one(world: World) -> None:
    bob, ada = world["bob"], world["ada"]
    world.say("bob", b"one")
    old, known = return_with_a_fresh_leaf(world)
    world.say("bob", b"two")
    world.deliver("ada", "cyd")
    assert [each.data for each in ada.read.values()] == [b"one", b"two"]
    assert recovered(bob).current.authenticator == ada.group.current.authenticator
    again, ledger = bob.open()
    assert old.snapshot is not None
    assert again.snapshot is not None
    assert all(each.payload not in again.snapshot for each in old.records)
    before = known.to_bytes()
    known.merge(recovered_ledger(ledger))
    assert known.to_bytes() == before


def test_answers_to_who_had_the_streams_before_release_nothing_of_who_has_them_now(world: World) -> None:
    bob, ada = world["bob"], world["ada"]
    for text in (b"one", b"two"):
        world.say("ada", text)
    bob.held = None
    assert bob.recover()
    old = bob.group
    for number, message in enumerate(world.sent):
        if world.sent[message] == "ada" and message in world.texts:
            old.receive(message, b"%d" % number)
    under_way = old.writes()
    commit = make_external_commit(
        ada.group.current.group_info(), fresh(bob.client), entropy=bob.entropy, replaces=world.leaf("bob", "ada")
    )
    ledger = old._group.ledger
    group = Group.join(commit, now_ns=NOW_NS, ledger=ledger, services=SERVICES, retention=RETENTION)
    new = JournaledGroup.begin(group, message=encode_message(external_message(commit)), before=old)
    writes = new.writes()
    acknowledge(new, *under_way)
    heard = [each.number for each in new.released() if isinstance(each, Heard)]
    assert len(heard) == 2
    new.settle(*heard)
    acknowledge(new, *writes)
    entered, post = new.released()
    assert isinstance(entered, Entered)
    assert isinstance(post, Post)
    assert new.mail == (post,), "what was settled was mail of the old one"
    with pytest.raises(LocalError, match="last step"):
        old.receive(post.message)
    with pytest.raises(LocalError, match="another group"):
        JournaledGroup.begin(other_group(bob.client), before=new)


def other_group(client: Client) -> Group:
    return Group.create(client.bundle, b"other", entropy=client.entropy, now_ns=NOW_NS)


def test_a_fresh_leaf_leaves_nothing_to_settle(world: World) -> None:
    return_with_a_fresh_leaf(world)
    world["bob"].close()
    assert recovered(world["bob"]).confirmed
