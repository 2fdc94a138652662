"""One replica among the others: what it has to tell them, whom it asks, and when.

News is told at once, to a few members drawn at random, who tell a few others: most of what is written is everywhere
within a second or two. Anti-entropy does the rest: now and then each member asks another one whether they hold the
same. Whoever is told something that rests on what it does not hold asks the teller for that, as it must have it.

What a device wrote and then forgot, it must not write again: that would be a second branch, and everybody would take
the device for an equivocator. So with memory that is not certain to be all, it first agrees with some members, and
they give back what they have of it. Until that is done, it reads and answers, and writes wait.

All of this is bounded: an exchange with a member at a time, a few in all, and who takes too long over it is overtaken
by the next one, so that nobody keeps us from hearing others; news is what fits into a message.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final, Self

import msgspec

from actors.crdt_settling import Settling
from actors.randomness import Randomness
from actors.setup import Channel
from protocols.crdt.answering import Answerer
from protocols.crdt.changes import Acknowledge, Role
from protocols.crdt.config import CrdtConfig
from protocols.crdt.exchange import Exchange
from protocols.crdt.history import Held
from protocols.crdt.messages import Request
from protocols.crdt.outgoing import pack
from protocols.crdt.reconciliation import KeyedSets
from protocols.crdt.replica import FOREVER, Replica
from protocols.crdt.requests import Author, Described, Revise, Write
from protocols.crdt.stability import holding_up
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey

EXCHANGES_MAX: Final = 2
"""Under way at once of those that were due, and as many again with who told us what we could not use. When another one
is due the oldest is given up: its member may be stalling."""
FETCH_NS_MAX: Final = 30 * 10**9
"""How long who told us what we could not use may take to explain it, if others wait for their turn."""
UNTIL_MAX: Final = 64
"""Missing operations that an exchange asks for; what else is missing lies in their past, or is asked for next."""
NEWS_MAX: Final = 4096
"""Operations to be told; beyond that others find them by anti-entropy."""
REMOVALS_MAX: Final = 16
"""Silent members that are removed at once; the others come next."""
EARLY_MAX: Final = 64
"""Writes that wait until this device knows how far it was."""
HURRY: Final = 8
"""How much sooner than usual a member is asked while nothing may be written before."""
SPREAD: Final = 4
"""What is delayed by chance is delayed by up to a quarter more or less."""


class Asking:
    """An exchange that is under way."""

    __slots__ = ("began_at", "call", "exchange", "is_fetch")

    def __init__(self, exchange: Exchange, is_fetch: bool, began_at: int, call: int = -1) -> None:
        self.exchange: Final = exchange
        self.is_fetch: Final = is_fetch
        """Whether it is only about what is missing here."""
        self.began_at: Final = began_at
        self.call = call
        """The token of the question that waits for its answer."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    replica: bytes
    endpoints: list[tuple[bytes, int]]
    news: list[tuple[bytes, bytes]]
    asking: list[tuple[bytes, bytes, bool, int, int]]
    agreed: list[bytes]
    is_confirmed: bool
    early: list[tuple[str, Write | Revise]]
    times: tuple[int, int, int, int, int]
    is_open: bool
    settling: bytes


