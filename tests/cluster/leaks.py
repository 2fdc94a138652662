"""A plugin with what must never be: workloads whose actor reads the wall clock, or shows the order of a set.

A test runs them to see that the digest would tell. Each says its secret in the least visible way there is:
one timer of its own, a few nanoseconds early or late.
"""

import time
from typing import ClassVar

from actors.actor import Actor, handles
from actors.context import Context
from cluster.planning import plan_puts_and_gets
from cluster.population import SimulatedSetup
from cluster.registry import WORKLOADS
from cluster.workload import Workload, WorkloadKind
from protocols.messages import Message


class Secret(Message, frozen=True, tag="test.secret"):
    """Does nothing; when it comes is all it says."""


class ClockLeak(Workload):
    """Starts its timer at a time that the wall clock had a say in."""

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        ctx.after(time.perf_counter_ns() % 1_000, Secret())

    @handles(Secret)
    def secret(self, message: Secret, ctx: Context) -> None:
        pass


class HashOrderLeak(Workload):
    """Starts its timers in the order of a set of bytes."""

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        for name in {b"%d" % number for number in range(20)}:
            ctx.after(int(name), Secret())

    @handles(Secret)
    def secret(self, message: Secret, ctx: Context) -> None:
        pass


class Bug(Actor):
    """Fails on its first message."""

    __slots__ = ()
    service: ClassVar[str] = "workload"

    def __init__(self, setup: SimulatedSetup) -> None:
        pass

    def start(self, ctx: Context) -> None:
        ctx.after(1_000_000_000, Secret())

    @handles(Secret)
    def secret(self, message: Secret, ctx: Context) -> None:
        raise KeyError("planted")


for _name, _actor in (("clock_leak", ClockLeak), ("hash_leak", HashOrderLeak), ("bug", Bug)):
    WORKLOADS.register(_name)(WorkloadKind(plan_puts_and_gets, _actor))
