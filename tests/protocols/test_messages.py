"""The codec, over every message that exists: one meaning, one encoding, and one kind of error for all else."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError, ProtocolError
from protocols.messages import (
    DATAGRAM_SIZE_MAX,
    TAG_SIZE_MAX,
    Codec,
    CodecError,
    Message,
    Packet,
    Uint64,
    encode,
    peek_tag,
    tag_of,
)
from tests.strategies import NotAMessageFieldError, message_types, messages_of, modules, mutations

TYPES = message_types()
EVERYTHING: Codec[Message] = Codec(*TYPES, size_max=1 << 20)

WIRE = [
    (name, each)
    for module in modules()
    for name, each in vars(module).items()
    if isinstance(each, Codec) and module.__name__.startswith("protocols.")
]
"""Every codec that a module of ``protocols`` keeps: what peers' bytes are read with."""

REASONS = {"too_large", "malformed", "unknown_tag", "invalid", "non_canonical"}


class Sample(Message, frozen=True, tag="test.sample"):
    number: Uint64
    text: str
    more: tuple[int, ...] = ()


class Rival(Message, frozen=True, tag="test.sample"):
    pass


class Untagged(Message, frozen=True):
    pass


SAMPLES: Codec[Sample] = Codec(Sample, size_max=100)


# -- every message there is ---------------------------------------------------------------------------------


def test_the_codecs_of_the_wire_are_found() -> None:
    assert len(WIRE) >= 3
    wire = {tag for _, codec in WIRE for tag in codec.tags}
    assert {"rpc.request", "rpc.ack", "kad.ping", "kad.value"} <= wire


def test_tags_are_unique_short_and_name_their_subject() -> None:
    tags = [tag_of(each) for each in TYPES]
    assert len(set(tags)) == len(tags) >= 40
    for tag in tags:
        assert len(tag.encode("ascii")) <= TAG_SIZE_MAX
        assert tag == tag.lower()


@pytest.mark.parametrize("message_type", TYPES, ids=tag_of)
def test_message_is_immutable_and_holds_nothing_that_has_two_encodings(message_type: type[Message]) -> None:
    config = message_type.__struct_config__
    assert config.frozen
    assert config.array_like
    assert config.forbid_unknown_fields
    messages_of(message_type)  # raises NotAMessageFieldError for floats, maps, lists and what it does not know


@settings(max_examples=400, deadline=None)
@given(messages_of(*TYPES))
def test_message_goes_to_its_canonical_bytes_and_back(message: Message) -> None:
    data = EVERYTHING.encode(message)
    assert peek_tag(data) == tag_of(type(message))
    again = EVERYTHING.decode(data)
    assert again == message
    assert type(again) is type(message)
    assert encode(again) == data


# -- whatever bytes -----------------------------------------------------------------------------------------


def check(codec: Codec[Any], data: bytes) -> None:
    """Bytes are the canonical encoding of one message, or are refused for a stated reason."""
    message, refusal = decoded(codec, data)
    if message is None:
        assert refusal in REASONS
    else:
        assert codec.encode(message) == data


def decoded(codec: Codec[Any], data: bytes) -> tuple[Message | None, str]:
    try:
        return codec.decode(data), ""
    except CodecError as error:
        return None, error.reason


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_decode_to_themselves_or_not_at_all(data: bytes) -> None:
    for _, codec in WIRE:
        check(codec, data)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_truncated_extended_and_mutated_bytes_decode_to_themselves_or_not_at_all(data: st.DataObject) -> None:
    _, codec = data.draw(st.sampled_from(WIRE))
    good = codec.encode(data.draw(messages_of(*codec.tags.values())))
    bad = data.draw(mutations(good))
    check(codec, bad)
    if len(bad) != len(good) and (good.startswith(bad) or bad.startswith(good)):
        with pytest.raises(CodecError):
            codec.decode(bad)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_body_of_message_pack_without_meaning_is_refused(data: st.DataObject) -> None:
    """Well-formed, tagged, and wrong: fields of any type, in any number."""
    _, codec = data.draw(st.sampled_from(WIRE))
    scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(), st.text())
    field = st.recursive(scalar, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(scalar, inner)))
    fields = data.draw(st.lists(field, max_size=8))
    tag = data.draw(st.one_of(st.sampled_from(sorted(codec.tags)), st.text(max_size=40)))
    check(codec, msgspec.msgpack.encode([tag, *fields]))


