"""One way in, and what does not come through it."""

from collections.abc import Callable, Sequence
from typing import Final

import pytest

from protocols.crdt.bundles import HEADER, encode_bundle, encode_single, parse, path_of, seal_bundle
from protocols.crdt.changes import (
    Acknowledge,
    Add,
    Append,
    Assign,
    AssignMulti,
    Change,
    Clear,
    Edit,
    Grant,
    Increment,
    Insert,
    Remove,
    Revoke,
    Role,
)
from protocols.crdt.clock import AHEAD_NS_MAX, clock_at
from protocols.crdt.errors import CrdtError
from protocols.crdt.operations import NOTHING
from protocols.crdt.replica import Receipt, Replica
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey
from tests.protocols.crdt.worlds import KEYS, key_of

NOW: Final = 10**18
SECOND: Final = 10**9
OWNER, ADA, BOB, READER, STRANGER = KEYS[:5]
SENDER: Final = STRANGER.public

CHANGES: Final[dict[str, Change]] = {
    "last-writer-wins register": Assign(("r",), "x"),
    "multi-value register": AssignMulti(("m",), "x"),
    "counter": Increment(("c",), 1),
    "set, add": Add(("s",), "x"),
    "set, remove": Remove(("s",), "x"),
    "map": Clear(("r",)),
    "timeline": Append(("t",), "x"),
    "text": Edit(("b",), (Insert(None, 0, False, "x"),)),
    "grant": Grant(STRANGER.public, Role.MEMBER),
    "revocation": Revoke(BOB.public),
    "acknowledgement": Acknowledge(),
}
OTHERS: Final[dict[str, Change]] = {
    "last-writer-wins register": Assign(("r",), "y"),
    "multi-value register": AssignMulti(("m",), "y"),
    "counter": Increment(("c",), 10**6),
    "set, add": Add(("s",), "y"),
    "set, remove": Remove(("s",), "y"),
    "map": Clear(("s",)),
    "timeline": Append(("t",), "y"),
    "text": Edit(("b",), (Insert(None, 0, False, "y"),)),
    "grant": Grant(STRANGER.public, Role.ADMIN),
    "revocation": Revoke(ADA.public),
    "acknowledgement": Clear(("s",)),
}


def channel(*, burst: int = 1000, rate_per_s: int = 10) -> Replica:
    roles = {ADA.public: Role.ADMIN, BOB.public: Role.MEMBER, READER.public: Role.READER}
    return Replica.found(OWNER, roles, nonce=bytes(32), now_ns=NOW, burst=burst, rate_per_s=rate_per_s)


def copy(replica: Replica) -> Replica:
    return Replica.from_bytes(replica.to_bytes(), replica.channel)


def signed(
    key: SigningKey,
    replica: Replica,
    *changes: Change,
    channel: bytes | None = None,
    clock: int = 0,
    dependencies: tuple[bytes, ...] | None = None,
    first: int = 1,
    previous: bytes = NOTHING,
) -> bytes:
    """A bundle as whoever has ``key`` can sign it, whether it may or not."""
    clock = clock or clock_at(NOW) + 100
    seen = replica.heads if dependencies is None else dependencies
    dated = [(each, clock + number, seen if not number else ()) for number, each in enumerate(changes)]
    parcel = seal_bundle(key, channel or replica.channel, dated, first, previous)
    return encode_bundle(parcel.seal, parcel.operations)


def refused(replica: Replica, unit: bytes, now: int = NOW) -> str:
    """The reason; and that nothing has changed."""
    before = replica.digest(), replica.set_digest, replica.to_bytes()
    receipt = replica.receive(unit, SENDER, now)
    assert receipt.refused is not None
    assert receipt.added == ()
    assert (replica.digest(), replica.set_digest, replica.to_bytes()) == before
    return receipt.refused.reason


# -- the tests that an audit of the code before this one named ------------------------------------------------


@pytest.mark.parametrize("kind", CHANGES)
def test_crdt_byzantine_signature_rejection(kind: str) -> None:
    """A delta that somebody altered is refused, of each type, whatever it is altered to."""
    replica = channel()
    good, other = (signed(ADA, replica, changes[kind]) for changes in (CHANGES, OTHERS))
    body = other[HEADER.size :]
    kind_, author, first, previous, count, _, signature = HEADER.unpack_from(good)
    forged = HEADER.pack(kind_, author, first, previous, count, len(body), signature) + body
    assert refused(replica, forged) == "bad_signature"
    assert replica.receive(good, SENDER, NOW).refused is None


