"""The DHT node: hosts the Kademlia machine, signs what this device publishes, and reports.

Who is blamed: a device whose request or answer no honest node sends, and nobody else. That includes a record
with a bad signature, since honest nodes check records before they pass them on: the fault is the sender's,
not that of the owner it names.

With a journal, what this node has taken in or published is durable before anybody is told, and a node that comes up
again begins with it, before it joins and before it answers (``protocols.kademlia.kept``). What cannot be written down,
because the disk is too far behind or gone, is not taken in.
"""

from collections.abc import Callable
from functools import wraps
from typing import ClassVar, Final, Self, TypeVar

import msgspec

from actors.actor import Actor, handles
from actors.alarm import Alarm
from actors.context import Context, Span
from actors.dht_journal import STREAM, DhtJournal, Published
from actors.setup import PeerSetup
from protocols.admission import Fault
from protocols.errors import LocalError, ProtocolError
from protocols.journal.messages import Durable, JournalLost, OpenStream, Recovered
from protocols.kademlia.kept import Change
from protocols.kademlia.messages import (
    RESPONSES,
    Find,
    FindDone,
    Get,
    GetDone,
    Joined,
    Leave,
    LookupEnded,
    Misbehaved,
    Put,
    PutDone,
    Query,
    Reply,
    Stored,
    Watch,
)
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.records import Record, record_key
from protocols.messages import Message
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Refuse, Respond

UNANSWERED: Final = frozenset({"timeout", "wrong_device"})
"""Why a call fails that say something about the contact: it is silent, or somebody else is there. A session that
ended, a limit of ours and a refusal do not."""

WATCHERS_MAX: Final = 16
"""Services that wait for the join: there are not that many in a peer."""

EARLY_MAX: Final = 64
"""Commands that wait until the journal has been read: as many as there can be lookups."""

STATE_VERSION: Final = 2


class Tick(Message, frozen=True, tag="kad.tick"):
    """The machine's deadline has come."""


TICK: Final = Tick()


Command = Put | Get | Find | Leave
CommandT = TypeVar("CommandT", Put, Get, Find, Leave)
Handle = Callable[["DhtNode", CommandT, Context], None]


def _once_begun(handle: Handle[CommandT]) -> Handle[CommandT]:
    """A command that waits until the journal has been read."""

    @wraps(handle)
    def method(node: "DhtNode", command: CommandT, ctx: Context) -> None:
        if node._begun:
            handle(node, command, ctx)
        elif len(node._early) < EARLY_MAX:
            node._early.append(command)
        else:
            node._give_up(command, ctx)

    return method


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    node: bytes
    alarm: Alarm
    joined: Joined | None
    watchers: list[str]
    spans: list[tuple[int, Span]]
    begun: bool
    early: list[Command]
    journal: bytes | None


