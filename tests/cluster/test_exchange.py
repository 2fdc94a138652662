"""The rounds between shards: everybody's batches, strangers outside, the dead noticed."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import pytest

from cluster.exchange import Exchange, ShardLostError

KEY = bytes(range(32))


@contextmanager
def exchanges(count: int) -> Iterator[list[Exchange]]:
    """So many ends, connected with each other."""
    ends = [Exchange(number, count, KEY) for number in range(count)]
    addresses = [end.address for end in ends]
    try:
        in_parallel([lambda end=end: end.connect(addresses) for end in ends])  # type: ignore[misc]
        yield ends
    finally:
        for end in ends:
            end.close()


def in_parallel(calls: list[Callable[[], object]], timeout_s: float = 30) -> list[object]:
    """What calls return that wait for each other. Daemons, so that a deadlock is a failure and no hanging end."""
    answers: list[Future[object]] = [Future() for _ in calls]

    def run(call: Callable[[], object], answer: Future[object]) -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    for call, answer in zip(calls, answers, strict=True):
        threading.Thread(target=run, args=(call, answer), daemon=True).start()
    return [answer.result(timeout_s) for answer in answers]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_round_gives_everybody_all_batches_and_the_earliest_time(count: int) -> None:
    with exchanges(count) as ends:
        for turn in range(20):
            answers = in_parallel(
                [
                    lambda end=end, number=number, turn=turn: end.round(  # type: ignore[misc]
                        turn + 10 * number, [b"%d to %d" % (number, other) for other in range(count)]
                    )
                    for number, end in enumerate(ends)
                ]
            )
            for number, answer in enumerate(answers):
                assert answer == (turn, [b"%d to %d" % (other, number) for other in range(count) if other != number])


def test_nothing_is_received_where_nothing_was_sent() -> None:
    with exchanges(2) as ends:
        answers = in_parallel([lambda: ends[0].round(5, [b"", b""]), lambda: ends[1].round(7, [b"x", b""])])
    assert answers == [(5, [b"x"]), (5, [])]


def test_large_batches_both_ways_do_not_wait_for_each_other() -> None:
    size = 8 << 20  # far more than sockets buffer
    with exchanges(3) as ends:
        batches = [os.urandom(size) for _ in range(3)]
        answers = in_parallel(
            [lambda end=end, batch=batch: end.round(0, [batch] * 3) for end, batch in zip(ends, batches, strict=True)]  # type: ignore[misc]
        )
    for number, answer in enumerate(answers):
        assert answer == (0, [batch for other, batch in enumerate(batches) if other != number])


def test_strangers_are_turned_away_and_keep_nobody_from_coming() -> None:
    ends = [Exchange(number, 2, KEY) for number in range(2)]
    addresses = [end.address for end in ends]
    waiting = threading.Thread(target=ends[0].connect, args=[addresses], daemon=True)
    waiting.start()
    try:
        with pytest.raises(AuthenticationError):
            Client(addresses[0], "AF_INET", authkey=bytes(32))
        with socket.create_connection(addresses[0]) as rude:
            rude.recv(1)
        with socket.create_connection(addresses[0]) as babbling:
            babbling.sendall(b"\x00\x00\x00\x04junk")
            babbling.recv(1)
        ends[1].connect(addresses)
        waiting.join(10)
        assert not waiting.is_alive()
        answers = in_parallel([lambda: ends[0].round(1, [b"", b"a"]), lambda: ends[1].round(2, [b"b", b""])])
        assert answers == [(1, [b"b"]), (1, [b"a"])]
    finally:
        for end in ends:
            end.close()


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_shard_that_is_gone_is_missed_at_once(dead: int) -> None:
    def run(number: int, end: Exchange) -> None:
        with pytest.raises(ShardLostError, match=rf"shard \d does not answer shard {number} any more"):
            end.round(0, [b""] * 3)
        end.close()  # its process ends by the error, and the others see that

    with exchanges(3) as ends:
        ends[dead].close()
        alive = [(number, end) for number, end in enumerate(ends) if number != dead]
        in_parallel([lambda each=each: run(*each) for each in alive], timeout_s=5)  # type: ignore[misc]


def test_a_shard_that_dies_while_others_wait_is_missed_at_once() -> None:
    with exchanges(2) as ends:
        dying = threading.Timer(0.1, ends[1].close)
        dying.start()
        with pytest.raises(ShardLostError, match="shard 1 does not answer shard 0"):
            in_parallel([lambda: ends[0].round(0, [b"", b""])], timeout_s=5)
        dying.join()
