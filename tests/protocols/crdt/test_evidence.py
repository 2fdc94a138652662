import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crdt.bundles import BUNDLE_COUNT_MAX, Parcel, Seal, path_of, seal_bundle
from protocols.crdt.changes import EVIDENCE_SIZE_MAX, Acknowledge, Append, Genesis
from protocols.crdt.errors import CrdtError
from protocols.crdt.evidence import accusation, check_accusation, evidence_of, read_evidence
from protocols.crdt.history import Held
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING, OperationIds, encode_change
from protocols.identity.signing import Domain, sign
from tests.protocols.crdt.chains import ALICE, BOB, CHANNEL, GENESIS, beginning, chain, take, take_alone
from tests.strategies import mutations

OTHER_CHANNEL = b"C" * 32


def evidence(parcel: Parcel, index: int = 0) -> bytes:
    """That the author signed this operation, wherever it stands."""
    path = path_of(parcel.operations, index)
    return evidence_of(beginning(), Held(parcel.operations[index], 0, (), 0, 0, parcel.seal, path, 0))


def in_order(one: bytes, other: bytes, channel: bytes = CHANNEL) -> tuple[bytes, bytes]:
    first, second = sorted((one, other), key=lambda side: read_evidence(channel, side).id)
    return first, second


def proof() -> tuple[bytes, bytes]:
    """Alice wrote two third operations; one of them is in the middle of a bundle."""
    before = chain(0)
    return in_order(evidence(chain(1, after=before.operations[0])), evidence(chain(0, 2, 3, 4), 1))


def refused(first: bytes, second: bytes, channel: bytes = CHANNEL) -> str:
    with pytest.raises(CrdtError) as caught:
        check_accusation(channel, first, second)
    assert caught.value.reason == "bad_evidence"
    return caught.value.detail


# -- proofs ---------------------------------------------------------------------------------------------------


def test_two_operations_on_one_back_link_prove_who_wrote_them() -> None:
    assert check_accusation(CHANNEL, *proof()) == ALICE.public


def test_a_fork_that_is_held_makes_an_accusation() -> None:
    history = beginning()
    take(history, chain(1, 2, 3))
    take(history, chain(1, 20, 30))
    fork = history.forks[ALICE.public]
    accuse = accusation(history, fork.second, fork.first)
    assert accuse == accusation(history, fork.first, fork.second)
    assert check_accusation(CHANNEL, accuse.first, accuse.second) == ALICE.public


def test_evidence_is_the_same_however_the_operation_came() -> None:
    parcel = chain(*range(5))
    whole, alone = beginning(), beginning()
    data = evidence_of(whole, take(whole, parcel)[3])
    assert evidence_of(alone, take_alone(alone, parcel, 0, 1, 2, 3)[3]) == data
    read = read_evidence(CHANNEL, data)
    assert (read.id, read.sequence) == (parcel.operations[3].id, 5)
    assert (read.previous, read.seal) == (parcel.operations[2].id, parcel.seal)


def test_two_first_operations_are_proof() -> None:
    sides = in_order(evidence(chain(1, author=1)), evidence(chain(2, author=1)))
    assert check_accusation(CHANNEL, *sides) == BOB.public


def test_a_founder_who_begins_beside_the_genesis_equivocates() -> None:
    """The genesis is signed for no channel, being one, and has a back-link as any other operation."""
    beside = seal_bundle(ALICE, CHANNEL, [(Acknowledge(), 2, (CHANNEL,))], 1, NOTHING)
    assert check_accusation(CHANNEL, *in_order(evidence(GENESIS), evidence(beside))) == ALICE.public


def test_the_largest_evidence_fits_its_limit() -> None:
    others = tuple(bytes([number]) * 32 for number in range(DEPENDENCIES_MAX))
    dated = [(Acknowledge(), 2 + number, others) for number in range(BUNDLE_COUNT_MAX)]
    data = evidence(seal_bundle(ALICE, CHANNEL, dated, 2, CHANNEL))
    assert EVIDENCE_SIZE_MAX // 2 < len(data) <= EVIDENCE_SIZE_MAX


# -- nobody is framed -----------------------------------------------------------------------------------------


def test_an_operation_that_was_signed_in_two_bundles_is_no_proof() -> None:
    """Whoever wrote it may send it again with what it wrote later."""
    one, other = evidence(chain(1)), evidence(chain(1, 2))
    assert one != other
    for sides in ((one, other), (other, one), (one, one)):
        assert "one operation" in refused(*sides)


