"""What a group writes down is small, and brings back what was (``storing``, ``records``); crashes at every point are
in ``test_histories``."""

from collections.abc import Callable

import msgspec
import pytest

from protocols.errors import LocalError
from protocols.mls.group import Group
from protocols.mls.opening import ApplicationMessage, VerifiedCommit
from protocols.mls.outcomes import Moved
from protocols.mls.proposals import Add, Remove
from protocols.mls.records import (
    RECORDS,
    STATES,
    CommitKept,
    CommitStaged,
    EpochAdopted,
    EpochReturned,
    EpochsDropped,
    GroupState,
    MessageReceived,
    ProposalKept,
)
from protocols.mls.services import Retention
from protocols.mls.suite import SUITES
from tests.protocols.mls.room import NOW_NS, Room


def restored(room: Room, name: str, data: bytes | None = None) -> Group:
    group = room[name]
    return Group.from_bytes(group.to_bytes() if data is None else data, group.ledger, services=room.services)


@pytest.mark.parametrize("suite", SUITES)
def test_group_comes_back_from_its_bytes_as_the_same_bytes(suite: int) -> None:
    """With proposals, own Updates, echoes, staged commits of several members, one branch adopted and left."""
    room = Room.of("ada", "bob", "cyd", suite=SUITES[suite])
    room.receive(room.say("ada"), ["bob", "cyd"])
    room.propose("ada", Remove(room.leaf("cyd")), public=True)
    room.receive(room["bob"].propose_update(entropy=room.entropy).message, ["ada", "cyd"])
    for name in ("ada", "cyd"):
        room.stage("bob", room.make(name, Add(room.key_package(f"by {name}"))).message)
    own = room.make("bob", pending=False)
    bob = room["bob"]
    parent = bob.current.authenticator
    bob.adopt(own.commit, now_ns=NOW_NS)
    bob.send(b"alone", entropy=room.entropy)
    bob.return_to(parent)
    data = bob.to_bytes()
    again = restored(room, "bob", data)
    assert again.to_bytes() == data
    assert again.epochs == bob.epochs
    assert [each.id for each in again.staged()] == [each.id for each in bob.staged()]
    assert again.message_of(own.commit) == own.message
    for each in again.staged():
        again.adopt(each, now_ns=NOW_NS)
        again.return_to(parent)
    assert "secret" not in repr(again).lower()


def test_commit_that_waits_to_be_adopted_is_kept_with_its_welcomes() -> None:
    room = Room.of("ada", "bob")
    own = room.make("ada", Add(room.key_package("eve")))
    [staged] = restored(room, "ada").staged()
    assert staged.own
    assert staged.welcomes == own.commit.welcomes
    assert staged.next is not None
    assert room.staged_join("eve", staged.welcomes[0].welcome).epoch.authenticator == staged.next.authenticator


def story(room: Room) -> tuple[bytes, list[bytes]]:
    """Bob's snapshot, and his records since: one of each kind."""
    bob = room["bob"]
    snapshot, parent = bob.to_bytes(), bob.current.authenticator
    records = list(bob.send(b"mine", entropy=room.entropy).records)
    records += bob.propose_update(entropy=room.entropy).records
    said = room.say("ada")
    update = room["cyd"].propose_update(entropy=room.entropy).message
    room["ada"].receive(update)
    for message in (said, update, room.make("ada").message):
        received = bob.receive(message)
        records.append(received.record)
    assert isinstance(received.content, VerifiedCommit)
    records.append(bob.stage(received.content, now_ns=NOW_NS).record)
    [unwanted] = bob.staged()
    records.append(bob.discard(unwanted).record)
    staged = bob.stage(received.content, now_ns=NOW_NS)
    own = room.make("bob", pending=False)
    moves: list[Callable[[], Moved]] = [
        lambda: bob.adopt(own.commit, now_ns=NOW_NS),
        lambda: bob.return_to(parent),
        lambda: bob.adopt(staged.commit, now_ns=NOW_NS + 1),
        lambda: bob.expire(NOW_NS + 10**12),
    ]
    return snapshot, [*records, staged.record, own.record, *(move().record for move in moves)]


def short(room: Room, data: bytes) -> Group:
    return Group.from_bytes(data, room["bob"].ledger, services=room.services, retention=Retention(5, 10**11))


