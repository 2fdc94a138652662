"""Anti-entropy: two replicas, whatever each holds and whatever one of them says."""

from collections.abc import Callable
from typing import Final, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt import answering, exchange, narrowing
from protocols.crdt.answering import Answerer
from protocols.crdt.bundles import parse
from protocols.crdt.changes import Assign, Grant, Increment, Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.exchange import ROUNDS_MAX, SIZE_MAX, Exchange
from protocols.crdt.messages import (
    MESSAGE_SIZE_MAX,
    REQUESTS,
    RESPONSES,
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
from protocols.crdt.reconciliation import KeyedSets
from protocols.crdt.replica import Replica
from protocols.errors import LocalError, ProtocolError
from tests.protocols.crdt.peers import BINDING, Peer, pair, part
from tests.protocols.crdt.worlds import KEYS, World, Written, causal_orders, worlds

KIB: Final = 1024


# -- what it is for -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data(), worlds(size_max=14), st.sampled_from([0, 2, 128]), st.sampled_from([0, 8]))
def test_any_two_replicas_hold_the_union_after_one_exchange(
    data: st.DataObject, world: World, near: int, share: int
) -> None:
    """Of operations with forks or without, by heads, by ranges that are listed or split, and by refined samples."""

    def some() -> list[Written]:
        order = data.draw(causal_orders(world.written))
        return order[: data.draw(st.integers(1, len(order)))]

    ours, theirs = Peer(world.channel, some()), Peer(world.channel, some())
    union = ours.ids | theirs.ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "NEAR_MAX", near)
        patch.setattr(exchange, "NEAR_MAX", near)
        patch.setattr(narrowing, "SHARE_MIN", share)
        patch.setattr(narrowing, "LISTED_AT_ONCE", 2)
        asked = ours.asks(theirs)
    assert ours.ids == theirs.ids == union
    assert asked.is_complete
    assert asked.rounds < ROUNDS_MAX
    again = ours.asks(theirs)
    assert again.is_equal
    assert again.rounds == 1


def test_equal_sets_cost_one_question_and_one_answer_of_at_most_64_bytes() -> None:
    ours, theirs, _ = pair(4, 640)
    question = Exchange(ours.history, ours.sets).request()
    assert question is not None
    assert len(question) <= 64
    answer = theirs.answer(question)
    assert len(answer) <= 64
    assert RESPONSES.decode(answer) == Same()
    asked = ours.asks(theirs)
    assert asked.is_equal
    assert asked.is_complete
    assert asked.rounds == 1


def test_who_is_behind_asks_twice_and_gets_what_it_lacks_and_nothing_else() -> None:
    ours, theirs, writers = pair(4, 640)
    for number in range(8):
        writers[number % 4].write(theirs, 4)
    asked = ours.asks(theirs)
    assert ours.ids == theirs.ids
    assert asked.rounds == 2
    assert ours.units == 8


def test_who_is_ahead_knows_it_from_the_heads_and_pushes() -> None:
    ours, theirs, writers = pair(4, 640)
    for number in range(8):
        writers[number % 4].write(ours, 4)
    asked = ours.asks(theirs)
    assert ours.ids == theirs.ids
    assert asked.rounds == 2
    assert theirs.units == 8


def test_who_wrote_a_little_beside_each_other_finds_it_without_ranges() -> None:
    ours, theirs, writers = pair(8, 6400)
    part(ours, theirs, writers, 20)
    asked = ours.asks(theirs)
    assert ours.ids == theirs.ids
    assert asked.rounds == 3
    assert asked.size < 24 * KIB


def test_a_newcomer_is_sent_everything_in_pages_and_nothing_twice() -> None:
    newcomer, theirs, writers = pair(4, 0)
    for number in range(100):
        writers[number % 4].write(theirs, 64)
    asked = newcomer.asks(theirs)
    assert newcomer.ids == theirs.ids
    assert newcomer.units == 100
    assert asked.is_complete


def test_of_many_operations_a_hundred_that_differ_are_found_in_four_rounds() -> None:
    """Two hundred authors who never read each other: heads and samples say little, so ranges have to."""
    ours, theirs, writers = pair(200, 20_000, aware=False)
    part(ours, theirs, writers, 50, aware=False)
    kinds: list[type[Response]] = []

    def seen(_: Request, response: Response) -> Response:
        kinds.append(type(response))
        return response

    asked = ours.asks(theirs, lie=seen)
    assert ours.ids == theirs.ids
    assert kinds == [Heads, Far, Listed, Pushed]
    assert asked.size < 64 * KIB
    assert ours.units == theirs.units == 50


