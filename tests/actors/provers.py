"""Three peers between whose identities proofs go: two honest ones, and Mallory, who answers for herself."""

from collections.abc import Callable, Sequence
from hashlib import sha512
from typing import ClassVar

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from actors.identity import Identity
from actors.peer import SUBSYSTEMS
from actors.session_manager import SessionManager
from actors.setup import PeerSetup
from protocols.identity import ALL_PURPOSES, DeviceCertificate, DeviceIdentity, DeviceRequest, SigningKey
from protocols.identity.messages import (
    ANSWERS,
    REQUESTS,
    AskCertificate,
    CertificateKnown,
    CertificateUnknown,
    Challenge,
    DeviceProven,
    Proof,
    ProofAccepted,
    ProofPurpose,
    ProofRefused,
    ProofRequest,
    Prove,
    WatchProofs,
)
from protocols.messages import Message
from protocols.noise.interface import CloseSession
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Respond
from tests.actors.worlds import MS, Steady
from tests.protocols.identity.proofs import prove

SIZE = 3
ALICE, MALLORY, ISSUER = range(SIZE)
SECOND = 1_000 * MS
USER = SigningKey(bytes(range(32)))
IDENTITIES = [DeviceIdentity.generate(sha512(b"peer %d" % number).digest(), b"test") for number in range(SIZE)]
DEVICES = [identity.device_public for identity in IDENTITIES]
ADD = ProofPurpose.ADD_TO_CHANNEL
ASKED = ProofRequest(ADD, b"channel", b"reference")

Rule = Callable[[int, int, int], tuple[int, ...]]


def certificate(number: int, user: SigningKey = USER, not_after: int = 2**62) -> DeviceCertificate:
    request = DeviceRequest.sign(IDENTITIES[number].signing, user.public, ALL_PURPOSES)
    return DeviceCertificate.issue(user, request, 0, 0, not_after)


class Command(Message, frozen=True, tag="test.identity"):
    """From the test to the application."""

    to: str
    message: Prove | AskCertificate | WatchProofs | Call | CloseSession


class Application(Actor):
    """Passes commands on and remembers the results. In a liar it owns the namespace of identities too."""

    __slots__ = ("answers", "asked", "results")
    service: ClassVar[str] = "app"

    def __init__(self, setup: PeerSetup) -> None:
        self.results: list[Message] = []
        self.asked: list[Incoming] = []
        self.answers: Callable[[Incoming], Message | bytes | None] = lambda _: None

    @handles(Command)
    def command(self, command: Command, ctx: Context) -> None:
        ctx.send(command.to, command.message)

    @handles(ProofAccepted, ProofRefused, DeviceProven, CertificateKnown, CertificateUnknown, Completed, Failed)
    def result(self, result: Message, ctx: Context) -> None:
        self.results.append(result)

    @handles(Incoming)
    def incoming(self, incoming: Incoming, ctx: Context) -> None:
        self.asked.append(incoming)
        said = self.answers(incoming)
        if said is not None:
            body = said if isinstance(said, bytes) else ANSWERS.encode(said)  # type: ignore[arg-type]
            ctx.send("rpc", Respond(incoming.call, body))


class World:
    """Three peers that know nobody. Mallory's machinery is honest, but what it is told for "id" goes to her."""

    def __init__(
        self,
        rule: Rule | None = None,
        certificates: Sequence[DeviceCertificate | None] = (None,) * SIZE,
        costs: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        self.certificates = certificates
        self.now = 0
        self.host = Host(self.build, network=Steady(rule=rule), costs=costs)
        for number in range(SIZE):
            self.host.schedule(number, 0)
        self.run(1)
        self.tell(ISSUER, "identity", WatchProofs(ADD))

    def setup(self, number: int) -> PeerSetup:
        routes = {"id": "app"} if number == MALLORY else {"id": "identity", "kad": "dht"}
        return PeerSetup(IDENTITIES[number], number, certificate=self.certificates[number], routes=routes)

    def build(self, number: int, incarnation: int) -> tuple[PeerSetup, list[type[Actor]]]:
        return self.setup(number), [*SUBSYSTEMS, Application]

    def tell(self, number: int, to: str, message: Prove | AskCertificate | WatchProofs | Call | CloseSession) -> None:
        self.host.tell(number, "app", Command(to, message))

    def prove(self, prover: int = ALICE, issuer: int = ISSUER, token: int = 1) -> None:
        self.tell(prover, "identity", Prove(token, DEVICES[issuer], issuer, ADD, ASKED.channel, ASKED.key_package))

    def call(self, caller: int, callee: int, message: Message | bytes, token: int = 1) -> None:
        """Past the caller's own identity."""
        body = message if isinstance(message, bytes) else REQUESTS.encode(message)  # type: ignore[arg-type]
        self.tell(caller, "rpc", Call(token, DEVICES[callee], callee, body, 10 * SECOND, "app"))

    def run(self, seconds: int = 60, until: int = 0) -> None:
        self.now = max(self.now, until) if until else self.now + seconds * SECOND
        self.host.run(self.now)
        self.host.now = self.now  # it passes also when nothing happens

    def run_until_signed(self) -> None:
        """Until Alice has signed her challenge; nobody has seen it yet."""
        while not any(flight.nonce for flight in self.identity(ALICE)._flights.values()):
            self.run(until=self.now + MS)

    def application(self, number: int) -> Application:
        actor = self.host.actor(number, "app")
        assert isinstance(actor, Application)
        return actor

    def results(self, number: int) -> list[Message]:
        actor = self.application(number)
        results, actor.results = actor.results, []
        return results

    def identity(self, number: int) -> Identity:
        actor = self.host.actor(number, "identity")
        assert isinstance(actor, Identity)
        return actor

    def close(self, number: int, other: int) -> None:
        actor = self.host.actor(number, "sessions")
        assert isinstance(actor, SessionManager)
        session = actor.sessions.session_with(DEVICES[other])
        assert session is not None
        self.tell(number, "sessions", CloseSession(session, "test"))

    def binding(self, number: int, other: int) -> bytes:
        actor = self.host.actor(number, "sessions")
        assert isinstance(actor, SessionManager)
        return actor.sessions.channel_binding(actor.sessions.session_with(DEVICES[other]) or 0)

    @property
    def blamed(self) -> list[tuple[str, int]]:
        """``(reason, peer)`` of every security event that names a device."""
        rows = [row for row in self.host.events if row.name == "security"]
        return [(str(row.fields["reason"]), DEVICES.index(bytes.fromhex(str(row.fields["device"])))) for row in rows]

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


def proof_of(challenge: Challenge) -> Proof:
    """Mallory's, made past her identity."""
    return prove(challenge, IDENTITIES[MALLORY].signing)


def challenge_for(world: World, number: int = MALLORY) -> Challenge:
    """What the issuer answers to a peer that asks past its own identity."""
    world.call(number, ISSUER, ASKED)
    world.run()
    (completed,) = world.results(number)
    assert isinstance(completed, Completed)
    challenge = ANSWERS.decode(completed.body)
    assert isinstance(challenge, Challenge)
    assert challenge.binding == completed.binding == world.binding(number, ISSUER)
    return challenge


def refusal(world: World, proof: Message | bytes, number: int = MALLORY) -> str:
    """Why the issuer refuses a proof; nobody may be told that anything was proven."""
    world.call(number, ISSUER, proof)
    world.run(5)
    (failed,) = world.results(number)
    assert isinstance(failed, Failed)
    assert failed.refused
    assert world.results(ISSUER) == []
    return failed.reason