def test_deep_nesting_is_malformed_and_exhausts_nothing() -> None:
    for _, codec in WIRE:
        for data in (b"\x91" * min(100_000, codec.size_max), b"\x92\xa8kad.ping" + b"\x91" * 4_000):
            with pytest.raises(CodecError):
                codec.decode(data)


def test_a_length_that_is_not_there_allocates_nothing() -> None:
    for _, codec in WIRE:
        for head in (
            b"\xdd\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
        ):
            with pytest.raises(CodecError):
                codec.decode(head)
            with pytest.raises(CodecError):
                codec.decode(b"\x93\xabrpc.request\x00" + head)


# -- one rule at a time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (encode(Sample(1, "x"))[:-1], "malformed"),
        (encode(Sample(1, "x")) + b"\x00", "malformed"),
        (encode(Sample(1, "x" * 100)), "too_large"),
        (encode(Packet(1, b"x")), "unknown_tag"),
        (msgspec.msgpack.encode(["test.sample", -1, "x", ()]), "invalid"),
        (msgspec.msgpack.encode(["test.sample", 2**63, "x", ()]), "invalid"),
        (msgspec.msgpack.encode(["test.sample", "1", "x", ()]), "invalid"),
        (msgspec.msgpack.encode(["test.sample", 1, b"x", ()]), "invalid"),
        (msgspec.msgpack.encode(["test.sample", 1]), "invalid"),
        (msgspec.msgpack.encode(["test.sample", 1, "x", (), 4]), "invalid"),
        (msgspec.msgpack.encode({"number": 1, "text": "x", "more": ()}), "malformed"),
        (msgspec.msgpack.encode(["test.sample", 1, "x"]), "non_canonical"),
        (msgspec.msgpack.encode(["test.sample", 1.0, "x", ()]), "invalid"),
        (b"\x94\xabtest.sample\xcc\x01\xa1x\x90", "non_canonical"),
        (b"\x94\xabtest.sample\x01\xd9\x01x\x90", "non_canonical"),
        (b"\x94\xabtest.sample\x01\xa1x\xdc\x00\x00", "non_canonical"),
        (b"\x94\xd9\x0btest.sample\x01\xa1x\x90", "non_canonical"),
        (b"\x94\xabtest.sample\x01\xa1\xff\x90", "malformed"),
    ],
)
def test_what_is_not_the_canonical_encoding_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(CodecError) as caught:
        SAMPLES.decode(data)
    assert caught.value.reason == reason
    assert isinstance(caught.value, ProtocolError)


def test_a_message_too_large_to_be_read_is_not_written() -> None:
    with pytest.raises(LocalError, match="limit is 100"):
        SAMPLES.encode(Sample(1, "x" * 100))


def test_a_packet_holds_a_datagram_and_no_more() -> None:
    packets: Codec[Packet] = Codec(Packet, size_max=2 * DATAGRAM_SIZE_MAX)
    assert packets.decode(encode(Packet(1, bytes(DATAGRAM_SIZE_MAX)))).data == bytes(DATAGRAM_SIZE_MAX)
    with pytest.raises(CodecError, match="invalid"):
        packets.decode(encode(Packet(1, bytes(DATAGRAM_SIZE_MAX + 1))))


def test_two_types_with_one_tag_make_no_codec() -> None:
    with pytest.raises(LocalError, match="share a tag"):
        Codec(Sample, Rival)


def test_a_type_without_a_tag_of_its_own_makes_no_codec() -> None:
    with pytest.raises(LocalError, match=r"tag='subject\.name'"):
        Codec(Untagged)
    long: Any = msgspec.defstruct("Long", [], bases=(Message,), frozen=True, tag="x" * 32)
    with pytest.raises(LocalError, match=r"tag='subject\.name'"):
        Codec(long)


@given(st.binary(max_size=50))
def test_peeking_reads_a_tag_or_raises(data: bytes) -> None:
    try:
        tag = peek_tag(data)
    except CodecError:
        return
    assert data[2:].startswith(tag.encode("ascii"))


def test_a_field_without_one_natural_encoding_is_found_by_these_tests() -> None:
    for bad in (float, dict[str, int], list[int], set[int], Any):
        holder: Any = msgspec.defstruct("Bad", [("field", bad)], bases=(Message,), frozen=True, tag="test.bad")
        with pytest.raises(NotAMessageFieldError):
            messages_of(holder)
