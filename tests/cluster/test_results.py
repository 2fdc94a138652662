import json
from pathlib import Path

import pytest
from rich.console import Console

import cluster
from actors.host import EventRow
from cluster import results
from cluster.console import results_table
from cluster.results import create, events_frame, load, write
from cluster.simulation import simulate
from protocols.errors import LocalError
from tests.cluster.tiny import interrupted_outcome, tiny, tiny_outcome

FILES = {"scenario.toml", "summary.json", "events.parquet", "metrics.parquet", "operations.parquet", "spans.jsonl"}

FIGURES = {
    *("version", "scenario", "seed", "peers", "shards", "virtual_s", "wall_s", "events", "events_per_s", "packets"),
    *("bytes", "drops", "handshakes", "lookups", "security_events", "peak_memory", "time_share", "digest"),
}


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")


def test_run_folder_has_every_file_and_is_named_after_the_run(tmp_path: Path) -> None:
    run = write(tiny_outcome(), create(tiny(), tmp_path / "runs"))
    assert run.folder is not None
    assert {each.name for each in run.folder.iterdir()} == FILES
    assert run.folder.parent == tmp_path / "runs"
    assert run.folder.name[:3] == "202"
    assert run.folder.name.endswith("-tiny-7")


def test_runs_of_the_same_minute_get_different_folders(tmp_path: Path) -> None:
    names = {create(tiny(), tmp_path).name for _ in range(3)}
    assert len(names) == 3


def test_run_is_never_written_over(tmp_path: Path) -> None:
    folder = create(tiny(), tmp_path)
    write(tiny_outcome(), folder)
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(LocalError, match="has a run already"):
        write(tiny_outcome(seed=8), folder)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_read_run_equals_the_one_that_was_written(tmp_path: Path) -> None:
    written = write(tiny_outcome(), create(tiny(), tmp_path))
    assert written.folder is not None
    read = load(written.folder)
    assert read.summary == json.loads(json.dumps(written.summary))
    assert read.scenario == written.scenario
    for table in ("events", "metrics", "operations", "spans"):
        assert getattr(read, table)().equals(getattr(written, table)()), table
        assert len(getattr(read, table)()) > 0


def test_written_scenario_repeats_the_run(tmp_path: Path) -> None:
    folder = create(tiny(), tmp_path)
    write(tiny_outcome(), folder)
    again = simulate(cluster.load(folder / "scenario.toml"), inline=True)
    assert again.digest == load(folder).summary["digest"]


def test_summary_has_the_figures_that_were_promised() -> None:
    summary = write(tiny_outcome(), None).summary
    assert set(summary) >= FIGURES
    assert set(summary["time_share"]) == {"handlers", "packing", "waiting"}
    assert set(summary["lookups"]["hops"]) == {"p50", "p90", "p99", "mean"}
    assert set(summary["lookups"]["latency_ms"]) >= {"p50", "p90", "p99"}
    assert summary["lookups"]["hops_theory"] == 1.0
    assert (summary["peers"], summary["seed"], summary["virtual_s"]) == (12, 7, 60.0)


def test_summary_says_what_the_disks_did_where_there_are_any() -> None:
    assert write(tiny_outcome(), None).summary["journal"] is None
    summary = write(tiny_outcome(disk__kind="simulated"), None).summary
    journal = summary["journal"]
    assert journal["records"] == summary["counters"]["journal_records"] > 0
    assert journal["streams"] == {"new": 12}
    assert (journal["records_recovered"], journal["torn"], journal["disks_failed"]) == (0, 0, {})
    console = Console(width=200)
    with console.capture() as shown:
        console.print(results_table(summary))
    assert f"{journal['records']} records" in shown.get()


def test_summary_says_who_was_convinced_of_what() -> None:
    assert write(tiny_outcome(), None).summary["possession"] is None
    options = {"proofs": 20, "timeout_s": 10.0}
    scenario = tiny().with_overrides(
        {
            "workload": {"kind": "possession", "min_uptime_s": 5, "options": options},
            "adversaries": [{"kind": "impostor", "count": 2}],
        }
    )
    run = write(simulate(scenario, inline=True), None)
    figures = run.summary["possession"]
    operations = run.operations()
    assert set(operations["kind"]) == {"proof"}
    assert set(operations["reason"]) >= {""}
    assert figures["proofs"]["count"] + sum(figures["to_liars"].values()) == len(operations) == 20
    assert (figures["false_accepts"], figures["honest_blamed"]) == (0, {})
    assert (
        figures["convinced"]
        == figures["checks"]["accepted"]
        == sum(figures["standing"].values())
        >= figures["proofs"]["outcomes"]["ok"]
        > 0
    )
    console = Console(width=200)
    with console.capture() as shown:
        console.print(results_table(run.summary))
    for line in ("proofs", "  latency", "  to liars", "convinced", "  or not", "honest blamed"):
        assert f"\n{line} " in shown.get()


