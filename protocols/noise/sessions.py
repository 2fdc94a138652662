"""The sessions of one peer: who is being dialled, who is being answered, who can be talked to.

    initiator                                   responder
    dialling   INIT ----------------------------> half-open     nothing that matters has changed
    session    <------------------------ RESPONSE
               FINAL ---------------------------> session
    confirmed  <-------------------- DATA (empty)

Each waits with a timer of its own and repeats *the same bytes*, and answers a repetition with the same
bytes, so loss, repetition and reordering end in two sessions or in a failure that is told. The last line
exists for that: without it an initiator whose FINALs were all lost would keep half a session.

**Both dial at once.** The peer with the lower device key ignores the other's INIT while it waits for its own
dial; the other answers, and takes the answered handshake for its dial. The rule is dropped after the second
repetition, as a wrong address book can make two peers wait for each other (A takes B for X, B dials A,
A < X, B < A). Then two sessions may result, and they do no harm: see ``table``.

**Roaming.** A session's endpoint is where its newest verified datagram came from, as in WireGuard. Who can
rewrite sources on the path can divert a session until the next datagram; he could have dropped it as well.
A handshake does not roam: it stays with the endpoint that INIT came from or went to.

**Blame.** Who sends a bad datagram is unknown, as sources can be spoofed: it raises, changes nothing, and names no
device, not even that of the session it was aimed at.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from protocols.errors import LocalError
from protocols.identity import DeviceIdentity
from protocols.messages import DATAGRAM_SIZE_MAX, Message
from protocols.noise import exchange
from protocols.noise.contexts import AeadContexts
from protocols.noise.cookies import SECRET_SIZE, cookie, valid_cookie
from protocols.noise.datagrams import (
    COOKIE,
    COOKIE_DATAGRAM,
    DATA,
    DATA_HEADER,
    DATA_SIZE_MIN,
    FINAL,
    HEADER,
    INDEX_SIZE,
    INIT,
    INIT_HEADER,
    INIT_PADDING,
    NO_COOKIE,
    RESPONSE,
    RESPONSES_MAX,
    SessionError,
    StaleDatagramError,
    kind_of,
)
from protocols.noise.exchange import EPHEMERAL_SIZE, Agreed
from protocols.noise.interface import (
    NS_PER_MS,
    DialFailed,
    Opened,
    SessionConfig,
    SessionDown,
    SessionUp,
    Transmit,
)
from protocols.noise.pending import Dialling, HalfOpen, Pending, Unconfirmed
from protocols.noise.session import CounterExhaustedError, Session
from protocols.noise.table import SavedSession, SessionTable

Entropy = Callable[[int], bytes]
Heard = tuple[int, int, bytes]

STATE_VERSION: Final = 1

NEVER: Final = 2**63 - 1
"""Later than every deadline."""

HALF_OPEN_PER_ENDPOINT_MAX: Final = 2
"""An endpoint's third handshake at a time needs a cookie, and then displaces its first: who spoofs an
endpoint can neither fill the table in its name nor shut it out."""

EARLY_DATA_MAX: Final = 4
"""Datagrams kept that overtook FINAL: a first request and its neighbours."""
EARLY_DATA_SIZE_MAX: Final = 2048
"""So that a stranger's half-open handshake costs at most 9 kB."""

COOKIES_PER_DIAL_MAX: Final = 4
"""A cookie is answered at once; who has seen our INIT must not make us send forever."""

IDLE_STEPS: Final = 16
"""Sessions are looked at in steps of this part of the idle timeout, so one may live that much longer."""

DEFERRED_SENDS_MAX: Final = 2
"""For how many of our own INITs the rule of simultaneous dials holds: 3 s."""


