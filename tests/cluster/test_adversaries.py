"""Honest peers among liars: nothing breaks, nothing grows, and nobody is blamed for another."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import pytest

from actors.dht_node import DhtNode
from actors.host import Host
from actors.rate_limiter import RateLimiter
from actors.rpc import RpcActor
from actors.session_manager import SessionManager
from cluster.network import Network
from cluster.operations import outcomes, summary
from cluster.options import ScenarioError
from cluster.population import Population
from cluster.registry import ADVERSARIES, WORKLOADS
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.simulation import overall_digest
from cluster.world import World

HONEST: Final = 60
DURATION_S: Final = 240
LIARS: Final = (
    {"kind": "garbage", "count": 1},
    {"kind": "flood", "count": 1, "options": {"rate_per_s": 400, "victims": 1}},
)
GARBAGE, FLOOD = HONEST, HONEST + 1
VICTIM: Final = 0
LOOKS_S: Final = (100, 170, DURATION_S)
"""When sizes are taken; by the first, everything that is bounded is full."""

REASONS: Final = {
    # outside of sessions
    *("unknown_datagram", "malformed_init", "counter_too_far", "decrypt_failed", "wrong_endpoint", "bad_certificate"),
    # frames
    *("malformed", "invalid", "non_canonical", "unknown_tag", "too_large"),
    # what frames mean
    *("bad_size", "bad_ack", "unsolicited", "no_kind", "bad_signature"),
}


def scenario(*adversaries: dict[str, Any]) -> Scenario:
    return Scenario.from_table(
        {
            "name": "liars",
            "peers": HONEST + sum(each["count"] for each in adversaries),
            "duration_s": DURATION_S,
            "workload": {"kind": "put_get", "puts": 40, "gets": 400},
            "adversaries": list(adversaries),
        }
    )


@dataclass
class Run:
    """A world that is looked at while it runs."""

    scenario: Scenario
    restored_at_s: int = 0
    sizes: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.scenario)
        self.plan = WORKLOADS.find(self.scenario.workload.kind).make.plan(self.scenario, self.world)
        self.host = self._host()
        self._population.schedule(self.host, range(self.scenario.peers))
        for second in sorted({*LOOKS_S, self.restored_at_s} - {0}):
            self.host.run(second * NS_PER_S)
            if second == self.restored_at_s:
                self._restore()
            if second in LOOKS_S:
                self.sizes.append(self._look())
        rows = outcomes(self.plan, self.host.events, self.world, self.scenario.duration_ns)
        self.gets = summary(rows, "get")
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
        """The tables of the peer that gets most of it."""
        limiter, sessions = self.host.actor(VICTIM, "limiter"), self.host.actor(VICTIM, "sessions")
        rpc, dht = self.host.actor(VICTIM, "rpc"), self.host.actor(VICTIM, "dht")
        assert isinstance(limiter, RateLimiter)
        assert isinstance(sessions, SessionManager)
        assert isinstance(rpc, RpcActor)
        assert isinstance(dht, DhtNode)
        return {
            "sessions": len(sessions.sessions),
            "half-open": sessions.sessions.half_open,
            "dials": sessions.sessions.dialling,
            "admission keys": limiter.admission.tracked,
            "contacts": len(dht.node.table),
            **{f"{each.service} bytes": len(each.to_bytes()) for each in (limiter, sessions, rpc, dht)},
        }

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)

    def labels(self, name: str) -> set[str]:
        return {label for each, label in self.host.counters if each == name}

    def cut_off(self) -> set[str]:
        """The devices for which a breaker opened."""
        return {str(row.fields["device"]) for row in self.host.events if row.name == "breaker_opened"}


@cache
def quiet() -> Run:
    return Run(scenario())


@cache
def troubled() -> Run:
    return Run(scenario(*LIARS))


def test_honest_peers_find_what_they_seek_as_fast_as_in_a_quiet_run() -> None:
    assert quiet().gets["success_ratio"] >= 0.99
    assert troubled().gets["success_ratio"] >= 0.99
    assert troubled().gets["counted"] == quiet().gets["counted"]
    assert troubled().gets["latency_ms"]["p99"] <= 2 * quiet().gets["latency_ms"]["p99"]


def test_every_lie_is_counted_under_a_reason_that_we_named() -> None:
    assert quiet().labels("security_events") == set()
    reasons = troubled().labels("security_events")
    assert reasons <= REASONS
    assert reasons >= {"unknown_datagram", "malformed", "non_canonical", "unknown_tag", "unsolicited", "bad_signature"}


def test_only_the_authenticated_liar_is_cut_off() -> None:
    assert quiet().cut_off() == set()
    assert troubled().cut_off() == {troubled().world.device(GARBAGE).hex()}
    assert troubled().count("admission_rejected", "request_breaker_open") > 0


def test_who_asks_too_much_is_limited_and_not_cut_off() -> None:
    asked = LIARS[1]["options"]["rate_per_s"] // 2 * DURATION_S  # type: ignore[index]
    assert troubled().count("admission_rejected", "request_rate_limited") > asked // 3
    assert troubled().world.device(FLOOD).hex() not in troubled().cut_off()


def test_forged_first_messages_keep_no_honest_peer_out() -> None:
    assert troubled().labels("dials_failed") <= quiet().labels("dials_failed")
    assert troubled().count("stale_datagrams", "half_open_full") == 0


def test_nothing_grows_while_they_go_on() -> None:
    first, *later = troubled().sizes
    for look in later:
        assert look["half-open"] <= troubled().scenario.sessions.half_open_max
        assert look["sessions"] <= HONEST + 2 * len(LIARS)
        assert look["admission keys"] <= 8 * HONEST
        assert look["contacts"] <= HONEST
        for name in ("limiter bytes", "sessions bytes", "rpc bytes"):
            assert look[name] <= 1.25 * first[name] + 1_024, name
        assert look["dht bytes"] <= first["dht bytes"] + 40 * 400  # it holds the records that were put


def test_a_troubled_run_repeats_exactly_also_through_the_bytes_of_its_actors() -> None:
    assert Run(scenario(*LIARS), restored_at_s=130).digest == troubled().digest


def test_adversaries_take_their_own_options_and_no_others() -> None:
    assert ADVERSARIES.names() == ("flood", "garbage")
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.rate_per_s"):
        scenario({"kind": "flood", "count": 1, "options": {"rate_per_s": 0}})
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.victims"):
        scenario({"kind": "garbage", "count": 1, "options": {"victims": 1}})
