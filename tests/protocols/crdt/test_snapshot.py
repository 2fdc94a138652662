"""Snapshots as bytes, and whose word they are."""

import tracemalloc
import zlib

import msgspec
import pytest

from protocols.crdt.changes import Assign, Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import (
    SNAPSHOT_SIZE_MAX,
    Sealed,
    body_of,
    decode_sealed,
    decode_snapshot,
    encode_sealed,
    encode_snapshot,
    is_trusted,
    sign_snapshot,
    signers,
)
from tests.protocols.crdt.channels import Channel
from tests.protocols.crdt.test_compaction import MEMBERS, settle
from tests.protocols.crdt.worlds import KEYS

PATH = ("a",)


def made() -> tuple[Channel, Sealed]:
    channel = Channel()
    for who in MEMBERS:
        channel.write(who, Assign(PATH, who))
    settle(channel)
    sealed = channel.replicas[0].snapshot()
    assert sealed is not None
    return channel, sealed


CHANNEL, SEALED = made()
BODY = body_of(SEALED.body, SEALED.size)
ID = CHANNEL.replicas[0].channel


def test_snapshots_go_to_bytes_and_back() -> None:
    assert decode_sealed(encode_sealed(SEALED)) == SEALED
    assert encode_snapshot(decode_snapshot(BODY)) == BODY


def test_all_members_make_the_same_bytes_and_sign_each_others() -> None:
    for replica in (CHANNEL.replicas[who] for who in MEMBERS):
        assert replica.confirms(SEALED)
    signed = SEALED
    for who in (2, 0, 1):
        signed = sign_snapshot(KEYS[who], ID, signed, BODY)
    assert set(signers(ID, signed, BODY)) == {KEYS[who].public for who in (0, 1, 2)}
    assert sign_snapshot(KEYS[1], ID, signed, BODY) == signed


def test_member_that_knows_of_something_unsettled_does_not_sign() -> None:
    channel, sealed = made()
    channel.replicas[4] = Replica.from_bytes(channel.replicas[3].to_bytes(), ID)
    channel.write(3, Assign(PATH, "one"))
    channel.write(4, Assign(PATH, "two"))
    channel.tell(3, 1)
    assert channel.replicas[1].confirms(sealed)
    channel.tell(4, 1)
    assert not channel.replicas[1].confirms(sealed), "a fork without a proof"


def test_member_that_has_other_operations_does_not_sign() -> None:
    channel, _ = made()
    channel.write(3, Assign(("other",), 1))
    settle(channel)
    sealed = channel.replicas[3].snapshot()
    assert sealed is not None
    assert not CHANNEL.replicas[0].confirms(sealed)


@pytest.mark.parametrize("place", range(0, len(BODY), 37))
def test_signatures_are_over_every_byte(place: int) -> None:
    signed = sign_snapshot(KEYS[0], ID, SEALED, BODY)
    body = bytearray(BODY)
    body[place] ^= 1
    with pytest.raises(CrdtError, match="bad_signature"):
        signers(ID, signed, bytes(body))


def test_signature_is_for_one_channel_and_of_one_device() -> None:
    signed = sign_snapshot(KEYS[0], ID, SEALED, BODY)
    with pytest.raises(CrdtError, match="bad_signature"):
        signers(bytes(32), signed, BODY)
    stolen = msgspec.structs.replace(signed, signatures=((KEYS[1].public, signed.signatures[0][1]),))
    with pytest.raises(CrdtError, match="bad_signature"):
        signers(ID, stolen, BODY)
    twice = msgspec.structs.replace(signed, signatures=signed.signatures * 2)
    with pytest.raises(CrdtError, match="bad_snapshot"):
        signers(ID, twice, BODY)


def test_more_than_half_of_those_who_lead_have_to_sign() -> None:
    devices = [key.public for key in KEYS[:5]]
    roles = (Role.OWNER, Role.ADMIN, Role.ADMIN, Role.ADMIN, Role.MEMBER)
    members = dict(zip(devices, roles, strict=True))
    assert not is_trusted((), members)
    assert not is_trusted((devices[0], devices[1], devices[4], KEYS[7].public), members)
    assert is_trusted((devices[0], devices[1], devices[3]), members)
    assert not is_trusted((KEYS[7].public,), {})


def test_bomb_costs_no_more_than_it_announces() -> None:
    bomb = msgspec.structs.replace(SEALED, body=zlib.compress(bytes(50_000_000), 9), size=1_000)
    tracemalloc.start()
    with pytest.raises(CrdtError, match="bad_snapshot"):
        body_of(bomb.body, bomb.size)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_size_that_is_announced_is_the_size(size: int) -> None:
    with pytest.raises(CrdtError, match="bad_snapshot"):
        body_of(SEALED.body, size)


def test_what_is_no_snapshot_is_refused() -> None:
    whole = msgspec.msgpack.encode([99, *msgspec.msgpack.decode(BODY)[1:]])
    loose = BODY[:1] + b"\xcc\x01" + BODY[2:]
    for data in (b"", b"\x90", BODY[:-1], BODY + b"\0", whole, loose):
        with pytest.raises(CrdtError, match="bad_snapshot"):
            decode_snapshot(data)
    too_large = msgspec.msgpack.encode([b"", SNAPSHOT_SIZE_MAX + 1, [], [], []])
    for data in (b"", encode_sealed(SEALED)[:-1], too_large):
        with pytest.raises(CrdtError, match="bad_snapshot"):
            decode_sealed(data)
