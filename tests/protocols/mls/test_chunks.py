"""Work in chunks: in order, whole, and with threads the same."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.mls.chunks import CHUNK_SIZE, in_chunks


def doubled(items: Sequence[int]) -> Iterable[int]:
    return (2 * each for each in items)


@given(st.integers(0, 4 * CHUNK_SIZE))
def test_results_come_in_order_and_whole(count: int) -> None:
    assert list(in_chunks(map, doubled, range(count))) == [2 * each for each in range(count)]


def test_threads_change_nothing() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(in_chunks(pool.map, doubled, range(1_000))) == list(in_chunks(map, doubled, range(1_000)))


def test_one_chunk_is_not_handed_over() -> None:
    handed: list[int] = []

    def run(function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]:
        for each in items:
            handed.append(len(each))
            yield function(each)

    list(in_chunks(run, doubled, range(CHUNK_SIZE)))
    assert handed == []
    list(in_chunks(run, doubled, range(CHUNK_SIZE + 1)))
    assert handed == [CHUNK_SIZE, 1]
