"""The workload ``possession``: who proves what to whom, what is noted of it, and what convinced peers think."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from cluster.operations import Operation, Plan
from cluster.options import ScenarioError
from cluster.planning import stays_up
from cluster.population import Population, SimulatedSetup
from cluster.possession import PURPOSE, Possession, channel, key_package, plan_proofs, revoked_devices
from cluster.scenario import Scenario, load
from cluster.workload import Content
from cluster.world import World
from protocols.identity import DeviceCertificate, DeviceIdentity, DeviceRequest, Purpose, Revocation, SigningKey
from protocols.identity.messages import DeviceProven, ProofAccepted, ProofRefused, Prove, WatchProofs
from protocols.messages import Message

S: Final = 1_000_000_000
IDENTITY: Final = DeviceIdentity.generate(bytes(range(64)), b"test")
USER: Final = SigningKey(bytes(32))
CONTENT: Final = Content(7, 64, 600)
ISSUER: Final = bytes([9]) * 32

# -- the plan ---------------------------------------------------------------------------------------------


def planned(**overrides: Any) -> tuple[Scenario, World, Plan]:
    scenario = load("identities").with_overrides({key.replace("__", "."): each for key, each in overrides.items()})
    world = World(scenario)
    return scenario, world, plan_proofs(scenario, world)


def test_honest_peers_prove_to_others_who_both_stay_for_the_answer() -> None:
    scenario, world, plan = planned()
    proofs = [(peer, each) for peer, operations in plan.items() for each in operations]
    assert sorted(each.number for _, each in proofs) == list(range(1_000))
    for peer, proof in proofs:
        assert peer in world.honest
        assert peer != proof.record
        assert proof.key == world.device(proof.record)
        for end in (peer, proof.record):
            assert stays_up(world.schedule(end), proof.at, proof.deadline, 30 * S)
        assert scenario.settled_ns + 30 * S <= proof.at
        assert proof.deadline <= scenario.duration_ns
    assert {proof.record for _, proof in proofs} > set(range(95, 100))  # liars are asked to be issuers, too


def test_plan_follows_from_the_seed() -> None:
    assert planned()[2] == planned()[2] != planned(seed=2)[2]


def test_plan_without_time_or_partners_is_an_error() -> None:
    with pytest.raises(ScenarioError, match="duration_s: leaves no time for proofs of 30 s"):
        planned(duration_s=80)
    with pytest.raises(ScenarioError, match=r"workload\.options\.proofs: hardly any two"):
        planned(peers=1, bootstraps=1, adversaries=[])


def test_users_revoke_the_share_that_the_scenario_says() -> None:
    scenario, world, _ = planned(peers=600)
    revoked = [each for some in revoked_devices(scenario, world).values() for each in some]
    assert 15 <= len(revoked) <= 45
    for revocation in revoked:
        revocation.verify()
    assert revoked_devices(*planned(workload__options={"proofs": 9})[:2]) == {}


def test_every_peer_has_a_certificate_and_watches_and_liars_do_not() -> None:
    _, world, plan = planned()
    population = Population(world, plan)
    for peer in (0, 50, 97):
        setup, actors = population.build(peer, 1)
        assert setup.certificate is not None
        assert setup.certificate.user == world.user(peer).public
        assert (Possession in actors) == (peer in world.honest)
    assert population.build(0, 1)[0].certificate is population.build(0, 1)[0].certificate


def test_peers_of_other_workloads_have_no_users() -> None:
    world = World(load("demo"))
    setup, actors = Population(world, {}).build(3, 1)
    assert setup.certificate is None
    assert Possession not in actors


# -- the actor --------------------------------------------------------------------------------------------


class Tell(Message, frozen=True, tag="test.tell"):
    message: DeviceProven | ProofAccepted | ProofRefused


class FakeIdentity(Actor):
    """Answers by script, and remembers what it is asked."""

    __slots__ = ()
    service: ClassVar[str] = "identity"
    script: ClassVar[dict[int, tuple[int, ProofAccepted | ProofRefused]]] = {}
    asked: ClassVar[list[tuple[int, Message]]] = []

    def __init__(self, setup: SimulatedSetup) -> None:
        pass

    @handles(Prove, WatchProofs)
    def ask(self, message: Prove | WatchProofs, ctx: Context) -> None:
        self.asked.append((ctx.now, message))
        if isinstance(message, Prove) and message.token in self.script:
            delay, answer = self.script[message.token]
            ctx.after(delay, Tell(answer))

    @handles(Tell)
    def tell(self, told: Tell, ctx: Context) -> None:
        ctx.send("workload", told.message)


def certificate(user: SigningKey = USER, purposes: tuple[Purpose, ...] = (Purpose.MLS,)) -> DeviceCertificate:
    request = DeviceRequest.sign(IDENTITY.signing, user.public, purposes)
    return DeviceCertificate.issue(user, request, 0, 0, 2**62)


def proof(number: int, at_s: int) -> Operation:
    return Operation(number, "proof", at_s * S, (at_s + 10) * S, 5, ISSUER)


def host(operations: Sequence[Operation] = (), script: dict[int, Any] | None = None, *revoked: Revocation) -> Host:
    FakeIdentity.script, FakeIdentity.asked = script or {}, []
    known = {USER.public: revoked} if revoked else {}
    setup = SimulatedSetup(
        identity=IDENTITY, endpoint=3, operations=tuple(operations), content=CONTENT, revocations=known
    )
    host = Host(lambda peer, incarnation: (setup, (FakeIdentity, Possession)))
    host.schedule(3, 0)
    host.run(S)
    return host


def test_proofs_are_asked_at_their_time_and_noted_with_their_reason() -> None:
    script = {1: (S, ProofAccepted(1, ISSUER)), 2: (2 * S, ProofRefused(2, ISSUER, "replayed"))}
    world = host([proof(1, 5), proof(2, 6), proof(3, 7)], script)
    world.run(100 * S)
    (_, watch), (at, first), *_ = FakeIdentity.asked
    assert watch == WatchProofs(PURPOSE)
    assert at == 5 * S
    assert first == Prove(1, ISSUER, 5, PURPOSE, channel(1), key_package(CONTENT.seed, 1))
    assert [(row.time, row.fields["outcome"], row.fields.get("reason")) for row in world.events] == [
        (6 * S, "ok", None),
        (8 * S, "refused", "replayed"),
        (17 * S, "timeout", None),
    ]


def test_answer_after_the_deadline_finds_nobody_waiting() -> None:
    script = {1: (11 * S, ProofAccepted(1, ISSUER)), 2: (11 * S, ProofRefused(2, ISSUER, "timeout"))}
    world = host([proof(1, 5), proof(2, 5)], script)
    world.run(100 * S)
    assert [row.fields["outcome"] for row in world.events] == ["timeout", "timeout"]


@pytest.mark.parametrize(
    ("shown", "revoked", "standing"),
    [
        (certificate(), (), "ok"),
        (None, (), "nobody"),
        (certificate(purposes=(Purpose.DHT,)), (), "wrong_purpose"),
        (certificate(), (Revocation.sign(USER, IDENTITY.device_public, 0),), "revoked"),
        (certificate(), (Revocation.sign(USER, ISSUER, 0),), "ok"),
        (certificate(SigningKey(bytes([1]) * 32)), (Revocation.sign(USER, IDENTITY.device_public, 0),), "ok"),
    ],
)
def test_who_is_convinced_asks_what_the_device_may(
    shown: DeviceCertificate | None, revoked: tuple[Revocation, ...], standing: str
) -> None:
    world = host((), None, *revoked)
    world.tell(3, "workload", DeviceProven(IDENTITY.device_public, PURPOSE, b"channel", b"package", shown, S))
    [row] = world.events
    assert row.name == "proven"
    assert row.fields["standing"] == standing
    assert row.fields["user"] == ("" if shown is None else shown.user.hex())
    assert world.counters["members_checked", standing] == 1


def test_restored_actor_knows_what_was_revoked_and_what_it_asked() -> None:
    world = host(
        [proof(1, 5)], {1: (4 * S, ProofAccepted(1, ISSUER))}, Revocation.sign(USER, IDENTITY.device_public, 0)
    )
    world.run(6 * S)
    context = world._peer(3).contexts["workload"]
    setup = SimulatedSetup(
        identity=IDENTITY,
        endpoint=3,
        revocations={USER.public: (Revocation.sign(USER, IDENTITY.device_public, 0),)},
    )
    saved = context.actor.to_bytes()
    context.actor = Possession.from_bytes(saved, setup)
    assert context.actor.to_bytes() == saved
    world.run(100 * S)
    world.tell(3, "workload", DeviceProven(IDENTITY.device_public, PURPOSE, b"", b"", certificate(), S))
    assert [row.fields.get("outcome", row.fields.get("standing")) for row in world.events] == ["ok", "revoked"]


def test_no_two_proofs_are_about_one_key_package() -> None:
    assert len({key_package(1, number) for number in range(100)}) == 100
    assert key_package(1, 5) != key_package(2, 5)
