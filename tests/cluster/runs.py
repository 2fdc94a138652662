"""The runs that several tests compare: small, but with everything on that could make two of them differ."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.scenario import Scenario, load
from cluster.simulation import Outcome, simulate

ROOT: Final = Path(__file__).resolve().parents[2]

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
def took_at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds
