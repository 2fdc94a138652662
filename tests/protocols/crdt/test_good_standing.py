"""Who is in good standing can write, and what it writes is taken by all and comes back from the disk; whatever others
do to have it say what nobody takes, or nothing at all."""

from collections.abc import Sequence
from typing import Final

import pytest

from protocols.crdt.bundles import encode_bundle, seal_bundle
from protocols.crdt.changes import Accuse, Acknowledge, Assign, Change, Increment, Role
from protocols.crdt.evidence import accusation
from protocols.crdt.history import Held
from protocols.crdt.judgement import ACCUSATIONS_MAX
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING
from protocols.crdt.replica import Replica
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey
from tests.protocols.crdt.worlds import key_of

NOW: Final = 10**18
OWNER: Final = key_of(0)


def channel(*roles: Role) -> Replica:
    """The author 0 is the owner, and the others have these roles."""
    given = {key_of(number).public: role for number, role in enumerate(roles, 1)}
    return Replica.found(OWNER, given, nonce=bytes(32), now_ns=NOW)


def signed(
    key: SigningKey, replica: Replica, changes: Sequence[Change], previous: Held | None = None, late: int = 1
) -> bytes:
    """On a back-link, or having seen the genesis only."""
    before = previous or replica.history.operations[replica.channel]
    clock = before.operation.clock + late
    seen = () if previous else (replica.channel,)
    dated = [(change, clock + number, () if number else seen) for number, change in enumerate(changes)]
    parcel = seal_bundle(key, replica.channel, dated, 1 + (previous.sequence if previous else 0), _id(previous))
    return encode_bundle(parcel.seal, parcel.operations)


def _id(held: Held | None) -> bytes:
    return held.id if held else NOTHING


def take(replica: Replica, unit: bytes) -> Held:
    """The last operation of a unit that is taken."""
    receipt = replica.receive(unit, b"", NOW)
    assert (receipt.refused, receipt.parked) == (None, False)
    return receipt.added[-1]


def write(replica: Replica, key: SigningKey, *changes: Change) -> list[bytes]:
    """After all that has to be said before."""
    units = []
    while (unit := replica.accuse(key, NOW)) is not None:
        units.append(unit)
    return [*units, replica.write(key, changes, NOW)]


def check(replica: Replica, other: Replica, units: Sequence[bytes]) -> None:
    """That another takes these, and the disk gives them back."""
    for unit in units:
        take(other, unit)
    assert other.digest() == replica.digest()
    assert Replica.from_bytes(replica.to_bytes(), replica.channel).digest() == replica.digest()


def test_not_even_ones_own_replica_takes_the_rest_of_a_bundle_unchecked() -> None:
    replica = channel(Role.READER)
    before = replica.to_bytes()
    with pytest.raises(LocalError, match="unauthorised"):
        replica.write(key_of(1), [Acknowledge(), Assign(("x",), 1)], NOW)
    assert replica.to_bytes() == before


def test_nor_what_comes_after_it_has_joined_many_branches() -> None:
    readers = DEPENDENCIES_MAX + 2
    replica = channel(*[Role.READER] * readers)
    for number in range(1, readers):
        take(replica, signed(key_of(number), replica, [Acknowledge()]))
    take(replica, signed(OWNER, replica, [Acknowledge()], replica.tip(OWNER.public)))
    before = replica.to_bytes()
    with pytest.raises(LocalError, match="unauthorised"):
        replica.write(key_of(readers), [Assign(("x",), 1)], NOW)
    assert replica.to_bytes() == before


def test_an_owner_can_accuse_all_who_equivocate() -> None:
    count = ACCUSATIONS_MAX + 6
    replica = channel(*[Role.READER] * count)
    lies = [
        signed(key_of(number), replica, [Acknowledge()], late=late) for number in range(1, count + 1) for late in (1, 2)
    ]
    for lie in lies:
        take(replica, lie)
    units = write(replica, OWNER, Assign(("x",), 1))
    other = Replica(replica.genesis)
    check(replica, other, [*lies, *units])
    assert len(replica.judge.fenced) == count


def test_keys_that_nobody_knows_are_nobodys_to_accuse() -> None:
    """Whoever is about to be fenced accuses as many such keys as it may. Once its accusations are worth nothing, all
    others would have to make them, and could not make that of itself any more."""
    replica = channel(Role.READER, Role.MEMBER)
    liar, last = key_of(1), None
    lies = []
    for accuse in _accusations_of_strangers(replica, ACCUSATIONS_MAX):
        lies.append(signed(liar, replica, [accuse], last))
        last = take(replica, lies[-1])
    lies += [signed(liar, replica, [Acknowledge()], last, late=late) for late in (1, 2)]
    for lie in lies[-2:]:
        take(replica, lie)
    units = write(replica, key_of(2), Assign(("x",), 1))
    assert len(units) == 2
    check(replica, Replica(replica.genesis), [*lies, *units])


