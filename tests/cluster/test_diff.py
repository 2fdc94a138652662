from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.diff import compare, differences
from cluster.results import Run, write
from cluster.simulation import Progress, simulate
from protocols.errors import LocalError
from tests.cluster.tiny import interrupted_outcome, tiny, tiny_outcome

LEAK = '''
"""A workload whose first timer depends on the order of hashes, as a forgotten set of strings would."""

from actors.actor import handles
from actors.context import Context
from cluster.planning import plan_puts_and_gets
from cluster.registry import WORKLOADS
from cluster.workload import Due, Workload, WorkloadKind


class Leaky(Workload):
    __slots__ = ()

    def start(self, ctx: Context) -> None:
        ctx.after(hash("leak") % 1_000_000_000, Due())


WORKLOADS.register("leaky")(WorkloadKind(plan_puts_and_gets, Leaky))
'''


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")


def tiny_run(**overrides: Any) -> Run:
    return write(tiny_outcome(**overrides), None)


def test_runs_with_one_digest_are_the_same_and_are_not_replayed() -> None:
    def watch(_: Progress) -> None:
        raise AssertionError("replayed")

    verdict = compare(tiny_run(), tiny_run(), watch)
    assert verdict.same
    assert verdict.lines == [f"digest {tiny_outcome().digest}"]


def test_options_that_change_no_event_are_named_and_the_runs_are_the_same() -> None:
    verdict = compare(tiny_run(), tiny_run(telemetry__sample=0.0))
    assert verdict.same
    assert verdict.keys == {"telemetry.sample": [1.0, 0.0]}
    assert verdict.figures == {}


def test_first_event_that_differs_is_named_with_both_versions() -> None:
    verdict = compare(tiny_run(), tiny_run(network__loss=0.02))
    assert not verdict.same
    assert verdict.keys == {"network.loss": [0.01, 0.02]}
    assert "drops.lost" in verdict.figures
    first = verdict.first
    assert first is not None
    assert first["a"] != first["b"]
    assert min(each["time"] for each in (first["a"], first["b"]) if each) > 0
    assert any("the first event that differs" in line for line in verdict.lines)


def test_event_that_is_named_really_is_the_first() -> None:
    """Both runs, watched from the outside: no message before it differs."""
    from cluster.replay import Recorder

    scenarios = tiny(), tiny(network__loss=0.02)
    first = compare(tiny_run(), tiny_run(network__loss=0.02)).first
    assert first is not None
    at = min(each["time"] for each in (first["a"], first["b"]) if each)
    recorders = [Recorder(scenario) for scenario in scenarios]
    before, after = ([recorder.advance(until)[2] for recorder in recorders] for until in (at, at + 1))
    assert before[0] == before[1]
    assert after[0] != after[1]
    assert after[0][first["peer"]] != after[1][first["peer"]]


def test_runs_of_different_peers_differ_where_the_new_peer_is() -> None:
    verdict = compare(tiny_run(), tiny_run(peers=13))
    assert not verdict.same
    assert verdict.keys == {"peers": [12, 13]}
    assert verdict.first is not None


def test_replay_that_agrees_with_itself_blames_the_recording() -> None:
    other = tiny_run()
    other.summary["digest"] = "00" * 32
    verdict = compare(tiny_run(), other)
    assert not verdict.same
    assert verdict.first is None
    assert "two replays handled the same messages at every peer" in verdict.lines
    assert "a replay of RUN_A ends in the digest that it recorded" in verdict.lines
    assert any("RUN_B" in line and "another version" in line for line in verdict.lines)


@pytest.fixture
def leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from cluster.registry import WORKLOADS

    (tmp_path / "leaky_workload.py").write_text(LEAK)
    monkeypatch.syspath_prepend(tmp_path)
    yield "leaky_workload"
    WORKLOADS._kinds.pop("leaky", None)


def test_run_that_depends_on_hash_order_parts_from_itself(leak: str) -> None:
    scenario = tiny(plugins=[leak], workload__kind="leaky")
    runs = [write(simulate(scenario, inline=True), None) for _ in range(2)]
    runs[1].summary["digest"] = "00" * 32  # as if another process had run it
    verdict = compare(runs[0], runs[1])
    assert verdict.first is not None
    assert "workload.due" in {each["tag"] for each in (verdict.first["a"], verdict.first["b"]) if each}


def test_replay_shows_how_far_it_is() -> None:
    other = tiny_run()
    other.summary["digest"] = "00" * 32
    seen: list[Progress] = []
    compare(tiny_run(), other, seen.append)
    assert [each.now for each in seen] == sorted(each.now for each in seen)
    assert seen[-1].now == seen[-1].duration == 60 * 10**9


def test_run_without_a_digest_is_refused() -> None:
    with pytest.raises(LocalError, match="was interrupted"):
        compare(tiny_run(), write(interrupted_outcome(), None))
    real = replace(tiny_outcome(), scenario=tiny(time="real"), digest="")
    with pytest.raises(LocalError, match="ran in real time"):
        compare(write(real, None), tiny_run())


def test_differences_of_tables_are_paths_with_both_values() -> None:
    a = {"x": 1, "t": {"y": 2, "z": [1]}, "only": 0}
    b = {"x": 1, "t": {"y": 3, "z": [1]}, "new": {"k": 1}}
    assert differences(a, b) == {"t.y": [2, 3], "only": [0, None], "new": [None, {"k": 1}]}
