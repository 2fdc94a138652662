"""Benchmarks run and say what they measured. What they measured is not tested here: machines differ."""

import json
import sys
from importlib import import_module
from typing import Any

import pytest

from benchmarks.__main__ import idea, main, names, rows, table
from benchmarks.rows import OURS, interleaved, key, rounded, row, skipped

ON_RAY = ("actors",)
"""Half a minute even when quick, as Ray starts a process for each actor."""


def check(found: dict[str, Any]) -> None:
    """A row is an object of JSON that says what it is about."""
    assert json.loads(json.dumps(found)) == found
    assert {"benchmark", "case", "ratio", "cores"} <= set(found)
    assert isinstance(found["case"], str)
    assert found["ratio"] is None or isinstance(found["ratio"], int | float)
    assert all(each == key(each) for each in found), "keys are words"
    if found.get("skipped"):
        return
    assert any(isinstance(value, int | float) for name, value in found.items() if name not in ("ratio", "cores"))


@pytest.mark.parametrize("name", [name for name in names() if name not in ON_RAY])
def test_benchmark_yields_rows_that_say_what_they_compare(name: str) -> None:
    found = list(import_module(f"benchmarks.{name}").run(True))
    assert found
    for each in found:
        check(each)
        assert each["benchmark"] == name
    assert len({(each["case"], each.get("beside")) for each in found}) == len(found)


@pytest.mark.parametrize("name", ON_RAY)
def test_benchmark_on_ray_can_be_imported(name: str) -> None:
    assert callable(import_module(f"benchmarks.{name}").run)


def test_every_benchmark_opens_with_its_idea() -> None:
    assert all(idea(name).endswith(".") for name in names())


def test_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()


def test_unknown_benchmark_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["nosie"])
    assert refusal.value.code == 2
    assert "nosie" in capsys.readouterr().err


def test_rows_are_printed_and_written_as_json_lines(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rpc", "--quick", "--json", str(tmp_path / "rows.jsonl")]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert printed == written
    assert table(written).row_count == len(written)


def test_benchmark_that_fails_is_said_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.__main__.names", lambda: ["absent", "rpc"])
    assert main(["--quick"]) == 1
    out, err = capfd.readouterr()
    assert "benchmark absent failed" in err
    assert '"rpc"' in out


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def measure(who: str) -> float:
        turns.append(who)
        return 1.0

    interleaved({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert turns == ["a", "b"] * 3


def test_ratio_is_of_each_round_and_beside_the_peer_that_is_named() -> None:
    figures = {OURS: [1.0, 20.0, 3.0], "first one": [2.0, 40.0, 6.0], "other": [1.0, 1.0, 1.0]}
    assert row("b", "c", "us", figures) == {
        "benchmark": "b",
        "case": "c",
        "us": 3.0,
        "first_one_us": 6.0,
        "other_us": 1.0,
        "beside": "first one",
        "ratio": 0.5,
        "cores": 1,
    }
    assert row("b", "c", "us", figures, beside="other", cores=2)["ratio"] == 3.0
    assert row("b", "c", "us", {OURS: [1.0]})["ratio"] is None


def test_peer_that_is_not_installed_has_a_row_with_the_reason() -> None:
    found = skipped("b", "c", "peer", ImportError("No module named 'peer'"))
    check(found)
    assert found["skipped"] == "No module named 'peer'"


@pytest.mark.parametrize(
    ("name", "missing"), [("noise", "dissononce"), ("kademlia_core", "kademlia"), ("admission", "limits")]
)
def test_benchmark_runs_without_a_peer_and_says_which(name: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [missing, *(each for each in sys.modules if each.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    found = list(import_module(f"benchmarks.{name}").run(True))
    assert any(missing in each["beside"] for each in found if "skipped" in each)
    assert not any(name.startswith(missing) for each in found for name in each)


def test_figures_have_four_digits() -> None:
    assert [rounded(each) for each in (0, 1234567.8, 12.3456, 0.000123456)] == [0, 1234568, 12.35, 0.0001235]


def test_rows_of_a_benchmark_come_from_a_process_of_its_own() -> None:
    assert [each["benchmark"] for each in rows("rpc", quick=True)][:1] == ["rpc"]