class ChannelReplica:
    """A replica and its business with other members; its actor does what comes out."""

    __slots__ = (
        "_accuse_at",
        "_acknowledge_at",
        "_agreed",
        "_config",
        "_device",
        "_endpoints",
        "_news",
        "_remove_at",
        "_sync_at",
        "_tell_at",
        "answerer",
        "asking",
        "early",
        "is_confirmed",
        "replica",
        "sets",
        "settling",
    )

    def __init__(self, channel: Channel, key: SigningKey, config: CrdtConfig, replica: Replica | None = None) -> None:
        self._device: Final = key.public
        self._config: Final = config
        self._endpoints: Final = {each.device: each.endpoint for each in channel.members if each.device != key.public}
        self._news: dict[bytes, bytes] = {}
        """Operations that the others are to be told, and who told us."""
        self.asking: Final[dict[bytes, Asking]] = {}
        """Exchanges under way, by device, oldest first."""
        self._agreed: Final[dict[bytes, None]] = {}
        """Members with whom an exchange was completed, until there are enough of them."""
        self.is_confirmed = False
        """Whether this device is sure how far it was, and may write."""
        self.early: Final[list[tuple[str, Write | Revise]]] = []
        """What services want to write and may not yet."""
        self._tell_at = self._sync_at = self._accuse_at = self._acknowledge_at = self._remove_at = 0
        """When something is due; 0 if it is not."""
        self.settling = Settling(key)
        self.adopt(Replica(channel.genesis) if replica is None else replica)

    def adopt(self, replica: Replica) -> None:
        """This is the replica from now on; no exchange is under way."""
        self.replica = replica
        self.sets = KeyedSets(replica.history)
        self.answerer = Answerer(replica.history, self.sets)
        self.asking.clear()
        self._news = {each: teller for each, teller in self._news.items() if each in replica.history}
        self.settling.adopt(replica)

    # -- members ------------------------------------------------------------------------------------------

    def is_member(self, device: bytes) -> bool:
        return self.replica.judge.role(device) is not None

    def met(self, device: bytes, endpoint: int) -> None:
        """A member was heard of at this endpoint."""
        self._endpoints[device] = endpoint

    def endpoint(self, device: bytes) -> int | None:
        return self._endpoints.get(device)

    def _others(self) -> list[bytes]:
        """Members that can be reached, in an order that is the same after a restart."""
        role = self.replica.judge.members
        return [device for device in self._endpoints if device in role]

    def _drawn(self, count: int, draws: Randomness) -> list[bytes]:
        others = self._others()
        return [others.pop(draws.below(len(others))) for _ in range(min(count, len(others)))]

    # -- news ---------------------------------------------------------------------------------------------

    def took(self, added: Iterable[Held], sender: bytes, now: int, draws: Randomness) -> None:
        """Operations were taken in: from a member, or our own once they are durable (``sender`` is empty)."""
        config = self._config
        for held in added:
            acknowledges = isinstance(held.operation.change, Acknowledge)
            if len(self._news) < NEWS_MAX:
                self._news[held.id] = sender
            if not acknowledges and not self._tell_at:  # that goes with whatever is told next, or is asked for
                self._tell_at = now + config.gossip_delay_ns
            if held.operation.author == self._device:
                self._acknowledge_at = 0
            elif not acknowledges and not self._acknowledge_at:
                self._acknowledge_at = now + _around(config.acknowledge_after_ns, draws)
        if not self._accuse_at and self.replica.history.forks and self.replica.judge.accusations_due:
            self._accuse_at = now + 1 + draws.below(config.accuse_delay_ns)

    def tell(self, draws: Randomness) -> list[tuple[bytes, int, tuple[bytes, ...]]]:
        """Devices, their endpoints, and what each is to be told. What does not fit is found by who asks."""
        news, self._news, self._tell_at = self._news, {}, 0
        history = self.replica.history
        told = []
        for device in self._drawn(self._config.fanout, draws):
            units = pack(history, [history.operations[each] for each, teller in news.items() if teller != device]).units
            if units:
                told.append((device, self._endpoints[device], units))
        return told

    # -- asking -------------------------------------------------------------------------------------------

    def begin_exchange(self, now: int, draws: Randomness) -> bytes | None:
        """With a member drawn at random; returns the device, if there is one."""
        self._make_room(is_fetch=False)
        free = [device for device in self._others() if device not in self.asking]
        fresh = [device for device in free if device not in self._agreed]
        choice = fresh if fresh and not self.is_confirmed else free
        if not choice:
            return None
        device = choice[draws.below(len(choice))]
        self.asking[device] = Asking(Exchange(self.replica.history, self.sets), False, now)
        return device

    def begin_fetch(self, device: bytes, now: int) -> bool:
        """Ask for what is missing who has sent what rests on it; whether that was begun."""
        if device in self.asking or device not in self._endpoints:
            return False
        missing = self.replica.pending.missing_of(device)[:UNTIL_MAX]
        if not missing or not self._make_room(is_fetch=True, before=now - FETCH_NS_MAX):
            return False
        self.asking[device] = Asking(Exchange(self.replica.history, self.sets, missing), True, now)
        return True

    def _make_room(self, *, is_fetch: bool, before: int = FOREVER) -> bool:
        """Give up the oldest of a kind if there are too many, and it began ``before``."""
        same = [device for device, asking in self.asking.items() if asking.is_fetch == is_fetch]
        if len(same) < EXCHANGES_MAX:
            return True
        if self.asking[same[0]].began_at > before:
            return False
        del self.asking[same[0]]
        return True

    def asking_by(self, device: bytes, call: int) -> Asking | None:
        """The exchange that this call is part of, unless it was given up."""
        asking = self.asking.get(device)
        return asking if asking is not None and asking.call == call else None

    def give_up(self, device: bytes, call: int) -> bool:
        """The call will not be answered, or was so by a liar; whether an exchange ended with it."""
        if self.asking_by(device, call) is None:
            return False
        del self.asking[device]
        return True

    def completed(self, device: bytes) -> None:
        """An exchange has come to its end."""
        asking = self.asking.pop(device)
        exchange, replica = asking.exchange, self.replica
        agrees = exchange.is_equal or (
            (exchange.is_complete if replica.is_open else exchange.has_own(self._device))
            and not replica.is_stranded(self._device)
        )
        if not self.is_confirmed and not asking.is_fetch and agrees:
            self._agreed[device] = None
            self.check_confirmed()

    def check_confirmed(self) -> bool:
        """Whether enough members have agreed with us; it stays so."""
        others, replica = self._others(), self.replica
        agreed = sum(device in self._agreed for device in others)
        wanted = max(self._config.confirmations, replica.is_open)
        if not self.is_confirmed and agreed >= min(wanted, len(others)):
            self.is_confirmed, replica.is_open = True, False
            self._agreed.clear()
        return self.is_confirmed

    def rejoin(self, replica: Replica) -> None:
        """Go on with what others have settled; not sure any more how far this device was."""
        self.adopt(replica)
        self.is_confirmed = False
        self._agreed.clear()

    # -- time ---------------------------------------------------------------------------------------------

    def plan_sync(self, now: int, draws: Randomness) -> None:
        """Ask the next member after the usual time, or sooner if that is waited for."""
        pause = _around(self._config.sync_interval_ns, draws)
        self._sync_at = now + (pause if self.is_confirmed else pause // HURRY)

    def deadline(self) -> int | None:
        """When something is due."""
        times = [self._tell_at, self._sync_at]
        if self.is_confirmed:
            times += [self._accuse_at, self._acknowledge_at, self._remove_at]
        times.append(self.replica.pending.deadline or 0)
        return min((each for each in times if each), default=None)

    def is_tell_due(self, now: int) -> bool:
        return 0 < self._tell_at <= now

    def is_sync_due(self, now: int) -> bool:
        return 0 < self._sync_at <= now

    def is_accusation_due(self, now: int) -> bool:
        due = self.is_confirmed and 0 < self._accuse_at <= now
        if due:
            self._accuse_at = 0
        return due

    def is_acknowledgement_due(self, now: int) -> bool:
        due = self.is_confirmed and 0 < self._acknowledge_at <= now
        if due:
            self._acknowledge_at = 0
        return due

    def is_removal_due(self, now: int) -> bool:
        due = self.is_confirmed and 0 < self._remove_at <= now
        if due:
            self._remove_at = 0
        return due

    def since(self, before: int) -> tuple[Held, ...]:
        """The operations that were added when there were ``before``."""
        return tuple(islice(self.replica.history.operations.values(), before, None))

    # -- letting go ---------------------------------------------------------------------------------------

    def plan_removals(self, now: int, draws: Randomness) -> None:
        """Somebody has to remove who is silent. Whoever draws the shortest delay does."""
        if not self._remove_at and self.silent(now):
            self._remove_at = now + 1 + draws.below(self._config.accuse_delay_ns)

    def silent(self, now: int) -> tuple[bytes, ...]:
        """The members that hold everything up, and that this device may remove."""
        judge, config = self.replica.judge, self._config
        if not config.silent_after_s or (judge.role(self._device) or 0) < Role.ADMIN:
            return ()
        others = [
            device
            for device, role in judge.members.items()
            if role < Role.OWNER and device != self._device and device not in judge.fenced
        ]
        return holding_up(self.replica.history, others, now, config.silent_after_ns)[:REMOVALS_MAX]

    def questions(self, now: int, draws: Randomness) -> list[tuple[bytes, Request]]:
        """What to ask whom to be able to compact."""
        if not self.is_confirmed:
            return []
        return self.settling.questions(self.replica, self._others(), self._config, now, draws)

    # -- asked --------------------------------------------------------------------------------------------

    def described(self, token: int) -> Described:
        """How the replica stands, and who wrote what."""
        replica = self.replica
        digest, set_digest = replica.digest(), replica.set_digest
        held, parked = len(replica.history), len(replica.pending)
        return Described(token, replica.channel, digest, set_digest, held, parked, self.is_confirmed, _authors(replica))

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = _State(
            self.replica.to_bytes(),
            list(self._endpoints.items()),
            list(self._news.items()),
            [
                (device, each.exchange.to_bytes(), each.is_fetch, each.began_at, each.call)
                for device, each in self.asking.items()
            ],
            list(self._agreed),
            self.is_confirmed,
            self.early,
            (self._tell_at, self._sync_at, self._accuse_at, self._acknowledge_at, self._remove_at),
            self.replica.is_open,
            self.settling.to_bytes(),
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, channel: Channel, key: SigningKey, config: CrdtConfig) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a channel's replica: {error}") from None
        replica = Replica.from_bytes(state.replica, Replica(channel.genesis).channel)
        replica.is_open = state.is_open
        made = cls(channel, key, config, replica)
        made._endpoints.clear()
        made._endpoints.update(state.endpoints)
        made._news = dict(state.news)
        for other, exchange, is_fetch, began_at, call in state.asking:
            asked = Exchange.from_bytes(replica.history, made.sets, exchange)
            made.asking[other] = Asking(asked, is_fetch, began_at, call)
        made._agreed.update(dict.fromkeys(state.agreed))
        made.is_confirmed = state.is_confirmed
        made.early.extend(state.early)
        made._tell_at, made._sync_at, made._accuse_at, made._acknowledge_at, made._remove_at = state.times
        made.settling = Settling.from_bytes(state.settling, key, replica)
        return made


def _around(time_ns: int, draws: Randomness) -> int:
    """About so long, so that not all do it at once."""
    return time_ns - time_ns // SPREAD + draws.below(1 + 2 * (time_ns // SPREAD))


def _authors(replica: Replica) -> tuple[Author, ...]:
    """Who wrote what, and who may; sorted by device."""
    judge, history = replica.judge, replica.history
    fenced = judge.fenced
    counts: dict[bytes, list[int]] = {device: [0, 0] for device in judge.members}
    for held in history:
        counts.setdefault(held.operation.author, [0, 0])[not held.counts] += 1
    authors = []
    for device in sorted(counts):
        tip, (counting, inert) = replica.tip(device), counts[device]
        sequence, identifier = (0, bytes(32)) if tip is None else (tip.sequence, tip.id)
        role = judge.role(device) or 0
        authors.append(Author(device, sequence, identifier, counting, inert, device in fenced, int(role)))
    return tuple(authors)
