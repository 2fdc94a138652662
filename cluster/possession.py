"""The workload ``possession``: peers prove to others that they have their keys, to be added to channels.

As in ``put_get``, the plan is made before the run, from scenario and seed alone, and every proof is due when both ends
are up for long enough. Everybody may be asked to be the issuer, liars too: who proves something to a liar is the honest
end of an attack.

Whoever is convinced that a device has its key has not decided yet. It asks what the device may: whether its user, by
the certificate that was shown and the revocations that everybody has heard of, lets it into groups. Whoever
adds members to a group asks that first. What it found is an event; ``invariants`` has the promises about them.
"""

from typing import TYPE_CHECKING, Final, Self

import msgspec

from actors.actor import handles
from actors.context import Context
from actors.randomness import Stream, derive_key
from cluster.operations import Operation, Plan
from cluster.options import ScenarioError
from cluster.planning import DRAWS_MAX, by_peer, stays_up
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.sections import Positive, PositiveSeconds, Probability, exact, nanoseconds
from cluster.workload import Revocations, Workload, WorkloadKind
from cluster.world import World
from protocols.identity import IdentityError, Purpose, Revocation, Roster
from protocols.identity.messages import DeviceProven, ProofAccepted, ProofPurpose, ProofRefused, Prove, WatchProofs
from protocols.identity.possession import CERTIFICATE_VERIFICATIONS
from protocols.messages import Message

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

PURPOSE: Final = ProofPurpose.ADD_TO_CHANNEL
CHANNELS: Final = 20
REFERENCE_SIZE: Final = 32
"""Of a key package, with SHA-256."""


class PossessionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many proofs, and how many devices they are no use to."""

    proofs: Positive
    timeout_s: PositiveSeconds = 30.0
    revoked: Probability = 0.0
    """The share of honest devices that their users have revoked."""

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        return msgspec.convert(dict(scenario.workload.options), cls)


def channel(number: int) -> bytes:
    """The channel that proof ``number`` is for."""
    return b"channel-%d" % (number % CHANNELS)


def key_package(seed: int, number: int) -> bytes:
    """What stands for the key package that proof ``number`` is about; no two have the same."""
    return Stream(derive_key(seed, "key package", number)).entropy(REFERENCE_SIZE)


def plan_proofs(scenario: Scenario, world: World) -> Plan:
    """Each at a uniform time, by a uniform honest peer to a uniform other one.

    Raises:
        ScenarioError: there is no time, or nobody stays up for long enough.
    """
    options = PossessionOptions.of(scenario)
    timeout, min_uptime = nanoseconds(options.timeout_s), nanoseconds(scenario.workload.min_uptime_s)
    start, end = scenario.settled_ns + min_uptime, scenario.duration_ns - timeout
    if start >= end:
        raise ScenarioError("duration_s", f"leaves no time for proofs of {options.timeout_s:g} s")
    planned = []
    for number in range(options.proofs):
        draws = Stream(derive_key(scenario.seed, "workload", "proof", number))
        for _ in range(DRAWS_MAX):
            prover, issuer = draws.below(len(world.honest)), draws.below(scenario.peers)
            at = start + draws.below(end - start)
            ends = world.schedule(prover), world.schedule(issuer)
            if prover != issuer and all(stays_up(each, at, at + timeout, min_uptime) for each in ends):
                break
        else:
            raise ScenarioError("workload.options.proofs", "hardly any two peers stay up for long enough to prove")
        planned.append((prover, Operation(number, "proof", at, at + timeout, issuer, world.device(issuer))))
    return by_peer(planned)


def revoked_devices(scenario: Scenario, world: World) -> Revocations:
    """What users have revoked before the run begins, as everybody has heard."""
    share = int(exact(PossessionOptions.of(scenario).revoked) * 2**64)
    known: dict[bytes, tuple[Revocation, ...]] = {}
    for peer in world.honest:
        if Stream(derive_key(scenario.seed, "revoked", peer)).below(2**64) < share:
            user = world.user(peer)
            revocation = Revocation.sign(user, world.device(peer), 0)
            known[user.public] = (*known.get(user.public, ()), revocation)
    return known


class Possession(Workload):
    """One peer's proofs of one uptime, and what it thinks of those that others make to it."""

    __slots__ = ("_revocations",)

    def __init__(self, setup: "SimulatedSetup") -> None:
        super().__init__(setup)
        self._revocations = setup.revocations

    def start(self, ctx: Context) -> None:
        ctx.send("identity", WatchProofs(PURPOSE))
        super().start(ctx)

    def _request(self, operation: Operation) -> tuple[str, Message]:
        reference = key_package(self._content.seed, operation.number)
        return "identity", Prove(
            operation.number, operation.key, operation.record, PURPOSE, channel(operation.number), reference
        )

    @handles(ProofAccepted)
    def accepted(self, accepted: ProofAccepted, ctx: Context) -> None:
        asked = self._asked.get(accepted.token)
        if asked is not None:
            self._end(asked, "ok", 0, 0, ctx)

    @handles(ProofRefused)
    def refused(self, refused: ProofRefused, ctx: Context) -> None:
        asked = self._asked.get(refused.token)
        if asked is not None:
            self._end(asked, "refused", 0, 0, ctx, refused.reason)

    @handles(DeviceProven)
    def proven(self, proven: DeviceProven, ctx: Context) -> None:
        """Somebody has its key. May it come in?"""
        standing = self._standing(proven, ctx)
        ctx.count("members_checked", 1, standing)
        ctx.event(
            "proven",
            device=proven.device,
            channel=proven.channel,
            key_package=proven.key_package,
            user=proven.user,
            standing=standing,
        )

    def _standing(self, proven: DeviceProven, ctx: Context) -> str:
        shown = proven.certificate
        if shown is None:
            return "nobody"
        heard = self._revocations.get(shown.user, ())
        ctx.charge("ed25519_verify", CERTIFICATE_VERIFICATIONS + len(heard))
        roster = Roster(shown.user)
        try:
            for revocation in heard:
                roster.add(revocation)
            roster.standing(proven.device, Purpose.MLS, proven.at, shown)
        except IdentityError as error:
            return error.reason
        return "ok"

    @classmethod
    def from_bytes(cls, data: bytes, setup: "SimulatedSetup") -> Self:
        actor = super().from_bytes(data, setup)
        actor._revocations = setup.revocations
        return actor


WORKLOADS.register("possession", PossessionOptions)(WorkloadKind(plan_proofs, Possession, revoked_devices))
