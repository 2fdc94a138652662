"""The adversary ``impostor``: a device with good keys of its own that wants to pass for others.

It does what the protocol of possession is made against, over real sessions:

    replay   proofs that it made, or that others made to it: on the same session, on others, to others
    relay    asked for a challenge, it asks a third peer for one and hands that on, as it is, addressed anew, or as one
             of its own with the third peer's nonce; and holds the proof that comes back against the third peer
    borrow   certificates of others, shown with its own proofs
    alter    what was challenged: another purpose, channel or key package, another's key, the time
    forge    signatures
    flood    asks for so many challenges at once that others' would be crowded out

Misuse needs material, so it also proves its own key, honestly, and answers who asks it as an issuer would.
``honest_claim`` marks those proofs, so that whoever judges a run can tell. All that it keeps is bounded: the oldest
gives way.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self, TypeVar

import msgspec

from actors.context import Context
from cluster.adversaries import Adversary, Options, Rate
from cluster.nonsense import request
from cluster.registry import ADVERSARIES
from protocols.contact import Contact
from protocols.identity.certificates import DeviceCertificate
from protocols.identity.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    CertificateAnswer,
    CertificateRequest,
    Challenge,
    Proof,
    ProofPurpose,
    ProofRequest,
)
from protocols.identity.possession import NONCE_SIZE, statement
from protocols.identity.signing import SIGNATURE_SIZE, Domain, sign
from protocols.kademlia.messages import FindNode
from protocols.messages import Message, encode
from protocols.noise.interface import Opened
from protocols.rpc.frames import Frame, Request, Response

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

KEPT_MAX: Final = 16
"""Of challenges, proofs and certificates each: some of most victims."""
QUESTIONS_MAX: Final = 256
"""Unanswered ones: a burst for every other victim."""

HONEST_CHANNEL: Final = b"honestly"
ENDPOINT_SIZE: Final = 8

T = TypeVar("T")


def honest_claim(issuer: int, entropy: bytes) -> ProofRequest:
    """What an impostor asks to prove when it means it: once, to this peer."""
    return ProofRequest(ProofPurpose.ADD_TO_CHANNEL, HONEST_CHANNEL, issuer.to_bytes(ENDPOINT_SIZE) + entropy)


def is_honest_claim(channel: bytes, key_package: bytes, issuer: int) -> bool:
    return channel == HONEST_CHANNEL and key_package[:ENDPOINT_SIZE] == issuer.to_bytes(ENDPOINT_SIZE)


class ImpostorOptions(Options, frozen=True, kw_only=True):
    """How much it tries."""

    rate_per_s: Rate = 5
    burst: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    """Challenges asked for at once, when it floods."""


class _Question(msgspec.Struct, array_like=True, frozen=True):
    """What we asked somebody, perhaps because somebody else asked us."""

    asked: ProofRequest | None
    session: int = 0
    request: int = 0
    device: bytes = b""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    adversary: bytes
    questions: list[tuple[int, int, _Question]]
    challenges: list[tuple[int, Challenge]]
    proofs: list[Proof]
    certificates: list[DeviceCertificate]


class Impostor(Adversary):
    """See the module's text."""

    __slots__ = ("_burst", "_certificates", "_challenges", "_proofs", "_questions")

    options: ClassVar[type[Options]] = ImpostorOptions

    def __init__(self, setup: "SimulatedSetup") -> None:
        super().__init__(setup)
        self._burst = msgspec.convert(dict(setup.options), ImpostorOptions).burst
        self._questions: dict[tuple[int, int], _Question] = {}  # by session and request
        self._challenges: list[tuple[int, Challenge]] = []  # for us, with the session
        self._proofs: list[Proof] = []
        self._certificates: list[DeviceCertificate] = []

    def strike(self, ctx: Context) -> None:
        if not self._known:
            return
        victim = self._known[ctx.rng.below(len(self._known))]
        session = self.session(victim, ctx)
        if session is not None:
            strikes = _STRIKES
            strikes[ctx.rng.below(len(strikes))](self, victim, session, ctx)

    # -- strikes ------------------------------------------------------------------------------------------

    def _look_around(self, victim: Contact, session: int, ctx: Context) -> None:
        self._say(session, FindNode(ctx.entropy(32)), ctx)

    def _ask(self, victim: Contact, session: int, ctx: Context) -> None:
        asked = honest_claim(victim.endpoint, ctx.entropy(24))
        self._question(session, asked, _Question(asked), ctx)

    def _flood(self, victim: Contact, session: int, ctx: Context) -> None:
        for _ in range(self._burst):
            self._ask(victim, session, ctx)

    def _ask_certificate(self, victim: Contact, session: int, ctx: Context) -> None:
        self._question(session, CertificateRequest(), _Question(None), ctx)

    def _prove(self, victim: Contact, session: int, ctx: Context) -> None:
        """Honestly, for once; it counts as used, whether it arrives or not."""
        place = self._drawn_challenge(ctx)
        if place is None or self._challenges[place][1].channel != HONEST_CHANNEL:
            return
        where, challenge = self._challenges.pop(place)
        proof = self._signed(challenge, self._setup.certificate if ctx.rng.below(2) else None)
        _keep(self._proofs, proof)
        self._say(where, proof, ctx)

    def _replay(self, victim: Contact, session: int, ctx: Context) -> None:
        if not self._proofs:
            return
        proof = self._proofs[ctx.rng.below(len(self._proofs))]
        issuer = self._sessions.session_with(proof.challenge.issuer)
        if issuer in self._next_ids and ctx.rng.below(2):
            session = issuer
        self._say(session, proof, ctx)

    def _lie(self, victim: Contact, session: int, ctx: Context) -> None:
        """A proof for a real challenge, with one thing wrong."""
        place = self._drawn_challenge(ctx)
        if place is not None:
            where, challenge = self._challenges[place]
            self._say(where, self._wrong(challenge, victim, ctx), ctx)

    def _wrong(self, challenge: Challenge, victim: Contact, ctx: Context) -> Proof:
        change = msgspec.structs.replace
        rng = ctx.rng
        proofs, certificates = self._proofs, self._certificates
        match rng.below(8):
            case 0 if certificates:
                return self._signed(challenge, certificates[rng.below(len(certificates))])
            case 1 if certificates:
                borrowed = change(certificates[rng.below(len(certificates))], device=challenge.device)
                return self._signed(challenge, borrowed)
            case 2 if proofs:  # somebody's signature, perhaps over a challenge with this very nonce
                return change(proofs[rng.below(len(proofs))], challenge=challenge)
            case 3:
                return self._signed(change(challenge, device=victim.device))
            case 4:
                return self._signed(change(challenge, purpose=ProofPurpose.ADD_DEVICE))
            case 5:
                field = ("channel", "key_package")[rng.below(2)]
                return self._signed(change(challenge, **{field: ctx.entropy(32)}))
            case 6:
                return self._signed(change(challenge, issued_at=ctx.now + rng.below(2**40)))
            case _:
                return Proof(challenge, None, ctx.entropy(SIGNATURE_SIZE))

    # -- asked, and answered ------------------------------------------------------------------------------

    def heard(self, opened: Opened, frame: Frame, ctx: Context) -> None:
        match frame:
            case Request(id=identifier, body=body):
                self._asked(opened, identifier, body, ctx)
            case Response(id=identifier, body=body) if (opened.session, identifier) in self._questions:
                self._answered(opened, self._questions.pop((opened.session, identifier)), body, ctx)
            case _:
                super().heard(opened, frame, ctx)

    def _asked(self, opened: Opened, identifier: int, body: bytes, ctx: Context) -> None:
        """An honest peer wants to prove something to us, or does."""
        match REQUESTS.decode(body):
            case ProofRequest() as asked:
                third = self._known[ctx.rng.below(len(self._known))] if self._known else None
                session = self.session(third, ctx) if third is not None and ctx.rng.below(4) else None
                if session is not None and session != opened.session:
                    question = _Question(asked, opened.session, identifier, opened.device)
                    self._question(session, asked, question, ctx)
                else:
                    made = self._addressed(ctx.entropy(NONCE_SIZE), ctx.now, asked, opened.session, opened.device)
                    self._answer(opened.session, identifier, made, ctx)
            case Proof() as proof:
                _keep(self._proofs, proof)
                if proof.certificate is not None:
                    _keep(self._certificates, proof.certificate)
                self._answer(opened.session, identifier, Accepted(proof.challenge.nonce), ctx)
            case CertificateRequest():
                borrowed = self._certificates[0] if self._certificates else self._setup.certificate
                self._answer(opened.session, identifier, CertificateAnswer(borrowed), ctx)

    def _answered(self, opened: Opened, question: _Question, body: bytes, ctx: Context) -> None:
        match ANSWERS.decode(body):
            case Challenge() as challenge:
                _keep(self._challenges, (opened.session, challenge))
                if question.session in self._next_ids and question.asked is not None:
                    self._relay(challenge, question, question.asked, ctx)
            case CertificateAnswer(certificate) if certificate is not None:
                _keep(self._certificates, certificate)
            case _:
                pass

    def _relay(self, challenge: Challenge, question: _Question, asked: ProofRequest, ctx: Context) -> None:
        match ctx.rng.below(3):
            case 0:
                relayed = challenge
            case 1:
                own = self._setup.identity.device_public
                relayed = msgspec.structs.replace(challenge, device=question.device, issuer=own)
            case _:
                nonce, issued_at = challenge.nonce, challenge.issued_at
                relayed = self._addressed(nonce, issued_at, asked, question.session, question.device)
        self._answer(question.session, question.request, relayed, ctx)

    # -- inside -------------------------------------------------------------------------------------------

    def _addressed(self, nonce: bytes, issued_at: int, asked: ProofRequest, session: int, device: bytes) -> Challenge:
        """A challenge of ours, as good as any."""
        own, binding = self._setup.identity.device_public, self._sessions.channel_binding(session)
        return Challenge(nonce, issued_at, device, own, asked.purpose, asked.channel, binding, asked.key_package)

    def _signed(self, challenge: Challenge, certificate: DeviceCertificate | None = None) -> Proof:
        """By us, whatever it says."""
        signature = sign(self._setup.identity.signing, Domain.POSSESSION, *statement(challenge, certificate))
        return Proof(challenge, certificate, signature)

    def _drawn_challenge(self, ctx: Context) -> int | None:
        self._challenges = [each for each in self._challenges if each[0] in self._next_ids]
        return ctx.rng.below(len(self._challenges)) if self._challenges else None

    def _question(
        self, session: int, asked: ProofRequest | CertificateRequest, question: _Question, ctx: Context
    ) -> None:
        if len(self._questions) >= QUESTIONS_MAX:
            del self._questions[next(iter(self._questions))]
        self._questions[session, self._next_ids[session]] = question
        self._say(session, asked, ctx)

    def _say(self, session: int, message: Message, ctx: Context) -> None:
        self.say(session, request(self.next_id(session), encode(message)), ctx)

    def _answer(
        self, session: int, identifier: int, message: Challenge | Accepted | CertificateAnswer, ctx: Context
    ) -> None:
        body = ANSWERS.encode(message)
        self.say(session, encode(Response(identifier, len(body), body)), ctx)

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        questions = [(*key, question) for key, question in self._questions.items()]
        state = _State(super().to_bytes(), questions, self._challenges, self._proofs, self._certificates)
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: "SimulatedSetup") -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        actor = super().from_bytes(state.adversary, setup)
        actor._questions = {(session, number): question for session, number, question in state.questions}
        actor._challenges, actor._proofs, actor._certificates = state.challenges, state.proofs, state.certificates
        return actor


Strike = Callable[[Impostor, Contact, int, Context], None]

_STRIKES: Final[tuple[Strike, ...]] = (
    Impostor._look_around,
    Impostor._ask,
    Impostor._flood,
    Impostor._ask_certificate,
    Impostor._prove,
    Impostor._prove,
    Impostor._replay,
    Impostor._replay,
    Impostor._lie,
    Impostor._lie,
)


def _keep(some: list[T], one: T) -> None:
    if len(some) >= KEPT_MAX:
        del some[0]
    some.append(one)


ADVERSARIES.register("impostor", ImpostorOptions)((Impostor,))
