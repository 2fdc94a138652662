"""The facts about every peer, before anything has happened.

Where a peer lives, how slow its line is, which keys it has, when it is up, who lies: each is a function
of scenario, seed and the peer's number. So a shard learns nothing about the peers of other shards by
message, and a peer is the same whoever hosts it.

``assign`` says which shard hosts which peer. Two things pull apart (Andelfinger): even shards wait less
for the slowest, and shards that are far from each other meet less often, since a window is as long as the
smallest latency between shards. Cutting the world between distant regions makes windows of 60 ms where an
even split makes them of 4 ms; but Europe has half of all peers. Which is faster depends on how much work
a peer makes, so all cuts are costed with the same simple model, and the cheapest wins.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

from actors.randomness import Stream, derive_key
from cluster.churn import Churn, Uptime
from cluster.options import ScenarioError
from cluster.regions import Geography
from cluster.registry import NETWORKS
from cluster.sampling import log_normal
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S, SECONDS_MAX, exact, nanoseconds
from protocols.contact import node_id
from protocols.crypto import ED25519_SEED_SIZE, ed25519_public
from protocols.identity import ALL_PURPOSES, IDENTITY_ENTROPY_SIZE, DeviceCertificate, DeviceRequest, SigningKey
from protocols.journal import ROOT_SIZE

WINDOW_COST_NS: Final = 150_000
"""What a window costs beside its events: the batches of each shard, sent and collected once."""

WORK_PER_PEER_SECOND_NS: Final = 100_000
"""What a peer keeps a core busy with in a virtual second, joining and lookups included: a few packets, each
an AEAD and some dictionaries. A measured mean; only the choice of a cut rests on it."""

DEVICES_PER_USER: Final = 2
"""A telephone and a laptop: peers 2k and 2k + 1."""

_TRAITS: Final = Struct("<QQ")


class World:
    """All peers of a scenario, numbered from 0; the first ``bootstraps`` of them are the bootstrap peers."""

    __slots__ = (
        "_churn",
        "_devices",
        "_honest",
        "_schedules",
        "access_ns",
        "geography",
        "network_id",
        "regions",
        "scenario",
    )

    def __init__(self, scenario: Scenario) -> None:
        self.scenario: Final = scenario
        self.network_id: Final = b"simulation/%d" % scenario.seed
        """Bound into every handshake: peers of two worlds cannot talk to each other."""
        self.geography: Final[Geography] = NETWORKS.find(scenario.network.model).make(scenario)
        self.regions: Final[list[int]] = []
        """The number of every peer's region."""
        self.access_ns: Final[list[int]] = []
        """The delay of every peer's own line, one way."""
        self._churn = Churn(scenario)
        self._schedules: list[tuple[Uptime, ...] | None] = [None] * scenario.peers
        self._devices: list[bytes | None] = [None] * scenario.peers
        self._honest = scenario.peers - sum(each.count for each in scenario.adversaries)
        self._settle()

    def _settle(self) -> None:
        network = self.scenario.network
        floor_ns = nanoseconds(network.access_floor_s)
        access = log_normal(nanoseconds(network.access_median_s), exact(network.access_sigma))
        bounds = _cumulative(self.geography.weights)
        key = derive_key(self.scenario.seed, "traits")
        for peer in range(self.scenario.peers):
            traits = blake2b(peer.to_bytes(8, "little"), key=key, digest_size=16).digest()
            place, line = _TRAITS.unpack(traits)
            draw = place * bounds[-1] >> 64
            self.regions.append(next(region for region, bound in enumerate(bounds) if draw < bound))
            self.access_ns.append(max(floor_ns, access.sample(line)))

    @property
    def bootstraps(self) -> range:
        """The peers that everybody knows from the start."""
        return range(self.scenario.bootstraps)

    @property
    def honest(self) -> range:
        """The peers that follow the protocol."""
        return range(self._honest)

    def adversary(self, peer: int) -> int | None:
        """Which entry of ``scenario.adversaries`` this peer belongs to; they are the last peers, in order."""
        first = self._honest
        for index, each in enumerate(self.scenario.adversaries):
            if first <= peer < first + each.count:
                return index
            first += each.count
        return None

    def region(self, peer: int) -> str:
        """The name of the region where ``peer`` lives."""
        return self.geography.names[self.regions[peer]]

    def access_delay(self, peer: int) -> int:
        """What the line of ``peer`` adds to each of its packets, in ns, each way."""
        return self.access_ns[peer]

    def schedule(self, peer: int) -> tuple[Uptime, ...]:
        """When ``peer`` is up."""
        schedule = self._schedules[peer]
        if schedule is None:
            schedule = self._schedules[peer] = self._churn.schedule(peer)
        return schedule

    def identity_seed(self, peer: int) -> bytes:
        """The entropy of which ``DeviceIdentity.generate`` makes this peer's keys."""
        return Stream(derive_key(self.scenario.seed, "identity", peer)).entropy(IDENTITY_ENTROPY_SIZE)

    def user(self, peer: int) -> SigningKey:
        """The key of the user whose device ``peer`` is. It is in no peer: a real one is offline."""
        seed = derive_key(self.scenario.seed, "user", peer // DEVICES_PER_USER)
        return SigningKey(Stream(seed).entropy(ED25519_SEED_SIZE))

    def certificate(self, peer: int, device: SigningKey) -> DeviceCertificate:
        """What the user of ``peer`` says of its device, for as long as any run takes."""
        user = self.user(peer)
        request = DeviceRequest.sign(device, user.public, ALL_PURPOSES)
        return DeviceCertificate.issue(user, request, 0, 0, nanoseconds(SECONDS_MAX))

    def journal_key(self, peer: int) -> bytes:
        """What seals the journal of ``peer``. A real one comes out of the keystore."""
        return Stream(derive_key(self.scenario.seed, "journal", peer)).entropy(ROOT_SIZE)

    def device(self, peer: int) -> bytes:
        """The public key that is the peer's name, made without the rest of its identity (20 µs, then kept)."""
        device = self._devices[peer]
        if device is None:
            device = self._devices[peer] = ed25519_public(self.identity_seed(peer)[:32])
        return device

    def node_id(self, peer: int) -> int:
        """Where ``peer`` stands in the identifier space of the DHT."""
        return node_id(self.device(peer))

    def lookahead(self, assignment: Sequence[int]) -> int:
        """How far shards may run ahead of each other: the least time a packet between two of them can take.

        Without a pair of shards, the whole run.

        Raises:
            ScenarioError: it is zero; then no shard could ever take a step.
        """
        nearest: dict[tuple[int, int], int] = {}  # (shard, region) to the fastest line there
        for peer, shard in enumerate(assignment):
            place = (shard, self.regions[peer])
            access_ns = self.access_ns[peer]
            if access_ns < nearest.get(place, access_ns + 1):
                nearest[place] = access_ns
        one_way_ns = self.geography.one_way_ns
        lookahead_ns = min(
            (
                one_way_ns[source][destination] + first + second
                for (one, source), first in nearest.items()
                for (other, destination), second in nearest.items()
                if one != other
            ),
            default=self.scenario.duration_ns,
        )
        if lookahead_ns <= 0:
            raise ScenarioError("network.access_floor_s", "leaves peers of two shards without any latency")
        return lookahead_ns

    def assign(self, shards: int) -> list[int]:
        """The shard of every peer, by the cheapest cut of the world."""
        if not 0 < shards <= self.scenario.peers:
            raise ScenarioError("shards", f"{shards} shards cannot share {self.scenario.peers} peers")
        if shards == 1:
            return [0] * self.scenario.peers
        return min(self._cuts(shards), key=self._cost)

    def _cost(self, assignment: list[int]) -> int:
        """The wall time of a run with this assignment, in ns, if work is proportional to peers."""
        peers = self.scenario.peers
        loads: dict[int, int] = {}
        for shard in assignment:
            loads[shard] = loads.get(shard, 0) + 1
        duration_s = self.scenario.duration_ns // NS_PER_S + 1
        work_ns = peers * duration_s * WORK_PER_PEER_SECOND_NS
        windows = self.scenario.duration_ns // self.lookahead(assignment) + 1
        return work_ns * max(loads.values()) // peers + windows * WINDOW_COST_NS

    def _cuts(self, shards: int) -> Iterator[list[int]]:
        """The even split, and every way to keep regions together that are nearer than some latency."""
        yield [peer % shards for peer in range(self.scenario.peers)]
        populations = [0] * len(self.geography.names)
        for region in self.regions:
            populations[region] += 1
        one_way_ns = self.geography.one_way_ns
        for threshold in sorted({each for row in one_way_ns for each in row}):
            clusters = _clusters(one_way_ns, threshold)
            inhabited = [each for each in clusters if any(populations[region] for region in each)]
            if len(inhabited) < shards:
                return
            # The largest first, each to the shard with the least so far: within a third of the best balance.
            loads = [0] * shards
            shard_of_region = [0] * len(populations)
            for cluster in sorted(inhabited, key=lambda each: (-sum(populations[r] for r in each), each)):
                shard = loads.index(min(loads))
                loads[shard] += sum(populations[region] for region in cluster)
                for region in cluster:
                    shard_of_region[region] = shard
            yield [shard_of_region[region] for region in self.regions]


def _clusters(one_way_ns: Sequence[Sequence[int]], threshold: int) -> list[list[int]]:
    """The regions, joined whenever two are nearer than ``threshold``, directly or through others."""
    clusters: list[list[int]] = []
    for region in range(len(one_way_ns)):
        near = [
            cluster
            for cluster in clusters
            if any(min(one_way_ns[region][other], one_way_ns[other][region]) < threshold for other in cluster)
        ]
        clusters = [cluster for cluster in clusters if cluster not in near]
        clusters.append(sorted([region, *(other for cluster in near for other in cluster)]))
    return clusters


def _cumulative(weights: Sequence[int]) -> list[int]:
    bounds: list[int] = []
    total = 0
    for weight in weights:
        total += weight
        bounds.append(total)
    return bounds
