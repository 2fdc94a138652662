"""Real-time hosts as Ray actors; how many depends on the placement."""

import asyncio
import os
import time
from contextlib import suppress
from typing import Any, Final

import ray
from ray.exceptions import RayActorError, RayTaskError

from cluster.exchange import ShardLostError
from cluster.ray_shards import release, start_ray
from cluster.real_time import LEAD_NS, Layout, RealTimeShard
from cluster.scenario import Scenario
from cluster.shard import Report, decode_report, encode_report


class RealTimeActor:
    """A host in a Ray worker. All methods run on the worker's one event loop."""

    def __init__(self, scenario: str, number: int, hosts: int) -> None:
        self._number: Final = number
        self._shard: Final = RealTimeShard(scenario, number, hosts)
        self._others: list[Any] = []

    async def meet(self, others: list[Any]) -> int:
        """Learn how to reach the other hosts; tells the process id."""
        self._others = others
        return os.getpid()

    async def drive(self, begin: int) -> None:
        """Run from ``begin`` on the wall clock to the end."""
        await self._shard.drive(self._deliver, begin)

    async def accept(self, sender: int, sequence: int, batch: bytes) -> None:
        """A batch from another host."""
        self._shard.accept(sender, sequence, batch)

    async def report(self) -> bytes:
        """What happened since the last report."""
        return encode_report(self._shard.report())

    async def _deliver(self, destination: int, sequence: int, batch: bytes) -> None:
        with suppress(RayActorError):  # who died is known to the driver, and ends the run
            await self._others[destination].accept.remote(self._number, sequence, batch)


class RayRealTime:
    """The hosts of a real-time run on Ray."""

    def __init__(self, scenario: Scenario, address: str | None = None) -> None:
        self._scenario: Final = scenario
        self._actors: list[Any] = []
        self._run: list[Any] = []
        self._processes: list[int] = []
        self._own_ray: Final = not ray.is_initialized()
        if self._own_ray:
            start_ray(address, Layout(scenario, scenario.shards).hosts, scenario.plugins)
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        self._layout: Final = Layout(scenario, scenario.shards or cores)
        self.hosts: Final = self._layout.hosts

    async def start(self) -> None:
        text = self._scenario.to_toml()
        # Hosts of these placements mostly wait; asking for a core each would need a cluster of hundreds.
        actor_class = ray.remote(num_cpus=0, max_restarts=0)(RealTimeActor)
        self._actors = [actor_class.remote(text, number, self.hosts) for number in range(self.hosts)]
        self._processes = await self._all("meet", self._actors)
        begin = time.time_ns() + LEAD_NS
        self._run = [actor.drive.remote(begin) for actor in self._actors]

    async def reports(self) -> list[Report]:
        return [decode_report(report) for report in await self._all("report")]

    async def finish(self) -> None:
        await self._gather(self._run)

    def close(self) -> None:
        release(self._actors, self._own_ray)

    async def _all(self, method: str, *arguments: Any) -> list[Any]:
        return await self._gather([getattr(actor, method).remote(*arguments) for actor in self._actors])

    async def _gather(self, references: list[Any]) -> list[Any]:
        """The answers of all hosts; the first failure ends the wait.

        Raises:
            ShardLostError: a worker died.
            Exception: what a host raised.
        """
        return await asyncio.gather(*[self._answer(number, each) for number, each in enumerate(references)])

    async def _answer(self, number: int, reference: Any) -> Any:
        try:
            return await reference
        except RayActorError:
            process = f" (process {self._processes[number]})" if self._processes else ""
            raise ShardLostError(
                f"{self._layout.name(number)}{process} died; the run cannot go on without it"
            ) from None
        except RayTaskError as error:
            raise (getattr(error, "cause", None) or error) from None