@pytest.mark.parametrize("kind", CHANGES)
def test_unsigned_operation_rejection(kind: str) -> None:
    replica = channel()
    good = signed(ADA, replica, CHANGES[kind])
    fields = HEADER.unpack_from(good)
    assert refused(replica, HEADER.pack(*fields[:-1], bytes(64)) + good[HEADER.size :]) == "bad_signature"


@pytest.mark.parametrize("kind", CHANGES)
def test_mismatched_channel_key_rejection(kind: str) -> None:
    """Neither what a member of this channel signed for another, nor what a member of another one signed for this."""
    replica, roles = channel(), {ADA.public: Role.ADMIN, STRANGER.public: Role.ADMIN}
    elsewhere = Replica.found(OWNER, roles, nonce=b"\1" * 32, now_ns=NOW)
    assert refused(replica, signed(ADA, elsewhere, CHANGES[kind])) == "bad_signature"
    as_if_here = signed(ADA, replica, CHANGES[kind], channel=elsewhere.channel)
    assert refused(replica, as_if_here) == "bad_signature"
    assert refused(replica, signed(STRANGER, replica, CHANGES[kind])) == "unauthorised"


def test_a_forged_vector_clock_is_refused() -> None:
    """What an operation has seen is what it names, and no number makes it more: sequences have no gaps, back-links lead
    to the author's own, names that nobody has wait, and clocks are later than what was seen."""
    replica = channel()
    replica.receive(signed(ADA, replica, CHANGES["counter"]), SENDER, NOW)
    ada = replica.tip(ADA.public)
    assert ada is not None

    def later(key: SigningKey, first: int, previous: bytes = NOTHING) -> bytes:
        seen, clock = (replica.channel,), clock_at(NOW) + 200
        return signed(key, replica, Acknowledge(), clock=clock, dependencies=seen, first=first, previous=previous)

    assert refused(replica, later(BOB, 7)) == "bad_sequence"
    assert refused(replica, later(BOB, 2, ada.id)) == "bad_back_link"
    assert refused(replica, later(ADA, 9, ada.id)) == "bad_sequence"
    early = signed(BOB, replica, Acknowledge(), clock=ada.operation.clock, dependencies=(ada.id,))
    assert refused(replica, early) == "bad_clock"
    made_up = replica.receive(signed(BOB, replica, Acknowledge(), dependencies=(b"\7" * 32,)), SENDER, NOW)
    assert (made_up.parked, made_up.added, replica.missing) == (True, (), (b"\7" * 32,))


def test_a_replayed_bundle_changes_nothing() -> None:
    replica = channel()
    unit = signed(ADA, replica, CHANGES["counter"], CHANGES["timeline"])
    assert len(replica.receive(unit, SENDER, NOW).added) == 2
    before = replica.to_bytes()
    assert replica.receive(unit, SENDER, NOW + SECOND) == Receipt(duplicates=2)
    assert replica.to_bytes() == before


# -- who may do what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        (READER, CHANGES["set, add"], "unauthorised"),
        (BOB, Grant(STRANGER.public, Role.READER), "unauthorised"),
        (BOB, Revoke(ADA.public), "unauthorised"),
        (ADA, Revoke(OWNER.public), "not_revocable"),
        (ADA, Grant(STRANGER.public, Role.OWNER), "unauthorised"),
        (STRANGER, Acknowledge(), "unauthorised"),
    ],
)
def test_nobody_does_more_than_its_role_lets_it(key: SigningKey, change: Change, reason: str) -> None:
    replica = channel()
    assert refused(replica, signed(key, replica, change)) == reason
    with pytest.raises(LocalError, match=reason):
        replica.write(key, [change], NOW)


def test_the_good_part_of_a_bundle_is_taken_as_it_could_have_come_alone() -> None:
    whole, alone = channel(), channel()
    dated: list[tuple[Change, int, tuple[bytes, ...]]] = [
        (Increment(("c",), 1), clock_at(NOW) + 10, whole.heads),
        (Grant(BOB.public, Role.ADMIN), clock_at(NOW) + 11, ()),
    ]
    parcel = seal_bundle(BOB, whole.channel, dated, 1, NOTHING)
    receipt = whole.receive(encode_bundle(parcel.seal, parcel.operations), SENDER, NOW)
    assert (len(receipt.added), receipt.refused and receipt.refused.reason) == (1, "unauthorised")
    single = encode_single(parcel.seal, parcel.operations[0], path_of(parcel.operations, 0))
    assert alone.receive(single, SENDER, NOW).refused is None
    assert whole.digest() == alone.digest()
    assert copy(whole).digest() == copy(alone).digest()


