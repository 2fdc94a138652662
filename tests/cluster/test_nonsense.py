"""Nonsense is what it is meant to be: each sort fails, and at the place that it is meant for."""

from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.randomness import Stream, derive_key
from cluster.nonsense import (
    NONSENSE,
    Nonsense,
    bad_body,
    bad_question,
    forged_init,
    forged_proof,
    forged_record,
    mangle,
    mangled_frame,
    not_canonical,
    other_message,
    oversized,
    random_bytes,
    request,
    unasked,
)
from protocols.crdt.messages import REQUESTS as CRDT_REQUESTS
from protocols.identity.messages import REQUESTS as IDENTITY_REQUESTS
from protocols.identity.messages import Proof
from protocols.identity.possession import Challenger, PossessionError
from protocols.kademlia.messages import REQUESTS, Ping, Store
from protocols.kademlia.records import RecordError
from protocols.messages import DATAGRAM_SIZE_MAX, CodecError, encode, peek_tag
from protocols.noise.datagrams import INIT, PLAINTEXT_SIZE_MAX, kind_of
from protocols.rpc.calls import RpcConfig, Send
from protocols.rpc.frames import FRAMES, Request, RpcError
from protocols.rpc.machine import Rpc

DEVICE: Final = bytes(32)
SAMPLES: Final = range(40)


def samples(sort: Nonsense) -> list[bytes]:
    frames = []
    for number in SAMPLES:
        draws = Stream(derive_key(number, "nonsense"))
        frames.append(sort(number, draws.below, draws.entropy))
    return frames


def rpc() -> Rpc:
    """A machine with a session, on which it has asked nothing."""
    machine = Rpc(RpcConfig(), ("kad",))
    machine.session_up(1, DEVICE, 7, bytes(32), 0)
    return machine


@given(st.binary(max_size=2_000) | st.integers(65_530, 65_535).map(bytes), st.integers(0, 2**32))
def test_what_is_mangled_is_another_datagram(data: bytes, seed: int) -> None:
    draws = Stream(derive_key(seed, "mangle"))
    other = mangle(data, draws.below, draws.entropy)
    assert other != data
    assert len(other) <= DATAGRAM_SIZE_MAX


def test_forged_first_message_looks_like_any_other() -> None:
    assert kind_of(forged_init(Stream(derive_key(1)).entropy)) == INIT


@pytest.mark.parametrize("sort", NONSENSE)
def test_every_sort_fits_a_session(sort: Nonsense) -> None:
    assert all(0 < len(frame) <= PLAINTEXT_SIZE_MAX for frame in samples(sort) if sort is not mangled_frame)
    assert all(len(frame) <= PLAINTEXT_SIZE_MAX for frame in samples(mangled_frame))


@pytest.mark.parametrize("sort", [random_bytes, other_message, not_canonical])
def test_what_is_no_frame_is_not_decoded(sort: Nonsense) -> None:
    for frame in samples(sort):
        with pytest.raises(CodecError):
            FRAMES.decode(frame)


def test_most_mangled_frames_are_not_decoded() -> None:
    def refused(frame: bytes) -> bool:
        try:
            FRAMES.decode(frame)
        except CodecError:
            return True
        return False

    assert sum(map(refused, samples(mangled_frame))) > len(SAMPLES) // 2


def test_what_nobody_asked_for_is_unsolicited() -> None:
    for frame in samples(unasked):
        with pytest.raises(RpcError, match="unsolicited"):
            rpc().receive(1, DEVICE, 7, FRAMES.decode(frame), 0)


def test_large_bodies_that_never_come_are_refused_or_bounded() -> None:
    def fate(frame: bytes) -> str:
        try:
            (answer,) = rpc().receive(1, DEVICE, 7, FRAMES.decode(frame), 0)
        except RpcError as error:
            return error.reason
        assert isinstance(answer, Send)
        return peek_tag(answer.data)

    assert {fate(frame) for frame in samples(oversized)} == {"bad_size", "rpc.error", "rpc.ack"}


def test_bad_bodies_are_no_requests() -> None:
    def fate(frame: bytes) -> str:
        question = FRAMES.decode(frame)
        assert isinstance(question, Request)
        try:
            (IDENTITY_REQUESTS if b"id." in question.body[:5] else REQUESTS).decode(question.body)
        except CodecError as error:
            return error.reason
        return "good"  # a bit of the key is wrong: nobody can tell

    fates = [fate(frame) for frame in samples(bad_body)]
    assert set(fates) >= {"invalid", "malformed", "unknown_tag"}
    assert fates.count("good") < len(fates) // 4


def test_bad_questions_about_documents_are_no_requests_or_about_no_document() -> None:
    def fate(frame: bytes) -> str:
        question = FRAMES.decode(frame)
        assert isinstance(question, Request)
        try:
            CRDT_REQUESTS.decode(question.body)
        except CodecError as error:
            return error.reason
        return "good"

    fates = [fate(frame) for frame in samples(bad_question)]
    assert set(fates) >= {"invalid", "unknown_tag"}
    assert fates.count("good") < len(fates) // 2


def test_forged_records_are_well_formed_and_not_signed() -> None:
    for frame in samples(forged_record):
        question = FRAMES.decode(frame)
        assert isinstance(question, Request)
        store = REQUESTS.decode(question.body)
        assert isinstance(store, Store)
        with pytest.raises(RecordError):
            store.record.verify()


def test_forged_proofs_are_well_formed_and_prove_nothing() -> None:
    issuer = bytes(32)
    for frame in samples(forged_proof):
        question = FRAMES.decode(frame)
        assert isinstance(question, Request)
        proof = IDENTITY_REQUESTS.decode(question.body)
        assert isinstance(proof, Proof)
        with pytest.raises(PossessionError, match="wrong_issuer"):
            Challenger(issuer).check(proof, device=proof.challenge.device, binding=proof.challenge.binding, now=2**61)
        to_us = msgspec.structs.replace(proof, challenge=msgspec.structs.replace(proof.challenge, issuer=issuer))
        with pytest.raises(PossessionError, match="expired"):
            Challenger(issuer).check(to_us, device=proof.challenge.device, binding=proof.challenge.binding, now=2**61)


def test_a_good_request_is_good() -> None:
    assert isinstance(FRAMES.decode(request(1, encode(Ping()))), Request)