def test_summary_agrees_with_the_tables() -> None:
    run = write(tiny_outcome(), None)
    operations, metrics = run.operations(), run.metrics()
    gets = operations.filter(operations["kind"] == "get")
    assert run.summary["lookups"]["count"] == len(gets) == 8
    assert run.summary["puts"]["count"] == len(operations) - len(gets) == 3
    last = metrics.filter((metrics["time_s"] == 60.0) & (metrics["name"] == "packets_sent"))
    assert last["value"].to_list() == [run.summary["packets"]]
    assert run.summary["counters"]["packets_dropped"] == run.summary["drops"]
    assert (gets["done_s"] - gets["asked_s"]).to_list() == pytest.approx((gets["latency_ms"] / 1000).to_list())


def test_interrupted_run_leaves_what_there_is(tmp_path: Path) -> None:
    run = write(interrupted_outcome(), create(tiny(), tmp_path))
    assert run.folder is not None
    assert {each.name for each in run.folder.iterdir()} == FILES
    assert run.summary["interrupted"] is True
    assert run.summary["digest"] is None
    assert 0 < run.summary["virtual_s"] < 60


def test_event_fields_become_columns_of_their_own_type() -> None:
    rows = [
        EventRow(2_000_000_000, 1, "a", "x", {"n": 3, "peer": "clash"}),
        EventRow(1_000_000_000, 2, "b", "y", {"n": 4, "mixed": 1, "large": 2**64 - 1}),
        EventRow(1_500_000_000, 2, "b", "y", {"mixed": "01"}),
    ]
    frame = events_frame(rows)
    assert frame["time_s"].to_list() == [1.0, 1.5, 2.0]
    assert frame["n"].to_list() == [4, None, 3]
    assert frame["mixed"].to_list() == ["1", "01", None]
    assert frame["large"].to_list() == [str(2**64 - 1), None, None]
    assert frame["peer"].to_list() == [2, 2, 1]
    assert frame["peer_"].to_list() == [None, None, "clash"]


def test_run_from_python_gives_frames_and_writes_a_folder(tmp_path: Path) -> None:
    seen: list[int] = []
    run = cluster.run(tiny(), inline=True, out=tmp_path, watch=lambda now: seen.append(now.now))
    assert run.summary["digest"] == tiny_outcome().digest
    assert seen[-1] == 60_000_000_000
    assert run.folder is not None
    assert cluster.open_run(run.folder).summary["digest"] == run.summary["digest"]
    assert run.warnings == []


def test_run_without_a_folder_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = cluster.run(tiny(), inline=True, out=None)
    assert run.folder is None
    assert len(run.operations()) == 11
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "not the folder of a finished run: no summary.json"),
        (lambda folder: (folder / "summary.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "summary.json").write_text("[]"), "not an object"),
        (lambda folder: (folder / "scenario.toml").write_text("peers = 0"), "name: is missing"),
    ],
)
def test_folder_that_holds_no_run_is_refused(tmp_path: Path, spoil: object, complaint: str) -> None:
    folder = create(tiny(), tmp_path)
    write(tiny_outcome(), folder)
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(LocalError, match=complaint):
        load(folder)


def test_damaged_table_is_one_clear_error(tmp_path: Path) -> None:
    folder = create(tiny(), tmp_path)
    write(tiny_outcome(), folder)
    (folder / "events.parquet").write_bytes(b"PAR1 or not")
    (folder / "spans.jsonl").write_text('{"resourceSpans": 3}\n')
    with pytest.raises(LocalError, match=r"events\.parquet"):
        load(folder).events()
    with pytest.raises(LocalError, match=r"spans\.jsonl"):
        load(folder).spans()


def test_place_where_nothing_can_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LocalError, match="no run folder in"):
            results.create(tiny(), parent)