# -- waiting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 64])
def test_bundles_that_wait_for_parts_of_each_other_are_taken_in_whichever_comes_first(count: int) -> None:
    """As singles they would be, so a replica that could not would hold less than others for ever."""
    replica, clock = channel(), clock_at(NOW) + 100

    def ids(key: SigningKey, dated: Sequence[tuple[Change, int, tuple[bytes, ...]]]) -> list[bytes]:
        return [each.id for each in seal_bundle(key, replica.channel, dated, 1, NOTHING).operations]

    ada: list[tuple[Change, int, tuple[bytes, ...]]] = []
    bob: list[tuple[Change, int, tuple[bytes, ...]]] = []
    for number in range(count):
        ada.append((Add(("s",), number), clock + 2 * number, (ids(BOB, bob)[-1] if bob else replica.channel,)))
        bob.append((Add(("s",), -number), clock + 2 * number + 1, (ids(ADA, ada)[-1],)))
    parcels = [seal_bundle(key, replica.channel, dated, 1, NOTHING) for key, dated in ((ADA, ada), (BOB, bob))]
    units = [encode_bundle(each.seal, each.operations) for each in parcels]
    digests = set()
    for order in (units, units[::-1]):
        other = copy(replica)
        for unit in order:
            assert other.receive(unit, SENDER, NOW).refused is None
        assert len(other.history) == 1 + 2 * count
        assert not other.pending
        digests |= {other.digest(), copy(other).digest()}
    assert len(digests) == 1


def test_what_claims_to_be_of_the_future_waits_for_it() -> None:
    """C3: at most five minutes ahead; neither dropped, as replicas would differ, nor believed."""
    replica = channel()
    ahead = signed(ADA, replica, Assign(("r",), "mine"), clock=clock_at(NOW + AHEAD_NS_MAX + SECOND))
    assert replica.receive(ahead, SENDER, NOW).parked
    assert replica.document.value() == {}
    for_ever = signed(BOB, replica, Assign(("r",), "mine for ever"), clock=2**63 - 1)
    assert replica.receive(for_ever, SENDER, NOW).parked
    replica.write(OWNER, [Assign(("r",), "ours")], NOW + SECOND)
    assert not replica.expire(NOW + SECOND // 2)
    assert len(replica.expire(NOW + 2 * SECOND)) == 1
    assert replica.document.value() == {"r": "mine"}
    replica.write(OWNER, [Assign(("r",), "ours again")], NOW + 3 * SECOND)
    assert replica.document.value() == {"r": "ours again"}
    replica.expire(NOW + 10**15)
    assert len(replica.pending) == 0


def test_what_depends_on_what_is_missing_comes_in_with_it_in_whatever_order() -> None:
    writer, reader = channel(), channel()
    units = [writer.write(ADA, [Append(("t",), number)], NOW + number) for number in range(20)]
    for unit in reversed(units):
        reader.receive(unit, SENDER, NOW + SECOND)
    assert reader.missing == ()
    assert len(reader.pending) == 0
    assert reader.digest() == writer.digest()


def test_a_flood_ends_at_the_quota() -> None:
    """C4: an author's operations are counted by its own clock, so all replicas refuse the same ones."""
    replica = channel(burst=64, rate_per_s=1)
    for number in range(64):
        replica.write(BOB, [Remove(("s",), number)], NOW)
    with pytest.raises(LocalError, match="over_quota"):
        replica.write(BOB, [Remove(("s",), 65)], NOW)
    tip = replica.tip(BOB.public)
    assert tip is not None
    more = signed(
        BOB, replica, Remove(("s",), 65), clock=tip.operation.clock + 1, dependencies=(), first=65, previous=tip.id
    )
    assert refused(replica, more) == "over_quota"
    replica.write(BOB, [Remove(("s",), 65)], NOW + 2 * SECOND)


# -- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda replica: replica.write(BOB, [], NOW),
        lambda replica: replica.write(BOB, [CHANGES["counter"]] * 65, NOW),
        lambda replica: replica.write(ADA, [CHANGES["counter"], CHANGES["grant"]], NOW),
        lambda replica: replica.write(BOB, [Edit(("b",), (Insert(b"\1" * 32, 0, False, "x"),))], NOW),
        lambda replica: replica.write(BOB, [Add(("s",), "x" * 10**6)], NOW),
        lambda replica: replica.seal(BOB, NOW),
    ],
)
def test_what_cannot_be_written_leaves_no_trace(write: Callable[[Replica], object]) -> None:
    replica = channel()
    before = replica.to_bytes()
    with pytest.raises(LocalError):
        write(replica)
    assert replica.to_bytes() == before