def test_operations_that_follow_each_other_are_no_proof() -> None:
    parcel = chain(1, 2)
    assert "two back-links" in refused(*in_order(evidence(parcel, 0), evidence(parcel, 1)))


def test_branches_that_parted_before_are_no_proof() -> None:
    """That is where they parted."""
    one, other = chain(1, 3), chain(2, 3)
    assert "two back-links" in refused(*in_order(evidence(one, 1), evidence(other, 1)))
    assert check_accusation(CHANNEL, *in_order(evidence(one), evidence(other))) == ALICE.public


def test_two_sequences_on_one_back_link_are_no_proof() -> None:
    """One of them says what is not so, and nobody takes it in."""
    wrong = seal_bundle(ALICE, CHANNEL, [(Append(("log",), 1), 2, ())], 3, CHANNEL)
    assert "two back-links" in refused(*in_order(evidence(chain(2)), evidence(wrong)))


def test_two_authors_are_no_proof() -> None:
    assert "two authors" in refused(*in_order(evidence(chain(1, author=1)), evidence(chain(2))))


@pytest.mark.parametrize("channel", [CHANNEL, OTHER_CHANNEL])
def test_operations_of_two_channels_are_no_proof(channel: bytes) -> None:
    elsewhere = seal_bundle(ALICE, OTHER_CHANNEL, [(Append(("log",), 1), 2, ())], 2, CHANNEL)
    assert "not signed" in refused(*in_order(evidence(chain(2)), evidence(elsewhere), channel), channel)


def test_a_proof_is_one_in_its_own_channel_only() -> None:
    assert "not signed" in refused(*in_order(*proof(), OTHER_CHANNEL), OTHER_CHANNEL)


def test_who_founds_two_channels_does_not_equivocate() -> None:
    genesis = GENESIS.operations[0].change
    assert isinstance(genesis, Genesis)
    second = msgspec.structs.replace(genesis, nonce=b"n" * 32)
    founded = seal_bundle(ALICE, NOTHING, [(second, 1, ())], 1, NOTHING)
    assert "not signed" in refused(*in_order(evidence(GENESIS), evidence(founded)))


def test_the_sides_have_one_order() -> None:
    first, second = proof()
    assert "order" in refused(second, first)


# -- forged ---------------------------------------------------------------------------------------------------


def test_a_change_of_any_one_byte_of_a_proof_is_refused() -> None:
    first, second = proof()
    for place in range(len(first)):
        bent = first[:place] + bytes([first[place] ^ 1]) + first[place + 1 :]
        assert refused(bent, second)
    for place in range(len(second)):
        bent = second[:place] + bytes([second[place] ^ 1]) + second[place + 1 :]
        assert refused(first, bent)


@given(st.data())
def test_mangled_evidence_is_refused(data: st.DataObject) -> None:
    first, second = proof()
    mangled = data.draw(mutations(first))
    if mangled != first:
        assert refused(mangled, second)
        assert refused(second, mangled)


def test_what_is_cut_short_or_goes_on_is_refused() -> None:
    first, second = proof()
    for end in range(len(second)):
        assert refused(first, second[:end])
    for more in (b"\0", bytes(32)):
        assert refused(first, second + more)


def test_evidence_of_what_nobody_would_read_is_refused() -> None:
    """Its author did sign it; but evidence has one form, as the operation has."""
    unsorted = (b"e" * 32, b"d" * 32)
    change = encode_change(Acknowledge())
    operation = OperationIds(CHANNEL, ALICE.public).operation(2, CHANNEL, unsorted, 2, Acknowledge(), change)
    seal = Seal(ALICE.public, 2, 1, operation.id, b"")
    seal = msgspec.structs.replace(seal, signature=sign(ALICE, Domain.CRDT_BUNDLE, *seal.fields(CHANNEL)))
    with pytest.raises(CrdtError, match="sorted"):
        read_evidence(CHANNEL, evidence(Parcel(seal, (operation,))))


def test_headers_that_no_operation_has_are_refused() -> None:
    data = evidence(chain(*range(3)), 1)
    for place, value in [(32, 0x80), (40, 3), (40, 255), (41, 0), (41, 1), (41, 65), (41, 255), (74, 0x80), (82, 33)]:
        with pytest.raises(CrdtError, match="bad_evidence"):
            read_evidence(CHANNEL, data[:place] + bytes([value]) + data[place + 1 :])
