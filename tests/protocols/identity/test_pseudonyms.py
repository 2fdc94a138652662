"""A name in every channel that only its owner can connect."""

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.identity import PseudonymLink, SigningKey, pseudonym
from protocols.messages import Codec
from protocols.transcript import transcript
from tests.protocols.identity.people import STRANGER, USER, altered, certificate, refusal, request

CODEC = Codec(PseudonymLink)


def test_a_pseudonym_is_hkdf_of_the_seed_and_the_channel() -> None:
    info = transcript("spacepanda/pseudonym-key/1", b"channel")
    seed = HKDF(SHA256(), 32, b"SpacePanda pseudonym", info).derive(USER.seed)
    assert pseudonym(USER, b"channel") == SigningKey(seed)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_pseudonyms_are_equal_for_one_user_in_one_channel_only(first: bytes, second: bytes) -> None:
    assert (pseudonym(USER, first) == pseudonym(USER, second)) == (first == second)
    assert pseudonym(STRANGER, first) != pseudonym(USER, first)
    assert USER.public not in (pseudonym(USER, first).public, pseudonym(USER, second).public)


def test_a_pseudonym_is_a_user_like_any_other() -> None:
    name = pseudonym(USER, b"channel")
    made = certificate(user=name)
    made.verify()
    assert request(user=name).user == name.public


def test_a_link_is_signed_by_both() -> None:
    link = PseudonymLink.sign(USER, b"channel")
    link.verify()
    assert (link.user, link.pseudonym) == (USER.public, pseudonym(USER, b"channel").public)
    assert CODEC.decode(CODEC.encode(link)) == link


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", STRANGER.public),
        ("pseudonym", pseudonym(USER, b"elsewhere").public),
        ("channel", b"elsewhere"),
        ("by_user", bytes(64)),
        ("by_pseudonym", bytes(64)),
    ],
)
def test_a_link_altered_in_any_field_is_refused(field: str, value: bytes) -> None:
    assert refusal(altered(PseudonymLink.sign(USER, b"channel"), **{field: value}).verify) == "bad_link"


def test_neither_half_can_be_claimed_alone() -> None:
    ours, theirs = PseudonymLink.sign(USER, b"channel"), PseudonymLink.sign(STRANGER, b"channel")
    claimed = altered(ours, user=theirs.user, by_user=theirs.by_user)
    assert refusal(claimed.verify) == "bad_link"
    swapped = altered(ours, by_user=ours.by_pseudonym, by_pseudonym=ours.by_user)
    assert refusal(swapped.verify) == "bad_link"


def test_a_channel_has_an_id() -> None:
    for channel in (b"", bytes(65)):
        with pytest.raises(LocalError):
            pseudonym(USER, channel)
