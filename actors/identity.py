"""The identity of a peer: proves that it has its key, has others prove theirs, and says whose device it is.

A proof is two calls, ``ProofRequest`` and ``Proof``, and must be made on one session. Between them the session may be
renewed, the issuer may restart, or have given the challenge's room to others: then the prover begins anew, with a new
challenge, a few times. It never sends one proof twice.

Who is blamed: the device at the other end of the session, for what only it can have done. It authenticated itself, so
a proof of somebody else's key, or for another purpose than the challenge's, is its own doing, relayed or not. What
honest devices run into (``NOBODYS_FAULT``) blames nobody.

The keys come with the peer's setup, unlocked. A simulated peer did not run the KDF for that; it is charged for it.
"""

from typing import ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.alarm import Alarm
from actors.context import Context
from actors.setup import PeerSetup
from protocols.admission import Fault
from protocols.errors import LocalError, ProtocolError
from protocols.identity.keystore.kdf import Argon2Parameters
from protocols.identity.messages import (
    ANSWERS,
    CHANNEL_SIZE_MAX,
    KEY_PACKAGE_SIZE_MAX,
    REQUESTS,
    Accepted,
    AskCertificate,
    CertificateAnswer,
    CertificateKnown,
    CertificateRequest,
    CertificateUnknown,
    Challenge,
    Proof,
    ProofAccepted,
    ProofPurpose,
    ProofRefused,
    ProofRequest,
    Prove,
    WatchProofs,
)
from protocols.identity.possession import (
    CERTIFICATE_VERIFICATIONS,
    NOBODYS_FAULT,
    NONCE_SIZE,
    Challenger,
    PossessionError,
    answer,
)
from protocols.messages import Message
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Refuse, Respond

CALL_TIMEOUT_NS: Final = 20 * 10**9
"""A handshake may take ten seconds, and then a lossy network some repetitions."""

ATTEMPTS_MAX: Final = 3
"""Challenges asked for until one is proved. A session is renewed every hour, and an issuer that restarts three times
within a proof is none to wait for."""

FLIGHTS_MAX: Final = 64
"""Questions of ours that wait for an answer: a peer that joins channels asks a few members of each."""

WATCHERS_MAX: Final = 16
"""Services that wait for the proofs of one purpose: there are not that many in a peer."""

BEGIN_ANEW: Final = NOBODYS_FAULT - {"lapsed_certificate"} | {"session_down", "timeout"}
"""Why another challenge may fare better. Silence is one: an issuer that restarted has forgotten the session on which it
is asked, which then is closed, and the next call makes another."""

_UNLOCK: Final = Argon2Parameters()
UNLOCK_UNITS: Final = _UNLOCK.memory_kib // 1024 * _UNLOCK.passes
"""MiB times passes, the unit of ``argon2id``, of one unlock of a keystore."""

STATE_VERSION: Final = 1


class Tick(Message, frozen=True, tag="id.tick"):
    """A challenge may have lapsed."""


TICK: Final = Tick()


