"""A Ray of two nodes: nothing shows in the digest, and a lost shard is named there too."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cluster.exchange import ShardLostError
from cluster.ray_shards import RayShards
from tests.cluster.runs import alive, eventually, inline, nodes, on_ray, small, took_at_most

pytestmark = pytest.mark.usefixtures("two_nodes")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    with nodes(2):
        yield


@pytest.mark.parametrize("charge", ["free", "laptop"])
def test_two_nodes_do_not_show_in_the_digest(charge: str) -> None:
    alone, together = inline(charge=charge), on_ray(2, charge=charge)
    assert together.digest == alone.digest
    assert together.counters() == alone.counters()


def test_shards_are_spread_over_the_nodes_and_a_lost_one_is_named() -> None:
    shards = RayShards(small(shards=2, duration_s=100_000))
    try:
        shards.prepare()
        first, second = shards._places
        assert first.node != second.node
        process = second.process
        killer = threading.Timer(0.5, os.kill, (process, signal.SIGKILL))
        killer.start()
        with took_at_most(8), pytest.raises(ShardLostError, match=rf"shard 1 \(process {process} on"):
            shards.advance(100_000 * 10**9)
        killer.join()
    finally:
        shards.close()
    assert eventually(lambda: not alive(process), timeout_s=5)