def test_nothing_arrives_while_somebody_types() -> None:
    replica = channel()
    unit = signed(ADA, replica, CHANGES["counter"])
    with replica.draft(("b",)) as draft:
        draft.insert(0, "good mroning")
        draft.delete(6, 1)
        draft.insert(7, "r")
        for act in (
            lambda: replica.receive(unit, SENDER, NOW),
            replica.to_bytes,
            lambda: replica.draft(("b",)),
        ):
            with pytest.raises(LocalError, match="draft"):
                act()
    bundles = replica.seal(BOB, NOW)
    other = channel()
    for bundle in bundles:
        other.receive(bundle, SENDER, NOW)
    assert str(replica.document.text(("b",))) == str(other.document.text(("b",))) == "good morning"
    assert replica.digest() == other.digest()


def test_what_a_reader_typed_is_gone() -> None:
    replica = channel()
    with replica.draft(("b",)) as draft:
        draft.insert(0, "let me")
    with pytest.raises(LocalError, match="unauthorised"):
        replica.seal(READER, NOW)
    assert replica.document.value() == {}


def test_who_knows_an_equivocator_says_so_first() -> None:
    """C1: and whoever is told needs nobody's word for it."""
    replica, other = channel(), channel()
    branches = [signed(BOB, replica, Assign(("r",), name)) for name in ("one", "two")]
    for branch in branches:
        replica.receive(branch, SENDER, NOW)
    with pytest.raises(LocalError, match="accuse"):
        replica.write(ADA, [CHANGES["counter"]], NOW)
    accusation = replica.accuse(ADA, NOW)
    assert accusation is not None
    unit = replica.write(ADA, [CHANGES["counter"]], NOW)
    for each in (accusation, unit, *branches):
        assert other.receive(each, SENDER, NOW).refused is None
    assert list(other.judge.fenced) == list(replica.judge.fenced) == [BOB.public]
    assert other.document.value() == replica.document.value() == {"c": 1}
    assert other.digest() == replica.digest()


# -- stored ---------------------------------------------------------------------------------------------------


def story() -> Replica:
    replica = channel()
    for number, change in enumerate(CHANGES.values()):
        replica.write(ADA, [change], NOW + number * SECOND)
    replica.receive(signed(BOB, replica, Append(("t",), 0), dependencies=(b"\5" * 32,)), SENDER, NOW)
    return replica


def test_a_replica_comes_back_as_it_was() -> None:
    before = story()
    after = copy(before)
    assert (after.digest(), after.set_digest) == (before.digest(), before.set_digest)
    assert (after.missing, len(after.pending)) == (before.missing, 1)
    assert after.to_bytes() == before.to_bytes()
    after.write(OWNER, [Acknowledge()], NOW + 60 * SECOND)


def test_what_was_altered_on_the_disk_is_refused() -> None:
    stored = story().to_bytes()
    channel_id = channel().channel
    digest = copy(story()).digest()
    for place in range(0, len(stored), 7):
        altered = stored[:place] + bytes([stored[place] ^ 0x40]) + stored[place + 1 :]
        try:
            replica = Replica.from_bytes(altered, channel_id)
        except LocalError:
            continue
        assert replica.digest() == digest  # what is parked is no part of it, and is checked when its time comes


def test_it_is_no_other_channels() -> None:
    with pytest.raises(LocalError, match="no stored replica"):
        Replica.from_bytes(channel().to_bytes(), b"\1" * 32)


@pytest.mark.parametrize("genesis", [b"", b"nonsense", bytes(300)])
def test_a_channel_begins_with_its_genesis(genesis: bytes) -> None:
    with pytest.raises(CrdtError):
        Replica(genesis)


def test_a_genesis_names_its_author_as_an_owner() -> None:
    roles: Sequence[tuple[bytes, Role]] = ((ADA.public, Role.OWNER),)
    good = parse(NOTHING, Replica.found(OWNER, {}, nonce=bytes(32), now_ns=NOW).genesis).operations[0].change
    bad = type(good)(tuple(roles), bytes(32), 64, 1)  # type: ignore[call-arg, arg-type]
    parcel = seal_bundle(BOB, NOTHING, [(bad, 1, ())], 1, NOTHING)
    with pytest.raises(CrdtError, match="bad_genesis"):
        Replica(encode_bundle(parcel.seal, parcel.operations))