def test_after_a_long_partition_only_a_little_is_sent_twice() -> None:
    ours, theirs, writers = pair(8, 2048)
    part(ours, theirs, writers, 4096, bundle=32)
    asked = ours.asks(theirs)
    assert ours.ids == theirs.ids
    assert asked.is_complete
    assert ours.units < 4096 // 32 + 32
    assert theirs.units == 4096 // 32


def test_replicas_with_little_in_common_who_read_nobody_end_equal_all_the_same() -> None:
    ours, theirs, writers = pair(300, 300, aware=False, bundle=1)
    part(ours, theirs, writers, 1500, aware=False, bundle=10)
    asked = ours.asks(theirs)
    assert ours.ids == theirs.ids
    assert asked.rounds < 20


def test_an_exchange_that_is_too_long_stops_and_the_next_goes_on() -> None:
    ours, theirs, writers = pair(4, 64)
    for number in range(400):
        writers[number % 4].write(theirs, 64)
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "SIZE_MAX", 40 * KIB)
        while not (asked := ours.asks(theirs)).is_complete:
            sizes.append(len(ours.ids))
            assert asked.size < 40 * KIB + 80 * KIB
    assert sizes == sorted(set(sizes))
    assert len(sizes) >= 2
    assert ours.ids == theirs.ids


@pytest.mark.parametrize("refuses_own", [False, True])
def test_what_one_wrote_oneself_is_known_to_be_here_though_the_two_differ_for_ever(refuses_own: bool) -> None:
    """As after an equivocator of whose operations each replica holds its own choice."""
    ours, theirs, writers = pair(4, 256)
    writers[0].write(theirs, 2)
    writers[1].write(theirs, 2, aware=False)
    own = writers[0].key.public
    asked = Exchange(ours.history, ours.sets)
    while (body := asked.request()) is not None:
        assert not asked.has_own(own)
        question = REQUESTS.decode(body)
        answer = theirs.answerer.answer(question, BINDING, own) if not isinstance(question, Push) else Pushed(0, 0, 0)
        units = asked.answer(RESPONSES.encode(answer), BINDING)
        ours.receive(each for each in units if (parse(ours.history.channel, each).seal.author == own) != refuses_own)
    assert not asked.is_complete
    assert asked.has_own(own) != refuses_own


def test_what_is_missing_is_fetched_with_its_past_and_without_anything_else() -> None:
    ours, theirs, writers = pair(4, 640)
    chain = [writers[0].write(theirs, 1) for _ in range(30)]
    target = chain[19].operations[0].id
    asked = ours.asks(theirs, until=[target])
    assert target in ours.ids
    assert len(ours.ids) == 641 + 20
    assert asked.rounds == 1
    assert not asked.is_complete, "of a fetch nobody knows that"
    assert theirs.units == 0


def test_what_nobody_has_is_not_fetched_and_that_is_the_end_of_it() -> None:
    ours, theirs, _ = pair(4, 640)
    asked = ours.asks(theirs, until=[bytes(32)])
    assert asked.rounds == 1
    with pytest.raises(LocalError, match="the limit is 64"):
        Exchange(ours.history, ours.sets, [bytes(32)] * 65)


def test_a_session_that_is_renewed_between_two_rounds_ends_the_exchange_and_blames_nobody() -> None:
    ours, theirs, writers = pair(200, 4000, aware=False, bundle=20)
    part(ours, theirs, writers, 50, aware=False)
    asked = Exchange(ours.history, ours.sets)
    for number in range(8):
        body = asked.request()
        if body is None:
            break
        binding = bytes(32) if number < 2 else bytes([1] * 32)
        ours.receive(asked.answer(theirs.answer(body, binding), binding))
    assert asked.rounds == 3
    assert not asked.is_complete
    assert ours.asks(theirs).is_complete
    assert ours.ids == theirs.ids


def test_bytes_of_another_version_or_of_nothing_are_no_exchange() -> None:
    ours, _, _ = pair(2, 64)
    good = Exchange(ours.history, ours.sets).to_bytes()
    for bad in (b"", good[:-1], good[:1] + b"\x09" + good[2:], b"\x90" * 3):
        with pytest.raises(LocalError):
            Exchange.from_bytes(ours.history, ours.sets, bad)


# -- with everything that a replica checks -------------------------------------------------------------------


