"""Frames on the wire: both ways, and everything that is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.messages import CodecError
from protocols.rpc.frames import (
    BODY_SIZE_LIMIT,
    CHUNK_SIZE,
    FRAME_SIZE_MAX,
    FRAMES,
    MESSAGE_SIZE_MAX,
    TIMEOUT_MS_LIMIT,
    TRACE_NONE,
    Ack,
    Cancel,
    Chunk,
    Error,
    Frame,
    Request,
    Response,
)

BIG = 2**63 - 1
CASES: list[Frame] = [
    Request(0, 1, TRACE_NONE, 3, b"\x91\xa1x"),
    Request(BIG, TIMEOUT_MS_LIMIT, b"\xff" * 25, BODY_SIZE_LIMIT, bytes(CHUNK_SIZE)),
    Response(BIG, BODY_SIZE_LIMIT, bytes(CHUNK_SIZE)),
    Error(1, "overloaded", "no", ""),
    Error(BIG, "x" * 31, "perhaps", "\u20ac" * (MESSAGE_SIZE_MAX // 3)),
    Cancel(0),
    Chunk(BIG, True, 1023, bytes(CHUNK_SIZE)),
    Ack(BIG, False, 65_535, 65_535),
]


@pytest.mark.parametrize("frame", CASES, ids=lambda frame: type(frame).__name__)
def test_frame_goes_to_bytes_and_back_and_nothing_near_it_does(frame: Frame) -> None:
    data = FRAMES.encode(frame)
    assert FRAMES.decode(data) == frame
    assert len(data) <= FRAME_SIZE_MAX
    for end in range(min(len(data), 80)):
        with pytest.raises(CodecError):
            FRAMES.decode(data[:end])
    with pytest.raises(CodecError):
        FRAMES.decode(data + b"\x00")


def test_tracing_changes_no_size() -> None:
    sizes = {len(FRAMES.encode(Request(5, 1000, trace, 3, b"\x91\xa1x"))) for trace in (TRACE_NONE, b"\xff" * 25)}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    "frame",
    [
        Request(0, 0, TRACE_NONE, 3, b"abc"),
        Request(0, TIMEOUT_MS_LIMIT + 1, TRACE_NONE, 3, b"abc"),
        Request(0, 1, bytes(24), 3, b"abc"),
        Request(-1, 1, TRACE_NONE, 3, b"abc"),
        Response(0, BODY_SIZE_LIMIT + 1, b""),
        Response(0, CHUNK_SIZE + 1, bytes(CHUNK_SIZE + 1)),
        Error(0, "Not a code", "no", ""),
        Error(0, "code\n", "no", ""),
        Error(0, "code", "maybe", ""),  # type: ignore[arg-type]
        Error(0, "code", "no", "x" * (MESSAGE_SIZE_MAX + 1)),
        Chunk(0, True, 0, b""),
        Chunk(0, True, 1024, b""),
        Ack(0, True, 0, 1 << 16),
    ],
)
def test_field_out_of_bounds_is_refused(frame: Frame) -> None:
    from protocols.messages import encode

    with pytest.raises(CodecError):
        FRAMES.decode(encode(frame))


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(data: bytes) -> None:
    try:
        frame = FRAMES.decode(data)
    except CodecError:
        return
    assert FRAMES.encode(frame) == data
