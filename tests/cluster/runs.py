"""The runs that several tests compare: small, but with everything on that could make two of them differ."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.cluster_utils import Cluster

from cluster.memory import family
from cluster.scenario import Scenario, load
from cluster.simulation import Outcome, simulate

ROOT: Final = Path(__file__).resolve().parents[2]

LOOPBACK: Final = "127.0.0.2"
"""A cluster at 127.0.0.1 cannot be joined: Ray takes that for the machine's address in its network."""

SMALL: Final = {
    "name": "small",
    "peers": 60,
    "duration_s": 120,
    "join_window_s": 20,
    "workload.puts": 12,
    "workload.gets": 60,
    "workload.min_uptime_s": 10,
    "workload.put_timeout_s": 15,
    "workload.get_timeout_s": 15,
}
"""``demo`` with fewer peers and less time: loss, duplicates, reordering, churn, puts and gets."""


def small(**overrides: Any) -> Scenario:
    """The small scenario; dots in a key are written as two underscores."""
    return load("demo").with_overrides({**SMALL, **{key.replace("__", "."): each for key, each in overrides.items()}})


def inline(**overrides: Any) -> Outcome:
    return simulate(small(**overrides), inline=True)


def on_ray(shards: int, **overrides: Any) -> Outcome:
    """On the Ray that this process has joined or started."""
    return simulate(small(shards=shards, **overrides))


def python(program: str, **environment: str) -> str:
    """What another interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def alive(process: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether ``condition`` comes true in time. Processes tell nobody of their end but their parents."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """A Ray of several nodes on this machine, each with room for two shards, joined by this process."""
    node: dict[str, Any] = {"num_cpus": 2, "num_gpus": 0, "node_ip_address": LOOPBACK, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, _node_ip_address=LOOPBACK, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def took_at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


class Interrupted(NamedTuple):
    """What a command left that was interrupted as a terminal does it: the whole group of processes is told."""

    code: int
    output: str
    processes: list[int]
    """All that there were at that moment."""


def interrupt(*arguments: str) -> Interrupted:
    """Run the command ``spacepanda`` until it reports progress, then press Ctrl-C."""
    command = [sys.executable, "-c", "from cluster.cli import main; main()", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as run:
        rescue = threading.Timer(90, run.kill)
        rescue.start()
        try:
            assert run.stdout is not None
            output = ""
            while "events/s" not in output:
                line = run.stdout.readline()
                output += line
                assert line, output
            processes = family(run.pid)
            os.killpg(run.pid, signal.SIGINT)
            with took_at_most(20):
                output += run.communicate()[0]
        finally:
            rescue.cancel()
            run.kill()
    return Interrupted(run.returncode, output, processes)


def check_interrupted(left: Interrupted, out: Path) -> None:
    """It said so, kept what there was, and left no process behind."""
    assert left.code == 130, left.output
    assert "interrupted" in left.output.lower()
    assert not any(word in left.output for word in ("Traceback", "WARN", "Warning", "ERROR")), left.output
    [summary] = out.glob("*/summary.json")
    assert json.loads(summary.read_text(encoding="utf-8"))["interrupted"] is True
    assert eventually(lambda: not any(map(alive, left.processes)), timeout_s=10)
