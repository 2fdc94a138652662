"""The plan of the ``put_get`` workload: who puts and who gets what, when.

It asks the question that a DHT exists to answer: is a record found by peers that do not hold it? The plan
is made before the run, from scenario and seed alone, so every shard has the same one and no event can
bend it. It knows the schedules, and uses them only so far as an honest experiment may:

* A record is put by a peer that is up, and stays up until its put has had time to finish; a publisher that
  vanishes in the middle would test something else.
* A get is asked by a peer that has been up for ``min_uptime_s``; it may well leave before the answer. Its
  identifier differs from the key in the first bit, so about half of all peers are nearer to the key
  than it is, and it is not the publisher: in a world of many times k peers it holds no replica. In a small
  one everybody does; such an answer is counted as ``local``.
* Only records are asked for whose put must be over.
"""

from bisect import bisect_right
from typing import Final

from actors.randomness import Stream, derive_key
from cluster.churn import Uptime, up_since
from cluster.operations import Operation, OperationKind, Plan, record_name
from cluster.options import ScenarioError
from cluster.scenario import Scenario
from cluster.sections import nanoseconds
from cluster.world import World
from protocols.contact import ID_BITS
from protocols.kademlia.records import record_key

DRAWS_MAX: Final = 1_000
"""Peers and times drawn for one operation before the plan says that nobody is up to do it."""


def plan_nothing(scenario: Scenario, world: World) -> Plan:
    """The peers join and keep their tables, no more."""
    return {}


def plan_puts_and_gets(scenario: Scenario, world: World) -> Plan:
    """The operations of ``put_get``.

    Raises:
        ScenarioError: nobody is up when something is to be done.
    """
    planner = _Planner(scenario, world)
    planner.plan_puts()
    if scenario.workload.gets:
        planner.plan_gets()
    elif scenario.workload.gets_per_peer:
        planner.plan_gets_per_peer()
    return planner.plan()


class _Planner:
    def __init__(self, scenario: Scenario, world: World) -> None:
        workload = scenario.workload
        self._scenario = scenario
        self._world = world
        self._min_uptime = nanoseconds(workload.min_uptime_s)
        self._put_timeout = nanoseconds(workload.put_timeout_s)
        self._get_timeout = nanoseconds(workload.get_timeout_s)
        self._planned: list[tuple[int, Operation]] = []  # with the peer
        self._publishers: list[int] = []  # by record
        self._records: tuple[list[Operation], list[Operation]] = ([], [])  # by the first bit of the key
        self._deadlines: tuple[list[int], list[int]] = ([], [])  # of these records, ascending as they are

    def plan(self) -> Plan:
        return by_peer(self._planned)

    def plan_puts(self) -> None:
        """Each at a uniform time, by a uniform one of the peers that are up."""
        start, end = self._scenario.put_window_ns
        for record in range(self._scenario.workload.puts):
            draws = self._stream("put", record)
            for _ in range(DRAWS_MAX):
                peer, at = draws.below(len(self._world.honest)), start + draws.below(end - start)
                if self._stays_up(peer, at, at + self._put_timeout):
                    break
            else:
                raise ScenarioError("workload.puts", "hardly any peer stays up for long enough to put a record")
            key = record_key(self._world.device(peer), record_name(record))
            self._publishers.append(peer)
            self._records[_half(key)].append(self._add(peer, "put", at, self._put_timeout, record, key))
        for records, deadlines in zip(self._records, self._deadlines, strict=True):
            records.sort(key=lambda each: (each.deadline, each.record))
            deadlines.extend(each.deadline for each in records)

    def plan_gets(self) -> None:
        """Each at a uniform time, for a uniform record, by a uniform one of the peers that may ask."""
        start, end = self._scenario.get_window_ns
        world = self._world
        halves: tuple[list[int], list[int]] = ([], [])
        for peer in world.honest:
            halves[self._half_of(peer)].append(peer)
        every = sorted((*self._records[0], *self._records[1]), key=lambda each: (each.deadline, each.record))
        deadlines = [each.deadline for each in every]
        for number in range(self._scenario.workload.gets):
            draws = self._stream("get", number)
            for _ in range(DRAWS_MAX):
                at = start + draws.below(end - start)
                stored = bisect_right(deadlines, at)
                if not stored:
                    continue
                put = every[draws.below(stored)]
                askers = halves[1 - _half(put.key)]
                if not askers or askers == [self._publishers[put.record]]:
                    askers = list(world.honest)  # a world of a few peers
                peer = askers[draws.below(len(askers))]
                if self._may_ask(peer, put, at):
                    self._add(peer, "get", at, self._get_timeout, put.record, put.key)
                    break
            else:
                raise ScenarioError("workload.gets", "hardly any peer is up to ask for another's record")

    def plan_gets_per_peer(self) -> None:
        """In every period of every peer, at uniform times; when it is not up then, it does not ask."""
        start, end = self._scenario.get_window_ns
        period = self._scenario.workload.period_ns
        for peer in self._world.honest:
            draws = self._stream("peer", peer)
            half = 1 - self._half_of(peer)
            if not self._records[half]:
                half = 1 - half  # a workload of a few records
            for begin in range(start, end, period):
                for _ in range(self._scenario.workload.gets_per_peer):
                    at = begin + draws.below(period)
                    stored = bisect_right(self._deadlines[half], at)
                    if at >= end or not stored:
                        continue
                    put = self._records[half][draws.below(stored)]
                    if self._may_ask(peer, put, at):
                        self._add(peer, "get", at, self._get_timeout, put.record, put.key)

    def _add(self, peer: int, kind: OperationKind, at: int, timeout: int, record: int, key: bytes) -> Operation:
        number = len(self._planned)
        operation = Operation(number, kind, at, at + timeout, record, key)
        self._planned.append((peer, operation))
        return operation

    def _may_ask(self, peer: int, put: Operation, at: int) -> bool:
        return peer != self._publishers[put.record] and self._stays_up(peer, at, at)

    def _stays_up(self, peer: int, at: int, until: int) -> bool:
        """Whether ``peer`` has been up for the least uptime at ``at``, and still is at ``until``."""
        return stays_up(self._world.schedule(peer), at, until, self._min_uptime)

    def _half_of(self, peer: int) -> int:
        return self._world.node_id(peer) >> (ID_BITS - 1)

    def _stream(self, purpose: str, number: int) -> Stream:
        return Stream(derive_key(self._scenario.seed, "workload", purpose, number))


def stays_up(schedule: tuple[Uptime, ...], at: int, until: int, min_uptime: int) -> bool:
    """Whether a peer has been up for the least uptime at ``at``, and still is at ``until``."""
    since = up_since(schedule, at)
    return since is not None and since + min_uptime <= at and up_since(schedule, until) == since


def by_peer(planned: list[tuple[int, Operation]]) -> Plan:
    """What each peer does, in the order of time."""
    plan: dict[int, list[Operation]] = {}
    for peer, operation in sorted(planned, key=lambda each: (each[0], each[1].at, each[1].number)):
        plan.setdefault(peer, []).append(operation)
    return {peer: tuple(operations) for peer, operations in plan.items()}


def _half(key: bytes) -> int:
    """The first bit of an identifier: which half of the identifier space it lies in."""
    return key[0] >> 7
