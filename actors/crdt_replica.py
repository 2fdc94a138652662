"""The replicas of a peer: they sign what its services write, take in what others push, and ask for what they miss.

Who is blamed: whoever sent it, for every unit that is refused. An honest replica passes on only what it holds, and what
it holds is what all take, so relaying something forged is as good as forging it. What cannot be decided yet is parked
and blames nobody, until it has to give way: then who sent it is charged. Nobody is blamed for silence.

With a journal, nothing is said to other peers, nor is a service told that it has written, before what that rests on is
durable (``crdt_journal``). Without one, or after an end that was not in order, this device first has to find out from
others how far it was (``crdt_channel``).
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.alarm import Alarm
from actors.context import Context
from actors.crdt_channel import EARLY_MAX, ChannelReplica
from actors.crdt_journal import CrdtJournal, Output, Publish, channel_of, stream_of
from actors.setup import PeerSetup
from protocols.admission import Fault
from protocols.crdt.changes import Acknowledge, Revoke
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held
from protocols.crdt.messages import (
    REQUESTS,
    RESPONSES,
    Confirm,
    Fetch,
    Mark,
    Push,
    Pushed,
    Request,
    Response,
    Settled,
)
from protocols.crdt.rejoining import lost
from protocols.crdt.replica import Replica
from protocols.crdt.requests import (
    DELETED_MAX,
    Changed,
    Describe,
    Revise,
    WatchChannel,
    Write,
    WriteRefused,
    Written,
)
from protocols.errors import LocalError, ProtocolError
from protocols.journal.messages import Durable, JournalLost, OpenStream, Recovered
from protocols.messages import Message
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Refuse, Respond

CHANNELS_MAX: Final = 16
"""Of one peer. Each is a history in memory."""
WATCHERS_MAX: Final = 16
"""Services that want to hear of a channel: there are not that many in a peer."""
CALL_TIMEOUT_NS: Final = 20 * 10**9
"""A handshake may take ten seconds, and then a lossy network some repetitions."""

NOBODYS_FAULT: Final = frozenset({"behind_frontier", "enough"})
"""Why a unit may be refused that an honest member sent: it has kept what we have let go of, or can do without."""
NOBODYS_LIE: Final = frozenset({"untrusted_snapshot", "snapshot_gone", "stale_snapshot"})
"""Why a snapshot may be of no use that an honest member sent: it knows of other admins, or goes on meanwhile."""

STATE_VERSION: Final = 1


class Tick(Message, frozen=True, tag="crdt.tick"):
    """Something is due."""


TICK: Final = Tick()


class Purpose(IntEnum):
    """What a call is for."""

    EXCHANGE = 0
    NEWS = 1
    SETTLING = 2
    """To agree on a snapshot."""
    REJOINING = 3
    """To have one."""


class _Flight(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A call that has not been answered."""

    channel: bytes
    device: bytes
    purpose: Purpose


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    channels: list[bytes]
    closed: list[bytes]
    alarm: Alarm
    next_call: int
    flights: list[tuple[int, _Flight]]
    watchers: list[tuple[bytes, list[str]]]
    journal: bytes | None


