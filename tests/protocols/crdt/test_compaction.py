"""A compacted replica is the same replica, as long as anybody can tell."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Acknowledge, Add, Assign, Clear, Grant, Increment, Revoke, Role
from protocols.crdt.compaction import frontier
from protocols.crdt.history import Past, covers
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import body_of, decode_snapshot, encode_sealed, encode_snapshot
from tests.protocols.crdt.channels import TEXT, Channel, Step, steps, take_steps
from tests.protocols.crdt.worlds import KEYS

HONEST = (0, 1, 2)
MEMBERS = (0, 1, 2, 3)
ALL = (0, 1, 2, 3, 4)
"""The last two have one key."""

PATH = ("a",)


def settle(channel: Channel, among: Sequence[int] = MEMBERS) -> None:
    """All tell each other everything, and say that they know."""
    for _ in range(2):
        channel.tell_all(among)
        for who in among:
            channel.write(who, Acknowledge())
    channel.tell_all(among)


def copy(replica: Replica) -> Replica:
    return Replica.from_bytes(replica.to_bytes(), replica.channel)


def compacted(replica: Replica) -> Replica:
    found = replica.compacted()
    assert found is not None
    return found


def stable(replica: Replica) -> Past:
    return frontier(replica.history, replica.judge)


def is_stable(replica: Replica, author: int, sequence: int) -> bool:
    lane = replica.history.lanes_of[KEYS[author].public][0]
    held = replica.history.at(lane, sequence)
    return held is not None and covers(stable(replica), held)


def same(a: Replica, b: Replica) -> bool:
    return (
        a.digest() == b.digest()
        and a.judge.members == b.judge.members
        and a.judge.fenced.keys() == b.judge.fenced.keys()
    )


def says_the_same(whole: Replica, other: Replica) -> bool:
    """Whether the whole history makes the snapshot that another replica made, if it has all that that has."""
    sealed = other.snapshot()
    if sealed is None:
        return True
    snapshot = decode_snapshot(body_of(sealed.body, sealed.size))
    if not all(stub.id in whole.history for stub in snapshot.stubs):
        return True
    past = whole.history.past_of(stub.id for stub in snapshot.stubs)
    return encode_snapshot(whole._taken(past, snapshot)) == encode_snapshot(snapshot)


SLOW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(steps(4), steps(4, size_max=12), st.integers(0, 3))
def test_compacted_replica_has_the_same_state_and_the_same_future(
    before: list[Step], after: list[Step], unsettled: int
) -> None:
    channel = Channel()
    take_steps(channel, before)
    settle(channel)
    take_steps(channel, after[:unsettled])
    whole = copy(channel.replicas[0])
    shorter = channel.replicas[0] = compacted(channel.replicas[0])
    assert same(shorter, whole)
    assert shorter.set_digest == whole.set_digest
    assert shorter.document.value() == whole.document.value()
    known = len(channel.units[0])
    take_steps(channel, after)
    channel.tell_all(MEMBERS)
    for unit in channel.units[0][known:]:
        assert whole.receive(unit, b"", channel.now_ns).refused is None
    assert same(shorter, whole)
    assert shorter.set_digest == whole.set_digest == channel.replicas[1].set_digest
    assert says_the_same(whole, shorter), "compacted twice is compacted once"


@SLOW
@given(steps(5, acts=True), steps(3, acts=True, size_max=12), st.sampled_from([HONEST, MEMBERS, ALL]))
def test_compaction_changes_nothing_where_members_equivocate_and_are_removed(
    before: list[Step], after: list[Step], among: tuple[int, ...]
) -> None:
    channel = Channel()
    take_steps(channel, before)
    settle(channel, among)
    whole = copy(channel.replicas[0])
    shorter = channel.replicas[0].compacted()
    if shorter is None:
        return
    assert same(shorter, whole)
    assert shorter.set_digest == whole.set_digest
    assert says_the_same(whole, channel.replicas[1])
    channel.replicas[0] = shorter
    known = len(channel.units[0])
    take_steps(channel, after)
    channel.tell_all(HONEST)
    for unit in channel.units[0][known:]:
        whole.receive(unit, b"", channel.now_ns)
    assert same(shorter, whole)
    assert same(channel.replicas[1], whole)
    assert says_the_same(whole, shorter)


def test_nothing_is_stable_before_all_members_have_seen_it() -> None:
    channel = Channel()
    settle(channel)
    channel.write(0, Assign(PATH, 1))
    written = channel.replicas[0].tip(KEYS[0].public)
    assert written is not None
    for who in (1, 2, 3):
        channel.tell(0, who)
        channel.write(who, Acknowledge())
        assert not is_stable(channel.replicas[0], 0, written.sequence)
        channel.tell(who, 0)
    channel.write(0, Acknowledge())
    assert is_stable(channel.replicas[0], 0, written.sequence)


def test_silent_member_holds_the_frontier_until_its_removal_is_known_to_all() -> None:
    channel = Channel()
    for who in (0, 1, 2):
        channel.write(who, Assign(PATH, who))
    settle(channel, (0, 1, 2))
    assert stable(channel.replicas[0]) == ()
    channel.write(1, Revoke(KEYS[3].public))
    channel.tell_all((0, 1, 2))
    assert stable(channel.replicas[0]) == (), "the removal is not known to be known"
    settle(channel, (0, 1, 2))
    shorter = compacted(channel.replicas[0])
    assert shorter.document.value() == channel.replicas[0].document.value()
    assert KEYS[3].public not in shorter.judge.members


def test_removed_member_comes_back_with_a_snapshot_and_can_write() -> None:
    channel = Channel()
    for who in (0, 1, 2):
        channel.write(who, Assign(PATH, who))
    channel.write(1, Revoke(KEYS[3].public))
    settle(channel, (0, 1, 2))
    channel.write(1, Grant(KEYS[3].public, Role.MEMBER))
    channel.tell(1, 0)
    sealed = channel.replicas[0].snapshot()
    assert sealed is not None
    channel.replicas[3] = Replica.restored(channel.genesis, sealed)
    assert channel.write(3, Assign(("b",), 7))
    receipt = channel.replicas[0].receive(channel.units[3][-1], b"", channel.now_ns)
    assert receipt.refused is None
    assert len(receipt.added) == 1
    assert channel.replicas[0].document.register(("b",)) == 7


def test_fork_has_to_be_proved_to_all_before_anything_is_stable() -> None:
    channel = Channel()
    settle(channel, MEMBERS)
    before = stable(channel.replicas[0])
    channel.replicas[4] = copy(channel.replicas[3])
    channel.write(3, Assign(PATH, 3))
    channel.write(4, Assign(PATH, 4))
    channel.tell(3, 0)
    channel.tell(4, 0)
    assert before != ()
    assert stable(channel.replicas[0]) == (), "a fork that nobody has proved"
    channel.write(0, Acknowledge())
    assert stable(channel.replicas[0]) == (), "a proof that the others do not know"
    settle(channel, HONEST)
    assert same(compacted(channel.replicas[0]), channel.replicas[0])


@given(st.lists(st.sampled_from([2**63 - 1, -(2**63), 2**62, -1, 3]), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_increments_are_kept_as_sums_however_large_and_a_clear_takes_them_away(increments: list[int]) -> None:
    channel = Channel()
    for number, by in enumerate(increments):
        channel.write(number % 2, Increment(PATH, by))
    settle(channel)
    for _ in range(2):
        shorter = compacted(channel.replicas[0])
        assert shorter.document.counter(PATH) == sum(increments)
        assert shorter.digest() == channel.replicas[0].digest()
        channel.replicas[0] = shorter
        channel.write(0, Increment(PATH, 2**63 - 1), Increment(PATH, -(2**63 - 1)))
        settle(channel)
    assert says_the_same(channel.replicas[1], channel.replicas[0])
    channel.write(0, Clear(PATH))
    assert channel.replicas[0].document.counter(PATH) == 0
    assert PATH not in channel.replicas[0].document


def test_increments_of_one_author_are_one() -> None:
    channel = Channel()
    for _ in range(20):
        channel.write(1, Increment(PATH, 1))
    settle(channel)
    [live] = compacted(channel.replicas[0]).document.live()
    assert [each.value for each in live.entries] == [20]


def test_clear_that_has_not_seen_all_that_is_behind_holds_the_frontier() -> None:
    channel = Channel()
    settle(channel)
    channel.write(1, Clear(PATH))
    channel.write(0, Increment(PATH, 1))
    for who in (2, 3):
        channel.tell(0, who)
        channel.write(who, Acknowledge())
    channel.tell_all((0, 1, 3))
    channel.tell(2, 0)
    for who in (1, 3, 0):
        channel.write(who, Acknowledge())
        channel.tell(who, 0)
    assert stable(channel.replicas[0]) == (), "all have seen the increment, and the clear has not"
    settle(channel)
    assert compacted(channel.replicas[0]).document.counter(PATH) == 1


def test_what_was_deleted_and_overwritten_is_gone() -> None:
    channel = Channel()
    for number in range(200):
        channel.write(number % 4, Assign(PATH, f"old {number}"))
        channel.tell(number % 4, (number + 1) % 4)
    channel.type(0, 0, 0, "secret")
    channel.type(0, 0, 6, "")
    settle(channel)
    sealed = channel.replicas[0].snapshot()
    assert sealed is not None
    body = body_of(sealed.body, sealed.size)
    assert b"secret" not in body
    assert b"old 1" not in body.replace(b"old 199", b"")
    shorter = Replica.restored(channel.genesis, sealed)
    assert len(shorter.history) < len(channel.replicas[0].history) / 5
    assert len(encode_sealed(sealed)) < len(channel.replicas[0].to_bytes()) / 2


def test_text_goes_on_where_it_was() -> None:
    channel = Channel()
    channel.type(0, 0, 0, "hello world")
    channel.tell_all(MEMBERS)
    channel.type(1, 5, 3, "-")
    channel.type(2, 6, 0, "new ")
    settle(channel)
    whole = copy(channel.replicas[0])
    channel.replicas[0] = compacted(channel.replicas[0])
    channel.type(0, 3, 4, "edited")
    channel.type(0, 0, 0, "first: ")
    for unit in channel.units[0][-2:]:
        assert whole.receive(unit, b"", channel.now_ns).refused is None
    assert str(channel.replicas[0].document.text(TEXT)) == str(whole.document.text(TEXT))
    assert same(channel.replicas[0], whole)


def test_removal_of_an_element_and_its_addition_beside_are_told_apart_after_compaction() -> None:
    channel = Channel()
    channel.write(0, Add(PATH, 1))
    settle(channel)
    channel.replicas[0] = compacted(channel.replicas[0])
    channel.write(0, Add(PATH, 1))
    channel.write(1, Clear(PATH))
    channel.tell_all(MEMBERS)
    assert channel.replicas[0].document.elements(PATH) == [1]
    assert same(channel.replicas[0], channel.replicas[1])


# -- what comes after, with an old date ------------------------------------------------------------------------


def removed() -> tuple[Channel, Replica]:
    """A channel from which the admin removed a member; replica 0 is compacted, and this is what it was."""
    channel = Channel()
    for who in (0, 1, 2):
        channel.write(who, Assign(PATH, who))
    channel.tell_all(MEMBERS)
    channel.write(1, Revoke(KEYS[2].public))
    settle(channel, (0, 1, 3))
    whole = copy(channel.replicas[0])
    channel.replicas[0] = compacted(whole)
    return channel, whole


def test_removed_member_that_leaves_with_an_old_date_changes_nothing_anywhere() -> None:
    channel, whole = removed()
    leave = channel.replicas[2].write(KEYS[2], [Revoke(KEYS[2].public)], channel.now_ns)
    assert whole.receive(leave, b"", channel.now_ns).added
    assert not channel.replicas[0].receive(leave, b"", channel.now_ns).added
    channel.write(1, Grant(KEYS[2].public, Role.MEMBER))
    for replica in (whole, channel.replicas[0]):
        replica.receive(channel.units[1][-1], b"", channel.now_ns)
        assert replica.judge.role(KEYS[2].public) == Role.MEMBER
    assert same(channel.replicas[0], whole)


def test_removed_admin_that_removes_its_equal_with_an_old_date_changes_nothing_anywhere() -> None:
    channel = Channel()
    channel.write(0, Grant(KEYS[2].public, Role.ADMIN))
    channel.tell_all(MEMBERS)
    channel.replicas[4] = copy(channel.replicas[1])
    channel.write(2, Revoke(KEYS[1].public))
    channel.write(2, Assign(PATH, 2))
    settle(channel, (0, 2, 3))
    whole = copy(channel.replicas[0])
    channel.replicas[0] = compacted(whole)
    back_dated = channel.replicas[4].write(KEYS[1], [Revoke(KEYS[2].public)], channel.now_ns)
    assert whole.receive(back_dated, b"", channel.now_ns).added
    assert channel.replicas[0].receive(back_dated, b"", channel.now_ns).refused is not None
    assert whole.document.register(PATH) == 2
    assert whole.judge.role(KEYS[2].public) == Role.ADMIN
    assert same(channel.replicas[0], whole)


def test_what_an_accusation_proves_that_is_behind_the_frontier_is_said_again() -> None:
    channel, whole = removed()
    channel.write(4, Assign(PATH, 4))
    late = channel.replicas[2]
    for unit in (*channel.units[3], *channel.units[4]):
        late.receive(unit, b"", channel.now_ns)
    proof = late.accuse(KEYS[2], channel.now_ns)
    assert proof is not None
    assert whole.receive(proof, b"", channel.now_ns).added
    assert whole.judge.fenced.keys() == {KEYS[3].public}
    shorter = channel.replicas[0]
    assert shorter.receive(proof, b"", channel.now_ns).refused is not None
    assert due(shorter) == due(whole) == [KEYS[3].public]
    said = shorter.accuse(KEYS[0], channel.now_ns)
    assert said is not None
    assert whole.receive(said, b"", channel.now_ns).added
    assert due(shorter) == due(whole) == []
    assert same(shorter, whole)


def due(replica: Replica) -> list[bytes]:
    return list(replica.judge.accusations_due)
