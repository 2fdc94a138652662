"""Honest devices among impostors: nobody is taken for another, nothing grows, and nobody is blamed for an impostor."""

from functools import cache
from typing import Any, Final

import pytest

from cluster.invariants import honest_accused, possession
from cluster.options import ScenarioError
from cluster.scenario import Scenario
from protocols.identity.messages import DeviceProven, Proof, ProofRequest
from protocols.identity.possession import CHALLENGES_PER_DEVICE_MAX, Challenger
from tests.cluster.watched import VICTIM, Watched

HONEST: Final = 24
DURATION_S: Final = 180
IMPOSTORS: Final = {"kind": "impostor", "count": 3, "options": {"rate_per_s": 10}}
LOOKS_S: Final = (90, 135, DURATION_S)

LIES: Final = {
    *("wrong_issuer", "wrong_key", "wrong_binding", "replayed", "bad_signature"),
    *("cross_purpose", "wrong_channel", "wrong_key_package", "wrong_certificate", "bad_certificate"),
}
"""What honest devices must have accused impostors of by the end."""

RARE: Final = {"altered", "wrong_device"}
"""What they may have."""


def scenario(*adversaries: dict[str, Any], proofs: int = 150) -> Scenario:
    return Scenario.from_table(
        {
            "name": "impostors",
            "peers": HONEST + sum(each["count"] for each in adversaries),
            "duration_s": DURATION_S,
            "join_window_s": 5,
            "bootstraps": 2,
            "workload": {"kind": "possession", "min_uptime_s": 10, "options": {"proofs": proofs, "revoked": 0.1}},
            "adversaries": list(adversaries),
        }
    )


def figures(run: Watched) -> dict[str, Any]:
    return possession(run.rows, run.host.events, run.world)


@cache
def quiet() -> Watched:
    return Watched(scenario(), LOOKS_S)


@cache
def troubled() -> Watched:
    return Watched(scenario(IMPOSTORS), LOOKS_S)


def test_nobody_is_taken_for_another() -> None:
    found = figures(troubled())
    assert found["false_accepts"] == 0
    assert found["convinced"] > found["proofs"]["count"] + 20  # impostors prove their own keys, too


def test_honest_proofs_succeed_as_if_nobody_lied() -> None:
    alone, among = figures(quiet())["proofs"], figures(troubled())["proofs"]
    assert alone["success_ratio"] == 1
    assert among["success_ratio"] >= 0.99
    assert among["latency_ms"]["p90"] <= 2 * alone["latency_ms"]["p90"]


def test_every_sort_of_lie_is_told_and_found_out_and_only_liars_are_blamed() -> None:
    assert quiet().labels("security_events") == set()
    assert LIES <= troubled().labels("security_events") <= LIES | RARE
    assert honest_accused(troubled().host.events, troubled().world) == []
    assert figures(troubled())["honest_blamed"] == {}


def test_who_proves_something_to_an_impostor_signs_for_it_alone_or_not_at_all() -> None:
    told = figures(troubled())["to_liars"]
    assert sum(told.values()) > 5
    assert told.keys() <= {"ok", "wrong_issuer", "wrong_binding", "wrong_device", "timeout"}


def test_those_whose_users_revoked_them_have_their_keys_and_no_standing() -> None:
    assert figures(quiet())["standing"].keys() == {"ok", "revoked"}
    assert figures(troubled())["standing"].keys() == {"ok", "revoked", "nobody"}


def test_nothing_grows_while_they_go_on() -> None:
    first, *later = troubled().sizes
    proven = sum(event.name == "proven" and event.peer == VICTIM for event in troubled().host.events)
    for look in later:
        assert look["challenges"] <= 4 * CHALLENGES_PER_DEVICE_MAX + proven  # open ones of impostors, and spent ones
        assert look["sessions"] <= 2 * troubled().scenario.peers
        for name in ("limiter bytes", "sessions bytes", "rpc bytes", "dht bytes"):
            assert look[name] <= 1.25 * first[name] + 1_024, name
    impostor = troubled().host.actor(HONEST, "limiter")
    assert impostor is not None
    assert len(impostor.to_bytes()) < 200_000


def test_a_run_repeats_exactly_also_through_the_bytes_of_its_actors() -> None:
    assert Watched(scenario(IMPOSTORS), restored_at_s=100).digest == troubled().digest


@pytest.mark.parametrize("hole", ["replay", "issuer", "key", "signature"])
def test_the_checks_would_find_a_hole(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check of the issuer is taken away in its turn, and somebody is fooled."""
    check = Challenger.check

    def fooled(self: Challenger, proof: Proof, **where: Any) -> Any:
        said = proof.challenge
        issued = self._open.get(said.nonce)
        match hole:
            case "replay" if said.nonce in self._spent and said.issuer == self._issuer:
                asked = ProofRequest(said.purpose, said.channel, said.key_package)
                del self._spent[said.nonce]
                self.issue(asked, device=said.device, binding=said.binding, now=said.issued_at, nonce=said.nonce)
            case "issuer" if said.issuer != self._issuer and said.device == where["device"]:
                return _believed(proof, where["now"])
            case "key" if said.device != where["device"]:
                return _believed(proof, where["now"])
            case "signature" if issued is not None and said.device == where["device"]:
                return _believed(proof, where["now"])
            case _:
                pass
        return check(self, proof, **where)

    monkeypatch.setattr(Challenger, "check", fooled)
    assert figures(Watched(scenario(IMPOSTORS)))["false_accepts"] > 0


def _believed(proof: Proof, now: int) -> DeviceProven:
    said = proof.challenge
    return DeviceProven(said.device, said.purpose, said.channel, said.key_package, proof.certificate, now)


def test_impostors_take_their_own_options_and_no_others() -> None:
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.burst"):
        scenario({"kind": "impostor", "count": 1, "options": {"burst": 0}})
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.victims"):
        scenario({"kind": "impostor", "count": 1, "options": {"victims": 1}})
