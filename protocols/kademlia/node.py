"""A Kademlia node: answers requests, runs lookups, keeps its table and its records.

Told of commands, requests, answers and the time, it puts out calls to make (``Query``) and results. The calls
are made for it by whoever has sessions; so it never sees an unauthenticated byte, and every contact it
talks of is a device that proved itself at an endpoint.

Draws (jitter, the target of a refresh) are hashes of the node's identifier and the time: they need only to
differ between nodes.

A failed call counts against a contact only if somebody else was heard of since the call began. Otherwise it
is we who are cut off, and an outage of our own would empty the table.
"""

import hashlib
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final, Self

import msgspec

from protocols.contact import ID_SIZE, Contact, node_id
from protocols.errors import LocalError, ProtocolError
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.kept import HELD, KEPT_VERSION, OWN, Change, Kept
from protocols.kademlia.lookup import Lookup
from protocols.kademlia.messages import (
    REQUESTS,
    RESPONSES,
    FindDone,
    FindNode,
    FindValue,
    Found,
    GetDone,
    Joined,
    KademliaError,
    LookupEnded,
    Misbehaved,
    Nodes,
    Ping,
    Pong,
    PutDone,
    Query,
    Reply,
    Request,
    Response,
    Store,
    Stored,
)
from protocols.kademlia.records import SECOND_NS, Held, Record, RecordError, RecordStore
from protocols.kademlia.routing import RoutingTable
from protocols.kademlia.tasks import STATE_VERSION, Call, Duty, Kind, NodeState, Purpose, Task
from protocols.messages import Message

MILLISECOND_NS: Final = 1_000_000
UPKEEP_STEPS: Final = 8
REFRESHES_AT_ONCE: Final = 2
REPLICATIONS_AT_ONCE: Final = 16
"""An interval of upkeep is divided so that its lookups do not come all at once."""

OWN_NEIGHBOURHOOD: Final = -1
"""The bucket number of our own identifier, in the record of what was looked up when."""


