"""One session: counters, the replay window, and keys that age by count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.noise.contexts import AeadContexts
from protocols.noise.datagrams import DATA_HEADER, PLAINTEXT_SIZE_MAX, SessionError, StaleDatagramError
from protocols.noise.session import (
    COUNTER_LIMIT,
    EPOCH_BITS,
    EPOCH_STEPS_MAX,
    WINDOW_SIZE,
    CounterExhaustedError,
    Session,
)

EPOCH = 1 << EPOCH_BITS


class Ends:
    """Two ends of a session; ``seal`` on one, ``open`` on the other."""

    def __init__(self) -> None:
        self.contexts = AeadContexts(8)
        keys = bytes([1]) * 32, bytes([2]) * 32
        self.sender = self._session(1, 2, *keys)
        self.receiver = self._session(2, 1, *reversed(keys))

    @staticmethod
    def _session(index: int, remote_index: int, send_key: bytes, receive_key: bytes) -> Session:
        return Session(
            index=index,
            remote_index=remote_index,
            device=bytes(32),
            endpoint=0,
            initiator=index == 1,
            handshake_hash=bytes(32),
            send_key=send_key,
            receive_key=receive_key,
            reject_at=1,
            received_at=0,
        )

    def seal(self, plaintext: bytes = b"data") -> bytes:
        return self.sender.seal(plaintext, self.contexts)

    def seal_at(self, counter: int) -> bytes:
        """The datagram of ``counter``; what lies between is sealed and lost."""
        while self.sender.send_counter >> EPOCH_BITS < counter >> EPOCH_BITS:
            # Only the first datagram of an epoch changes anything.
            self.sender.send_counter = ((self.sender.send_counter >> EPOCH_BITS) + 1) << EPOCH_BITS
            self.seal()
        self.sender.send_counter = max(self.sender.send_counter, counter)
        assert self.sender.send_counter == counter or not counter & (EPOCH - 1)
        return self.seal()

    def open(self, datagram: bytes) -> bytes:
        _, _, counter = DATA_HEADER.unpack_from(datagram)
        return self.receiver.open(counter, datagram, self.contexts)

    def refused(self, datagram: bytes) -> str:
        before = self.state()
        with pytest.raises(SessionError) as caught:
            self.open(datagram)
        assert self.state() == before, "a refused datagram changed something"
        return caught.value.reason

    def state(self) -> tuple[object, ...]:
        return tuple(getattr(self.receiver, name) for name in Session.__struct_fields__)


def test_what_was_sealed_opens_once() -> None:
    ends = Ends()
    datagram = ends.seal(b"hello")
    assert ends.open(datagram) == b"hello"
    assert ends.refused(datagram) == "replayed"


def test_empty_and_largest_plaintext_pass_and_a_larger_one_is_the_callers_fault() -> None:
    ends = Ends()
    assert ends.open(ends.seal(b"")) == b""
    largest = bytes(PLAINTEXT_SIZE_MAX)
    assert ends.open(ends.seal(largest)) == largest
    with pytest.raises(LocalError):
        ends.seal(largest + b"x")
    assert ends.sender.send_counter == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3 * WINDOW_SIZE), min_size=1, max_size=60))
def test_window_admits_each_counter_once_and_nothing_older_than_itself(order: list[int]) -> None:
    ends = Ends()
    datagrams = {counter: ends.seal_at(counter) for counter in sorted(set(order))}
    newest, seen = -1, set()
    for counter in order:
        if counter <= newest - WINDOW_SIZE:
            assert ends.refused(datagrams[counter]) == "counter_too_old"
        elif counter in seen:
            assert ends.refused(datagrams[counter]) == "replayed"
        else:
            assert ends.open(datagrams[counter]) == b"data"
            seen.add(counter)
            newest = max(newest, counter)


def test_forged_counter_moves_nothing() -> None:
    ends = Ends()
    assert ends.open(ends.seal()) == b"data"
    honest = ends.seal()
    for counter in (1, 5, WINDOW_SIZE, EPOCH, EPOCH_STEPS_MAX * EPOCH):
        forged = DATA_HEADER.pack(4, 2, counter) + honest[DATA_HEADER.size :]
        assert ends.refused(forged if counter != 1 else forged[:-1] + b"\0") == "decrypt_failed"
    assert ends.open(honest) == b"data"


def test_index_is_authenticated() -> None:
    ends = Ends()
    datagram = ends.seal()
    assert ends.refused(DATA_HEADER.pack(4, 3, 0) + datagram[DATA_HEADER.size :]) == "decrypt_failed"


def test_each_epoch_has_its_own_key_on_both_ends() -> None:
    ends = Ends()
    first = ends.sender.send_key
    last_of_first = ends.seal_at(EPOCH - 1)
    assert ends.sender.send_key == first
    first_of_second = ends.seal()
    assert ends.sender.send_key != first
    assert ends.open(last_of_first) == b"data"
    assert ends.open(first_of_second) == b"data"
    assert ends.receiver.receive_key == ends.sender.send_key


def test_datagrams_may_cross_the_change_of_keys() -> None:
    ends = Ends()
    before = [ends.seal_at(EPOCH - 3), ends.seal(), ends.seal()]
    after = [ends.seal(), ends.seal()]
    for datagram in (after[1], before[2], before[0], after[0], before[1]):
        assert ends.open(datagram) == b"data"


def test_old_key_goes_when_the_window_has_left_its_epoch() -> None:
    ends = Ends()
    old = ends.receiver.receive_key
    late = ends.seal_at(EPOCH - 1)
    assert ends.open(ends.seal()) == b"data"
    assert ends.receiver.previous_key == old
    assert ends.open(ends.seal_at(EPOCH + WINDOW_SIZE - 2)) == b"data"
    assert ends.receiver.previous_key == old
    assert ends.open(late) == b"data"
    assert ends.open(ends.seal_at(EPOCH + WINDOW_SIZE - 1)) == b"data"
    assert ends.receiver.previous_key == b""
    assert ends.refused(late) == "counter_too_old"


@pytest.mark.parametrize("steps", range(1, EPOCH_STEPS_MAX + 1))
def test_whole_epochs_may_be_lost(steps: int) -> None:
    ends = Ends()
    assert ends.open(ends.seal()) == b"data"
    # The first of its epoch, lost as well, moves the sender's key.
    assert ends.open(ends.seal_at(steps * EPOCH + 5)) == b"data"
    assert ends.receiver.receive_key == ends.sender.send_key
    assert ends.open(ends.seal()) == b"data"


def test_too_far_a_step_is_refused_without_work() -> None:
    ends = Ends()
    assert ends.open(ends.seal()) == b"data"
    assert ends.refused(ends.seal_at((EPOCH_STEPS_MAX + 1) * EPOCH + 1)) == "counter_too_far"
    assert ends.refused(DATA_HEADER.pack(4, 2, 2**64 - 1) + bytes(16)) == "counter_too_far"


def test_session_dies_before_its_counter_overflows() -> None:
    ends = Ends()
    ends.sender.send_counter = COUNTER_LIMIT - 1
    ends.seal()
    for _ in range(2):
        with pytest.raises(CounterExhaustedError):
            ends.seal()
    assert ends.sender.send_counter == COUNTER_LIMIT


def test_contexts_are_few_and_forgotten_with_their_keys() -> None:
    ends = Ends()
    ends.open(ends.seal())
    assert len(ends.contexts) == 1  # both ends share the key
    ends.sender.forget_keys(ends.contexts)
    assert len(ends.contexts) == 0
    for number in range(20):
        ends.contexts.of(bytes([number]) * 32)
    assert len(ends.contexts) == ends.contexts.capacity
    with pytest.raises(LocalError):
        AeadContexts(0)


def test_cache_of_contexts_keeps_what_was_used_last() -> None:
    contexts = AeadContexts(2)
    keys = [bytes([number]) * 32 for number in range(3)]
    first = contexts.of(keys[0])
    contexts.of(keys[1])
    assert contexts.of(keys[0]) is first
    contexts.of(keys[2])
    assert contexts.of(keys[0]) is first


def test_keys_are_not_printed() -> None:
    ends = Ends()
    assert repr(ends.sender.send_key) not in repr(ends.sender)
    assert ends.sender.send_key.hex() not in repr(ends.sender)


def test_stale_is_a_kind_of_session_error() -> None:
    assert issubclass(StaleDatagramError, SessionError)