class DhtNode(Actor):
    """One Kademlia node, between ``rpc`` and whoever sends it ``Put``, ``Get`` and ``Find``."""

    __slots__ = ("_alarm", "_begun", "_early", "_joined", "_journal", "_setup", "_spans", "_watchers", "node")

    service: ClassVar[str] = "dht"

    def __init__(self, setup: PeerSetup) -> None:
        self._setup = setup
        self.node = KademliaNode(setup.identity.device_public, setup.kademlia, setup.bootstrap)
        self._alarm = Alarm()
        self._joined: Joined | None = None
        self._watchers: list[str] = []
        self._spans: dict[int, Span] = {}  # of lookups within a trace
        self._begun = False  # with what its journal has, if it has one
        self._early: list[Command] = []
        self._journal: DhtJournal | None = None

    def start(self, ctx: Context) -> None:
        if self._setup.store is None:
            self._begin(ctx)
        else:
            ctx.send("journal", OpenStream(STREAM))

    @handles(Recovered)
    def recovered(self, recovered: Recovered, ctx: Context) -> None:
        before = self.node.store.verifications
        changes = [Change(record.kind, record.payload) for record in recovered.records]
        bad = self.node.recover(recovered.snapshot, changes, ctx.now)
        self._charge(before, ctx)
        if bad:
            ctx.count("kad_records_rejected", bad, "bad_signature")
        ctx.count("kad_records_recovered", len(self.node.store))
        self._journal = DhtJournal(len(changes))
        self._begin(ctx)

    def _begin(self, ctx: Context) -> None:
        self._begun = True
        if self._setup.contacts:
            self.node.adopt(self._setup.contacts, ctx.now)
            self._route([Joined(len(self.node.table), 0)], ctx)
        else:
            self._route(self.node.join(ctx.now), ctx)
        early, self._early = self._early, []
        for command in early:
            self.handlers[type(command)](self, command, ctx)

    # -- commands -----------------------------------------------------------------------------------

    @handles(Put)
    @_once_begun
    def put(self, put: Put, ctx: Context) -> None:
        journal = self._journal
        if journal is not None and journal.refusal:
            self._give_up(put, ctx)
            return
        owner = self._setup.identity.device_public
        sequence = self.node.next_sequence(record_key(owner, put.name), ctx.now)
        record = Record.sign(self._setup.identity.signing, put.name, sequence, put.value, put.ttl_s)
        ctx.charge("ed25519_sign")
        span = ctx.span("kad.lookup")
        if journal is not None and (change := self.node.publish(record, ctx.now)) is not None:
            journal.write_down([change], self.node)
            journal.hold(Published(put.service, put.token, record, span))
            self._route([], ctx)
        else:
            self._route(self.node.put(put.service, put.token, record, ctx.now), ctx, span)

    @handles(Get)
    @_once_begun
    def get(self, get: Get, ctx: Context) -> None:
        span = ctx.span("kad.lookup")
        self._route(self.node.get(get.service, get.token, get.key, ctx.now), ctx, span)

    @handles(Find)
    @_once_begun
    def find(self, find: Find, ctx: Context) -> None:
        span = ctx.span("kad.lookup")
        self._route(self.node.find(find.service, find.token, find.target, ctx.now), ctx, span)

    @handles(Watch)
    def watch(self, watch: Watch, ctx: Context) -> None:
        if self._joined is not None:
            ctx.send(watch.service, self._joined)
        elif len(self._watchers) >= WATCHERS_MAX:
            raise LocalError(f"more than {WATCHERS_MAX} services wait for the join")
        else:
            self._watchers.append(watch.service)

    @handles(Leave)
    @_once_begun
    def leave(self, leave: Leave, ctx: Context) -> None:
        self._route(self.node.leave(), ctx)
        if self._journal is not None:
            self._journal.end()  # whoever has us leave goes on to close it

    def _give_up(self, command: Command, ctx: Context) -> None:
        """There are too many, or it cannot be written down; whoever waits gets an answer."""
        match command:
            case Put(service, token, name):
                key = record_key(self._setup.identity.device_public, name)
                ctx.send(service, PutDone(token, key, 0, 0, 0))
            case Get(service, token, key):
                ctx.send(service, GetDone(token, key, False, None, 0, 0, False))
            case Find(service, token, target):
                ctx.send(service, FindDone(token, target, (), 0, 0))
            case Leave():
                pass

    # -- what peers said ----------------------------------------------------------------------------

    @handles(Incoming)
    def incoming(self, incoming: Incoming, ctx: Context) -> None:
        if not self._begun:
            ctx.send("rpc", Refuse(incoming.call, "starting"))
            return
        before = self.node.store.verifications
        is_store = incoming.kind == "kad.store"
        if is_store and self._journal is not None and (refusal := self._journal.refusal):
            ctx.count("kad_records_rejected", 1, refusal)
            ctx.send("rpc", Refuse(incoming.call, refusal))
            return
        try:
            body, outputs = self.node.receive(incoming.device, incoming.endpoint, incoming.body, ctx.now)
        except ProtocolError as error:
            self._charge(before, ctx)
            if is_store:
                ctx.count("kad_records_rejected", 1, error.reason)
            self._blame(incoming.device, error.reason, error.detail, ctx)
            ctx.send("rpc", Refuse(incoming.call, "invalid", error.reason))
            return
        self._charge(before, ctx)
        if is_store and self._journal is not None:
            self._journal.write_down(self.node.changes(), self.node)
            self._journal.hold(Respond(incoming.call, body))
            self._exchange(self._journal, ctx)
        else:
            ctx.send("rpc", Respond(incoming.call, body))
        if is_store:
            response = RESPONSES.decode(body)
            if isinstance(response, Stored) and response.outcome != "stored":
                ctx.count("kad_records_rejected", 1, response.outcome)
            else:
                ctx.count("kad_records_stored")
        self._route(outputs, ctx)

    @handles(Completed)
    def completed(self, completed: Completed, ctx: Context) -> None:
        before, known = self.node.store.verifications, len(self.node.table)
        outputs = self.node.completed(completed.token, completed.endpoint, completed.body, ctx.now)
        self._charge(before, ctx)
        if len(self.node.table) > known:
            ctx.count("kad_contacts_added")
        self._route(outputs, ctx)

    @handles(Failed)
    def failed(self, failed: Failed, ctx: Context) -> None:
        unanswered = not failed.refused and failed.reason in UNANSWERED
        known = len(self.node.table)
        outputs = self.node.failed(failed.token, ctx.now, unanswered=unanswered)
        if len(self.node.table) < known:
            ctx.count("kad_contacts_removed")
        self._route(outputs, ctx)

    @handles(Tick)
    def tick(self, tick: Tick, ctx: Context) -> None:
        self._alarm.rang()
        self._route(self.node.expire(ctx.now), ctx)

    # -- the journal --------------------------------------------------------------------------------

    @handles(Durable)
    def durable(self, durable: Durable, ctx: Context) -> None:
        if self._journal is not None:
            self._journal.durable(durable)
            self._exchange(self._journal, ctx)

    @handles(JournalLost)
    def journal_lost(self, lost: JournalLost, ctx: Context) -> None:
        """What this node holds it goes on to give out, but nobody is told that anything is safe here."""
        if self._journal is None:
            return
        ctx.event("journal_lost")
        for output in self._journal.lost():
            match output:
                case Respond(call):
                    ctx.send("rpc", Refuse(call, "unavailable", happened="perhaps"))
                case Published(service, token, record, span):
                    ctx.finish(span, purpose="put", hops=0, rpcs=0)
                    ctx.send(service, PutDone(token, record.key, 0, 0, 0))

    def _exchange(self, journal: DhtJournal, ctx: Context) -> None:
        for output in journal.exchange(ctx):
            match output:
                case Respond():
                    ctx.send("rpc", output)
                case Published(service, token, record, span):
                    self._route(self.node.put(service, token, record, ctx.now), ctx, span)

    # -- inside -------------------------------------------------------------------------------------

    def _route(self, outputs: list[Message], ctx: Context, span: Span | None = None) -> None:
        """Hand on what the machine put out. ``span`` belongs to the lookup that it just began, or ended."""
        for output in outputs:
            match output:
                case Query(token, device, endpoint, body, timeout_ns, lookup):
                    if span is not None and lookup:
                        self._spans[lookup] = span
                    call = Call(token, device, endpoint, body, timeout_ns, self.service)
                    traced = self._spans.get(lookup)
                    if traced is None:
                        ctx.send("rpc", call)
                    else:
                        with ctx.traced(traced.trace):
                            ctx.send("rpc", call)
                case Reply(service, result, lookup):
                    self._ended(lookup, type(result).__name__, result.hops, result.rpcs, ctx, span)
                    ctx.send(service, result)
                case LookupEnded(lookup, purpose, hops, rpcs):
                    self._ended(lookup, purpose, hops, rpcs, ctx)
                case Misbehaved(device, reason):
                    self._blame(device, reason, "", ctx)
                case Joined(contacts, rpcs):
                    self._joined = output
                    ctx.event("kad_joined", contacts=contacts, rpcs=rpcs)
                    for watcher in self._watchers:
                        ctx.send(watcher, output)
                    self._watchers.clear()
        if self._journal is not None:
            self._journal.write_down(self.node.changes(), self.node)
            self._exchange(self._journal, ctx)
        self._alarm.set(self.node.deadline(), TICK, ctx)

    def _ended(self, lookup: int, purpose: str, hops: int, rpcs: int, ctx: Context, span: Span | None = None) -> None:
        purpose = {"FindDone": "find", "PutDone": "put", "GetDone": "get"}.get(purpose, purpose)
        if lookup:  # else it was answered from here, or refused
            ctx.count("kad_lookups", 1, purpose)
            ctx.record("kad_lookup_hops", hops)
            ctx.record("kad_lookup_rpcs", rpcs)
        ctx.finish(self._spans.pop(lookup, span), purpose=purpose, hops=hops, rpcs=rpcs)

    def _blame(self, device: bytes, reason: str, detail: str, ctx: Context) -> None:
        ctx.security(reason, detail, device)
        ctx.send("limiter", Fault(device, reason))

    def _charge(self, before: int, ctx: Context) -> None:
        verified = self.node.store.verifications - before
        if verified:
            ctx.charge("ed25519_verify", verified)

    # -- state --------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = _State(
            STATE_VERSION,
            self.node.to_bytes(),
            self._alarm,
            self._joined,
            self._watchers,
            list(self._spans.items()),
            self._begun,
            self._early,
            None if self._journal is None else self._journal.to_bytes(),
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        if state.version != STATE_VERSION:
            raise LocalError(f"state version {state.version}, not {STATE_VERSION}")
        actor = cls.__new__(cls)
        actor._setup = setup
        actor.node = KademliaNode.from_bytes(state.node, setup.kademlia, setup.bootstrap)
        actor._alarm = state.alarm
        actor._joined, actor._watchers, actor._spans = state.joined, state.watchers, dict(state.spans)
        actor._begun, actor._early = state.begun, state.early
        actor._journal = None if state.journal is None else DhtJournal.from_bytes(state.journal)
        return actor