class CrdtReplica(Actor):
    """One peer's replicas, between ``rpc`` and whoever sends ``Write``."""

    __slots__ = ("_alarm", "_channels", "_closed", "_flights", "_journal", "_next_call", "_setup", "_watchers")

    service: ClassVar[str] = "crdt"

    def __init__(self, setup: PeerSetup) -> None:
        if len(setup.channels) > CHANNELS_MAX:
            raise LocalError(f"{len(setup.channels)} channels; a peer has at most {CHANNELS_MAX}")
        self._setup = setup
        self._alarm = Alarm()
        self._channels: dict[bytes, ChannelReplica] = {}
        for each in setup.channels:
            made = ChannelReplica(each, setup.identity.signing, setup.crdt)
            self._channels[made.replica.channel] = made
        self._closed: dict[bytes, None] = {}  # those whose stream has not been read yet
        self._next_call = 0
        self._flights: dict[int, _Flight] = {}
        self._watchers: dict[bytes, list[str]] = {}
        self._journal: CrdtJournal | None = None

    @property
    def channels(self) -> tuple[bytes, ...]:
        """For whoever inspects a run."""
        return tuple(self._channels)

    def replica(self, channel: bytes) -> Replica:
        """For whoever inspects a run."""
        return self._channels[channel].replica

    def start(self, ctx: Context) -> None:
        if self._setup.store is None:
            for channel in self._channels.values():
                self._begin(channel, ctx)
            self._rearm(ctx)
            return
        self._journal = CrdtJournal()
        self._closed.update(dict.fromkeys(self._channels))
        for identifier in self._channels:
            ctx.send("journal", OpenStream(stream_of(identifier)))

    @handles(Recovered)
    def recovered(self, recovered: Recovered, ctx: Context) -> None:
        channel = self._channels[channel_of(recovered.stream)]
        if self._journal is None:
            raise LocalError("a stream was read that nobody opened")
        replica, bad = self._journal.recover(recovered, channel.replica)
        channel.adopt(replica)
        ctx.charge("ed25519_verify", len(recovered.records))
        if bad:
            ctx.count("crdt_units_refused", bad, "journal")
        ctx.count("crdt_operations_recovered", len(replica.history) - 1)
        channel.is_confirmed = recovered.clean and not bad
        replica.is_open &= not channel.is_confirmed
        del self._closed[replica.channel]
        self._begin(channel, ctx)
        self._rearm(ctx)

    def _begin(self, channel: ChannelReplica, ctx: Context) -> None:
        channel.took((), b"", ctx.now, ctx.rng)
        channel.plan_sync(ctx.now, ctx.rng)
        if channel.check_confirmed():
            self._write_early(channel, ctx)

    # -- our services -------------------------------------------------------------------------------------

    @handles(Write, Revise)
    def write(self, asked: Write | Revise, ctx: Context) -> None:
        channel = self._channels.get(asked.channel)
        if channel is None:
            ctx.reply(WriteRefused(asked.token, asked.channel, "unknown_channel"))
        elif self._journal is not None and self._journal.is_lost:
            ctx.reply(WriteRefused(asked.token, asked.channel, "unavailable"))
        elif asked.channel not in self._closed and channel.is_confirmed:
            self._write(channel, ctx.sender, asked, ctx)
            self._rearm(ctx)
        elif len(channel.early) < EARLY_MAX:
            channel.early.append((ctx.sender, asked))
        else:
            ctx.reply(WriteRefused(asked.token, asked.channel, "overloaded"))

    @handles(WatchChannel)
    def watch(self, watch: WatchChannel, ctx: Context) -> None:
        watchers = self._watchers.setdefault(watch.channel, [])
        if ctx.sender in watchers:
            return
        if watch.channel not in self._channels or len(watchers) >= WATCHERS_MAX:
            raise LocalError(f"no such channel, or more than {WATCHERS_MAX} services watch it")
        watchers.append(ctx.sender)

    @handles(Describe)
    def describe(self, asked: Describe, ctx: Context) -> None:
        channel = self._channels.get(asked.channel)
        if channel is None:
            raise LocalError(f"there is no replica of {asked.channel.hex()[:16]} to describe")
        ctx.reply(channel.described(asked.token))

    # -- writing ------------------------------------------------------------------------------------------

    def _write(self, channel: ChannelReplica, service: str, asked: Write | Revise, ctx: Context) -> None:
        """As a service asked, or after we know how far we were."""
        replica, before = channel.replica, 0
        refusal, detail = "" if self._journal is None else self._journal.refusal, ""
        if not refusal:
            try:
                self._accuse(channel, ctx)
                before = len(replica.history)
                if isinstance(asked, Revise):
                    self._revise(replica, asked, ctx)
                else:
                    replica.write(self._setup.identity.signing, asked.changes, ctx.now)
            except LocalError as error:
                refusal, detail = "refused", str(error)
        if refusal:
            ctx.count("crdt_writes", 1, refusal)
            ctx.send(service, WriteRefused(asked.token, asked.channel, refusal, detail))
            return
        self._signed(channel, before, service, asked.token, ctx)

    def _revise(self, replica: Replica, asked: Revise, ctx: Context) -> None:
        if asked.delete > DELETED_MAX:
            raise LocalError(f"{asked.delete} characters to delete at once; the limit is {DELETED_MAX}")
        draft = replica.draft(asked.path)
        at = min(asked.at, len(draft))
        deleted = min(asked.delete, len(draft) - at)
        if deleted:
            draft.delete(at, deleted)
        if asked.insert:
            draft.insert(at, asked.insert)
        replica.seal(self._setup.identity.signing, ctx.now)

    def _accuse(self, channel: ChannelReplica, ctx: Context) -> None:
        """Before anything else is written, whoever is known to equivocate is named."""
        replica = channel.replica
        before = len(replica.history)
        while replica.accuse(self._setup.identity.signing, ctx.now) is not None:
            ctx.count("crdt_accusations", len(replica.history) - before)
            self._signed(channel, before, "", 0, ctx)
            before = len(replica.history)

    def _speak(self, channel: ChannelReplica, ctx: Context, *, acknowledge: bool) -> None:
        """Say unasked what is good for all: who equivocates, or what we have seen."""
        replica = channel.replica
        if self._journal is not None and self._journal.refusal:
            return
        try:
            self._accuse(channel, ctx)
            if acknowledge:
                before = len(replica.history)
                replica.write(self._setup.identity.signing, (Acknowledge(),), ctx.now)
                self._signed(channel, before, "", 0, ctx)
        except LocalError:  # we may not, or not so much: then others will
            ctx.count("crdt_writes", 1, "unasked_refused")

    def _signed(self, channel: ChannelReplica, before: int, service: str, token: int, ctx: Context) -> None:
        """What was written since there were ``before`` operations goes out when it is durable."""
        added = channel.since(before)
        ctx.charge("ed25519_sign")
        self._write_down(channel, added)
        self._say(Publish(channel.replica.channel, service, token, tuple(held.id for held in added)), ctx)

    def _write_early(self, channel: ChannelReplica, ctx: Context) -> None:
        early, waiting = list(channel.early), channel.early
        waiting.clear()
        for service, asked in early:
            self._write(channel, service, asked, ctx)

    # -- what others ask ----------------------------------------------------------------------------------

    @handles(Incoming)
    def incoming(self, incoming: Incoming, ctx: Context) -> None:
        device = incoming.device
        try:
            request = REQUESTS.decode(incoming.body)
            refusal = self._refusal(request, device)
            if not refusal:
                self._answer(self._channels[request.channel], request, incoming, ctx)
        except ProtocolError as error:
            self._blame(device, error, ctx)
            refusal = "invalid"
        if refusal:
            ctx.count("crdt_requests_refused", 1, refusal)
            ctx.send("rpc", Refuse(incoming.call, refusal))
        self._rearm(ctx)

    def _refusal(self, request: Request, device: bytes) -> str:
        channel = self._channels.get(request.channel)
        if channel is None:
            return "unknown_channel"
        if request.channel in self._closed:
            return "starting"
        if not channel.is_member(device):
            return "not_member"
        return "" if self._journal is None else self._journal.refusal

    def _answer(self, channel: ChannelReplica, request: Request, incoming: Incoming, ctx: Context) -> None:
        device, binding = incoming.device, incoming.binding
        channel.met(device, incoming.endpoint)
        if isinstance(request, Push):
            pushed = self._take(channel, request.units, device, ctx)
            batch = channel.answerer.wanted(request, binding)
            answer = msgspec.structs.replace(pushed, units=batch.units, more=bool(batch.rest))
            self._say(Respond(incoming.call, RESPONSES.encode(answer)), ctx)
            self._fetch(channel, device, ctx)
        elif isinstance(request, Settled | Confirm | Fetch):
            answered = channel.settling.answer(channel.replica, device, request, ctx.now)
            if answered is None:
                ctx.send("rpc", Refuse(incoming.call, "overloaded"))
            else:
                self._say(Respond(incoming.call, RESPONSES.encode(answered)), ctx)
        else:
            self._say(Respond(incoming.call, RESPONSES.encode(channel.answerer.answer(request, binding, device))), ctx)

    def _take(self, channel: ChannelReplica, units: Sequence[bytes], sender: bytes, ctx: Context) -> Pushed:
        """The one way in; returns what became of the units."""
        replica, added = channel.replica, list[Held]()
        parked = refused = verified = duplicates = 0
        fault: ProtocolError | None = None
        for unit in units:
            receipt = replica.receive(unit, sender, ctx.now)
            added += receipt.added
            duplicates += receipt.duplicates
            parked += receipt.parked
            verified += bool(receipt.added or receipt.parked or receipt.refused)
            if receipt.refused is not None:
                refused += 1
                ctx.count("crdt_units_refused", 1, receipt.refused.reason)
                if fault is None and receipt.refused.reason not in NOBODYS_FAULT:
                    fault = receipt.refused
        if verified:
            ctx.charge("ed25519_verify", verified)
        ctx.count("crdt_duplicates", duplicates)
        ctx.count("crdt_parked", parked)
        if fault is not None:
            self._blame(sender, fault, ctx)
        self._took(channel, added, sender, ctx)
        return Pushed(len(added), parked, refused)

    def _took(self, channel: ChannelReplica, added: Sequence[Held], sender: bytes, ctx: Context) -> None:
        for each in channel.replica.pending.evicted():
            ctx.count("crdt_evicted", each.count)
            self._blame(each.sender, CrdtError("pending_evicted", f"{each.count} units that nobody could use"), ctx)
        if added:
            ctx.count("crdt_operations", len(added))
            self._write_down(channel, added)
            channel.took(added, sender, ctx.now, ctx.rng)
            self._tell_watchers(channel, len(added), ctx)

    def _tell_watchers(self, channel: ChannelReplica, added: int, ctx: Context) -> None:
        replica = channel.replica
        for service in self._watchers.get(replica.channel, ()):
            ctx.send(service, Changed(replica.channel, added, len(replica.history)))

    # -- asking others ------------------------------------------------------------------------------------

    @handles(Tick)
    def tick(self, _: Tick, ctx: Context) -> None:
        self._alarm.rang()
        now = ctx.now
        for identifier, channel in self._channels.items():
            if identifier in self._closed:
                continue
            expired = channel.replica.expire(now)
            self._took(channel, expired, b"", ctx)
            if channel.is_accusation_due(now):
                self._speak(channel, ctx, acknowledge=False)
            if channel.is_acknowledgement_due(now):
                self._speak(channel, ctx, acknowledge=True)
            if channel.is_tell_due(now):
                for device, endpoint, units in channel.tell(ctx.rng):
                    self._call(channel, device, endpoint, REQUESTS.encode(Push(identifier, units)), Purpose.NEWS, ctx)
            if channel.is_removal_due(now):
                self._remove(channel, ctx)
            if channel.is_sync_due(now):
                channel.plan_sync(now, ctx.rng)
                channel.plan_removals(now, ctx.rng)
                self._settle(channel, ctx)
                asked = channel.begin_exchange(now, ctx.rng)
                if asked is not None:
                    self._ask(channel, asked, ctx)
        self._rearm(ctx)

    def _fetch(self, channel: ChannelReplica, device: bytes, ctx: Context) -> None:
        if channel.begin_fetch(device, ctx.now):
            self._ask(channel, device, ctx)

    def _ask(self, channel: ChannelReplica, device: bytes, ctx: Context) -> None:
        """Go on with an exchange, or end it."""
        asking, endpoint = channel.asking[device], channel.endpoint(device)
        exchange = asking.exchange
        body = None if endpoint is None else exchange.request()
        if body is not None and endpoint is not None:
            asking.call = self._call(channel, device, endpoint, body, Purpose.EXCHANGE, ctx)
            return
        if exchange.is_behind:
            self._rejoin(channel, device, ctx)
        ctx.count("crdt_exchanges", 1, "equal" if exchange.is_equal else "differed")
        ctx.record("crdt_exchange_rounds", exchange.rounds)
        ctx.record("crdt_exchange_bytes", exchange.size)
        was_confirmed = channel.is_confirmed
        channel.completed(device)
        if channel.is_confirmed and not was_confirmed:
            if self._journal is not None:
                self._journal.settle(channel.replica.channel)
            self._write_early(channel, ctx)

    def _call(
        self, channel: ChannelReplica, device: bytes, endpoint: int, body: bytes, purpose: Purpose, ctx: Context
    ) -> int:
        token = self._next_call
        self._next_call = token + 1
        self._flights[token] = _Flight(channel.replica.channel, device, purpose)
        self._say(Call(token, device, endpoint, body, CALL_TIMEOUT_NS, self.service), ctx)
        return token

    @handles(Completed)
    def completed(self, completed: Completed, ctx: Context) -> None:
        flight = self._flights.pop(completed.token)
        channel, device = self._channels[flight.channel], flight.device
        try:
            if flight.purpose is Purpose.SETTLING:
                self._answered(channel, RESPONSES.decode(completed.body), ctx)
            elif flight.purpose is Purpose.REJOINING:
                self._fetched(channel, device, completed.token, RESPONSES.decode(completed.body), ctx)
            elif flight.purpose is Purpose.NEWS:
                if not isinstance(RESPONSES.decode(completed.body), Pushed):
                    raise CrdtError("bad_answer", "something else than what became of a push")
            elif (asking := channel.asking_by(device, completed.token)) is not None:
                units = asking.exchange.answer(completed.body, completed.binding)
                taken = self._take(channel, units, device, ctx).taken
                self._ask(channel, device, ctx)
                if taken:  # who brings nothing is not asked again before it sends something: a liar would never end
                    self._fetch(channel, device, ctx)
        except ProtocolError as error:
            channel.give_up(device, completed.token)
            if error.reason in NOBODYS_LIE:
                ctx.count("crdt_snapshots_unused", 1, error.reason)
            else:
                self._blame(device, error, ctx)
        self._rearm(ctx)

    @handles(Failed)
    def failed(self, failed: Failed, ctx: Context) -> None:
        """Somebody is not there, or busy, or takes us for no member yet. Others are asked in time."""
        flight = self._flights.pop(failed.token)
        self._channels[flight.channel].settling.give_up(failed.token)
        if self._channels[flight.channel].give_up(flight.device, failed.token):
            ctx.count("crdt_exchanges", 1, "failed")

    # -- snapshots ----------------------------------------------------------------------------------------

    def _remove(self, channel: ChannelReplica, ctx: Context) -> None:
        """End the membership of those who hold everything up."""
        replica, before = channel.replica, len(channel.replica.history)
        if self._journal is not None and self._journal.refusal:
            return
        try:
            self._accuse(channel, ctx)
            before = len(replica.history)
            for device in channel.silent(ctx.now):
                replica.write(self._setup.identity.signing, (Revoke(device),), ctx.now)
                ctx.count("crdt_silent_removed")
        except LocalError:  # not so much at once
            ctx.count("crdt_writes", 1, "unasked_refused")
        if len(replica.history) > before:
            self._signed(channel, before, "", 0, ctx)

    def _settle(self, channel: ChannelReplica, ctx: Context) -> None:
        """Find out whether there is something to let go of, and that others agree."""
        for device, request in channel.questions(ctx.now, ctx.rng):
            endpoint = channel.endpoint(device)
            if endpoint is not None:
                self._call(channel, device, endpoint, REQUESTS.encode(request), Purpose.SETTLING, ctx)
        self._compact(channel, ctx)

    def _answered(self, channel: ChannelReplica, response: Response, ctx: Context) -> None:
        if not isinstance(response, Mark):
            raise CrdtError("bad_answer", "something else than what is settled")
        channel.settling.answered(channel.replica, response)
        self._compact(channel, ctx)

    def _compact(self, channel: ChannelReplica, ctx: Context) -> None:
        """Let go of what is settled."""
        replica = channel.settling.compacted(channel.replica)
        if replica is None:
            return
        ctx.count("crdt_compactions")
        ctx.record("crdt_compacted_operations", channel.replica.unsettled - replica.unsettled)
        channel.adopt(replica)
        if self._journal is not None:
            self._journal.write_anew(replica, erase=True)

    def _rejoin(self, channel: ChannelReplica, device: bytes, ctx: Context) -> None:
        """A member has let go of what was never here."""
        request = channel.settling.rejoin(channel.replica, device, ctx.now)
        if request is not None:
            self._ask_snapshot(channel, device, request, ctx)

    def _ask_snapshot(self, channel: ChannelReplica, device: bytes, request: Request, ctx: Context) -> None:
        endpoint = channel.endpoint(device)
        if endpoint is not None:
            body = REQUESTS.encode(request)
            channel.settling.call = self._call(channel, device, endpoint, body, Purpose.REJOINING, ctx)

    def _fetched(self, channel: ChannelReplica, device: bytes, token: int, response: Response, ctx: Context) -> None:
        before, after = channel.replica, channel.settling.fetched(channel.replica, token, response)
        if isinstance(after, Replica):
            channel.rejoin(after)
            gone = lost(before, after, self._setup.identity.device_public)
            ctx.count("crdt_rejoined")
            ctx.event("crdt_rejoined", channel=after.channel, lost=gone)
            if self._journal is not None:
                self._journal.write_anew(after, erase=True)
            channel.took((), b"", ctx.now, ctx.rng)
            channel.plan_sync(ctx.now, ctx.rng)
            self._tell_watchers(channel, 0, ctx)
        elif after is not None:
            self._ask_snapshot(channel, device, after, ctx)

    # -- the journal --------------------------------------------------------------------------------------

    @handles(Durable)
    def durable(self, durable: Durable, ctx: Context) -> None:
        if self._journal is not None:
            self._journal.durable(durable)
            self._rearm(ctx)

    @handles(JournalLost)
    def journal_lost(self, _: JournalLost, ctx: Context) -> None:
        """Nothing more is taken in, and nothing said: some of what this replica holds, nobody may count on."""
        if self._journal is None:
            return
        ctx.event("journal_lost")
        for output in self._journal.lost():
            match output:
                case Respond(call):
                    ctx.send("rpc", Refuse(call, "unavailable", happened="perhaps"))
                case Call(token):
                    flight = self._flights.pop(token)
                    self._channels[flight.channel].settling.give_up(token)
                    self._channels[flight.channel].give_up(flight.device, token)
                case Publish(channel, service, token):
                    if service:
                        ctx.send(service, WriteRefused(token, channel, "unwritten"))
        for replicated in self._channels.values():
            for service, asked in replicated.early:
                ctx.send(service, WriteRefused(asked.token, asked.channel, "unavailable"))
            replicated.early.clear()

    def _write_down(self, channel: ChannelReplica, added: Iterable[Held]) -> None:
        if self._journal is not None:
            self._journal.write_down(channel.replica, added)

    def _say(self, output: Output, ctx: Context) -> None:
        """When all that it rests on is durable."""
        if self._journal is None:
            self._said(output, ctx)
        else:
            self._journal.hold(output)

    def _said(self, output: Output, ctx: Context) -> None:
        match output:
            case Publish(identifier, service, token, operations):
                channel = self._channels[identifier]
                known = channel.replica.history.operations  # who is alone may have let go of them before
                held = [known[each] for each in operations if each in known]
                channel.took(held, b"", ctx.now, ctx.rng)
                self._tell_watchers(channel, len(operations), ctx)
                if service:
                    ctx.count("crdt_writes", 1, "ok")
                    ctx.send(service, Written(token, identifier, operations))
            case _:
                ctx.send("rpc", output)

    # -- inside -------------------------------------------------------------------------------------------

    def _rearm(self, ctx: Context) -> None:
        """After whatever was done: say what may be said, and wait for what is next."""
        if self._journal is not None:
            if self._journal.is_lost:
                return
            for output in self._journal.exchange(ctx):
                self._said(output, ctx)
        deadlines = [channel.deadline() for each, channel in self._channels.items() if each not in self._closed]
        self._alarm.set(min((each for each in deadlines if each is not None), default=None), TICK, ctx)

    def _blame(self, device: bytes, error: ProtocolError, ctx: Context) -> None:
        if device:
            ctx.security(error.reason, error.detail, device)
            ctx.send("limiter", Fault(device, error.reason))

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = _State(
            STATE_VERSION,
            [channel.to_bytes() for channel in self._channels.values()],
            list(self._closed),
            self._alarm,
            self._next_call,
            list(self._flights.items()),
            list(self._watchers.items()),
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
        key, config = setup.identity.signing, setup.crdt
        made = [
            ChannelReplica.from_bytes(each, channel, key, config)
            for each, channel in zip(state.channels, setup.channels, strict=True)
        ]
        actor._channels = {each.replica.channel: each for each in made}
        actor._closed = dict.fromkeys(state.closed)
        actor._alarm, actor._next_call = state.alarm, state.next_call
        actor._flights, actor._watchers = dict(state.flights), dict(state.watchers)
        actor._journal = None if state.journal is None else CrdtJournal.from_bytes(state.journal)
        return actor
