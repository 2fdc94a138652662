"""Nothing of a group's steps is seen before it is durable, and what was seen is there after any crash."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.group_mail import Heard, Post, Taken
from actors.journaled_group import JournaledGroup
from actors.storage.sqlite_store import SqliteStore
from protocols.errors import LocalError
from protocols.journal.messages import Append, Durable
from protocols.journal.store import Store
from protocols.mls.errors import MlsError
from tests.actors.group_story import check_end, story
from tests.actors.group_world import STREAMS, Cut, World, acknowledge, meet, watched
from tests.protocols.mls.room import NOW_NS


def test_story_ends_alike_wherever_the_power_goes() -> None:
    """At every write of every person, before it and after it. Each time the person is exactly where it was (to the
    byte: see ``restart``), has lost nothing that it acknowledged, repeats no key, and goes on."""
    whole = World()
    with watched(whole):
        story(whole)
    check_end(whole)
    cuts = 0
    for name, late in itertools.product(whole.people, (False, True)):
        for at in range(whole[name].writes):
            with watched(World()) as world:
                world.person(name).cut = Cut(at, late)
                story(world)
            check_end(world)
            assert world[name].crashes == 1
            cuts += 1
    print(f"{cuts} power cuts")


@pytest.mark.parametrize("late", [False, True])
def test_story_ends_alike_on_a_real_disk(tmp_path: Path, late: bool) -> None:
    """As above, with each journal in SQLite, and a power cut for everybody."""
    stores: dict[str, SqliteStore] = {}

    def opened(name: str, _: Store | None) -> Store:
        if name in stores:
            stores[name].close()
        stores[name] = SqliteStore(tmp_path / name)
        return stores[name]

    with watched(World(opened=opened)) as world:
        for name, at in (("ada", 5), ("bob", 7), ("cyd", 9)):
            world.person(name).cut = Cut(at, late)
        story(world)
    check_end(world)
    assert [each.crashes for each in world.people.values()] == [1, 1, 1]
    for store in stores.values():
        store.close()


def test_story_is_the_same_with_a_checkpoint_at_every_write() -> None:
    plain, resumed = World(), World(checkpoints=True)
    for world in (plain, resumed):
        with watched(world):
            story(world)
        check_end(world)
    assert list(resumed.sent) == list(plain.sent)
    assert [each.rows for each in resumed.people.values()] == [each.rows for each in plain.people.values()]


@pytest.fixture
def world() -> Iterator[World]:
    with watched(World()) as made:
        meet(made)
        yield made


def test_a_message_leaves_when_its_key_and_its_record_are_durable_and_not_before(world: World) -> None:
    ada = world["ada"]
    number = ada.group.send(b"hello", entropy=ada.entropy)
    writes = ada.group.writes()
    assert [(type(each), each.stream) for each in writes] == [(Append, STREAMS[1]), (Append, STREAMS[0])]
    for write in writes:
        assert ada.group.released() == []
        acknowledge(ada.group, write)
    [post] = ada.group.released()
    assert isinstance(post, Post)
    assert post.number == number
    assert ada.group.released() == []
    with pytest.raises(LocalError, match="not under way"):
        acknowledge(ada.group, writes[0])


def test_what_is_written_of_a_step_is_small(world: World) -> None:
    """Besides the message itself."""
    ada, bob = world["ada"], world["bob"]
    ada.group.send(b"hello", entropy=ada.entropy)
    [reserved, recorded] = ada.group.writes()
    assert isinstance(reserved, Append)
    assert [len(each.payload) for each in reserved.entries] == [57]
    assert isinstance(recorded, Append)
    assert [each.kind for each in recorded.entries] == ["mls.sent", "group.post"]
    ada.group.durable(Durable(reserved.token, reserved.stream, 0))
    ada.group.durable(Durable(recorded.token, recorded.stream, 0))
    [post] = ada.group.released()
    assert isinstance(post, Post)
    assert sum(len(each.payload) for each in recorded.entries) < len(post.message) + 150
    assert bob.group.receive(post.message, b"7") is None
    [heard] = bob.group.writes()
    assert isinstance(heard, Append)
    assert [each.kind for each in heard.entries] == ["mls.received", "group.heard"]
    bob.group.durable(Durable(heard.token, heard.stream, 0))
    [said, taken] = bob.group.released()
    assert isinstance(said, Heard)
    assert said.data == b"hello"
    assert taken == Taken(b"7")


def test_a_commit_is_followed_within_a_turn_and_seen_after_it(world: World) -> None:
    ada, bob = world["ada"], world["bob"]
    world.commit("ada")
    message = next(reversed(world.sent))
    entered = list(bob.entered)
    received = bob.group.receive(message, b"9")
    assert received is not None
    assert received.record == b""
    [commit] = bob.group.commits()
    bob.group.adopt(bob.group.stage(commit, now_ns=NOW_NS), now_ns=NOW_NS)
    assert bob.group.current.authenticator == ada.group.current.authenticator
    assert bob.group.released() == []
    bob.pump()
    assert bob.acknowledged == {9}
    assert bob.entered == [*entered, ada.group.current.authenticator]


def test_a_step_that_fails_writes_nothing(world: World) -> None:
    bob = world["bob"]
    state = bob.state
    wrong: list[Callable[[JournaledGroup], object]] = [
        lambda group: group.receive(b"rubbish", b"1"),
        lambda group: group.commit(entropy=bob.entropy, now_ns=NOW_NS, with_path=False),
        lambda group: group.return_to(bytes(32)),
        lambda group: group.adopt(world["ada"].group.staged(world["ada"].group.epochs[0])[0], now_ns=-1),
    ]
    for step in wrong:
        with pytest.raises((LocalError, MlsError)):
            step(bob.group)
    assert bob.group.writes() == []
    assert bob.group.released() == []
    assert bob.state == state


def test_staging_again_and_settling_again_write_nothing(world: World) -> None:
    world.commit("ada")
    world.deliver("bob", adopt=False)
    bob = world["bob"]
    [commit] = bob.group.commits()
    staged = bob.turn(lambda group: group.stage(commit, now_ns=NOW_NS))
    assert bob.group.stage(commit, now_ns=NOW_NS) is staged
    bob.group.settle(99)
    assert bob.group.writes() == []
    bob.turn(lambda group: group.discard(staged))
    assert bob.group.staged() == ()
