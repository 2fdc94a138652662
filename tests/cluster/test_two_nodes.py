"""A Ray of two nodes: nothing shows in the digest, and a lost shard is named there too."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Final

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.exchange import ShardLostError
from cluster.ray_shards import RayShards
from tests.cluster.runs import alive, eventually, inline, on_ray, small, took_at_most

LOOPBACK: Final = "127.0.0.2"
"""A cluster at 127.0.0.1 cannot be joined: Ray takes that for the machine's address in its network."""

pytestmark = pytest.mark.usefixtures("two_nodes")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    """Two nodes of Ray on this machine, each with room for two shards."""
    node = {"num_cpus": 2, "node_ip_address": LOOPBACK, "include_dashboard": False, "num_gpus": 0}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, _node_ip_address=LOOPBACK, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.parametrize("charge", ["free", "laptop"])
def test_two_nodes_do_not_show_in_the_digest(charge: str) -> None:
    alone, together = inline(charge=charge), on_ray(2, charge=charge)
    assert together.digest == alone.digest
    assert together.counters() == alone.counters()


def test_shards_are_spread_over_the_nodes_and_a_lost_one_is_named() -> None:
    shards = RayShards(small(shards=2, duration_s=100_000))
    try:
        shards.prepare()
        (first, _), (second, process) = shards._places
        assert first != second
        killer = threading.Timer(0.5, os.kill, (process, signal.SIGKILL))
        killer.start()
        with took_at_most(8), pytest.raises(ShardLostError, match=rf"shard 1 \(process {process} on"):
            shards.advance(100_000 * 10**9)
        killer.join()
    finally:
        shards.close()
    assert eventually(lambda: not alive(process), timeout_s=5)
