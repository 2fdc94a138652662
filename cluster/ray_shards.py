"""Shards as Ray actors: one a core, placed once, called a few times a second.

Ray places and starts the workers, ships the code to other machines, carries each stretch's report back and
says when a worker died. What crosses between shards within a stretch goes directly (``exchange``).
"""

import logging
import os
import re
import secrets
import sys
import time
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

# Ray reads these when it is imported. Workers warn about GPUs they do not have unless told not to; and a driver that
# joins a cluster shows its user's token only in this mode, which clusters without tokens do not mind. Where Ray has
# been imported before us it is too late: a Ray of our own would ask us for a token that we do not show.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "ray" not in sys.modules and (Path.home() / ".ray" / "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.exchange import ShardLostError
from cluster.memory import family_memory
from cluster.scenario import Scenario
from cluster.shard import Report, Shard, decode_report
from protocols.errors import LocalError

POLL_S: Final = 0.2
"""How often a wait looks for a dead worker, and lets Ctrl-C through."""

START_TIMEOUT_S: Final = 120.0
"""A worker takes a second to start; two minutes without one mean that the cluster has no room."""

BLAME_TIMEOUT_S: Final = 5.0
"""When a shard misses another one, how long to wait for Ray's word on which of them died."""

OUR_PACKAGES: Final = ("actors", "cluster", "protocols")


def start_ray(address: str | None, workers: int, plugins: tuple[str, ...] = ()) -> None:
    """Start a Ray of our own on this machine, or join the one at ``address`` and send our code along.

    Args:
        workers: for how many our own must have room; Ray warns of more workers than cores, so it is told as many.

    Raises:
        LocalError: nothing answers at ``address``.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        folders = [str(Path(_folder(plugin)).parent) for plugin in plugins]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *folders]))
        cores = max(workers, os.cpu_count() or 1)
        # Ray warns on the terminal when workers outnumber those that may start at once by three to one.
        os.environ["RAY_worker_maximum_startup_concurrency"] = str(max(os.cpu_count() or 1, cores // 2))  # noqa: SIM112
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        return
    code = {"py_modules": [_folder(name) for name in (*OUR_PACKAGES, *plugins)]}
    try:
        ray.init(address=address, runtime_env=code, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LocalError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from error
    _check_nodes()


def _check_nodes() -> None:
    """See that every node of a cluster that others set up has the libraries that our code needs there.

    Our code travels with the job; libraries with compiled parts are the node's own.

    Raises:
        LocalError: a node lacks some, and which.
    """
    needed = sorted(
        re.split(r"[<>=!~;\[ ]", each)[0] for each in metadata.requires("spacepanda") or () if "extra" not in each
    )

    def missing() -> list[str]:  # sent by value: it must not import anything of ours
        import importlib.metadata as there  # noqa: PLC0415

        installed = {each.metadata["Name"].lower().replace("_", "-") for each in there.distributions()}
        return [name for name in needed if name.lower().replace("_", "-") not in installed]

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    ask = ray.remote(num_cpus=0)(missing)
    answers = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    try:
        found = ray.get(answers, timeout=START_TIMEOUT_S)
    except GetTimeoutError:
        raise LocalError("the cluster's nodes do not start workers; is one of them stuck?") from None
    for node, lacks in zip(nodes, found, strict=True):
        if lacks:
            raise LocalError(
                f"node {node['NodeManagerAddress']} of the cluster lacks {', '.join(lacks)}: install them there"
            )


def release(actors: list[Any], own_ray: bool) -> None:
    """End these actors, whatever state they are in, and the Ray that was started for them."""
    for actor in actors:
        with suppress(Exception):
            ray.kill(actor)
    actors.clear()
    if own_ray:
        ray.shutdown()


def _folder(module: str) -> str:
    """Where the top-level package or module of ``module`` is, for Ray to carry to the workers."""
    spec = find_spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        raise LocalError(f"module {module!r} has no file here that could be sent to the workers")
    origin = Path(spec.origin)
    return str(origin.parent if origin.name == "__init__.py" else origin)


class ShardActor(Shard):
    """A shard in a Ray worker."""

    def where(self) -> tuple[str, int]:
        """The node's identifier and the process's."""
        return ray.get_runtime_context().get_node_id(), os.getpid()


class Place(NamedTuple):
    """Where Ray put a shard."""

    node: str
    host: str
    process: int


class RayShards:
    """The shards of a run, on a Ray that is started here, was started by the caller, or is joined at ``address``."""

    def __init__(self, scenario: Scenario, address: str | None = None) -> None:
        self._scenario: Final = scenario
        self._actors: list[Any] = []
        self._places: list[Place] = []
        self._own_ray: Final = not ray.is_initialized()
        if self._own_ray:
            start_ray(address, scenario.shards, scenario.plugins)
        cores = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        self.count: Final = min(scenario.shards or cores, scenario.peers)
        if not 0 < self.count <= cores:
            self.close()
            raise LocalError(f"{self.count} shards need a core each; the cluster has {cores}")

    def prepare(self) -> None:
        text = self._scenario.to_toml()
        actor_class = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(ShardActor)
        self._actors = [actor_class.remote(text, number, self.count) for number in range(self.count)]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
        where = self._ask("where", timeout_s=START_TIMEOUT_S)
        self._places = [Place(node, addresses[node], process) for node, process in where]
        self._ask("prepare", self._meeting_places())

    def _meeting_places(self) -> list[tuple[str, int]]:
        """Where each shard waits for the others: on loopback if all are on one machine."""
        if self.count == 1:
            return []
        hosts = [place.host for place in self._places]
        if len(set(hosts)) == 1:
            hosts = ["127.0.0.1"] * self.count
        places: list[tuple[str, int]] = self._ask("listen", hosts, secrets.token_bytes(32))
        return places

    def advance(self, until: int) -> list[Report]:
        return [decode_report(report) for report in self._ask("advance", until)]

    def digests(self) -> dict[int, bytes]:
        return {peer: digest for digests in self._ask("digests") for peer, digest in digests.items()}

    def memory(self) -> int:
        return family_memory()

    def close(self) -> None:
        release(self._actors, self._own_ray)

    def _ask(self, method: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        """The answers of all shards, in their order; the first failure ends the wait.

        Raises:
            ShardLostError: a worker died.
            Exception: what a shard raised.
        """
        waiting = {getattr(actor, method).remote(*arguments): number for number, actor in enumerate(self._actors)}
        answers: list[Any] = [None] * len(waiting)
        missed: ShardLostError | None = None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_S)
            for reference in ready:
                number = waiting.pop(reference)
                try:
                    answers[number] = ray.get(reference)
                except RayActorError as error:
                    raise ShardLostError(self._obituary(number, error)) from None
                except RayTaskError as error:
                    cause = getattr(error, "cause", None) or error
                    if not isinstance(cause, ShardLostError):
                        raise cause from None
                    missed = cause
                    deadline = time.monotonic() + BLAME_TIMEOUT_S
            if deadline is not None and time.monotonic() > deadline:
                if missed is not None:
                    break
                missing = f"{len(waiting)} of {self.count} shards"
                raise LocalError(f"no worker for {missing} within {timeout_s} s: is the cluster full?")
        if missed is not None:
            raise missed
        return answers

    def _obituary(self, number: int, error: RayActorError) -> str:
        if not self._places:
            return f"shard {number} died before it was ready: {str(error).strip().splitlines()[-1]}"
        place = self._places[number]
        return f"shard {number} (process {place.process} on {place.host}) died; the run cannot go on without its peers"