def meet(ours: Replica, theirs: Replica, now_ns: int) -> Exchange:
    """One exchange, in which both take in what they get as replicas do."""
    answerer = Answerer(theirs.history, KeyedSets(theirs.history))
    asked = Exchange(ours.history, KeyedSets(ours.history))
    while (body := asked.request()) is not None:
        question = REQUESTS.decode(body)
        if isinstance(question, Push):
            receipts = [theirs.receive(unit, b"ours", now_ns) for unit in question.units]
            assert all(each.refused is None and not each.parked for each in receipts)
            answer: Response = answerer.pushed(question, BINDING, taken=len(receipts), parked=0, refused=0)
        else:
            answer = answerer.answer(question, BINDING)
        for unit in asked.answer(RESPONSES.encode(answer), BINDING):
            receipt = ours.receive(unit, b"theirs", now_ns)
            assert receipt.refused is None
            assert not receipt.parked
    return asked


def test_replicas_that_wrote_apart_have_one_document_after_one_exchange() -> None:
    now = 10**18
    roles = {key.public: Role.MEMBER for key in KEYS[1:4]}
    founder = Replica.found(KEYS[0], roles, nonce=bytes(32), now_ns=now)
    replicas = [founder, *(Replica(founder.genesis) for _ in range(2))]
    for step in range(12):
        replica, key = replicas[step % 3], KEYS[step % 3]
        replica.write(key, [Assign(("at", str(step)), step), Increment(("sum",), step)], now + step * 10**9)
        if step % 4 == 3:
            meet(replicas[step % 3], replicas[(step + 1) % 3], now + 60 * 10**9)
    founder.write(KEYS[0], [Grant(KEYS[5].public, Role.MEMBER)], now + 20 * 10**9)
    for ours, theirs in ((0, 1), (1, 2), (2, 0)):
        assert meet(replicas[ours], replicas[theirs], now + 60 * 10**9).is_complete
    assert len({replica.digest() for replica in replicas}) == 1
    assert replicas[2].document.counter(("sum",)) == sum(range(12))
    assert meet(replicas[0], replicas[1], now).is_equal


# -- liars ----------------------------------------------------------------------------------------------------

Lie = Callable[[Request, Response], Response]


ResponseT = TypeVar("ResponseT", bound=Response)


def only(kind: type[ResponseT], lie: Callable[[ResponseT], Response]) -> Lie:
    return lambda _, response: lie(response) if isinstance(response, kind) else response


STRUCTURE: Final[dict[str, Lie]] = {
    "an answer to another question": lambda _, __: Pushed(0, 0, 0),
    "no heads": only(Heads, lambda _: Heads((), False)),
    "unsorted heads": only(Heads, lambda _: Heads((b"2" * 32, b"1" * 32), False)),
    "a mask for others": lambda asked, answer: Delta(b"", (), False) if isinstance(asked, Since) else answer,
    "a mask of more": lambda asked, answer: (
        Delta(b"\xff" * (len(asked.known) // 8 + 1), (), False) if isinstance(asked, Since) else answer
    ),
    "too few fingerprints": only(Far, lambda far: Far(far.held, far.count, far.bits, far.fingerprints[:-6])),
    "too many fingerprints": only(Far, lambda far: Far(far.held, far.count, far.bits, far.fingerprints + bytes(6))),
    "another cut": only(Far, lambda far: Far(far.held, far.count, far.bits + 1, far.fingerprints)),
    "keys of no range": only(Listed, lambda listed: Listed(0, listed.keys or bytes(6))),
    "keys in disorder": only(Listed, lambda listed: Listed(listed.ranges, listed.keys[6:] + listed.keys[:6])),
    "half a key": only(Listed, lambda listed: Listed(listed.ranges, listed.keys[:-1])),
    "more ranges than asked": only(Listed, lambda listed: Listed(listed.ranges + 1, listed.keys)),
}
"""What no honest replica says."""


@pytest.mark.parametrize("lie", STRUCTURE.values(), ids=STRUCTURE)
def test_what_no_honest_replica_answers_is_blamed_and_loses_nothing(lie: Lie) -> None:
    ours, theirs, writers = pair(200, 1000, aware=False, bundle=5)
    part(ours, theirs, writers, 100, aware=False)
    union = ours.ids | theirs.ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "NEAR_MAX", 8)
        patch.setattr(exchange, "NEAR_MAX", 8)
        with pytest.raises(CrdtError, match="bad_answer"):
            ours.asks(theirs, lie=lie)
    ours.asks(theirs)
    assert ours.ids == theirs.ids == union


def test_an_answer_that_is_refused_changes_nothing() -> None:
    ours, theirs, writers = pair(200, 1000, aware=False, bundle=5)
    part(ours, theirs, writers, 200, aware=False)
    asked = Exchange(ours.history, ours.sets)
    while (body := asked.request()) is not None:
        before = asked.to_bytes()
        for lie in STRUCTURE.values():
            truth = RESPONSES.decode(theirs.answer(body))
            false = lie(REQUESTS.decode(body), truth)
            if false != truth and type(false) is type(truth) and not isinstance(truth, Pushed):
                with pytest.raises(ProtocolError):
                    asked.answer(RESPONSES.encode(false), BINDING)
                assert asked.to_bytes() == before
        ours.receive(asked.answer(theirs.answer(body), BINDING))
    assert ours.ids == theirs.ids


def unknown(number: int) -> bytes:
    return number.to_bytes(32, "big")


def noise(count: int) -> bytes:
    """Fingerprints that agree with nobody's."""
    return b"".join((2**40 + number).to_bytes(6, "big") for number in range(count))


def never_narrow(asked: Request, answer: Response) -> Response:
    """Every range differs, and has little in it; the asker is kept busy."""
    match asked, answer:
        case Split(bits=bits, ranges=ranges), _:
            return Fingerprints(noise((len(ranges) // 4) << bits))
        case List(), _:
            return Listed(0, b"")
        case _, Far() as far:
            half = far.fingerprints[: len(far.fingerprints) // 2]
            return Far(far.held, 2**60, far.bits, half + noise(len(half) // 6))
        case _:
            return answer


def all_different(asked: Request, answer: Response) -> Response:
    """Keys that nobody has are listed, and never sent."""
    match asked, answer:
        case List(depth=depth, ranges=ranges), _:
            numbers = [int.from_bytes(ranges[i : i + 4], "big") for i in range(0, len(ranges), 4)]
            keys = [(each << 48 - depth) + step for each in numbers for step in range(8000 // len(numbers))]
            return Listed(len(numbers), b"".join(each.to_bytes(6, "big") for each in keys))
        case Push(), _:
            return Pushed(0, 0, 0, (), True)
        case _:
            return answer


def endless(asked: Request, answer: Response) -> Response:
    """There is always more, and it is always the same."""
    match asked, answer:
        case Since(known=known), Delta(units=units):
            return Delta(bytes((len(known) + 7) // 8), units, True)
        case Since(known=known), _:
            return Delta(bytes((len(known) + 7) // 8), (), True)
        case _, Pushed(units=units):
            return Pushed(0, 0, 9, units, True)
        case _:
            return answer


def unheard_of(asked: Request, answer: Response) -> Response:
    """Heads that do not exist."""
    if isinstance(asked, Compare):
        return Heads(tuple(map(unknown, range(1, 129))), True)
    return answer


WASTE: Final[dict[str, Lie]] = {each.__name__: each for each in (never_narrow, all_different, endless, unheard_of)}


@pytest.mark.parametrize("lie", WASTE.values(), ids=WASTE)
def test_a_liar_can_waste_one_exchange_and_no_more(lie: Lie) -> None:
    ours, theirs, writers = pair(200, 4000, aware=False, bundle=20)
    part(ours, theirs, writers, 150, aware=False)
    union = ours.ids | theirs.ids
    asked = ours.asks(theirs, lie=lie)
    assert asked.rounds <= ROUNDS_MAX
    assert asked.size <= SIZE_MAX + 2 * MESSAGE_SIZE_MAX
    assert ours.ids <= union
    ours.asks(theirs)
    assert ours.ids == theirs.ids == union


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_is_answered_ends_in_bounds_or_with_an_error_of_ours(data: st.DataObject) -> None:
    ours, theirs, writers = pair(8, 64, aware=False, bundle=8)
    part(ours, theirs, writers, 16, aware=False)
    asked = Exchange(ours.history, ours.sets)
    answers = (
        st.builds(Heads, st.lists(st.sampled_from(sorted(theirs.ids)), max_size=4).map(tuple), st.booleans())
        | st.builds(Delta, st.binary(max_size=3), st.just(()), st.booleans())
        | st.builds(Far, st.binary(max_size=3), st.integers(0, 2**40), st.integers(1, 13), st.binary(max_size=24))
        | st.builds(Listed, st.integers(0, 3), st.binary(max_size=12))
        | st.builds(Pushed, st.just(0), st.just(0), st.just(0), st.just(()), st.booleans())
        | st.none()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "NEAR_MAX", 2)
        patch.setattr(exchange, "NEAR_MAX", 2)
        while (body := asked.request()) is not None:
            false = data.draw(answers)
            answer = theirs.answer(body) if false is None else RESPONSES.encode(false)
            try:
                ours.receive(asked.answer(answer, BINDING))
            except ProtocolError:
                ours.receive(asked.answer(theirs.answer(body), BINDING))
    assert asked.rounds <= ROUNDS_MAX
    ours.asks(theirs)
    assert ours.ids == theirs.ids
