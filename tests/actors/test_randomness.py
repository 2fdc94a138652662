"""Streams: what a draw depends on, and that nothing is drawn twice."""

from hypothesis import given
from hypothesis import strategies as st

from actors.randomness import Stream, SystemRandomness, derive_key

KEY = derive_key(1, "test")

purposes = st.lists(st.integers(0, 2**32) | st.text(max_size=5), max_size=4).map(tuple)


@given(st.integers(0, 2**63), purposes, st.integers(0, 2**63), purposes)
def test_keys_are_equal_for_the_same_seed_and_purpose_only(
    seed: int, purpose: tuple[int | str, ...], other_seed: int, other_purpose: tuple[int | str, ...]
) -> None:
    same = (seed, purpose) == (other_seed, other_purpose)
    assert (derive_key(seed, *purpose) == derive_key(other_seed, *other_purpose)) == same
    assert len(derive_key(seed, *purpose)) == 32


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_stream_goes_on_from_its_position(sizes: list[int]) -> None:
    whole = Stream(KEY)
    draws = [whole.entropy(size) for size in sizes]
    position = 0
    for size, draw in zip(sizes, draws, strict=True):
        resumed = Stream(KEY, position)
        assert resumed.entropy(size) == draw
        position = resumed.position
    assert position == whole.position


@given(st.lists(st.integers(16, 200), min_size=2, max_size=20))
def test_no_bytes_come_twice(sizes: list[int]) -> None:
    stream = Stream(KEY)
    draws = [stream.entropy(size) for size in sizes]
    assert [len(draw) for draw in draws] == sizes
    blocks = [draw[start : start + 16] for draw in draws for start in range(0, len(draw) - 15, 64)]
    assert len(set(blocks)) == len(blocks)


@given(st.integers(1, 2**64), st.integers(0, 1000))
def test_an_integer_is_below_its_limit(limit: int, position: int) -> None:
    assert 0 <= Stream(KEY, position).below(limit) < limit
    assert 0 <= SystemRandomness().below(limit) < limit


def test_integers_are_uniform() -> None:
    stream = Stream(KEY)
    counts = [0] * 10
    for _ in range(10_000):
        counts[stream.below(10)] += 1
    assert all(850 < count < 1_150 for count in counts)


def test_the_systems_randomness_repeats_nothing() -> None:
    system = SystemRandomness()
    assert len(system.entropy(100)) == 100
    assert system.entropy(32) != system.entropy(32)
