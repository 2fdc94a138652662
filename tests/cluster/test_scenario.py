"""Scenarios: whatever is wrong with one is said with the path of the key, and what is right comes back whole."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.options import ScenarioError, paths
from cluster.registry import PluginError
from cluster.scenario import Scenario, load, parse_value, shipped
from cluster.sections import NS_PER_S, nanoseconds

SHIPPED = ("big", "churn", "cold-start", "crashes", "crdt-convergence", "demo", "identities", "inside", "partition")
CUT = {"from_s": 100, "until_s": 200, "regions": ["europe"]}


def test_every_shipped_scenario_is_valid_and_described() -> None:
    assert tuple(name for name, _ in shipped()) == SHIPPED
    for name, description in shipped():
        assert load(name).name == name
        assert 20 < len(description) < 120
        assert "\n" not in description


@pytest.mark.parametrize("name", SHIPPED)
def test_resolved_scenario_reads_back_as_itself(name: str) -> None:
    scenario = load(name)
    assert Scenario.from_toml(scenario.to_toml()) == scenario
    assert Scenario.from_toml(scenario.to_toml()).to_toml() == scenario.to_toml()


def test_demo_is_what_the_readme_promises() -> None:
    demo = load("demo")
    assert (demo.peers, demo.duration_s, demo.start, demo.bootstraps) == (500, 600, "cold", 5)
    assert (demo.network.loss, demo.churn.model) == (0.01, "kad")
    assert (demo.workload.puts, demo.workload.gets) == (200, 1_000)


def test_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\npeers = 9\nduration_s = 99.5\n')
    assert load(path) == load(str(path))
    assert load(path).duration_ns == 99_500_000_000


def test_missing_file_and_unknown_name_are_said(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "none.toml")
    with pytest.raises(ScenarioError, match=r"no scenario is called 'dmeo'; did you mean 'demo'\?"):
        load("dmeo")


def test_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("peers = = 3")
    with pytest.raises(ScenarioError, match=r"broken.toml' is not TOML|broken.toml is not TOML.*line 1"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(path)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"network.los": 0.1}, "network.los", "did you mean 'network.loss'"),
    ({"los": 0.1}, "los", "did you mean 'network.loss'"),
    ({"network.loss": 1.5}, "network.loss", "1.5 is impossible: expected float <= 1.0"),
    ({"network.loss": float("nan")}, "network.loss", "nan"),
    ({"duration_s": float("inf")}, "duration_s", "inf"),
    ({"duration_s": -1}, "duration_s", "expected float > 0"),
    ({"network.loss": "much"}, "network.loss", "expected float, got str"),
    ({"network": 3}, "network", "3 is not a table"),
    ({"network.loss.x": 3}, "network.loss.x", "is a value, not a table"),
    ({"peers": 0}, "peers", "expected int >= 1"),
    ({"peers": 2.5}, "peers", "expected int"),
    ({"peers": True}, "peers", "expected int"),
    ({"peers": 3}, "bootstraps", "5 of 3 peers"),
    ({"seed": -1}, "seed", "expected int >= 0"),
    ({"name": "../demo"}, "name", "expected str matching"),
    ({"shards": 501}, "shards", "501 shards cannot share 500 peers"),
    ({"time": "vitrual"}, "time", "did you mean 'virtual'"),
    ({"placement": "subsystem"}, "placement", "needs time = 'real'"),
    ({"time": "real", "charge": "laptop"}, "charge", "real time charges nothing"),
    ({"time": "real", "placement": "peer", "shards": 2}, "shards", "has no meaning"),
    ({"start": "warm", "join_window_s": 5}, "join_window_s", "has no meaning"),
    ({"join_window_s": 600}, "join_window_s", "600"),
    ({"duration_s": 60}, "duration_s", "60 s of run"),
    ({"duration_s": 100}, "duration_s", "leaves no time for puts"),
    ({"network.model": "region"}, "network.model", "did you mean 'regions'"),
    ({"network.latency_s": 0.1}, "network.latency_s", "has no meaning"),
    ({"network.model": "none"}, "network.model", "needs time = 'real'"),
    ({"network.model": "none", "time": "real", "network.loss": 0.5}, "network.loss", "has no meaning"),
    ({"network.access_floor_s": 1}, "network.access_floor_s", "above access_median_s"),
    ({"network.partitions": [CUT | {"regions": ["europa"]}]}, "network.partitions.0.regions", "'europe'"),
    ({"network.partitions": [CUT | {"until_s": 50}]}, "network.partitions.0.until_s", "not after"),
    ({"network.partitions": [CUT | {"from_s": 700, "until_s": 800}]}, "network.partitions.0.from_s", "end"),
    ({"network.partitions": [CUT | {"groups": [["europe"]]}]}, "network.partitions.0", "either"),
    ({"network.partitions": [CUT | {"regions": ["europe"] * 2}]}, "network.partitions.0.regions", "twice"),
    ({"network.partitions": [CUT, CUT | {"form_s": 1}]}, "network.partitions.1.form_s", "from_s"),
    ({"churn.model": "none", "churn.mean_downtime_s": 9}, "churn.mean_downtime_s", "has no meaning"),
    ({"churn.shape": 0.5}, "churn.shape", "has no meaning with churn.model = 'kad'"),
    ({"churn.model": "weibull", "churn.shape": 0.5}, "churn.mean_session_s", "is missing"),
    ({"disk.kind": "simulatde"}, "disk.kind", "did you mean 'simulated'"),
    ({"disk.torn": 0.5}, "disk.torn", "has no meaning with disk.kind = 'none'"),
    ({"disk.sync_ms": 5.5}, "disk.sync_ms", "has no meaning with disk.kind = 'none'"),
    ({"disk.kind": "simulated", "disk.sync_ms": -1}, "disk.sync_ms", "expected float >= 0"),
    ({"disk.kind": "simulated", "disk.torn": 1.5}, "disk.torn", "expected float <= 1"),
    ({"disk.kind": "simulated", "disk.size_mb": 0}, "disk.size_mb", "expected int >= 1"),
    ({"disk.kind": "simulated", "disk.sync_ms": 0, "disk.torn": 0.5}, "disk.torn", "no batch is ever being written"),
    ({"disk.kind": "simulated", "time": "real"}, "disk.kind", "needs time = 'virtual'"),
    ({"disk.kind": "sqlite"}, "disk.kind", "needs time = 'real'"),
    ({"disk.kind": "sqlite", "time": "real", "disk.size_mb": 1}, "disk.size_mb", "has no meaning"),
    ({"workload.kind": "none"}, "workload.puts", "has no meaning"),
    ({"workload.puts": 0}, "workload.puts", "nothing to get"),
    ({"workload.gets_per_peer": 1}, "workload.gets_per_peer", "cannot both"),
    ({"workload.put_until_s": 700}, "workload.put_until_s", "end after the run"),
    ({"workload.put_from_s": 5}, "workload.put_from_s", "before all peers are up"),
    ({"workload.get_from_s": 95}, "workload.get_from_s", "before the first record"),
    ({"workload.record_bytes": 1_025}, "workload.record_bytes", "<= 1024"),
    ({"workload.options": {"a": 1}}, "workload.options.a", "has no options"),
    ({"kademlia.alpha": 50}, "kademlia", "alpha=50"),
    ({"kademlia.kk": 50}, "kademlia.kk", "kademlia.k"),
    ({"sessions.sessions_max": 0}, "sessions", "sessions_max"),
    ({'admission.costs."kad.stor"': 5}, "admission.costs.kad.stor", "kad.store"),
    ({'admission.costs."id.proff"': 5}, "admission.costs.id.proff", "did you mean 'id.proof'"),
    ({"workload": {"kind": "possession"}}, "workload.options.proofs", "is missing"),
    ({"workload": {"kind": "possession", "options": {"proofs": 0}}}, "workload.options.proofs", "expected int >= 1"),
    ({"workload": {"kind": "possession", "options": {"proofs": 9}, "gets": 9}}, "workload.gets", "has no meaning"),
    ({"network.partitions.0.from_s": 1}, "network.partitions.0.from_s", "0 entries"),
    ({"no path": 1}, "", "is no path"),
]


@pytest.mark.parametrize(("overrides", "key", "problem"), WRONG)
def test_wrong_option_is_named_by_its_path(overrides: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load("demo").with_overrides(overrides)
    assert caught.value.key == key
    assert problem in str(caught.value)


def test_missing_option_is_named() -> None:
    with pytest.raises(ScenarioError, match="peers: is missing"):
        Scenario.from_table({"name": "x", "duration_s": 5})


def test_overrides_reach_into_tables_arrays_and_quoted_keys() -> None:
    partition = load("partition").with_overrides(
        {
            "network.partitions.0.until_s": 500,
            "seed": 7,
            'admission.costs."kad.store"': 5,
            'admission.costs."id.request"': 2,
            'admission.costs."study.thing"': 3,
        }
    )
    assert partition.network.partitions[0].until_s == 500
    assert (partition.seed, partition.admission.costs) == (7, {"kad.store": 5, "id.request": 2, "study.thing": 3})


def test_churn_can_be_turned_off_without_other_changes() -> None:
    assert load("demo").with_overrides({"churn.model": "none", "network.loss": 0}).churn.model == "none"


def test_command_line_values_are_toml_or_words() -> None:
    assert [parse_value(text) for text in ("0.5", "1_000", "true", '["a"]', '"x"', "kad", "0,5")] == [
        0.5,
        1_000,
        True,
        ["a"],
        "x",
        "kad",
        "0,5",
    ]


def test_times_are_read_from_their_digits() -> None:
    assert [nanoseconds(each) for each in (0.1, 0.3, 1e-9, 600, 12.000000001)] == [
        100_000_000,
        300_000_000,
        1,
        600 * NS_PER_S,
        12_000_000_001,
    ]


def test_windows_that_are_left_out_follow_from_the_duration() -> None:
    demo = load("demo")
    assert demo.put_window_ns == (90 * NS_PER_S, 234 * NS_PER_S)
    assert demo.get_window_ns == (264 * NS_PER_S, 570 * NS_PER_S)


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(sorted(paths(Scenario))),
    value=st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.lists(st.integers())),
)
def test_any_value_anywhere_is_accepted_or_refused_with_one_clear_error(path: str, value: Any) -> None:
    try:
        changed = load("partition").with_overrides({path: value})
    except (ScenarioError, PluginError):
        return
    assert Scenario.from_toml(changed.to_toml()) == changed
