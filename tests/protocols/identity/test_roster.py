"""Who is a user's device, whatever order the news comes in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.identity import DeviceCertificate, IdentityError, Purpose, Revocation, SigningKey
from protocols.identity import roster as roster_module
from protocols.identity.roster import CERTIFICATES_MAX, Roster, Statement
from tests.protocols.identity.people import (
    BEGIN,
    DEVICE,
    END,
    SECOND,
    STRANGER,
    USER,
    altered,
    certificate,
    key,
    reason_of,
    refusal,
)

DHT = Purpose.DHT
THIRD = key("third device")


def roster(*statements: Statement) -> Roster:
    made = Roster(USER.public)
    for statement in statements:
        made.add(statement)
    return made


def revocation(device: SigningKey = DEVICE, at: int = 1_500) -> Revocation:
    return Revocation.sign(USER, device.public, at)


def test_a_certified_device_is_in_standing_while_it_is_valid() -> None:
    known = roster(certificate())
    answers = {at: reason_of(known, DEVICE, DHT, at) for at in (BEGIN - 1, BEGIN, END - 1, END)}
    assert answers == {BEGIN - 1: "not_yet_valid", BEGIN: "good", END - 1: "good", END: "expired"}


def test_a_device_is_in_standing_for_its_purposes_only() -> None:
    known = roster(certificate(purposes=(Purpose.MLS,)))
    assert reason_of(known, DEVICE, Purpose.MLS, BEGIN) == "good"
    assert reason_of(known, DEVICE, Purpose.DHT, BEGIN) == "wrong_purpose"


def test_an_unknown_device_is_in_no_standing() -> None:
    assert reason_of(roster(), DEVICE, DHT, BEGIN) == "unknown_device"
    assert reason_of(roster(certificate()), SECOND, DHT, BEGIN) == "unknown_device"


def test_a_revoked_key_verifies_only_what_was_had_before() -> None:
    known = roster(certificate(), revocation(at=1_500))
    assert reason_of(known, DEVICE, DHT, 1_499) == "good"
    assert reason_of(known, DEVICE, DHT, 1_500) == "revoked"
    assert reason_of(known, DEVICE, DHT, END) == "revoked"


def test_the_earliest_revocation_counts() -> None:
    known = roster(certificate(), revocation(at=1_500), revocation(at=1_200), revocation(at=1_800))
    assert reason_of(known, DEVICE, DHT, 1_199) == "good"
    assert reason_of(known, DEVICE, DHT, 1_200) == "revoked"


def test_a_revocation_is_final() -> None:
    known = roster(revocation(at=1_500))
    assert reason_of(known, DEVICE, DHT, 1_400) == "unknown_device"
    known.add(certificate(version=9, not_before=1_600))
    assert reason_of(known, DEVICE, DHT, 1_700) == "revoked"


def test_a_rotated_key_verifies_only_what_was_had_before() -> None:
    known = roster(certificate(), certificate(SECOND, version=1, not_before=1_500, replaces=DEVICE.public))
    assert reason_of(known, DEVICE, DHT, 1_499) == "good"
    assert reason_of(known, DEVICE, DHT, 1_500) == "rotated"
    assert reason_of(known, SECOND, DHT, 1_499) == "not_yet_valid"
    assert reason_of(known, SECOND, DHT, 1_500) == "good"


def test_a_rotated_key_stays_rotated_whatever_becomes_of_the_new_one() -> None:
    known = roster(
        certificate(version=7, not_after=9_000),
        certificate(SECOND, not_before=1_500, replaces=DEVICE.public),
        revocation(SECOND, 1_600),
    )
    assert reason_of(known, DEVICE, DHT, 1_700) == "rotated"
    assert reason_of(known, SECOND, DHT, 1_700) == "revoked"


def test_a_higher_version_takes_a_purpose_away_and_ends_earlier() -> None:
    known = roster(certificate(), certificate(version=1, not_before=1_200, not_after=1_400, purposes=(Purpose.MLS,)))
    assert reason_of(known, DEVICE, DHT, 1_199) == "good"
    assert reason_of(known, DEVICE, DHT, 1_200) == "wrong_purpose"
    assert reason_of(known, DEVICE, Purpose.MLS, 1_399) == "good"
    assert reason_of(known, DEVICE, Purpose.MLS, 1_400) == "expired"


def test_a_lower_version_that_comes_later_changes_nothing_back() -> None:
    known = roster(certificate(version=1, purposes=(Purpose.MLS,)), certificate(version=0))
    assert reason_of(known, DEVICE, DHT, BEGIN) == "wrong_purpose"


def test_in_force_are_the_devices_of_the_time() -> None:
    known = roster(
        certificate(),
        certificate(SECOND, not_before=1_500, replaces=DEVICE.public),
        certificate(THIRD, not_after=1_200),
        revocation(key("never certified")),
    )

    def devices(at: int) -> list[bytes]:
        return [each.device for each in known.in_force(at)]

    assert devices(BEGIN) == sorted([DEVICE.public, THIRD.public])
    assert devices(1_200) == [DEVICE.public]
    assert devices(1_500) == [SECOND.public]
    assert devices(END) == []
    assert len(known) == 4


def test_what_is_not_the_users_own_is_refused_and_changes_nothing() -> None:
    known = roster(certificate())
    before = known.to_bytes()
    good, end = certificate(SECOND), revocation()
    assert refusal(known.add, certificate(SECOND, user=STRANGER)) == "wrong_user"
    assert refusal(known.add, Revocation.sign(STRANGER, DEVICE.public, 0)) == "wrong_user"
    assert refusal(known.add, altered(good, not_after=9_000)) == "bad_certificate"
    assert refusal(known.add, altered(end, revoked_at=0)) == "bad_revocation"
    assert known.to_bytes() == before


def test_a_certificate_that_is_shown_counts_for_the_question_only() -> None:
    known, shown = roster(), certificate()
    assert known.standing(DEVICE.public, DHT, BEGIN, shown=shown) == shown
    assert len(known) == 0
    assert refusal(known.standing, DEVICE.public, DHT, END, shown=shown) == "expired"
    assert refusal(known.standing, DEVICE.public, DHT, BEGIN, shown=certificate(user=STRANGER)) == "wrong_user"
    assert refusal(known.standing, SECOND.public, DHT, BEGIN, shown=shown) == "unknown_device"
    assert refusal(known.standing, DEVICE.public, DHT, BEGIN, shown=altered(shown, version=3)) == "bad_certificate"
    known.add(revocation(at=BEGIN))
    assert refusal(known.standing, DEVICE.public, DHT, BEGIN, shown=shown) == "revoked"
    known = roster(certificate(version=2, purposes=(Purpose.MLS,)))
    assert refusal(known.standing, DEVICE.public, DHT, BEGIN, shown=shown) == "wrong_purpose"


# -- a function of the set ----------------------------------------------------------------------------

KEYS = (DEVICE, SECOND, THIRD)
TIMES = (0, 10, 20, 30, 40)


def certificates() -> st.SearchStrategy[DeviceCertificate]:
    return st.builds(
        lambda pair, version, begin, length, purposes: certificate(
            pair[0], version=version, not_before=begin, not_after=begin + length, purposes=purposes, replaces=pair[1]
        ),
        st.sampled_from([(KEYS[0], b""), (KEYS[1], b""), (KEYS[1], KEYS[0].public), (KEYS[2], KEYS[1].public)]),
        st.integers(0, 2),
        st.sampled_from(TIMES),
        st.sampled_from((10, 20)),
        st.sampled_from([(DHT,), (Purpose.DHT, Purpose.MLS)]),
    )


def revocations() -> st.SearchStrategy[Revocation]:
    return st.builds(revocation, st.sampled_from(KEYS), st.sampled_from(TIMES))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(certificates(), revocations()), max_size=14), st.data())
def test_a_roster_depends_on_what_was_said_and_not_on_the_order(said: list[Statement], data: st.DataObject) -> None:
    first = roster(*said)
    second = roster(*data.draw(st.permutations(said + said[:3])))
    assert first.to_bytes() == second.to_bytes()
    for purpose in (DHT, Purpose.MLS):
        for at in range(-1, 61, 5):
            for device in KEYS:
                assert reason_of(first, device, purpose, at) == reason_of(second, device, purpose, at)
    assert not any(first.add(statement) for statement in first.statements())
    assert roster(*first.statements()).to_bytes() == first.to_bytes()
    assert Roster.from_bytes(first.to_bytes()).to_bytes() == first.to_bytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(certificates(), revocations()), max_size=8), revocations())
def test_no_statement_brings_a_revoked_device_back(said: list[Statement], end: Revocation) -> None:
    known = roster(end, *said)
    device = next(each for each in KEYS if each.public == end.device)
    for at in range(end.revoked_at, 61, 5):
        assert reason_of(known, device, DHT, at) == "revoked"


# -- bounds -------------------------------------------------------------------------------------------


def test_of_many_certificates_of_a_device_the_highest_are_kept_in_any_order() -> None:
    made = [certificate(version=version) for version in range(CERTIFICATES_MAX + 3)]
    up, down = roster(*made), roster(*reversed(made))
    assert up.to_bytes() == down.to_bytes()
    assert up.statements() == sorted(made[3:], key=DeviceCertificate.to_bytes)
    assert not up.add(made[0])


def test_a_full_roster_takes_no_more_devices_and_forgets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_module, "DEVICES_MAX", 3)
    known = roster(certificate(), certificate(SECOND), revocation(THIRD))
    before = known.to_bytes()
    late = key("late")
    for one in (certificate(late), revocation(late), certificate(DEVICE, version=1, replaces=late.public)):
        assert refusal(known.add, one) == "full"
    assert known.to_bytes() == before
    # What is known can still end and go on.
    assert known.add(revocation())
    assert known.add(certificate(SECOND, version=1))
    assert reason_of(known, late, DHT, BEGIN) == "unknown_device"


# -- bytes --------------------------------------------------------------------------------------------


def test_bytes_that_are_no_roster_are_the_callers_fault() -> None:
    data = roster(certificate(), revocation()).to_bytes()
    other = Roster(STRANGER.public).to_bytes()
    for bad in (
        b"",
        b"\xc1",
        data[:-1],
        data + b"\0",
        data.replace(USER.public, STRANGER.public, 1),
        b"\x93\x02" + other[2:],
    ):
        with pytest.raises(LocalError):
            Roster.from_bytes(bad)


def test_a_roster_comes_back_without_a_signature_being_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = roster(certificate(), revocation()).to_bytes()
    monkeypatch.setattr(DeviceCertificate, "verify", None)
    assert Roster.from_bytes(data).to_bytes() == data
    with pytest.raises(IdentityError):
        Roster.from_bytes(data).standing(DEVICE.public, DHT, 1_500)