def test_who_has_seen_more_branches_than_one_operation_can_name_joins_them_all() -> None:
    roles = {key_of(number).public: Role.MEMBER for number in range(1, 80)}
    replica = Replica.found(OWNER, roles, nonce=bytes(32), now_ns=NOW)
    other = Replica(replica.genesis)
    for number in range(1, 80):
        replica.receive(
            signed(key_of(number), replica, Add(("s",), number), dependencies=(replica.channel,)), SENDER, NOW
        )
    unit = replica.write(OWNER, [Clear(("s",))], NOW + SECOND)
    assert replica.document.value() == {}
    assert len(parse(replica.channel, unit).operations) == 3
    with pytest.raises(LocalError, match="1 to 64"):
        other.write(OWNER, [Acknowledge()] * 65, NOW)
    assert replica.heads == (parse(replica.channel, unit).operations[-1].id,)


def test_nobody_types_beside_what_does_not_count() -> None:
    """A revoked member's last words are in the text, hidden; what others type does not hang on them."""
    replica, other = channel(), channel()
    with other.draft(("b",)) as draft:
        draft.insert(0, "last words")
    (unseen,) = other.seal(BOB, NOW)
    revocation = replica.write(ADA, [Revoke(BOB.public)], NOW)
    replica.receive(unseen, SENDER, NOW)
    with replica.draft(("b",)) as draft:
        draft.insert(0, "ours")
    units = replica.seal(OWNER, NOW + SECOND)
    for unit in (revocation, *units):
        assert other.receive(unit, SENDER, NOW + SECOND).refused is None
    assert other.document.value() == replica.document.value() == {"b": "ours"}
    assert other.digest() == replica.digest()


def test_of_an_equivocator_no_more_is_held_than_anybody_can_have_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.crdt.replica.UNVOUCHED_MAX", 8)
    replica, other = channel(), channel()
    branches = [signed(BOB, replica, Append(("t",), number)) for number in range(12)]
    for branch in branches[:2]:
        replica.receive(branch, SENDER, NOW)
    accusation = replica.accuse(ADA, NOW)
    assert accusation is not None
    refusals = [replica.receive(branch, SENDER, NOW).refused for branch in branches[2:]]
    assert [each and each.reason for each in refusals] == [None] * 6 + ["enough"] * 4
    other.receive(branches[11], SENDER, NOW)  # who knows nothing of all that builds on another branch
    wanted = other.write(OWNER, [Append(("t",), "ours")], NOW)
    assert replica.receive(wanted, SENDER, NOW).parked
    assert replica.receive(branches[11], SENDER, NOW).refused is None
    assert replica.document.value() == {"t": [11, "ours"]}


def test_an_operation_names_nothing_that_what_it_names_has_seen() -> None:
    """So there is one way to say what was seen, and who has let go of the past knows all that can be named."""
    replica = channel()
    replica.write(ADA, [CHANGES["counter"]], NOW)
    (head,) = replica.heads
    names = tuple(sorted((head, replica.channel)))
    late = clock_at(NOW) + 200
    assert (
        refused(replica, signed(BOB, replica, Acknowledge(), clock=late, dependencies=names)) == "redundant_dependency"
    )


def test_who_was_let_back_in_types_beside_what_it_had_seen_before() -> None:
    """Its last words do not count, so what they had seen is in front again; but it is not named twice."""
    ours, theirs = channel(), channel()
    seen = theirs.write(ADA, [CHANGES["counter"]], NOW)
    last_words = theirs.write(BOB, [CHANGES["timeline"]], NOW)
    removal = ours.write(OWNER, [Revoke(BOB.public)], NOW + SECOND)
    grant = ours.write(OWNER, [Grant(BOB.public, Role.MEMBER)], NOW + 2 * SECOND)
    for unit in (removal, grant):
        theirs.receive(unit, SENDER, NOW + 2 * SECOND)
    with theirs.draft(("b",)) as draft:
        draft.insert(0, "back")
    typed = theirs.seal(BOB, NOW + 3 * SECOND)
    for unit in (seen, last_words, *typed):
        assert ours.receive(unit, SENDER, NOW + 3 * SECOND).refused is None
    assert ours.document.value() == theirs.document.value() == {"b": "back", "c": 1}
