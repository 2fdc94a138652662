"""What replicas say to each other: how small the usual is, and how large anything can be."""

import pytest

from protocols.crdt.messages import (
    FINGERPRINTS_MAX,
    HEADS_MAX,
    KNOWN_MAX,
    LISTED_MAX,
    MESSAGE_SIZE_MAX,
    RANGES_MAX,
    REQUESTS,
    RESPONSES,
    UNIT_SIZE_MAX,
    UNITS_MAX,
    UNTIL_MAX,
    WANTED_MAX,
    Compare,
    Delta,
    Far,
    Fingerprints,
    Heads,
    List,
    Listed,
    Push,
    Pushed,
    Request,
    Response,
    Same,
    Since,
    Split,
)
from protocols.crdt.outgoing import BATCH_SIZE
from protocols.messages import CodecError, peek_tag

BIG = 2**63 - 1
IDS = tuple(number.to_bytes(32, "big") for number in range(KNOWN_MAX + 1))
CHANNEL = bytes(32)
BATCH = (bytes(UNIT_SIZE_MAX),)
CRUMBS = (bytes(BATCH_SIZE // UNITS_MAX),) * UNITS_MAX
KEYS = bytes(6 * WANTED_MAX)

REQUESTS_AT_MOST: list[tuple[Request, int]] = [
    (Compare(CHANNEL, bytes(16)), 64),
    (Since(CHANNEL, IDS[:KNOWN_MAX], IDS[:UNTIL_MAX], True), 9 * 1024),
    (Split(CHANNEL, 32, 13, bytes(4 * RANGES_MAX)), 9 * 1024),
    (List(CHANNEL, 32, bytes(4 * RANGES_MAX)), 9 * 1024),
    (Push(CHANNEL, BATCH, KEYS), MESSAGE_SIZE_MAX),
    (Push(CHANNEL, CRUMBS, KEYS), 128 * 1024),
]
RESPONSES_AT_MOST: list[tuple[Response, int]] = [
    (Same(), 64),
    (Heads(IDS[:HEADS_MAX], True), 5 * 1024),
    (Far(bytes(KNOWN_MAX // 8), BIG, 13, bytes(6 * FINGERPRINTS_MAX)), 64 * 1024),
    (Fingerprints(bytes(6 * FINGERPRINTS_MAX)), 64 * 1024),
    (Listed(RANGES_MAX, bytes(6 * LISTED_MAX)), 64 * 1024),
    (Delta(bytes(KNOWN_MAX // 8), CRUMBS, True), 72 * 1024),
    (Delta(bytes(KNOWN_MAX // 8), BATCH, True), MESSAGE_SIZE_MAX),
    (Pushed(BIG, BIG, BIG, BATCH, True), MESSAGE_SIZE_MAX),
]


@pytest.mark.parametrize(("question", "size"), REQUESTS_AT_MOST)
def test_the_largest_question_of_each_kind_can_be_asked(question: Request, size: int) -> None:
    data = REQUESTS.encode(question)
    assert len(data) <= size
    assert REQUESTS.decode(data) == question


@pytest.mark.parametrize(("answer", "size"), RESPONSES_AT_MOST)
def test_the_largest_answer_of_each_kind_can_be_given(answer: Response, size: int) -> None:
    data = RESPONSES.encode(answer)
    assert len(data) <= size
    assert RESPONSES.decode(data) == answer


def test_all_are_of_one_subject() -> None:
    assert {peek_tag(REQUESTS.encode(each)).partition(".")[0] for each, _ in REQUESTS_AT_MOST} == {"crdt"}
    assert {peek_tag(RESPONSES.encode(each)).partition(".")[0] for each, _ in RESPONSES_AT_MOST} == {"crdt"}


@pytest.mark.parametrize(
    "question",
    [
        Compare(CHANNEL, bytes(15)),
        Since(CHANNEL, IDS),
        Since(CHANNEL, (), IDS[: UNTIL_MAX + 1]),
        Split(CHANNEL, 33, 1, bytes(4)),
        Split(CHANNEL, 0, 0, bytes(4)),
        Split(CHANNEL, 0, 14, bytes(4)),
        Split(CHANNEL, 0, 1, b""),
        List(CHANNEL, 32, bytes(4 * RANGES_MAX + 1)),
        Push(CHANNEL, (bytes(UNIT_SIZE_MAX + 1),)),
        Push(CHANNEL, (b"",)),
        Push(CHANNEL, (b"1",) * (UNITS_MAX + 1)),
        Push(CHANNEL, (), KEYS + b"1"),
    ],
    ids=lambda question: type(question).__name__,
)
def test_what_is_more_than_anybody_asks_is_not_decoded(question: Request) -> None:
    with pytest.raises(CodecError, match="invalid"):
        REQUESTS.decode(REQUESTS.encode(question))


@pytest.mark.parametrize(
    "answer",
    [
        Heads(IDS, False),
        Delta(bytes(KNOWN_MAX // 8 + 1), (), False),
        Far(b"", -1, 1, b""),
        Far(b"", 0, 14, b""),
        Fingerprints(bytes(6 * FINGERPRINTS_MAX + 1)),
        Listed(RANGES_MAX + 1, b""),
        Listed(0, bytes(6 * LISTED_MAX + 1)),
        Pushed(0, 0, -1),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_what_is_more_than_anybody_answers_is_not_decoded(answer: Response) -> None:
    with pytest.raises(CodecError, match="invalid"):
        RESPONSES.decode(RESPONSES.encode(answer))
