"""A world of honest peers and liars that is looked at while it runs."""

from dataclasses import dataclass, field

from actors.dht_node import DhtNode
from actors.host import Host
from actors.identity import Identity
from actors.rate_limiter import RateLimiter
from actors.rpc import RpcActor
from actors.session_manager import SessionManager
from cluster.network import Network
from cluster.operations import outcomes, summary
from cluster.population import Population
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.simulation import overall_digest
from cluster.world import World

VICTIM = 0
"""A bootstrap peer, which gets most of it."""


@dataclass
class Watched:
    """The run of a scenario, with sizes of the victim's tables at some times."""

    scenario: Scenario
    looks_s: tuple[int, ...] = ()
    restored_at_s: int = 0
    sizes: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.scenario)
        self.plan = WORKLOADS.find(self.scenario.workload.kind).make.plan(self.scenario, self.world)
        self.host = self._host()
        self._population.schedule(self.host, range(self.scenario.peers))
        for second in sorted({*self.looks_s, self.restored_at_s} - {0}):
            self.host.run(second * NS_PER_S)
            if second == self.restored_at_s:
                self._restore()
            if second in self.looks_s:
                self.sizes.append(self._look())
        self.host.run(self.scenario.duration_ns)
        self.rows = outcomes(self.plan, self.host.events, self.world, self.scenario.duration_ns)
        self.gets = summary(self.rows, "get")
        self.digest = overall_digest(self.host.digests())

    def _host(self) -> Host:
        self._population = Population(self.world, self.plan)
        network = Network(self.scenario, self.scenario.seed, self.world)
        return Host(self._population.build, seed=self.scenario.seed, network=network)

    def _restore(self) -> None:
        """Go on in a new host that knows nothing but the old one's bytes."""
        before, self.host = self.host, self._host()
        self.host.restore(before.to_bytes())
        self.host.events = before.events

    def _look(self) -> dict[str, int]:
        limiter, sessions = self.host.actor(VICTIM, "limiter"), self.host.actor(VICTIM, "sessions")
        rpc, dht = self.host.actor(VICTIM, "rpc"), self.host.actor(VICTIM, "dht")
        identity = self.host.actor(VICTIM, "identity")
        assert isinstance(limiter, RateLimiter)
        assert isinstance(sessions, SessionManager)
        assert isinstance(rpc, RpcActor)
        assert isinstance(dht, DhtNode)
        assert isinstance(identity, Identity)
        return {
            "sessions": len(sessions.sessions),
            "half-open": sessions.sessions.half_open,
            "dials": sessions.sessions.dialling,
            "admission keys": limiter.admission.tracked,
            "contacts": len(dht.node.table),
            "challenges": len(identity.challenger),
            **{f"{each.service} bytes": len(each.to_bytes()) for each in (limiter, sessions, rpc, dht, identity)},
        }

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)

    def labels(self, name: str) -> set[str]:
        return {label for each, label in self.host.counters if each == name}

    def cut_off(self) -> set[str]:
        """The devices for which a breaker opened."""
        return {str(row.fields["device"]) for row in self.host.events if row.name == "breaker_opened"}