class KademliaNode:
    """One node. Its outputs are lists of ``Query``, ``Reply``, ``Joined``, ``LookupEnded`` and ``Misbehaved``."""

    __slots__ = (
        "_agenda",
        "_bootstrap",
        "_calls",
        "_counter",
        "_heard_at",
        "_id",
        "_join_attempts",
        "_join_refreshes",
        "_join_rpcs",
        "_left",
        "_looked_up",
        "_published",
        "_replicating",
        "_sequence_floor",
        "_tasks",
        "config",
        "device",
        "store",
        "table",
    )

    def __init__(self, device: bytes, config: KademliaConfig, bootstrap: Iterable[Contact] = ()) -> None:
        self.device = device
        self.config = config
        self._id = node_id(device)
        self._bootstrap = tuple(contact for contact in bootstrap if contact.device != device)
        self.table = RoutingTable(
            self._id,
            k=config.k,
            failures_max=config.failures_max,
            replacements_max=config.replacements_max,
            group_shift=config.group_shift,
            group_bucket_max=config.group_bucket_max,
            group_table_max=config.group_table_max,
        )
        self.store = RecordStore(
            self._id,
            records_max=config.records_max,
            owner_max=config.owner_records_max,
            ttl_max_s=config.record_ttl_max_s,
        )
        self._published: dict[bytes, Held] = {}  # our own records, by key
        self._sequence_floor = 0  # of our next record, whatever its key; 0 where nothing is written down
        self._tasks: dict[int, Task] = {}
        self._calls: dict[int, Call] = {}
        self._agenda: list[tuple[int, int, Duty, int]] = []  # a heap of (due, number, duty, of which call)
        self._looked_up: dict[int, int] = {}  # when something in a bucket was last looked up
        self._counter = 0  # numbers tasks, calls and duties
        self._heard_at = -1  # when any peer last proved that we are not cut off
        self._join_attempts = 0
        self._join_refreshes = 0  # of the join, still running
        self._join_rpcs = 0
        self._replicating = False  # a step of it is on the agenda
        self._left = False

    # -- commands -----------------------------------------------------------------------------------

    def adopt(self, contacts: Iterable[Contact], now: int) -> None:
        """Begin with these contacts on trust: a saved table, or a world begun in steady state."""
        self.table.fill(contacts, now)
        self._begin_upkeep(now)

    def join(self, now: int) -> list[Message]:
        """Find our neighbourhood through whom we know; repeats with back-off until anybody has answered."""
        out: list[Message] = []
        self._begin_upkeep(now)
        self._join(now, out)
        return out

    def leave(self) -> list[Message]:
        """Stop. Whoever waits gets an answer; calls in flight are forgotten."""
        out: list[Message] = []
        for number, task in self._tasks.items():
            self._reply(number, task, out)
        self._tasks.clear()
        self._calls.clear()
        self._agenda.clear()
        self._left = True
        return out

    def find(self, service: str, token: int, target: bytes, now: int) -> list[Message]:
        """Look up the k live nodes nearest to ``target``; ends in a ``FindDone``."""
        out: list[Message] = []
        self._begin("find", int.from_bytes(target), now, out, service=service, token=token)
        return out

    def next_sequence(self, key: bytes, now: int) -> int:
        """The sequence that our next record under ``key`` should have.

        It follows the clock in milliseconds, so that it rises over restarts that forget what was published; and it
        is above all that are written down, so that it rises with a clock that went back.
        """
        published = self._published.get(key)
        following = published.record.sequence + 1 if published else 0
        return max(now // MILLISECOND_NS, following, self._sequence_floor)

    def publish(self, record: Record, now: int) -> Change | None:
        """Take up our own ``record``, which ``put`` is to send once this change is durable; None if there is no room.

        If that ``put`` comes to nothing, the record is sent all the same when it is next due.
        """
        self._check_own(record, now)
        if not self._room_for(record.key):
            return None
        held = self._publish(record, now)
        self._sequence_floor = max(self._sequence_floor, record.sequence + 1)
        return Change.of(OWN, held)

    def put(self, service: str, token: int, record: Record, now: int) -> list[Message]:
        """Store our own ``record`` at the k nodes nearest to its key, and again every ``republish_ms``."""
        out: list[Message] = []
        self._check_own(record, now)
        key = record.key
        room = self._room_for(key)
        remaining_s = self._life_s(record)
        if room and self._begin(
            "put", int.from_bytes(key), now, out, service=service, token=token, record=record, remaining_s=remaining_s
        ):
            self._publish(record, now)
        elif not room:
            out.append(Reply(service, PutDone(token, key, 0, 0, 0), 0))
        return out

    def get(self, service: str, token: int, key: bytes, now: int) -> list[Message]:
        """Find the newest record under ``key``; ends in a ``GetDone``."""
        out: list[Message] = []
        published = self._published.get(key)
        if published is not None and published.expires_at > now:
            out.append(Reply(service, GetDone(token, key, True, published.record, 0, 0, True), 0))
            return out
        held = self.store.find(key, now)
        record, remaining_s = (held.record, held.remaining_s(now)) if held else (None, 0)
        self._begin(
            "get", int.from_bytes(key), now, out, service=service, token=token, record=record, remaining_s=remaining_s
        )
        return out

    # -- what outlives a crash: see kept --------------------------------------------------------------

    def recover(self, snapshot: bytes | None, changes: Iterable[Change], now: int) -> int:
        """Begin with what was kept; from now on ``changes`` has what is to be kept.

        Returns:
            how many records there were whose signatures are wrong; they are left out.

        Raises:
            LocalError: what was kept cannot be read.
        """
        published: dict[bytes, Held] = {}
        if snapshot is not None:
            kept = Kept.from_bytes(snapshot)
            self.store.restore(kept.store)
            published = {held.record.key: held for held in kept.published}
            self._sequence_floor = kept.sequence_floor
        for change in changes:
            held = change.held()
            if change.kind == HELD:
                self.store.take_again(held)
            elif change.kind == OWN:
                published[held.record.key] = held
                self._sequence_floor = max(self._sequence_floor, held.record.sequence + 1)
            else:
                raise LocalError(f"a change of the unknown kind {change.kind!r} was kept")
        self.store.expire(now)
        self._published = {key: held for key, held in published.items() if held.expires_at > now}
        self.store.taken = []
        self._begin_replicating(now)
        return self.store.check_again()

    def changes(self) -> list[Change]:
        """What was taken in since the last call, to be durable before anybody is told that it was."""
        if not self.store.taken:
            return []
        taken, self.store.taken = self.store.taken, []
        return [Change.of(HELD, held) for held in taken]

    def kept(self) -> bytes:
        """The state that all changes until now have led to."""
        store = msgspec.structs.replace(self.store.to_state(), verifications=0)
        return Kept(KEPT_VERSION, store, list(self._published.values()), self._sequence_floor).to_bytes()

    # -- what peers said ----------------------------------------------------------------------------

    def receive(self, device: bytes, endpoint: int, body: bytes, now: int) -> tuple[bytes, list[Message]]:
        """Answer a request: the response's body, and what else follows.

        Raises:
            ProtocolError: no honest node sends this; nothing was changed.
        """
        request = REQUESTS.decode(body)
        response = self._answer(request, device, now)
        out: list[Message] = []
        self._heard_at = now
        self._meet(Contact(device, endpoint), now, out)
        return RESPONSES.encode(response), out

    def completed(self, token: int, endpoint: int, body: bytes, now: int) -> list[Message]:
        """The call ``token`` was answered by the device it was made to, at ``endpoint``."""
        out: list[Message] = []
        call = self._calls.pop(token, None)
        if call is None:
            return out
        self._heard_at = now
        task = self._tasks.get(call.task)
        try:
            self._accept(call, RESPONSES.decode(body), task)
        except ProtocolError as error:
            out.append(Misbehaved(call.contact.device, error.reason))
            if task is not None and call.kind == "find":
                task.lookup.expel(call.contact.device)
            self.table.remove(call.contact)
        else:
            self.table.responded(Contact(call.contact.device, endpoint), now)
        if call.kind == "ping":
            self._promote(self.table.bucket_of(node_id(call.contact.device)), now, out)
        self._settle(call, task, now, out)
        return out

    def failed(self, token: int, now: int, *, unanswered: bool) -> list[Message]:
        """The call ``token`` came to nothing. ``unanswered``: the peer was silent or not to be reached, as
        opposed to a refusal, or a failure on our side, which say nothing against it."""
        out: list[Message] = []
        call = self._calls.pop(token, None)
        if call is None:
            return out
        task = self._tasks.get(call.task)
        if task is not None and call.kind == "find":
            task.lookup.failed(call.contact.device)
        self._settle(call, task, now, out)
        if unanswered and self._heard_at >= call.sent_at:
            bucket = self.table.bucket_of(node_id(call.contact.device))
            if self.table.failed(call.contact) or call.kind == "ping":
                self._promote(bucket, now, out)
            if self.table.find(call.contact.device) == call.contact and self.table.replacement(bucket):
                self._ping(call.contact, now, out)  # somebody waits for its place
        return out

    # -- time ---------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When ``expire`` should be called next."""
        while self._agenda and self._agenda[0][2] == "slow" and self._agenda[0][3] not in self._calls:
            heappop(self._agenda)
        due = [self._agenda[0][0]] if self._agenda else []
        expiry = self.store.deadline()
        if expiry is not None and not self._left:
            due.append(expiry)
        return min(due, default=None)

    def expire(self, now: int) -> list[Message]:
        """Do everything that is due."""
        out: list[Message] = []
        self.store.expire(now)
        while self._agenda and self._agenda[0][0] <= now:
            _, _, duty, about = heappop(self._agenda)
            if duty == "join":
                self._join(now, out)
            elif duty == "settle":
                self._begin("refresh", self._id, now, out)
            elif duty == "refresh":
                self._refresh(now, out)
            elif duty == "replicate":
                self._replicate(now, out)
            elif (call := self._calls.get(about)) is not None and (task := self._tasks.get(call.task)) is not None:
                task.lookup.slow(call.contact.device)
                self._advance(call.task, task, now, out)
        return out

    # -- serving ------------------------------------------------------------------------------------

    def _answer(self, request: Request, device: bytes, now: int) -> Response:
        match request:
            case Ping():
                return Pong()
            case FindNode(target):
                return Nodes(self._nearest_for(device, target))
            case FindValue(key):
                held = self.store.find(key, now)
                contacts = self._nearest_for(device, key)
                return Found(held.record, held.remaining_s(now), contacts) if held else Nodes(contacts)
            case Store(record, remaining_s):
                outcome = self.store.offer(record, remaining_s, now)
                self._begin_replicating(now)
                return Stored(outcome)

    def _nearest_for(self, device: bytes, target: bytes) -> tuple[Contact, ...]:
        nearest = self.table.closest(int.from_bytes(target), self.config.k + 1)
        return tuple(contact for contact in nearest if contact.device != device)[: self.config.k]

    def _meet(self, contact: Contact, now: int, out: list[Message]) -> None:
        """Somebody called us: a stranger may enter if it answers a ping (§2.4 of the paper, and attack D3)."""
        if self._left or self.table.heard(contact, now):
            return
        bucket = self.table.bucket_of(node_id(contact.device))
        reserved = self._pings_into(bucket)
        if self.table.find(contact.device) is not None or self.table.has_room(contact, reserved):
            self._ping(contact, now, out)
            return
        self.table.offer(contact)
        oldest = self.table.oldest(bucket)
        if oldest is not None and oldest[1] + self.config.stale_after_ms * MILLISECOND_NS <= now:
            self._ping(oldest[0], now, out)

    def _promote(self, bucket: int, now: int, out: list[Message]) -> None:
        stranger = self.table.replacement(bucket)
        if stranger is not None and self.table.has_room(stranger, self._pings_into(bucket)):
            self._ping(stranger, now, out)

    def _pings_into(self, bucket: int) -> int:
        """Strangers of this bucket that are being pinged: each has a place reserved."""
        pinged = [call.contact.device for call in self._calls.values() if call.kind == "ping"]
        return sum(self.table.bucket_of(node_id(device)) == bucket for device in pinged)

    def _ping(self, contact: Contact, now: int, out: list[Message]) -> None:
        pinged = [call.contact.device for call in self._calls.values() if call.kind == "ping"]
        if contact.device in pinged:
            return
        if len(pinged) < self.config.pings_max:
            self._call("ping", contact, Ping(), 0, now, out)
        elif self.table.find(contact.device) is None:
            self.table.offer(contact)

    # -- lookups ------------------------------------------------------------------------------------

    def _begin(
        self,
        purpose: Purpose,
        target: int,
        now: int,
        out: list[Message],
        *,
        service: str = "",
        token: int = 0,
        record: Record | None = None,
        remaining_s: int = 0,
    ) -> bool:
        """Start a lookup. False, with the answer already given, if there are too many."""
        config = self.config
        seeds = self.table.closest(target, config.k)
        if purpose == "join" or not seeds:
            seeds = [*seeds, *self._bootstrap]
        lookup = Lookup(
            self.device,
            target,
            seeds,
            k=config.k,
            alpha=config.alpha,
            quorum=config.quorum if purpose == "get" else 0,
        )
        if purpose == "get" and record is not None:
            lookup.begin_with(record, remaining_s)
            record = None
        task = Task(purpose, lookup, service, token, record, remaining_s)
        if self._left or len(self._tasks) >= config.lookups_max:
            self._reply(0, task, out)
            return False
        number = self._next_number()
        self._tasks[number] = task
        self._looked_up[self.table.bucket_of(target)] = now
        self._advance(number, task, now, out)
        return True

    def _advance(self, number: int, task: Task, now: int, out: list[Message]) -> None:
        if task.storing >= 0:
            if task.storing == 0:
                self._end(number, task, now, out)
            return
        target = task.lookup.target.to_bytes(ID_SIZE)
        request = FindValue(target) if task.lookup.quorum else FindNode(target)
        for contact in task.lookup.next():
            task.rpcs += 1
            self._call("find", contact, request, number, now, out)
        if task.lookup.done:
            if task.record is not None:
                self._store_at_nearest(number, task, task.record, now, out)
            else:
                self._end(number, task, now, out)

    def _store_at_nearest(self, number: int, task: Task, record: Record, now: int, out: list[Message]) -> None:
        target, k = task.lookup.target, self.config.k
        nearest = task.lookup.closest()
        if len(nearest) < k or self._id ^ target < node_id(nearest[-1].device) ^ target:
            nearest = nearest[: k - 1]  # we are one of them ourselves
            response = self._answer(Store(record, task.remaining_s), self.device, now)
            task.stored += response == Stored("stored")
        task.storing = len(nearest)
        for contact in nearest:
            task.rpcs += 1
            self._call("store", contact, Store(record, task.remaining_s), number, now, out)
        self._advance(number, task, now, out)

    def _accept(self, call: Call, response: Response, task: Task | None) -> None:
        """Take an answer in; raises ``ProtocolError`` if it is not one to this call."""
        match call.kind, response:
            case "ping", Pong():
                pass
            case "store", Stored(outcome):
                if task is not None:
                    task.stored += outcome == "stored"
            case "find", Nodes(contacts):
                if task is not None:
                    task.lookup.responded(call.contact.device, contacts)
            case "find", Found(record, remaining_s, contacts) if task is None or task.lookup.quorum:
                if task is not None:
                    self._verify(record, task.lookup)
                    task.lookup.responded(call.contact.device, contacts, record, remaining_s)
            case _:
                raise KademliaError("wrong_response", f"{type(response).__name__} to a {call.kind}")

    def _verify(self, record: Record, lookup: Lookup) -> None:
        if int.from_bytes(record.key) != lookup.target:
            raise KademliaError("wrong_key", f"record of owner {record.owner.hex()[:8]}")
        if record != lookup.best:  # what is equal to it was verified with it
            self.store.verifications += 1
            record.verify()

    def _settle(self, call: Call, task: Task | None, now: int, out: list[Message]) -> None:
        if task is not None:
            if call.kind == "store":
                task.storing -= 1
            self._advance(call.task, task, now, out)

    def _end(self, number: int, task: Task, now: int, out: list[Message]) -> None:
        del self._tasks[number]
        self._reply(number, task, out)
        lookup = task.lookup
        match task.purpose:
            case "get" if lookup.best is not None:
                store = Store(lookup.best, lookup.remaining_s)
                for contact in lookup.lagging()[: self.config.corrections_max]:
                    self._call("store", contact, store, 0, now, out)
            case "join":
                self._join_rpcs += task.rpcs
                self._continue_join(lookup, now, out)
            case "join_refresh":
                self._join_rpcs += task.rpcs
                self._join_refreshes -= 1
                self._conclude_join(out)

    def _reply(self, number: int, task: Task, out: list[Message]) -> None:
        lookup, token, rpcs = task.lookup, task.token, task.rpcs
        target, hops = lookup.target.to_bytes(ID_SIZE), lookup.hops
        match task.purpose:
            case "find":
                out.append(Reply(task.service, FindDone(token, target, tuple(lookup.closest()), hops, rpcs), number))
            case "put":
                out.append(Reply(task.service, PutDone(token, target, task.stored, hops, rpcs), number))
            case "get":
                best = lookup.best
                done = GetDone(token, target, best is not None, best, hops, rpcs, best is not None and rpcs == 0)
                out.append(Reply(task.service, done, number))
            case purpose:
                out.append(LookupEnded(number, purpose, hops, rpcs))

    # -- upkeep -------------------------------------------------------------------------------------

    def _begin_upkeep(self, now: int) -> None:
        if self.config.refresh_ms and not any(duty == "refresh" for _, _, duty, _ in self._agenda):
            interval_ns = self.config.refresh_ms * MILLISECOND_NS
            self._looked_up.setdefault(OWN_NEIGHBOURHOOD, now)
            self._schedule(now + self._draw(now, interval_ns), "refresh", 0)

    def _join(self, now: int, out: list[Message]) -> None:
        if not self._bootstrap and not len(self.table):
            out.append(Joined(0, 0))  # the first node of a network: the others will come
        elif not any(task.purpose == "join" for task in self._tasks.values()):
            self._begin("join", self._id, now, out)

    def _continue_join(self, lookup: Lookup, now: int, out: list[Message]) -> None:
        config = self.config
        if not lookup.closest():
            wait_ms = min(config.join_retry_ms << min(self._join_attempts, 30), config.join_retry_max_ms)
            self._join_attempts += 1
            self._schedule_jittered(now, wait_ms, "join", 0)
            return
        self._join_attempts = 0
        self._schedule_jittered(now, config.settle_ms, "settle", 0)
        # Farthest first: half of all targets lie in the farthest bucket, a quarter in the next.
        far = [bucket for bucket, size in self._far_buckets() if size < config.k]
        chosen = far[::-1][: config.join_refreshes]
        self._join_refreshes = len(chosen)
        for bucket in chosen:
            if not self._begin("join_refresh", self._target_in(bucket, now), now, out):
                self._join_refreshes -= 1
        self._conclude_join(out)

    def _conclude_join(self, out: list[Message]) -> None:
        if self._join_refreshes == 0:
            out.append(Joined(len(self.table), self._join_rpcs))
            self._join_rpcs = 0

    def _far_buckets(self) -> list[tuple[int, int]]:
        """The buckets beyond the k nearest nodes: a lookup of ourselves does not see all of those."""
        nearest = self.table.closest(self._id, self.config.k)
        neighbourhood = max((self.table.bucket_of(node_id(c.device)) for c in nearest), default=0)
        return [(bucket, size) for bucket, size in self.table.buckets() if bucket >= neighbourhood]

    def _refresh(self, now: int, out: list[Message]) -> None:
        interval_ns = self.config.refresh_ms * MILLISECOND_NS
        step_ns = max(1, interval_ns // UPKEEP_STEPS)
        self._schedule_jittered(now, step_ns // MILLISECOND_NS, "refresh", 0)
        if not len(self.table):
            self._join(now, out)
            return
        buckets = [OWN_NEIGHBOURHOOD, *(bucket for bucket, _ in self._far_buckets())]
        stale = [b for b in buckets if self._looked_up.setdefault(b, now - step_ns) + interval_ns <= now]
        stale.sort(key=lambda bucket: self._looked_up[bucket])
        for bucket in stale[:REFRESHES_AT_ONCE]:
            self._begin("refresh", self._target_in(bucket, now), now, out)

    def _begin_replicating(self, now: int) -> None:
        config = self.config
        intervals = [interval for interval in (config.republish_ms, config.replicate_ms) if interval]
        if intervals and not self._replicating and (len(self.store) or self._published):
            self._replicating = True
            step_ms = max(1, min(intervals) // UPKEEP_STEPS)
            self._schedule_jittered(now, step_ms, "replicate", 0)

    def _replicate(self, now: int, out: list[Message]) -> None:
        """Republish our own records, and replicate those that nobody has stored here for a while (§2.5).

        The first holder to do so does it for all. Nodes look at different times, so it is seldom two.
        """
        config = self.config
        self._replicating = False
        self._published = {key: held for key, held in self._published.items() if held.expires_at > now}
        if config.republish_ms:
            before = now - config.republish_ms * MILLISECOND_NS
            due = [held for held in self._published.values() if held.stored_at <= before][:REPLICATIONS_AT_ONCE]
            for held in due:
                self._published[held.record.key] = Held(held.record, held.expires_at, held.ends_at, now)
                self._pass_on("republish", held, now, out)
        if config.replicate_ms:
            before = now - config.replicate_ms * MILLISECOND_NS
            for held in self.store.due(before, REPLICATIONS_AT_ONCE):
                self.store.replicated(held.record.key, now)
                self._pass_on("replicate", held, now, out)
        self._begin_replicating(now)

    def _pass_on(self, purpose: Purpose, held: Held, now: int, out: list[Message]) -> None:
        target = int.from_bytes(held.record.key)
        self._begin(purpose, target, now, out, record=held.record, remaining_s=held.remaining_s(now))

    def _target_in(self, bucket: int, now: int) -> int:
        if bucket == OWN_NEIGHBOURHOOD:
            return self._id
        return (self._id ^ (1 << bucket)) ^ self._draw(now, 1 << bucket)

    # -- inside -------------------------------------------------------------------------------------

    def _check_own(self, record: Record, now: int) -> None:
        """A record of ours that is in order; and those that have expired make room for it."""
        if record.owner != self.device:
            raise LocalError("a node publishes only the records of its own device")
        published = self._published.get(record.key)
        if published is None or published.record != record:
            try:
                record.verify()
            except RecordError as error:
                raise LocalError(f"our own record is not in order: {error}") from None
        self._published = {key: held for key, held in self._published.items() if held.expires_at > now}

    def _room_for(self, key: bytes) -> bool:
        return key in self._published or len(self._published) < self.config.published_max

    def _life_s(self, record: Record) -> int:
        return min(record.ttl_s, self.config.record_ttl_max_s)

    def _publish(self, record: Record, now: int) -> Held:
        expires_at = now + self._life_s(record) * SECOND_NS
        held = Held(record, expires_at, expires_at, now)
        before = self._published.get(record.key)
        if before is None or before.record.sequence <= record.sequence:
            self._published[record.key] = held
        self._begin_replicating(now)
        return held

    def _call(
        self,
        kind: Kind,
        contact: Contact,
        request: Request,
        task: int,
        now: int,
        out: list[Message],
    ) -> None:
        token = self._next_number()
        self._calls[token] = Call(kind, contact, task, now)
        timeout_ns = self.config.request_timeout_ms * MILLISECOND_NS
        out.append(Query(token, contact.device, contact.endpoint, REQUESTS.encode(request), timeout_ns, task))
        if kind == "find":
            self._schedule(now + self.config.slow_after_ms * MILLISECOND_NS, "slow", token)

    def _next_number(self) -> int:
        self._counter += 1
        return self._counter

    def _schedule(self, due: int, duty: Duty, about: int) -> None:
        heappush(self._agenda, (due, self._next_number(), duty, about))

    def _schedule_jittered(self, since: int, interval_ms: int, duty: Duty, about: int) -> None:
        """Due after the interval and up to a quarter more; never, if the interval is 0."""
        if interval_ms:
            interval_ns = interval_ms * MILLISECOND_NS
            self._schedule(since + interval_ns + self._draw(since, interval_ns // 4 + 1), duty, about)

    def _draw(self, now: int, below: int) -> int:
        seed = self.device + now.to_bytes(8) + self._counter.to_bytes(8)
        return int.from_bytes(hashlib.blake2b(seed, digest_size=64, person=b"spacepanda draw").digest()) % below

    # -- state --------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = NodeState(
            version=STATE_VERSION,
            device=self.device,
            table=self.table.to_state(),
            store=self.store.to_state(),
            published=list(self._published.values()),
            tasks=[(number, task.to_state()) for number, task in self._tasks.items()],
            calls=list(self._calls.items()),
            agenda=sorted(self._agenda),
            looked_up=list(self._looked_up.items()),
            counter=self._counter,
            heard_at=self._heard_at,
            join_attempts=self._join_attempts,
            join_refreshes=self._join_refreshes,
            join_rpcs=self._join_rpcs,
            left=self._left,
            sequence_floor=self._sequence_floor,
            keeps=self.store.taken is not None,
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, config: KademliaConfig, bootstrap: Iterable[Contact] = ()) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=NodeState)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a Kademlia node: {error}") from None
        if state.version != STATE_VERSION:
            raise LocalError(f"state version {state.version}, not {STATE_VERSION}")
        node = cls(state.device, config, bootstrap)
        node.table.restore(state.table)
        node.store.restore(state.store)
        node._published = {held.record.key: held for held in state.published}
        node._tasks = {n: Task.from_state(state.device, saved, config) for n, saved in state.tasks}
        node._calls = dict(state.calls)
        node._agenda = state.agenda
        node._looked_up = dict(state.looked_up)
        node._counter, node._heard_at = state.counter, state.heard_at
        node._join_attempts, node._join_refreshes = state.join_attempts, state.join_refreshes
        node._join_rpcs, node._left = state.join_rpcs, state.left
        node._sequence_floor = state.sequence_floor
        node.store.taken = [] if state.keeps else None
        node._replicating = any(duty == "replicate" for _, _, duty, _ in state.agenda)
        return node
