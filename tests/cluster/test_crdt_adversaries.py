"""Honest replicas among members who lie, each kind by itself: they agree, blame the right ones, and nothing grows."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import pytest

from actors.crdt_replica import CrdtReplica
from cluster.agreement import convergence
from cluster.convergence import channels
from cluster.crdt_forgeries import FORGERIES
from cluster.crdt_traitor import TOLD_MAX
from cluster.options import ScenarioError
from cluster.registry import ADVERSARIES
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.simulation import simulate
from protocols.crdt.bundles import Seal
from protocols.crdt.changes import Assign, Revoke
from protocols.crdt.clock import AHEAD_NS_MAX, is_ahead
from protocols.crdt.exchange import ROUNDS_MAX, SIZE_MAX
from protocols.crdt.judgement import Judge
from protocols.crdt.messages import MESSAGE_SIZE_MAX
from protocols.crdt.pending import PENDING_COUNT_MAX, SENDER_COUNT_MAX
from protocols.crdt.replica import UNVOUCHED_MAX, Replica
from protocols.identity import SigningKey
from tests.cluster.watched import Watched

HONEST: Final = 10
DURATION_S: Final = 160
BURST: Final = 128
RATE_PER_S: Final = 2
WORKLOAD: Final = {"writes": 40, "until_s": 100, "timeout_s": 30, "burst": BURST, "rate_per_s": RATE_PER_S, "admins": 2}
KINDS: Final = ("equivocator", "backdater", "postdater", "flooder", "forger", "withholder", "poisoner")


def scenario(kind: str, count: int = 2, traitors: int = 0, **options: Any) -> Scenario:
    return Scenario.from_table(
        {
            "name": kind,
            "peers": HONEST + count,
            "duration_s": DURATION_S,
            "start": "warm",
            "bootstraps": 2,
            "network": {"loss": 0.02},
            "workload": {"kind": "convergence", "options": WORKLOAD | {"traitors": traitors}},
            "adversaries": [{"kind": kind, "count": count, "options": options}],
        }
    )


class Among:
    """The run of a scenario, and what became of the honest."""

    def __init__(self, of: Scenario) -> None:
        self.run: Final = Watched(of)
        self.figures: Final = convergence(self.run.rows, self.run.host.events, self.run.world)
        self.liars: Final = {self.run.world.device(peer) for peer in range(HONEST, of.peers)}
        members = self.replica(0).judge.members
        self.replicas: Final = {
            peer: self.replica(peer) for peer in range(HONEST) if self.run.world.device(peer) in members
        }
        """Of honest members; nobody talks to who was revoked."""

    def replica(self, peer: int) -> Replica:
        actor = self.run.host.actor(peer, "crdt")
        assert isinstance(actor, CrdtReplica)
        (channel,) = channels(self.run.scenario, self.run.world)
        return actor.replica(Replica(channel.genesis).channel)

    @property
    def attacks(self) -> Counter[str]:
        counters = self.run.host.counters.items()
        return Counter({label: count for (name, label), count in counters if name == "crdt_attacks"})

    @property
    def faults(self) -> Counter[str]:
        """What the honest blamed liars for."""
        events = [each for each in self.run.host.events if each.name == "security" and each.peer < HONEST]
        assert {bytes.fromhex(str(each.fields["device"])) for each in events} <= self.liars
        return Counter(str(each.fields["reason"]) for each in events)


def small(kind: str) -> Scenario:
    """Two of a kind. Of backdaters the first is found out; one flooder writes as much as ten others."""
    if kind == "backdater":
        return scenario(kind, traitors=1, pause_s=1.5)
    return scenario(kind, 1 if kind == "flooder" else 2)


@cache
def among(kind: str) -> Among:
    return Among(small(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_honest_replicas_agree_and_nobody_honest_is_blamed(kind: str) -> None:
    assert among(kind).figures["broken"] == []
    assert among(kind).figures["replicas"] >= HONEST - 2  # admins who were revoked by whom they revoked
    assert among(kind).attacks.total() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_is_bounded_for_each_sender_and_in_all(kind: str) -> None:
    for replica in among(kind).replicas.values():
        assert len(replica.pending) <= min(PENDING_COUNT_MAX, SENDER_COUNT_MAX * (HONEST + len(among(kind).liars)))


def test_equivocators_are_fenced_and_what_they_wrote_on_branches_is_inert() -> None:
    found = among("equivocator")
    assert found.attacks.keys() == {"fork", "branch", "late_branch"}
    assert found.faults.keys() <= {"unproven_fork", "fenced_dependency"}
    for damage in found.figures["damage"]:
        assert damage["inert"] > 20
        assert damage["counting"] < 10
    assert all(set(replica.judge.fenced) == found.liars for replica in found.replicas.values())
    one_branch_counts(found)


def one_branch_counts(found: Among) -> None:
    """Of the operations on one back-link, at most one has an effect."""
    for replica in found.replicas.values():
        for liar in found.liars:
            counting = [each for each in replica.history if each.operation.author == liar and each.counts]
            assert len({each.operation.previous for each in counting}) == len(counting)


def test_who_is_revoked_writes_nothing_more_and_lets_nobody_in() -> None:
    found = among("backdater")
    assert found.attacks["backdated"] > 10
    traitor_has_no_say(found)


def traitor_has_no_say(found: Among) -> None:
    """What it wrote counts no more, as far as who revoked it had not seen that; nor is anybody in whom it let in. It
    may take an admin with it: of two who revoke each other and are as near to the owner, neither stays."""
    world = found.run.world
    founders = {world.device(peer) for peer in range(found.run.scenario.peers)}
    traitor = world.device(HONEST)
    for replica in found.replicas.values():
        history, judge = replica.history, replica.judge
        assert judge.members.keys() <= founders - {traitor}
        assert not any(each.counts for each in history if each.operation.author not in founders)
        revocations = [each for each in history.authority if each.operation.change == Revoke(traitor)]
        late = [
            each
            for each in history
            if each.operation.author == traitor and not any(revoke.sees(each) for revoke in revocations)
        ]
        assert len(late) > 5
        assert {type(each.operation.change) for each in late if each.counts} <= {Revoke}


def test_nobody_writes_in_the_future_and_no_register_stays_with_who_tries() -> None:
    found = among("postdater")
    end_ns = found.run.scenario.duration_ns
    assert any(len(replica.pending) for replica in found.replicas.values())
    for peer, replica in found.replicas.items():
        written = [each for each in replica.history if each.operation.author in found.liars]
        assert written
        assert not any(is_ahead(each.operation.clock, end_ns) for each in written)
        change = written[-1].operation.change
        assert isinstance(change, Assign)
        key = SigningKey(found.run.world.identity_seed(peer)[:32])
        replica.write(key, [Assign(change.path, "mine")], end_ns)
        assert replica.document.register(change.path) == "mine"


def test_a_flood_is_bounded_by_the_quota_of_each_chain_and_by_patience_with_equivocators() -> None:
    found = among("flooder")
    assert found.attacks.keys() == {"quota", "beyond", "fork"}
    assert "over_quota" in found.faults
    allowance = BURST + RATE_PER_S * (DURATION_S + AHEAD_NS_MAX // NS_PER_S)
    for replica in found.replicas.values():
        for liar in found.liars:
            written = [each for each in replica.history if each.operation.author == liar]
            assert max(each.sequence for each in written) <= allowance
            assert sum(not each.counts for each in written) <= 2 * UNVOUCHED_MAX  # more while honest ones wait
            assert sum(each.counts for each in written) <= allowance


def test_every_forgery_is_refused_for_what_it_is() -> None:
    found = among("forger")
    assert found.attacks.keys() == {each.__name__ for each in FORGERIES} | {"replay"}
    assert found.faults.keys() >= REASONS
    only_members_wrote(found)


def test_what_rests_on_what_is_withheld_waits_and_its_sender_is_charged() -> None:
    found = among("withholder")
    assert found.faults.keys() == {"pending_evicted"}
    # A push is answered by a question and perhaps another page; more is asked only of who has given something.
    assert found.attacks["asked_in_vain"] <= 3 * TOLD_MAX * found.attacks["withheld"]
    only_members_wrote(found)


def test_lies_about_what_is_held_cost_no_more_than_an_exchange() -> None:
    found = among("poisoner")
    assert found.faults.keys() >= {"bad_answer", "bad_ranges", "invalid"}
    histograms = found.run.host.histograms
    assert max(histograms["crdt_exchange_rounds"]) <= ROUNDS_MAX.bit_length()
    assert max(histograms["crdt_exchange_bytes"]) <= (SIZE_MAX + 2 * MESSAGE_SIZE_MAX).bit_length()
    only_members_wrote(found)


REASONS: Final = {
    *("malformed", "oversized", "bad_count", "bad_path", "non_canonical", "bad_signature"),
    *("bad_genesis", "bad_back_link", "bad_sequence", "bad_clock", "unauthorised", "bad_evidence", "bad_reference"),
}
"""What forgeries are refused for."""


def only_members_wrote(found: Among) -> None:
    """What liars said left no operation behind."""
    honest = {found.run.world.device(peer) for peer in range(HONEST)}
    for replica in found.replicas.values():
        assert {each.operation.author for each in replica.history} <= honest


def test_a_run_is_the_same_on_two_shards_and_through_the_bytes_of_its_actors() -> None:
    of = small("equivocator")
    alone, together = (simulate(of.with_overrides({"shards": shards}), inline=True) for shards in (1, 2))
    assert alone.digest == together.digest == among("equivocator").run.digest
    assert Watched(small("backdater"), restored_at_s=110).digest == among("backdater").run.digest


@pytest.mark.parametrize(
    ("kind", "check", "instead", "promise"),
    [
        ("forger", (Seal, "verify"), lambda seal, channel: None, only_members_wrote),
        ("equivocator", (Judge, "_is_vouched"), lambda judge, held: True, one_branch_counts),
        ("backdater", (Judge, "_judge"), lambda judge, held: True, traitor_has_no_say),
    ],
)
def test_without_the_check_the_promise_is_broken(
    kind: str,
    check: tuple[type, str],
    instead: Callable[..., Any],
    promise: Callable[[Among], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(*check, instead)
    with pytest.raises(AssertionError):
        promise(Among(small(kind)))


def test_clocks_that_nobody_checks_end_all_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert among("postdater").figures["writes"]["outcomes"] == {"ok": WORKLOAD["writes"]}
    monkeypatch.setattr("protocols.crdt.replica.is_ahead", lambda clock, now_ns: False)
    assert "refused" in Among(small("postdater")).figures["writes"]["outcomes"]


def test_adversaries_take_their_own_options_and_no_others() -> None:
    assert set(KINDS) <= set(ADVERSARIES.names())
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.pause_s"):
        scenario("forger", pause_s=0.0)
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.bundles"):
        scenario("equivocator", bundles=2)