class Flight(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Something that a service of ours waits for."""

    service: str
    token: int
    device: bytes
    endpoint: int
    asked: ProofRequest | None
    """What a challenge was asked for; nothing: a certificate was."""
    nonce: bytes = b""
    """Of the challenge that was answered, once there is one."""
    attempts: int = 1


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    challenger: bytes
    alarm: Alarm
    next_call: int
    flights: list[tuple[int, Flight]]
    watchers: list[tuple[ProofPurpose, list[str]]]


class Identity(Actor):
    """Prover and issuer of one peer, between ``rpc`` and whoever sends it ``Prove`` and ``WatchProofs``."""

    __slots__ = ("_alarm", "_flights", "_next_call", "_setup", "_watchers", "challenger")

    service: ClassVar[str] = "identity"

    def __init__(self, setup: PeerSetup) -> None:
        if setup.certificate is not None and setup.certificate.device != setup.identity.device_public:
            raise LocalError("the certificate is another device's")
        self._setup = setup
        self.challenger = Challenger(setup.identity.device_public)
        self._alarm = Alarm()
        self._next_call = 0
        self._flights: dict[int, Flight] = {}  # by the token of their open call
        self._watchers: dict[ProofPurpose, list[str]] = {}

    def start(self, ctx: Context) -> None:
        ctx.charge("argon2id", UNLOCK_UNITS)

    # -- our services -------------------------------------------------------------------------------------

    @handles(WatchProofs)
    def watch(self, watch: WatchProofs, ctx: Context) -> None:
        watchers = self._watchers.setdefault(watch.purpose, [])
        if ctx.sender in watchers:
            return
        if len(watchers) >= WATCHERS_MAX:
            raise LocalError(f"more than {WATCHERS_MAX} services wait for proofs")
        watchers.append(ctx.sender)

    @handles(Prove)
    def prove(self, prove: Prove, ctx: Context) -> None:
        if len(prove.channel) > CHANNEL_SIZE_MAX or len(prove.key_package) > KEY_PACKAGE_SIZE_MAX:
            raise LocalError(f"no proof for a channel of {len(prove.channel)} bytes, {len(prove.key_package)} to add")
        asked = ProofRequest(prove.purpose, prove.channel, prove.key_package)
        self._take_off(Flight(ctx.sender, prove.token, prove.device, prove.endpoint, asked), ctx)

    @handles(AskCertificate)
    def ask(self, ask: AskCertificate, ctx: Context) -> None:
        self._take_off(Flight(ctx.sender, ask.token, ask.device, ask.endpoint, None), ctx)

    def _take_off(self, flight: Flight, ctx: Context) -> None:
        if any((each.service, each.token) == (flight.service, flight.token) for each in self._flights.values()):
            raise LocalError(f"{flight.service!r} waits for {flight.token} already")
        if len(self._flights) >= FLIGHTS_MAX:
            self._land(flight, "overloaded", ctx)
        else:
            self._ask(flight, ctx)

    # -- what others ask of us ----------------------------------------------------------------------------

    @handles(Incoming)
    def incoming(self, incoming: Incoming, ctx: Context) -> None:
        before = self.challenger.verifications
        try:
            response = self._answer(incoming, ctx)
        except ProtocolError as error:
            if error.reason not in NOBODYS_FAULT:
                self._blame(incoming.device, error, ctx)
            ctx.count("possession_checks", 1, error.reason)
            ctx.send("rpc", Refuse(incoming.call, error.reason))
        else:
            if response is None:
                ctx.send("rpc", Refuse(incoming.call, "unwanted"))
            else:
                ctx.send("rpc", Respond(incoming.call, ANSWERS.encode(response)))
        self._charge(self.challenger.verifications - before, ctx)

    def _answer(self, incoming: Incoming, ctx: Context) -> Challenge | Accepted | CertificateAnswer | None:
        device, binding = incoming.device, incoming.binding
        match REQUESTS.decode(incoming.body):
            case ProofRequest() as asked:
                if asked.purpose not in self._watchers:
                    return None
                nonce = ctx.entropy(NONCE_SIZE)
                challenge = self.challenger.issue(asked, device=device, binding=binding, now=ctx.now, nonce=nonce)
                self._alarm.set(self.challenger.deadline(), TICK, ctx)
                return challenge
            case Proof() as proof:
                proven = self.challenger.check(proof, device=device, binding=binding, now=ctx.now)
                ctx.count("possession_checks", 1, "accepted")
                for watcher in self._watchers.get(proven.purpose, ()):
                    ctx.send(watcher, proven)
                return Accepted(proof.challenge.nonce)
            case CertificateRequest():
                return CertificateAnswer(self._setup.certificate)

    @handles(Tick)
    def tick(self, _: Tick, ctx: Context) -> None:
        self._alarm.rang()
        self.challenger.expire(ctx.now)
        self._alarm.set(self.challenger.deadline(), TICK, ctx)

    # -- what others answer -------------------------------------------------------------------------------

    @handles(Completed)
    def completed(self, completed: Completed, ctx: Context) -> None:
        flight = self._flights.pop(completed.token)
        try:
            self._proceed(flight, completed, ctx)
        except ProtocolError as error:
            self._blame(flight.device, error, ctx)
            self._land(flight, error.reason, ctx)

    def _proceed(self, flight: Flight, completed: Completed, ctx: Context) -> None:
        match ANSWERS.decode(completed.body):
            case Challenge() as challenge if flight.asked is not None and not flight.nonce:
                proof = answer(
                    challenge,
                    flight.asked,
                    self._setup.identity.signing,
                    issuer=flight.device,
                    binding=completed.binding,
                    certificate=self._setup.certificate,
                )
                ctx.charge("ed25519_sign")
                flight.nonce = challenge.nonce
                self._call(flight, REQUESTS.encode(proof), ctx)
            case Accepted(nonce) if flight.nonce == nonce:
                ctx.count("possession_proofs", 1, "accepted")
                ctx.send(flight.service, ProofAccepted(flight.token, flight.device))
            case CertificateAnswer(certificate) if flight.asked is None:
                if certificate is not None:
                    if certificate.device != flight.device:
                        raise PossessionError("wrong_certificate", f"for {certificate.device.hex()[:16]}")
                    self._charge(CERTIFICATE_VERIFICATIONS, ctx)
                    certificate.verify()
                ctx.send(flight.service, CertificateKnown(flight.token, flight.device, certificate))
            case other:
                raise PossessionError("unexpected_answer", f"{type(other).__name__} to another question")

    @handles(Failed)
    def failed(self, failed: Failed, ctx: Context) -> None:
        flight = self._flights.pop(failed.token)
        if failed.reason in BEGIN_ANEW and flight.attempts < ATTEMPTS_MAX:
            flight.attempts += 1
            self._ask(flight, ctx)
        else:
            self._land(flight, failed.reason, ctx)

    # -- inside -------------------------------------------------------------------------------------------

    def _ask(self, flight: Flight, ctx: Context) -> None:
        """Begin, or begin anew."""
        flight.nonce = b""
        self._call(flight, REQUESTS.encode(flight.asked or CertificateRequest()), ctx)

    def _call(self, flight: Flight, body: bytes, ctx: Context) -> None:
        token = self._next_call
        self._next_call = token + 1
        self._flights[token] = flight
        ctx.send("rpc", Call(token, flight.device, flight.endpoint, body, CALL_TIMEOUT_NS, self.service))

    def _land(self, flight: Flight, reason: str, ctx: Context) -> None:
        """Without what it was for."""
        if flight.asked is None:
            ctx.send(flight.service, CertificateUnknown(flight.token, flight.device, reason))
        else:
            ctx.count("possession_proofs", 1, "refused")
            ctx.send(flight.service, ProofRefused(flight.token, flight.device, reason))

    def _blame(self, device: bytes, error: ProtocolError, ctx: Context) -> None:
        ctx.security(error.reason, error.detail, device)
        ctx.send("limiter", Fault(device, error.reason))

    def _charge(self, verifications: int, ctx: Context) -> None:
        if verifications:
            ctx.charge("ed25519_verify", verifications)

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = _State(
            STATE_VERSION,
            self.challenger.to_bytes(),
            self._alarm,
            self._next_call,
            list(self._flights.items()),
            list(self._watchers.items()),
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        if state.version != STATE_VERSION:
            raise LocalError(f"an identity's state of version {state.version}, not {STATE_VERSION}")
        actor = cls(setup)
        actor.challenger = Challenger.from_bytes(state.challenger, setup.identity.device_public)
        actor._alarm, actor._next_call = state.alarm, state.next_call
        actor._flights, actor._watchers = dict(state.flights), dict(state.watchers)
        return actor
