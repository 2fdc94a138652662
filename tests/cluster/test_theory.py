import random
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

import pytest

from cluster.theory import expected_hops

BITS = 40


def nearest(some: Iterable[int], key: int, k: int) -> list[int]:
    return sorted(some, key=key.__xor__)[:k]


def measured_hops(peers: int, k: int, alpha: int, lookups: int) -> float:
    """Lookups from the far half over full, random tables: the depth of the nearest of the first three holders found."""
    draws = random.Random(3)
    ids = sorted(draws.getrandbits(BITS) for _ in range(peers))
    tables: dict[int, list[int]] = {}

    def table(own: int) -> list[int]:
        if own not in tables:
            tables[own] = []
            for bit in range(BITS):
                low = ((own >> bit) ^ 1) << bit
                bucket = ids[bisect_left(ids, low) : bisect_left(ids, low + (1 << bit))]
                tables[own] += draws.sample(bucket, min(k, len(bucket)))
        return tables[own]

    total = 0
    for _ in range(lookups):
        key = draws.getrandbits(BITS)

        holders = nearest(ids, key, k)
        asker = draws.choice([each for each in ids if (each ^ key) >> (BITS - 1)])
        depths = dict.fromkeys(nearest(table(asker), key, k), 1)
        asked = {asker}
        found: list[int] = []
        while len(found) < 3 and (turn := [each for each in nearest(depths, key, k) if each not in asked][:alpha]):
            for each in turn:
                asked.add(each)
                if each in holders:
                    found.append(depths[each])
                for other in nearest(table(each), key, k):
                    depths[other] = min(depths.get(other, BITS), depths[each] + 1)
        total += min(found)
    return total / lookups


@pytest.mark.parametrize(("peers", "k"), [(100, 8), (1_000, 8), (1_000, 20), (4_000, 20)])
def test_theory_is_near_to_lookups_over_full_tables(peers: int, k: int) -> None:
    assert expected_hops(peers, k, 3) == pytest.approx(measured_hops(peers, k, 3, 150), abs=0.15)


def test_everybody_is_one_hop_away_in_a_network_of_one_bucket() -> None:
    assert [expected_hops(peers, 20) for peers in (1, 5, 20)] == [1.0, 1.0, 1.0]


def test_hops_grow_with_the_logarithm_of_the_network() -> None:
    steps = [b - a for a, b in pairwise(expected_hops(10**power, 20, 3) for power in range(4, 10))]
    assert max(steps) - min(steps) < 0.25
    assert all(0.3 < step < 0.7 for step in steps)


def test_larger_buckets_and_wider_lookups_never_take_longer() -> None:
    assert expected_hops(10_000, 20, 1) < expected_hops(10_000, 8, 1) < expected_hops(10_000, 2, 1)
    assert expected_hops(10_000, 20, 3) <= expected_hops(10_000, 20, 1)
