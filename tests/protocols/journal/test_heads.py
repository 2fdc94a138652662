"""Who remembers a head can tell an older journal, and prove a forked one."""

import pytest

from protocols.identity.signing import SigningKey
from protocols.journal import Head, JournalError, SignedHead, sign_head
from protocols.journal.heads import BEGINNING, Mark, Position
from protocols.journal.keys import EpochKeys
from protocols.messages import Codec, CodecError

KEY = SigningKey(bytes(32))
HEAD = Head(bytes(range(16)), 7, bytes(range(32)))
EPOCH_KEYS = EpochKeys(bytes(16), 3, bytes(32))
POSITION = Position(3, 9, b"c" * 32, Mark(8, b"d" * 32, b"e" * 32), Mark(2, b"f" * 32, b"g" * 32), clean=True)


def test_a_signed_head_is_its_device_s() -> None:
    signed = sign_head(HEAD, KEY)
    assert signed.verify()
    assert (signed.head, signed.device) == (HEAD, KEY.public)


@pytest.mark.parametrize(
    "other", [Head(bytes(16), 7, HEAD.tag), Head(HEAD.stream, 8, HEAD.tag), Head(HEAD.stream, 7, bytes(32))]
)
def test_no_other_head_has_the_signature(other: Head) -> None:
    signed = sign_head(HEAD, KEY)
    assert not SignedHead(other, signed.device, signed.signature).verify()


def test_another_device_did_not_sign_it() -> None:
    assert not SignedHead(HEAD, SigningKey(b"\1" * 32).public, sign_head(HEAD, KEY).signature).verify()


def test_two_heads_of_one_place_prove_a_fork_and_other_two_do_not() -> None:
    signed = sign_head(HEAD, KEY)
    assert signed.contradicts(sign_head(Head(HEAD.stream, 7, bytes(32)), KEY))
    assert not signed.contradicts(signed)
    assert not signed.contradicts(sign_head(Head(HEAD.stream, 8, bytes(32)), KEY))
    assert not signed.contradicts(sign_head(Head(bytes(16), 7, bytes(32)), KEY))
    assert not signed.contradicts(sign_head(Head(HEAD.stream, 7, bytes(32)), SigningKey(b"\1" * 32)))


def test_a_signed_head_travels_as_a_message() -> None:
    codec = Codec(SignedHead)
    signed = sign_head(HEAD, KEY)
    data = codec.encode(signed)
    assert codec.decode(data) == signed
    with pytest.raises(CodecError):
        codec.decode(data + b"\0")


def test_a_position_is_read_back_as_it_was_written() -> None:
    for position in (POSITION, Position(3), Position(3, newest=Mark(0, bytes(32), b"s" * 32))):
        assert Position.decode(EPOCH_KEYS, position.encode(EPOCH_KEYS)) == position
    assert BEGINNING.is_beginning
    assert not POSITION.older.is_beginning


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (EpochKeys(bytes(16), 3, b"\1" * 32), "bad_head"),
        (EpochKeys(b"\1" * 16, 3, bytes(32)), "bad_head"),
        (EpochKeys(bytes(16), 4, bytes(32)), "spliced"),
    ],
)
def test_a_position_is_one_stream_s_in_one_epoch(keys: EpochKeys, reason: str) -> None:
    with pytest.raises(JournalError) as caught:
        Position.decode(keys, POSITION.encode(EPOCH_KEYS))
    assert caught.value.reason == reason
