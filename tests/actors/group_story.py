"""A whole story of a group: create, add, join, messages both ways, update commits, a fork with return and adopt,
remove. Epochs are erased on the way, as only two are kept."""

from typing import Final

from actors.journaled_group import JournaledGroup
from protocols.mls.proposals import Remove
from tests.actors.group_world import World, meet, own_of
from tests.protocols.mls.room import NOW_NS

SAID: Final = {"ada": [b"one", b"four"], "bob": [b"two", b"five", b"six"], "cyd": [b"three"]}


def story(world: World) -> None:
    meet(world)
    world.say("ada", b"one")
    world.say("bob", b"two")
    world.deliver()
    world.commit("bob")
    world.deliver()
    world.say("cyd", b"three")
    world.deliver()
    world.settle("bob")
    fork(world)
    world.say("ada", b"four")
    world.say("bob", b"five")
    world.deliver()
    world.commit("ada", Remove(world["cyd"].group.current.own_leaf))
    world.deliver()
    world.say("bob", b"six")
    world.deliver()
    for name in world.people:
        world.settle(name)


def fork(world: World) -> None:
    """Ada and Cyd commit at once, and each goes on with their own; then all go on with Cyd's."""
    parent = world["ada"].group.current.authenticator
    world.commit("ada")
    winner = world.commit("cyd")
    world.deliver(adopt=False)
    for name in ("ada", "bob"):
        if world[name].group.current.authenticator != parent:
            world.do(name, lambda group: group.return_to(parent))
        if winner.id not in [each.id for each in world[name].group.staged(parent)]:
            world.do(name, lambda group: stage(group, parent, winner.id))
        world.do(name, lambda group: group.adopt(own_of(group, winner), now_ns=NOW_NS))


def stage(group: JournaledGroup, parent: bytes, commit: bytes) -> None:
    suite = group.current.suite
    [found] = [each for each in group.commits(parent) if suite.hash(each.authenticated.encode()) == commit]
    group.stage(found, now_ns=NOW_NS)


def check_end(world: World) -> None:
    """Everybody is where the story ends, and has heard all that was said while they were there, once."""
    ada, bob, cyd = (world[name] for name in ("ada", "bob", "cyd"))
    assert ada.group.current.number == 4
    assert ada.group.current.authenticator == bob.group.current.authenticator
    assert ada.group.current.export(b"test", b"", 16) == bob.group.current.export(b"test", b"", 16)
    assert cyd.group.removed
    for listener in (ada, bob, cyd):
        heard = sorted(each.data for each in listener.read.values())
        said = [text for name, texts in SAID.items() for text in texts if name != listener.name]
        assert heard == sorted(said if listener is not cyd else [text for text in said if text != b"six"])
        assert not listener.group.mail
        assert listener.proofs == []
