"""Honest peers among liars: nothing breaks, nothing grows, and nobody is blamed for another."""

from functools import cache
from typing import Any, Final

import pytest

from cluster.options import ScenarioError
from cluster.registry import ADVERSARIES
from cluster.scenario import Scenario
from tests.cluster.watched import Watched

HONEST: Final = 60
DURATION_S: Final = 240
LIARS: Final = (
    {"kind": "garbage", "count": 1},
    {"kind": "flood", "count": 1, "options": {"rate_per_s": 400, "victims": 1}},
)
GARBAGE, FLOOD = HONEST, HONEST + 1
LOOKS_S: Final = (100, 170, DURATION_S)
"""When sizes are taken; by the first, everything that is bounded is full."""

REASONS: Final = {
    # outside of sessions
    *("unknown_datagram", "malformed_init", "counter_too_far", "decrypt_failed", "wrong_endpoint", "bad_static"),
    # frames
    *("malformed", "invalid", "non_canonical", "unknown_tag", "too_large"),
    # what frames mean
    *("bad_size", "bad_ack", "unsolicited", "no_kind", "bad_signature", "wrong_issuer"),
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


@cache
def quiet() -> Watched:
    return Watched(scenario(), LOOKS_S)


@cache
def troubled() -> Watched:
    return Watched(scenario(*LIARS), LOOKS_S)


def test_honest_peers_find_what_they_seek_as_fast_as_in_a_quiet_run() -> None:
    assert quiet().gets["success_ratio"] >= 0.99
    assert troubled().gets["success_ratio"] >= 0.99
    assert troubled().gets["counted"] == quiet().gets["counted"]
    assert troubled().gets["latency_ms"]["p99"] <= 2 * quiet().gets["latency_ms"]["p99"]


def test_every_lie_is_counted_under_a_reason_that_we_named() -> None:
    assert quiet().labels("security_events") == set()
    reasons = troubled().labels("security_events")
    assert reasons <= REASONS
    assert reasons >= {
        "unknown_datagram",
        "malformed",
        "non_canonical",
        "unknown_tag",
        "unsolicited",
        "bad_signature",
    } | {"wrong_issuer"}


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
        for name in ("limiter bytes", "sessions bytes", "rpc bytes", "identity bytes"):
            assert look[name] <= 1.25 * first[name] + 1_024, name
        assert look["dht bytes"] <= first["dht bytes"] + 40 * 400  # it holds the records that were put


def test_a_troubled_run_repeats_exactly_also_through_the_bytes_of_its_actors() -> None:
    assert Watched(scenario(*LIARS), restored_at_s=130).digest == troubled().digest


def test_adversaries_take_their_own_options_and_no_others() -> None:
    assert {"flood", "garbage", "impostor"} <= set(ADVERSARIES.names())
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.rate_per_s"):
        scenario({"kind": "flood", "count": 1, "options": {"rate_per_s": 0}})
    with pytest.raises(ScenarioError, match=r"adversaries\.0\.options\.victims"):
        scenario({"kind": "garbage", "count": 1, "options": {"victims": 1}})
