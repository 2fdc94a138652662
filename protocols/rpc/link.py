"""What RPC remembers of one session, and the agenda of everything that waits for a time.

A peer holds dozens of sessions and a simulation holds thousands of peers, so an idle link is one slotted
object; its tables come into being with the first call.
"""

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from protocols.rpc.replay import IdWindow

if TYPE_CHECKING:
    from protocols.rpc.pending import Pending
    from protocols.rpc.server import Serving

RTO_INITIAL_NS: Final = 10**9
"""RFC 6298 §2.1."""
RTO_MIN_NS: Final = 250 * 10**6
"""Below RFC 6298's one second, which is for TCP's delayed acknowledgements. An answer still takes the callee's
thinking time, which varies by tens of milliseconds where the round trip does not."""
RTO_CARRIED_MAX_NS: Final = 4 * 10**9
"""What one call's back-off makes the next call start with at most: four of the longest round trips expected."""
RTO_MAX_NS: Final = 60 * 10**9
"""RFC 6298 §2.5; also the longest timeout of a call."""
SILENCE_NS: Final = RTO_INITIAL_NS
"""A call that was given less time than an unknown round trip takes says nothing about the session."""


class Link:
    """One live session, as RPC sees it."""

    __slots__ = (
        "binding",
        "calls",
        "device",
        "endpoint",
        "heard",
        "next_id",
        "rto",
        "rttvar",
        "serving",
        "session",
        "srtt",
        "window",
    )

    def __init__(self, session: int, device: bytes, endpoint: int, binding: bytes, now: int) -> None:
        self.session = session
        self.device = device
        self.endpoint = endpoint
        self.binding = binding
        """What names the session on both sides, for services that sign something for it alone."""
        self.heard = now
        """When anything last came from the other end."""
        self.srtt = 0
        self.rttvar = 0
        self.rto = RTO_INITIAL_NS
        self.next_id = 0
        """The id of our next request; they never go back."""
        self.calls: dict[int, Pending] | None = None
        """Our open calls by id, oldest first."""
        self.window: IdWindow | None = None
        """The ids that the other end has used."""
        self.serving: dict[int, Serving] | None = None
        """The other end's requests in progress, by id."""

    def measured(self, rtt: int) -> None:
        """A round trip of something that was sent only once (Karn); RFC 6298 §2.2 and §2.3."""
        if self.srtt == 0:
            self.srtt = rtt
            self.rttvar = rtt // 2
        else:
            self.rttvar = (3 * self.rttvar + abs(self.srtt - rtt)) // 4
            self.srtt = (7 * self.srtt + rtt) // 8
        self.rto = min(max(self.srtt + 4 * self.rttvar, RTO_MIN_NS), RTO_MAX_NS)

    def timed_out(self, doubled: int) -> None:
        """Start new calls with the doubled RTO until a round trip is measured (§5.5): without that, a path that
        became slower than the RTO would have every call repeated, and never again be measured."""
        if self.rto < doubled:
            self.rto = max(self.rto, min(doubled, RTO_CARRIED_MAX_NS))

    def state(self) -> list[Any]:
        """Plain data for ``from_state``; calls and requests tell their own."""
        window = None
        if self.window is not None:
            window = (self.window.highest, self.window.bitmap.to_bytes(64, "big"))
        times = (self.heard, self.srtt, self.rttvar, self.rto)
        return [self.session, self.device, self.endpoint, self.binding, *times, self.next_id, window]

    @classmethod
    def from_state(cls, state: list[Any]) -> "Link":
        """The link whose ``state`` this is."""
        session, device, endpoint, binding, heard, srtt, rttvar, rto, next_id, window = state
        link = cls(session, device, endpoint, binding, heard)
        link.srtt, link.rttvar, link.rto, link.next_id = srtt, rttvar, rto, next_id
        if window is not None:
            link.window = IdWindow(window[0], int.from_bytes(window[1], "big"))
        return link


class Task(Protocol):
    """What waits for a time."""

    number: int
    due: int


TaskT = TypeVar("TaskT", bound=Task)


class Agenda(Generic[TaskT]):
    """Tasks by number, and which is due next: a heap whose outdated entries are recognised when they surface.

    A task's number orders it among those due at the same time, so a restored agenda runs in the same order.
    """

    __slots__ = ("_heap", "_next_number", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[int, TaskT] = {}
        self._heap: list[tuple[int, int]] = []
        self._next_number = 0

    @property
    def next_number(self) -> int:
        """The number that the next task gets; numbers are never used twice."""
        return self._next_number

    def start_at(self, number: int) -> None:
        """Continue the numbers of another agenda."""
        self._next_number = number

    def add(self, task: TaskT) -> None:
        """Give the task a number, and have it wait until ``task.due``."""
        task.number = self._next_number
        self._next_number += 1
        self.tasks[task.number] = task
        heappush(self._heap, (task.due, task.number))

    def restore(self, task: TaskT) -> None:
        """Add a task that has its number already."""
        self.tasks[task.number] = task
        heappush(self._heap, (task.due, task.number))

    def move(self, task: TaskT, due: int) -> None:
        """Have a task wait until another time."""
        if task.due != due:
            task.due = due
            heappush(self._heap, (due, task.number))
            # Answers come long before their timers: without this, most of a busy heap would be outdated.
            if len(self._heap) > 64 + 4 * len(self.tasks):
                self._rebuild()

    def drop(self, task: TaskT) -> None:
        """The task is over."""
        del self.tasks[task.number]
        if len(self._heap) > 64 + 4 * len(self.tasks):
            self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(task.due, number) for number, task in self.tasks.items()]
        heapify(self._heap)

    def next_due(self) -> int | None:
        """The time of the next task, if there is any."""
        heap = self._heap
        while heap:
            due, number = heap[0]
            task = self.tasks.get(number)
            if task is not None and task.due == due:
                return due
            heappop(heap)
        return None

    def take_due(self, now: int) -> TaskT | None:
        """The next task whose time has come; it stays, and must be moved or dropped before the next is taken."""
        due = self.next_due()
        if due is None or due > now:
            return None
        return self.tasks[self._heap[0][1]]
