"""What a node is in the middle of, and the whole node as it is saved.

A task is a lookup and what it is for; a call is a request that is not answered yet; a duty is something to do at
a certain time.
"""

from typing import Final, Literal, Self

import msgspec

from protocols.contact import Contact
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.lookup import Lookup, LookupState
from protocols.kademlia.records import Held, Record, StoreState
from protocols.kademlia.routing import TableState

STATE_VERSION: Final = 2

Purpose = Literal["find", "put", "get", "join", "join_refresh", "refresh", "republish", "replicate"]
Duty = Literal["slow", "join", "settle", "refresh", "replicate"]
Kind = Literal["ping", "find", "store"]


class Call(msgspec.Struct, array_like=True, frozen=True):
    """A request that we made. ``task`` is the one it serves; 0 if none."""

    kind: Kind
    contact: Contact
    task: int
    sent_at: int


class TaskState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    purpose: Purpose
    lookup: LookupState
    service: str
    token: int
    record: Record | None
    remaining_s: int
    rpcs: int
    storing: int
    stored: int


class Task:
    """A lookup and what it is for. With a ``record`` it goes on to store that at the nodes found."""

    __slots__ = ("lookup", "purpose", "record", "remaining_s", "rpcs", "service", "stored", "storing", "token")

    def __init__(
        self, purpose: Purpose, lookup: Lookup, service: str, token: int, record: Record | None, remaining_s: int
    ) -> None:
        self.purpose: Purpose = purpose
        self.lookup = lookup
        self.service = service
        self.token = token
        self.record = record
        self.remaining_s = remaining_s
        self.rpcs = 0
        self.storing = -1
        """STORE calls not answered yet; -1 while the lookup runs."""
        self.stored = 0

    def to_state(self) -> TaskState:
        return TaskState(
            purpose=self.purpose,
            lookup=self.lookup.to_state(),
            service=self.service,
            token=self.token,
            record=self.record,
            remaining_s=self.remaining_s,
            rpcs=self.rpcs,
            storing=self.storing,
            stored=self.stored,
        )

    @classmethod
    def from_state(cls, own: bytes, state: TaskState, config: KademliaConfig) -> Self:
        lookup = Lookup.from_state(own, state.lookup, k=config.k, alpha=config.alpha)
        task = cls(state.purpose, lookup, state.service, state.token, state.record, state.remaining_s)
        task.rpcs, task.storing, task.stored = state.rpcs, state.storing, state.stored
        return task


class NodeState(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    version: int
    device: bytes
    table: TableState
    store: StoreState
    published: list[Held]
    tasks: list[tuple[int, TaskState]]
    calls: list[tuple[int, Call]]
    agenda: list[tuple[int, int, Duty, int]]
    looked_up: list[tuple[int, int]]
    counter: int
    heard_at: int
    join_attempts: int
    join_refreshes: int
    join_rpcs: int
    left: bool
    sequence_floor: int
    keeps: bool
    """Whether what is taken in is collected for somebody who writes it down; all of it has been fetched by then."""