@pytest.mark.parametrize("suite", [1, 2])
def test_records_after_a_snapshot_lead_to_where_the_group_was(suite: int) -> None:
    room = Room.of("ada", "bob", "cyd", suite=SUITES[suite])
    room.groups["bob"] = short(room, room["bob"].to_bytes())
    snapshot, records = story(room)
    bob, again = room["bob"], short(room, snapshot)
    for record in records:
        again.replay(record)
    assert {type(RECORDS.decode(each)) for each in records} == set(RECORDS.tags.values())
    assert again.epochs == bob.epochs == (bob.current.authenticator,)
    for group in (bob, again):
        assert group.current.number == 2
    heard = again.send(b"on", entropy=room.entropy).message
    room["ada"].adopt(room["ada"].staged()[0], now_ns=NOW_NS)
    content = room["ada"].receive(heard).content
    assert isinstance(content, ApplicationMessage)
    assert content.data == b"on"


def test_snapshot_at_any_point_and_the_records_after_it_lead_to_one_state() -> None:
    room = Room.of("ada", "bob", "cyd")
    room.groups["bob"] = short(room, room["bob"].to_bytes())
    snapshot, records = story(room)
    states = []
    for at in range(len(records)):
        group = short(room, snapshot)
        for record in records[:at]:
            group.replay(record)
        group = short(room, group.to_bytes())
        for record in records[at:]:
            group.replay(record)
        states.append(group.to_bytes())
    assert states == [states[0]] * len(records)


def test_record_that_does_not_follow_is_refused() -> None:
    room = Room.of("ada", "bob", "cyd")
    room.groups["bob"] = short(room, room["bob"].to_bytes())
    snapshot, records = story(room)
    [adopted] = [each for each in map(RECORDS.decode, records[-4:-3]) if isinstance(each, EpochAdopted)]
    [staged] = [each for each in map(RECORDS.decode, records) if isinstance(each, CommitStaged) and each.own]
    kept = next(each for each in map(RECORDS.decode, records) if isinstance(each, CommitKept))
    group = short(room, snapshot)
    before = group.to_bytes()
    replace = msgspec.structs.replace
    for record in (
        b"",
        records[0][:-1],
        RECORDS.encode(adopted),
        RECORDS.encode(EpochReturned(bytes(32))),
        RECORDS.encode(EpochsDropped((kept.epoch,))),
        STATES.encode(GroupState(1, b"", False, ())),
        RECORDS.encode(replace(staged, secrets=bytes(len(staged.secrets)))),
        RECORDS.encode(replace(staged, authenticated=staged.authenticated[:-1])),
        RECORDS.encode(replace(staged, epoch=bytes(32))),
        RECORDS.encode(ProposalKept(kept.epoch, kept.authenticated, encryption_private=b"x")),
        RECORDS.encode(MessageReceived(kept.epoch, b"\0" * 8)),
        RECORDS.encode(MessageReceived(kept.epoch, b"\0\0\0\1\1\0\0\0\0")),
    ):
        with pytest.raises(LocalError):
            group.replay(record)
    assert group.to_bytes() == before


def test_stored_group_that_was_altered_or_is_of_another_version_is_refused() -> None:
    room = Room.of("ada", "bob")
    room.make("ada")
    data = room["ada"].to_bytes()
    state = STATES.decode(data)
    assert isinstance(state, GroupState)
    replace = msgspec.structs.replace
    [kept, *_] = state.kept
    for bad in (
        b"",
        data[:-1],
        data + b"\0",
        room.make("bob").record,
        STATES.encode(replace(state, version=2)),
        STATES.encode(replace(state, kept=())),
        STATES.encode(replace(state, current=bytes(32))),
        STATES.encode(replace(state, kept=(replace(kept, epoch=b"\2" + kept.epoch[1:]),))),
        STATES.encode(replace(state, kept=(replace(kept, keys=b""),))),
    ):
        with pytest.raises(LocalError):
            restored(room, "ada", bad)


def test_small_record_for_a_message_whatever_the_group() -> None:
    small, large = Room.of("ada", "bob"), Room.of("ada", *(f"m{number}" for number in range(40)))
    sizes = []
    for room in (small, large):
        out = room["ada"].send(b"hello", entropy=room.entropy)
        listener = "bob" if room is small else "m7"
        received = room[listener].receive(out.message)
        assert isinstance(received.content, ApplicationMessage)
        sizes.append((sum(map(len, (*out.reservations, *out.records))), len(received.record)))
    assert sizes[0] == sizes[1]
    assert max(sizes[0]) < 160
