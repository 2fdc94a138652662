"""The peers of a scenario, as a host wants them: which actors, made with what, up from when until when.

A shard builds only the peers it hosts. Of the others it needs what everybody knows: the devices and
endpoints of the bootstrap peers, and for a warm start those of everybody who is up.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actors.actor import Actor
from actors.host import Host
from actors.peer import DURABLE_SUBSYSTEMS, SUBSYSTEMS
from actors.randomness import Stream, derive_key
from actors.setup import PeerSetup
from cluster.disk import DiskModel, Disks
from cluster.registry import ADVERSARIES, WORKLOADS
from cluster.scenario import Scenario
from cluster.workload import Content, Operation, Plan, Revocations, WorkloadKind, during
from cluster.world import World
from protocols.contact import ID_BITS, Contact, shared
from protocols.identity import DeviceCertificate, DeviceIdentity
from protocols.noise.contexts import AeadContexts

if TYPE_CHECKING:
    from cluster.sqlite_disks import SqliteDisks


@dataclass(frozen=True, slots=True)
class SimulatedSetup(PeerSetup):
    """What a peer of a simulation is made with beyond what any peer needs."""

    population: int = 0
    """How many peers there are; their endpoints are the numbers below."""
    operations: tuple[Operation, ...] = ()
    """What this peer is to do in this uptime."""
    content: Content | None = None
    duration_ns: int = 0
    """When the run ends."""
    revocations: Revocations = field(default_factory=dict)
    """What everybody has heard of other users."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the adversary that this peer is."""


class Population:
    """Builds peers; a host's ``build`` is ``population.build``, and its ``disks`` are ``population.disks``."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world: Final = world
        self._plan: Final = plan
        self._content: Final = Content.of(world.scenario)
        self._workload: Final[WorkloadKind] = WORKLOADS.find(world.scenario.workload.kind).make
        self._aead: Final = AeadContexts()
        self._bootstrap: Final = tuple(self.contact(peer) for peer in world.bootstraps)
        self._identities: Final[dict[int, DeviceIdentity]] = {}
        self._certificates: Final[dict[int, DeviceCertificate]] = {}
        users = self._workload.users
        self._revocations: Final = None if users is None else users(world.scenario, world)
        channels = self._workload.channels
        self._channels: Final = () if channels is None else channels(world.scenario, world)
        self._admission: Final = world.scenario.admission.policy()
        self.disks: Final = _disks(world.scenario)
        self._directory: Final = self._warm() if world.scenario.start == "warm" else []

    def contact(self, peer: int) -> Contact:
        """Where ``peer`` is, and who it is."""
        return shared(Contact(self._world.device(peer), peer))

    def schedule(self, host: Host, peers: Sequence[int]) -> None:
        """Tell ``host`` when its peers come up and go down."""
        for peer in peers:
            host.add(peer)
            for up_at, down_at in self._world.schedule(peer):
                host.schedule(peer, up_at, down_at)

    def build(self, peer: int, incarnation: int) -> tuple[SimulatedSetup, Sequence[type[Actor]]]:
        """The setup and the actors of one incarnation of a peer."""
        identity = self._identities.get(peer)
        if identity is None:
            seed = self._world.identity_seed(peer)
            identity = self._identities[peer] = DeviceIdentity.generate(seed, self._world.network_id)
        up_at, down_at = self._world.schedule(peer)[incarnation - 1]
        scenario = self._world.scenario
        setup = SimulatedSetup(
            identity=identity,
            endpoint=peer,
            bootstrap=tuple(contact for contact in self._bootstrap if contact.endpoint != peer),
            admission=self._admission,
            sessions=scenario.sessions,
            rpc=scenario.rpc,
            kademlia=scenario.kademlia,
            crdt=scenario.crdt,
            channels=self._channels,
            aead=self._aead,
            contacts=self._acquaintances(peer) if self._directory and up_at == 0 else (),
            population=scenario.peers,
            operations=during(self._plan.get(peer, ()), up_at, down_at),
            content=self._content,
            duration_ns=scenario.duration_ns,
        )
        if self._revocations is not None:
            certificate = self._certificate(peer, identity)
            setup = replace(setup, certificate=certificate, revocations=self._revocations)
        liar = self._world.adversary(peer)
        if liar is not None:
            adversary = scenario.adversaries[liar]
            kind = ADVERSARIES.find(adversary.kind)
            return replace(setup, options=adversary.options), kind.make
        subsystems = SUBSYSTEMS
        if self.disks is not None:
            subsystems = DURABLE_SUBSYSTEMS
            setup = replace(setup, store=partial(self.disks.open, peer), journal_key=self._world.journal_key(peer))
        works = setup.operations or self._revocations is not None or self._channels
        return setup, (*subsystems, self._workload.actor) if works else subsystems

    def _certificate(self, peer: int, identity: DeviceIdentity) -> DeviceCertificate:
        """Made when a peer first comes up, and kept: it takes as long as the rest of its keys."""
        certificate = self._certificates.get(peer)
        if certificate is None:
            certificate = self._certificates[peer] = self._world.certificate(peer, identity.signing)
        return certificate

    def _warm(self) -> list[tuple[int, int]]:
        """Everybody who is up at the start, by identifier."""
        world = self._world
        up = (peer for peer in world.honest if world.schedule(peer) and world.schedule(peer)[0][0] == 0)
        return sorted((world.node_id(peer), peer) for peer in up)

    def _acquaintances(self, peer: int) -> tuple[Contact, ...]:
        """For every bucket, ``k`` of the peers that belong there, drawn at random; all of them where they are fewer.

        That is what a peer that has been up for long knows, but for its dead entries.
        """
        own = self._world.node_id(peer)
        k = self._world.scenario.kademlia.k
        draws = Stream(derive_key(self._world.scenario.seed, "acquaintances", peer))
        directory = self._directory
        chosen: list[Contact] = []
        low, high = 0, len(directory)
        for bit in range(ID_BITS - 1, -1, -1):
            if high - low <= 1:
                break
            # directory[low:high] shares our bits above this one; split it where the bit turns to one.
            middle = bisect_left(directory, (own >> bit + 1 << bit + 1 | 1 << bit, 0), low, high)
            if own >> bit & 1:
                far_low, far_high, low = low, middle, middle
            else:
                far_low, far_high, high = middle, high, middle
            size = far_high - far_low
            if size <= k:
                picks: Iterable[int] = range(size)
            else:
                picks = sample(size, k, draws)
            chosen.extend(self.contact(directory[far_low + pick][1]) for pick in picks)
        return tuple(chosen)


def _disks(scenario: Scenario) -> "Disks | SqliteDisks | None":
    """Those that a scenario wants its peers to have."""
    match scenario.disk.kind:
        case "none":
            return None
        case "simulated":
            return Disks(DiskModel.of(scenario.disk), scenario.seed)
        case "sqlite":
            from cluster.sqlite_disks import SqliteDisks  # noqa: PLC0415 - few runs need SQLite

            return SqliteDisks()


def sample(size: int, count: int, draws: Stream) -> list[int]:
    """``count`` different numbers below ``size``, drawn uniformly (Floyd's algorithm)."""
    chosen: dict[int, None] = {}
    for last in range(size - count, size):
        pick = draws.below(last + 1)
        chosen[last if pick in chosen else pick] = None
    return list(chosen)