class Sessions:
    """The machine. Its outputs are ``Transmit``, ``Opened``, ``SessionUp``, ``SessionDown`` and ``DialFailed``."""

    __slots__ = (
        "_answered",
        "_config",
        "_contexts",
        "_cookie_secret",
        "_dials",
        "_half_open",
        "_handshakes_at",
        "_identity",
        "_sessions_at",
        "_table",
        "_unconfirmed",
        "exchanges",
        "verifications",
    )

    def __init__(self, identity: DeviceIdentity, config: SessionConfig, contexts: AeadContexts) -> None:
        self._identity = identity
        self._config = config
        self._contexts = contexts
        self._table = SessionTable(config, contexts)
        self._dials: dict[int, Dialling] = {}
        self._half_open: dict[int, HalfOpen] = {}
        self._unconfirmed: dict[int, Unconfirmed] = {}
        # (source, its index, ephemeral) of an INIT -> (our index, until when), so that a repetition, also of a
        # finished handshake, is known. At most one for each half-open handshake and session.
        self._answered: dict[Heard, tuple[int, int]] = {}
        self._cookie_secret = b""
        # No later than the first deadline of either kind. Two, as handshakes come and go by the second, and to
        # look through all sessions as often would cost more than they do.
        self._handshakes_at = NEVER
        self._sessions_at = NEVER
        self.exchanges = 0
        """X25519 operations done so far, in vain or not, for who accounts for CPU time."""
        self.verifications = 0
        """Ed25519 verifications done so far."""

    def __len__(self) -> int:
        return len(self._table)

    @property
    def half_open(self) -> int:
        """How many handshakes are being answered."""
        return len(self._half_open)

    @property
    def dialling(self) -> int:
        return len(self._dials)

    def session_with(self, device: bytes) -> int | None:
        """The session to send on."""
        session = self._table.with_device(device)
        return session.index if session is not None else None

    def channel_binding(self, session: int) -> bytes:
        """What names this session, the same on both sides and of no other: Noise §11.2.

        Raises:
            LocalError: there is no such session.
        """
        if session not in self._table.by_index:
            raise LocalError(f"no session {session:#010x}")
        return self._table.by_index[session].handshake_hash

    # -- told by our own side ---------------------------------------------------------------------------

    def dial(self, device: bytes, endpoint: int, now: int, entropy: Entropy) -> list[Message]:
        session = self._table.with_device(device)
        if session is not None and now < session.reject_at:
            return [_up(session)]
        if device == self._identity.device_public:
            return [DialFailed(device, endpoint, "own_device")]
        for dial in self._dials.values():
            if dial.device == device and dial.endpoint == endpoint:
                dial.renewal = False
                return []
        if len(self._dials) >= self._config.dials_max:
            return [DialFailed(device, endpoint, "too_many_dials")]
        return [self._start_dial(device, endpoint, now, entropy, renewal=False)]

    def send(self, session: int, data: bytes, now: int) -> list[Message]:
        """Nothing comes of a session that has ended: ``SessionDown`` may be on its way to the caller.

        Raises:
            LocalError: ``data`` does not fit a datagram; sessions know no fragments.
        """
        found = self._table.by_index.get(session)
        if found is None:
            return []
        if now >= found.reject_at:
            return [self._end(found, "expired")]
        try:
            return [Transmit(found.endpoint, found.seal(data, self._contexts))]
        except CounterExhaustedError:
            return [self._end(found, "exhausted")]

    def close(self, session: int, reason: str) -> list[Message]:
        found = self._table.by_index.get(session)
        return [self._end(found, reason)] if found is not None else []

    def _start_dial(self, device: bytes, endpoint: int, now: int, entropy: Entropy, *, renewal: bool) -> Transmit:
        index = self._fresh_index(entropy)
        message, handshake = exchange.start(self._identity, index, entropy(EPHEMERAL_SIZE))
        self.exchanges += exchange.START_EXCHANGES
        init = INIT_HEADER.pack(INIT, index, NO_COOKIE) + message
        dial = Dialling(init, *self._times(now), device, endpoint, handshake, renewal)
        self._dials[index] = dial
        self._wake_by(dial.wake_at)
        return Transmit(endpoint, init)

    # -- told by the network ----------------------------------------------------------------------------

    def receive(self, source: int, data: bytes, now: int, entropy: Entropy) -> list[Message]:
        """What follows from a datagram that claims to come from ``source``.

        Raises:
            StaleDatagramError: it comes too late, or again.
            NoiseError: it is malformed or not authentic; usually the more special ``SessionError``.
        """
        if DATA_SIZE_MIN <= len(data) <= DATAGRAM_SIZE_MAX and data[0] == DATA:
            return self._receive_data(source, data, now)
        kind = kind_of(data)
        if kind == INIT:
            return self._receive_init(source, data, now, entropy)
        if kind == RESPONSE:
            return self._receive_response(source, data, now)
        if kind == FINAL:
            return self._receive_final(source, data, now)
        return self._receive_cookie(source, data)

    def _receive_data(self, source: int, data: bytes, now: int) -> list[Message]:
        _, index, counter = DATA_HEADER.unpack_from(data)
        session = self._table.by_index.get(index)
        if session is None:
            return self._keep_early_data(source, index, data)
        if now >= session.reject_at:
            raise StaleDatagramError("expired", repr(session))
        plaintext = session.open(counter, data, self._contexts)
        session.received_at = now
        if source != session.endpoint and counter == session.newest:
            session.endpoint = source
        if self._unconfirmed:
            self._unconfirmed.pop(index, None)
        return [Opened(index, session.device, source, plaintext)] if plaintext else []

    def _keep_early_data(self, source: int, index: int, data: bytes) -> list[Message]:
        half_open = self._half_open.get(index)
        if half_open is None:
            raise StaleDatagramError("unknown_session", f"{index:#010x}")
        if source != half_open.source:
            raise SessionError("wrong_endpoint", f"DATA from {source}, not from {half_open.source}")
        if len(half_open.early_data) >= EARLY_DATA_MAX or len(data) > EARLY_DATA_SIZE_MAX:
            raise StaleDatagramError("early_data_full", f"{len(data)} bytes")
        half_open.early_data.append(data)
        return []

    def _receive_init(self, source: int, data: bytes, now: int, entropy: Entropy) -> list[Message]:
        _, remote_index, presented = INIT_HEADER.unpack_from(data)
        message = data[INIT_HEADER.size :]
        ephemeral = message[:EPHEMERAL_SIZE]
        if remote_index == 0 or not message.endswith(INIT_PADDING):
            raise SessionError("malformed_init", f"index {remote_index:#010x}, or padding that is not zeros")
        answered = self._answered.get((source, remote_index, ephemeral))
        if answered is not None:
            known = self._half_open.get(answered[0])
            if known is None:
                raise StaleDatagramError("finished_handshake", f"{remote_index:#010x}")
            return [Transmit(source, known.datagram)]
        if self._waits_for_own_dial(source):
            raise StaleDatagramError("simultaneous_dial", f"we dial {source}")

        # Nothing so far has cost more than a look-up.
        flooded = 2 * len(self._half_open) >= self._config.half_open_max
        rivals = [] if flooded else self._half_open_of(source)
        if flooded or len(rivals) >= HALF_OPEN_PER_ENDPOINT_MAX:
            demand = self._cookie_demand(source, remote_index, presented, now, entropy)
            if demand is not None:
                return [demand]
            rivals = self._half_open_of(source)
        displaces = len(rivals) >= HALF_OPEN_PER_ENDPOINT_MAX
        if not displaces and len(self._half_open) >= self._config.half_open_max:
            raise StaleDatagramError("half_open_full", f"{len(self._half_open)} handshakes")

        index = self._fresh_index(entropy)
        self.exchanges += exchange.ANSWER_EXCHANGES
        reply, handshake = exchange.answer(self._identity, remote_index, index, entropy(EPHEMERAL_SIZE), message)
        if displaces:
            self._drop_half_open(rivals[0])
        response = HEADER.pack(RESPONSE, remote_index) + reply
        half_open = HalfOpen(response, *self._times(now), source, remote_index, ephemeral, handshake, [])
        self._half_open[index] = half_open
        self._remember_answered(half_open, index)
        self._wake_by(half_open.wake_at)
        return [Transmit(source, response)]

    def _cookie_demand(
        self, source: int, remote_index: int, presented: bytes, now: int, entropy: Entropy
    ) -> Transmit | None:
        """The datagram that asks for a cookie, unless a valid one was presented."""
        epoch = now // (self._config.cookie_lifetime_ms * NS_PER_MS)
        if not self._cookie_secret:
            self._cookie_secret = entropy(SECRET_SIZE)
        if presented != NO_COOKIE and valid_cookie(self._cookie_secret, source, remote_index, epoch, presented):
            return None
        fresh = cookie(self._cookie_secret, source, remote_index, epoch)
        return Transmit(source, COOKIE_DATAGRAM.pack(COOKIE, remote_index, fresh))

    def _receive_response(self, source: int, data: bytes, now: int) -> list[Message]:
        _, index = HEADER.unpack_from(data)
        message = data[HEADER.size :]
        dial = self._dials.get(index)
        if dial is None:
            return self._repeat_final(index, message)
        if source != dial.endpoint:
            raise SessionError("wrong_endpoint", f"RESPONSE from {source}, not from {dial.endpoint}")
        self.exchanges += exchange.CONCLUDE_EXCHANGES
        self.verifications += 1
        reply, agreed = exchange.conclude(self._identity, dial.handshake, message)
        if agreed.device != dial.device:
            del self._dials[index]
            return [] if dial.renewal else [DialFailed(dial.device, source, "wrong_device")]
        final = HEADER.pack(FINAL, agreed.remote_index) + reply
        outputs = self._establish(index, agreed, source, now, initiator=True)
        unconfirmed = Unconfirmed(final, *self._times(now), message[:EPHEMERAL_SIZE])
        self._unconfirmed[index] = unconfirmed
        self._wake_by(unconfirmed.wake_at)
        return [Transmit(source, final), *outputs]

    def _repeat_final(self, index: int, message: bytes) -> list[Message]:
        unconfirmed = self._unconfirmed.get(index)
        if unconfirmed is None or message[:EPHEMERAL_SIZE] != unconfirmed.ephemeral:
            raise StaleDatagramError("unknown_handshake", f"{index:#010x}")
        return [Transmit(self._table.by_index[index].endpoint, unconfirmed.datagram)]

    def _receive_final(self, source: int, data: bytes, now: int) -> list[Message]:
        _, index = HEADER.unpack_from(data)
        half_open = self._half_open.get(index)
        if half_open is None:
            return self._repeat_confirmation(index, now)
        if source != half_open.source:
            raise SessionError("wrong_endpoint", f"FINAL from {source}, not from {half_open.source}")
        self.exchanges += exchange.ACCEPT_EXCHANGES
        self.verifications += 1
        message = data[HEADER.size :]
        agreed = exchange.accept(self._identity, half_open.handshake, half_open.remote_index, message)
        del self._half_open[index]
        outputs = self._establish(index, agreed, source, now, initiator=False)
        outputs += self.send(index, b"", now)
        for early in half_open.early_data:
            try:
                outputs += self._receive_data(source, early, now)
            except SessionError:
                continue  # anybody may have put it there
        return outputs

    def _repeat_confirmation(self, index: int, now: int) -> list[Message]:
        session = self._table.by_index.get(index)
        timeout = self._config.handshake_timeout_ms * NS_PER_MS
        if session is None or session.initiator or now >= self._table.established_at(session) + timeout:
            raise StaleDatagramError("unknown_handshake", f"{index:#010x}")
        return self.send(index, b"", now)

    def _receive_cookie(self, source: int, data: bytes) -> list[Message]:
        _, index, fresh = COOKIE_DATAGRAM.unpack(data)
        dial = self._dials.get(index)
        if dial is None:
            raise StaleDatagramError("unknown_handshake", f"{index:#010x}")
        if source != dial.endpoint:
            raise SessionError("wrong_endpoint", f"COOKIE from {source}, not from {dial.endpoint}")
        _, _, used = INIT_HEADER.unpack_from(dial.datagram)
        if fresh == used or dial.cookies >= COOKIES_PER_DIAL_MAX:
            raise StaleDatagramError("unused_cookie", f"after {dial.cookies}")
        dial.cookies += 1
        dial.datagram = INIT_HEADER.pack(INIT, index, fresh) + dial.datagram[INIT_HEADER.size :]
        return [Transmit(source, dial.datagram)]

    def _establish(self, index: int, agreed: Agreed, endpoint: int, now: int, *, initiator: bool) -> list[Message]:
        """A finished handshake becomes a session, and satisfies every dial of its device."""
        session, ended = self._table.add(index, agreed, endpoint, now, initiator=initiator)
        for down in ended:
            self._unconfirmed.pop(down.session, None)
        for satisfied in [each for each, dial in self._dials.items() if dial.device == agreed.device]:
            del self._dials[satisfied]
        self._sessions_at = min(self._sessions_at, self._table.idle_at(session), self._table.renew_at(session))
        return [*ended, _up(session)]

    # -- told the time ----------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When to call ``expire`` next; perhaps early, never late."""
        earliest = min(self._handshakes_at, self._sessions_at)
        return earliest if earliest < NEVER else None

    def expire(self, now: int, entropy: Entropy) -> list[Message]:
        outputs: list[Message] = []
        if now >= self._handshakes_at:
            outputs += self._expire_handshakes(now)
        if now >= self._sessions_at:
            outputs += self._expire_sessions(now, entropy)
        return outputs

    def _expire_handshakes(self, now: int) -> list[Message]:
        outputs: list[Message] = []
        for index, dial in _due(self._dials, now):
            if now < dial.deadline:
                outputs.append(self._repeat(dial, dial.endpoint, now))
            else:
                del self._dials[index]
                if not dial.renewal:
                    outputs.append(DialFailed(dial.device, dial.endpoint, "timeout"))
        for index, half_open in _due(self._half_open, now):
            if now >= half_open.deadline:
                self._drop_half_open(index)
            elif half_open.sends < RESPONSES_MAX:
                outputs.append(self._repeat(half_open, half_open.source, now))
            else:
                half_open.repeat_at = half_open.deadline
        for index, unconfirmed in _due(self._unconfirmed, now):
            session = self._table.by_index[index]
            if now < unconfirmed.deadline:
                outputs.append(self._repeat(unconfirmed, session.endpoint, now))
            else:
                outputs.append(self._end(session, "unconfirmed"))
        for heard in [heard for heard, (_, until) in self._answered.items() if now >= until]:
            del self._answered[heard]
        self._handshakes_at = min(
            min((dial.wake_at for dial in self._dials.values()), default=NEVER),
            min((half_open.wake_at for half_open in self._half_open.values()), default=NEVER),
            min((unconfirmed.wake_at for unconfirmed in self._unconfirmed.values()), default=NEVER),
            min((until for _, until in self._answered.values()), default=NEVER),
        )
        return outputs

    def _expire_sessions(self, now: int, entropy: Entropy) -> list[Message]:
        outputs: list[Message] = []
        earliest = NEVER
        for session in self._table:
            idle_at, renew_at = self._table.idle_at(session), self._table.renew_at(session)
            if now >= session.reject_at:
                outputs.append(self._end(session, "expired"))
                continue
            if now >= idle_at:
                outputs.append(self._end(session, "idle"))
                continue
            if session.initiator and now >= renew_at:
                if self._may_renew(session):
                    outputs.append(self._start_dial(session.device, session.endpoint, now, entropy, renewal=True))
                # Looked at again when this dial, or what is in its way, must have ended.
                renew_at = now + self._config.handshake_timeout_ms * NS_PER_MS
            earliest = min(earliest, session.reject_at, idle_at, renew_at if session.initiator else NEVER)
        # Ages end one by one, and each would cost a walk over all sessions: let them gather.
        self._sessions_at = max(earliest, now + self._config.idle_timeout_ms * NS_PER_MS // IDLE_STEPS)
        return outputs

    def _may_renew(self, session: Session) -> bool:
        return (
            self._table.with_device(session.device) is session
            and len(self._dials) < self._config.dials_max
            and all(dial.device != session.device for dial in self._dials.values())
        )

    # -- inside -----------------------------------------------------------------------------------------

    def _end(self, session: Session, reason: str) -> SessionDown:
        self._unconfirmed.pop(session.index, None)
        return self._table.end(session, reason)

    def _waits_for_own_dial(self, source: int) -> bool:
        own = self._identity.device_public
        return any(
            dial.endpoint == source and own < dial.device and dial.sends <= DEFERRED_SENDS_MAX
            for dial in self._dials.values()
        )

    def _fresh_index(self, entropy: Entropy) -> int:
        index = int.from_bytes(entropy(INDEX_SIZE), "big")
        tables = (self._table.by_index, self._dials, self._half_open)
        while index == 0 or any(index in table for table in tables):
            index = (index + 1) % 2**32
        return index

    def _half_open_of(self, source: int) -> list[int]:
        return [index for index, half_open in self._half_open.items() if half_open.source == source]

    def _drop_half_open(self, index: int) -> None:
        half_open = self._half_open.pop(index)
        self._answered.pop((half_open.source, half_open.remote_index, half_open.ephemeral), None)

    def _remember_answered(self, half_open: HalfOpen, index: int) -> None:
        heard = (half_open.source, half_open.remote_index, half_open.ephemeral)
        self._answered[heard] = (index, half_open.deadline)
        if len(self._answered) > self._config.half_open_max + self._config.sessions_max:
            del self._answered[next(iter(self._answered))]

    def _times(self, now: int) -> tuple[int, int, int]:
        """``repeat_at``, ``deadline`` and ``sends`` of what is sent for the first time."""
        config = self._config
        return now + config.retransmit_first_ms * NS_PER_MS, now + config.handshake_timeout_ms * NS_PER_MS, 1

    def _repeat(self, pending: Pending, endpoint: int, now: int) -> Transmit:
        pending.repeat_at = now + (self._config.retransmit_first_ms * NS_PER_MS << pending.sends)
        pending.sends += 1
        return Transmit(endpoint, pending.datagram)

    def _wake_by(self, time: int) -> None:
        self._handshakes_at = min(self._handshakes_at, time)

    # -- to bytes and back ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Everything, keys included: to be sealed before it leaves memory."""
        return msgspec.msgpack.encode(
            _Saved(
                STATE_VERSION,
                self._table.saved(),
                list(self._dials.items()),
                list(self._half_open.items()),
                list(self._unconfirmed.items()),
                list(self._answered.items()),
                self._cookie_secret,
                self._handshakes_at,
                self._sessions_at,
                self.exchanges,
                self.verifications,
            )
        )

    @classmethod
    def from_bytes(
        cls, data: bytes, identity: DeviceIdentity, config: SessionConfig, contexts: AeadContexts
    ) -> "Sessions":
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except msgspec.DecodeError as error:
            raise LocalError(f"not saved sessions: {error}") from None
        if saved.version != STATE_VERSION:
            raise LocalError(f"saved sessions of version {saved.version}, not {STATE_VERSION}")
        sessions = cls(identity, config, contexts)
        sessions._table.restore(saved.sessions)
        sessions._dials = dict(saved.dials)
        sessions._half_open = dict(saved.half_open)
        sessions._unconfirmed = dict(saved.unconfirmed)
        sessions._answered = dict(saved.answered)
        sessions._cookie_secret = saved.cookie_secret
        sessions._handshakes_at, sessions._sessions_at = saved.handshakes_at, saved.sessions_at
        sessions.exchanges, sessions.verifications = saved.exchanges, saved.verifications
        return sessions


class _Saved(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    sessions: list[SavedSession]
    dials: list[tuple[int, Dialling]]
    half_open: list[tuple[int, HalfOpen]]
    unconfirmed: list[tuple[int, Unconfirmed]]
    answered: list[tuple[Heard, tuple[int, int]]]
    cookie_secret: bytes
    handshakes_at: int
    sessions_at: int
    exchanges: int
    verifications: int

    def __repr__(self) -> str:
        return f"_Saved({len(self.sessions)} sessions)"


PendingT = TypeVar("PendingT", bound=Pending)


def _due(table: dict[int, PendingT], now: int) -> list[tuple[int, PendingT]]:
    return [(index, pending) for index, pending in table.items() if now >= pending.wake_at]


def _up(session: Session) -> SessionUp:
    return SessionUp(session.index, session.device, session.endpoint, session.initiator, session.handshake_hash)
