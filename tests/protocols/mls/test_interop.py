"""Groups of which every second member is ts-mls: each reads what the other writes, and refuses what it must."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.interop.member import Add, GroupContextExtensions, Member, Refused, Remove
from tests.interop.ours import OurClient
from tests.interop.peer import TsMls
from tests.interop.stories import BASIC_ONLY, REQUIRED_CAPABILITIES, Cast, Room, Story, tellings
from tests.interop.walk import wander

CONTEXT_CHANGE = GroupContextExtensions([(REQUIRED_CAPABILITIES, BASIC_ONLY)])


@pytest.fixture(scope="module")
def ts_mls() -> Iterator[TsMls]:
    with TsMls.start() as process:
        yield process


def in_turn(suite: int, ts_mls: TsMls, *, ours_first: bool) -> Cast:
    """Newcomers are ours and theirs by turns."""

    def ours(name: str) -> Member:
        return OurClient(name, suite)

    def theirs(name: str) -> Member:
        return ts_mls.client(name, suite)

    makers: Iterator[Callable[[str], Member]] = itertools.cycle((ours, theirs) if ours_first else (theirs, ours))

    def maker(name: str) -> Member:
        return next(makers)(name)

    return maker


@pytest.mark.parametrize(("story", "suite", "public"), tellings((1, 2)))
def test_ts_mls_joins_our_group(ts_mls: TsMls, story: Story, suite: int, public: bool) -> None:
    story(in_turn(suite, ts_mls, ours_first=True), suite, public)


@pytest.mark.parametrize(("story", "suite", "public"), tellings((1, 3), turn=1))
def test_we_join_the_group_of_ts_mls(ts_mls: TsMls, story: Story, suite: int, public: bool) -> None:
    story(in_turn(suite, ts_mls, ours_first=False), suite, public)


@pytest.mark.parametrize("ours_first", [True, False])
def test_group_of_both_lives_at_random(ts_mls: TsMls, ours_first: bool) -> None:
    wander(in_turn(1, ts_mls, ours_first=ours_first), seed=1, steps=10)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(24))
def test_group_of_both_lives_long_at_random(ts_mls: TsMls, seed: int) -> None:
    wander(in_turn(1 + seed % 3, ts_mls, ours_first=seed % 2 == 0), seed, steps=40)


def room_of_two(ts_mls: TsMls) -> tuple[Room, Member, Member]:
    """Alice is ours, bob is theirs."""
    room = Room(in_turn(1, ts_mls, ours_first=True), public=True)
    alice = room.found("alice")
    room.add("alice", "bob")
    return room, alice, room.members["bob"]


def test_each_message_is_read_once(ts_mls: TsMls) -> None:
    room, alice, bob = room_of_two(ts_mls)
    for author, sender in (("alice", alice), ("bob", bob)):
        message = sender.encrypt(b"once")
        room.hear(author, b"once", message)
        with pytest.raises(Refused):
            room.hear(author, b"once", message)
    room.talk()


def test_their_commit_is_refused_with_one_bit_flipped(ts_mls: TsMls) -> None:
    room, alice, bob = room_of_two(ts_mls)
    before = alice.status()
    commit = bob.commit(public=True).commit
    for position in range(20, len(commit), 97):
        broken = bytearray(commit)
        broken[position] ^= 1
        with pytest.raises(Refused):
            alice.process(bytes(broken))
        assert alice.status() == before
    room.relay("bob", commit, "commit")
    room.agree("bob")


def test_our_commit_is_refused_with_one_bit_flipped(ts_mls: TsMls) -> None:
    room, alice, bob = room_of_two(ts_mls)
    before = bob.status()
    commit = alice.commit(public=True).commit
    for position in range(20, len(commit), 97):
        broken = bytearray(commit)
        broken[position] ^= 1
        with pytest.raises(Refused):
            bob.process(bytes(broken))
        assert bob.status() == before
    room.relay("alice", commit, "commit")
    room.agree("alice")


def test_removed_member_reads_nothing_more(ts_mls: TsMls) -> None:
    room, alice, bob = room_of_two(ts_mls)
    room.add("bob", "carol", "dave")
    carol, dave = room.members["carol"], room.members["dave"]
    room.remove("alice", "dave")
    room.remove("bob", "carol")
    for gone in (carol, dave):
        with pytest.raises(Refused):
            gone.process(alice.encrypt(b"among ourselves"))
        with pytest.raises(Refused):
            gone.process(bob.encrypt(b"among ourselves"))


def test_who_is_replaced_in_one_commit_knows_of_it(ts_mls: TsMls) -> None:
    room = Room(in_turn(1, ts_mls, ours_first=False), public=False)
    alice = room.found("alice")
    room.add("alice", "bob")
    bob, carol = room.members.pop("bob"), room.newcomer("carol")
    committed = room.commit("alice", Remove(1), Add(carol.key_package()), newcomers={"carol": carol})
    assert (bob.process(committed.commit).removed, carol.own_index()) == (True, 1)
    assert alice.status().members == {0: b"alice", 1: b"carol"}


def test_their_expired_key_package_is_refused(ts_mls: TsMls) -> None:
    room, alice, _ = room_of_two(ts_mls)
    expired = ts_mls.client("carol", 1, lifetime=(0, 1_000_000_000))
    before = alice.status()
    with pytest.raises(Refused, match="lifetime"):
        alice.commit(Add(expired.key_package()))
    assert alice.status() == before
    room.talk()


def test_their_change_of_context_without_a_path_is_refused(ts_mls: TsMls) -> None:
    """Section 12.4 requires a path for GroupContextExtensions; ts-mls 1.6 makes none."""
    _, alice, bob = room_of_two(ts_mls)
    before = alice.status()
    with pytest.raises(Refused, match=r"^12\.4/path-required"):
        alice.process(bob.commit(CONTEXT_CHANGE, public=True).commit)
    assert alice.status() == before


def test_their_path_sealed_under_the_old_extensions_is_refused(ts_mls: TsMls) -> None:
    """Section 12.4.1 encrypts path secrets under the provisional context, which has the new extensions already."""
    room, alice, bob = room_of_two(ts_mls)
    room.add("bob", "carol")
    before = alice.status()
    with pytest.raises(Refused, match=r"^5\.1\.3/decrypt"):
        alice.process(bob.commit(CONTEXT_CHANGE, Remove(2), public=True).commit)
    assert alice.status() == before