def _accusations_of_strangers(replica: Replica, count: int) -> list[Accuse]:
    accusations, channel_id = [], replica.channel
    for number in range(1000, 1000 + count):
        branches = []
        for late in (1, 2):
            dated = [(Acknowledge(), late, (channel_id,))]
            parcel = seal_bundle(key_of(number), channel_id, dated, 1, NOTHING)
            branches.append(Held(parcel.operations[0], 0, (), 0, 0, parcel.seal, (), 0))
        accusations.append(accusation(replica.history, *branches))
    return accusations


def test_who_has_accused_itself_says_nothing_more() -> None:
    """Its replica would hold what nobody takes. Of others it speaks before."""
    replica = channel(Role.MEMBER, Role.MEMBER, Role.MEMBER)
    lies = [signed(key_of(number), replica, [Acknowledge()], late=late) for number in (1, 2, 3) for late in (1, 2)]
    for lie in lies:
        take(replica, lie)
    units = []
    for _ in range(2):
        unit = replica.accuse(key_of(1), NOW)
        assert unit is not None
        units.append(unit)
    assert sorted(replica.judge.fenced) == sorted(key_of(number).public for number in (1, 2, 3))
    with pytest.raises(LocalError, match="fenced"):
        replica.write(key_of(1), [Acknowledge()], NOW)
    check(replica, Replica(replica.genesis), [*lies, *units])


def test_proofs_on_more_branches_than_one_operation_can_name_keep_nobody_from_writing() -> None:
    """Each was brought by another device, which knew of no other equivocator."""
    count = DEPENDENCIES_MAX + 4
    first = channel(*[Role.MEMBER] * (2 * count))
    units = []
    for number in range(1, count + 1):
        accuser = Replica(first.genesis)
        for late in (1, 2):
            units.append(signed(key_of(count + number), first, [Acknowledge()], late=late))
            take(accuser, units[-1])
        units += write(accuser, key_of(number), Increment(("c",), 1))
    replica, other = Replica(first.genesis), Replica(first.genesis)
    for unit in units:
        take(replica, unit)
        take(other, unit)
    assert len(replica.judge.front) == count
    check(replica, other, write(replica, OWNER, Increment(("c",), 1)))
    assert replica.document.value() == {"c": count + 1}


@pytest.mark.parametrize("others", [DEPENDENCIES_MAX - 1, DEPENDENCIES_MAX, DEPENDENCIES_MAX + 1])
def test_what_is_typed_beside_many_refers_to_what_it_meant(others: int) -> None:
    replica = channel(*[Role.MEMBER] * others)
    beside = [signed(key_of(number), replica, [Increment(("c",), 1)]) for number in range(1, others + 1)]
    with replica.draft(("t",)) as draft:
        draft.insert(0, "ab")
    units = [*replica.seal(OWNER, NOW), *beside]
    for unit in beside:
        take(replica, unit)
    with replica.draft(("t",)) as draft:
        draft.insert(1, "X")
        draft.delete(0, 1)
    units += replica.seal(OWNER, NOW)
    other = Replica(replica.genesis)
    check(replica, other, units)
    assert str(other.document.text(("t",))) == "Xb"


def test_what_a_member_saw_in_time_is_taken_whatever_else_was_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the chain is on which it built, of which the last operation alone is known to be wanted."""
    monkeypatch.setattr("protocols.crdt.replica.UNVOUCHED_MAX", 4)
    replica, other = channel(Role.MEMBER, Role.MEMBER), channel(Role.MEMBER, Role.MEMBER)
    liar, last = key_of(1), None
    chain = []
    for _ in range(6):
        chain.append(signed(liar, other, [Increment(("c",), 1)] * 2, last))
        last = take(other, chain[-1])
    chain.append(other.write(key_of(2), [Acknowledge()], NOW))
    for late in range(10, 14):
        take(replica, signed(liar, replica, [Increment(("c",), 100)], late=late))
    assert replica.accuse(OWNER, NOW) is not None
    refusals = [replica.receive(unit, b"", NOW).refused for unit in chain[:-1]]
    assert [each and each.reason for each in refusals] == ["enough"] * 6
    assert replica.receive(chain[-1], b"", NOW).parked
    for unit in chain[:-1]:
        take(replica, unit)
    assert replica.document.value() == {"c": 12}
