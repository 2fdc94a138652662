import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster.cli import app
from cluster.exchange import ShardLostError
from cluster.scenario import Scenario
from tests.cluster.tiny import TABLE, interrupted_outcome, tiny_outcome

TINY = """
name = "tiny"
seed = 7
peers = 12
duration_s = 60
join_window_s = 5
bootstraps = 2
network = { loss = 0.01 }
workload = { puts = 3, gets = 8, min_uptime_s = 5, put_timeout_s = 10, get_timeout_s = 10 }
telemetry = { sample = 1.0 }
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("COLUMNS", "200")
    Path("tiny.toml").write_text(TINY)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real thing, in a process of its own."""
    return subprocess.run(launch(*arguments), capture_output=True, text=True, check=False, timeout=60)


def launch(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", "from cluster.cli import main; main()", *arguments]


def folders() -> list[Path]:
    return sorted(Path("runs").iterdir()) if Path("runs").exists() else []


# -- run ----------------------------------------------------------------------------------------------------


def test_table_of_the_tests_is_the_file_of_the_tests() -> None:
    assert tomllib.loads(TINY) == TABLE


def test_run_prints_seed_and_options_first_then_results_folder_and_digest() -> None:
    done = command("run", "tiny.toml", "--inline")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny: seed 7, 12 peers, 60 s of virtual time")
    assert "loss 0.01" in lines[1]
    assert "3 puts, 8 gets" in lines[1]
    [folder] = folders()
    assert lines[-1] == f"results in {folder}"
    assert any(line.split() == ["digest", tiny_outcome().digest] for line in lines)
    assert "theory 1.00" in done.stdout


def test_options_of_the_command_line_end_up_in_the_resolved_scenario() -> None:
    done = invoke(
        "run",
        "tiny.toml",
        "--inline",
        "--peers",
        "9",
        "--seed",
        "3",
        "--set",
        "network.loss=0.5",
        "--set",
        "workload.gets=2",
    )
    assert done.exit_code == 0, done.output
    [folder] = folders()
    scenario = Scenario.from_toml((folder / "scenario.toml").read_text())
    assert (scenario.peers, scenario.seed, scenario.network.loss, scenario.workload.gets) == (9, 3, 0.5, 2)
    assert folder.name.endswith("-tiny-3")


def test_json_is_all_there_is_on_standard_output() -> None:
    done = invoke("run", "tiny.toml", "--inline", "--json", "--out", "elsewhere")
    summary = json.loads(done.stdout)
    assert summary["digest"] == tiny_outcome().digest
    assert Path(summary["folder"]).parent == Path("elsewhere")
    assert "seed 7" in done.stderr


def test_interrupted_run_says_so_and_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.simulation.simulate", lambda *_, **__: interrupted_outcome())
    done = invoke("run", "tiny.toml", "--inline")
    assert done.exit_code == 130
    assert "interrupted at" in done.stderr
    [folder] = folders()
    assert json.loads((folder / "summary.json").read_text())["interrupted"] is True


def test_ctrl_c_ends_a_real_run_and_leaves_its_folder() -> None:
    long = launch("run", "tiny.toml", "--inline", "--peers", "100", "--set", "duration_s=360000")
    with subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as run:
        assert run.stderr is not None
        assert " peers up, " in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted at" in errors
    assert "Traceback" not in errors
    [folder] = folders()
    assert f"results in {folder}" in output
    assert json.loads((folder / "summary.json").read_text())["interrupted"] is True


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dem"], "no scenario is called 'dem'; did you mean 'demo'?"),
        (["missing.toml"], "'missing.toml' cannot be read"),
        (["broken.toml"], "broken.toml is not TOML"),
        (["tiny.toml", "--set", "network.los=1"], "network.los: no such option; did you mean 'network.loss'?"),
        (["tiny.toml", "--set", "network.loss=2"], "network.loss: 2 is impossible"),
        (["tiny.toml", "--set", "network.loss=nan"], "network.loss: nan is not a number"),
        (["tiny.toml", "--set", "network"], "--set: 'network' is not KEY.PATH=VALUE"),
        (["tiny.toml", "--set", "=3"], "--set: '=3' is not KEY.PATH=VALUE"),
        (["tiny.toml", "--set", "a..b=3"], "'a..b' is no path of a key"),
        (["tiny.toml", "--peers", "0"], "peers: 0 is impossible"),
        (["tiny.toml", "--peers", "1"], "bootstraps: 2 of 1 peers cannot be bootstraps"),
        (["tiny.toml", "--seed", "-1"], "seed: -1 is impossible"),
        (["tiny.toml", "--time", "reel"], "time: 'reel' is impossible: not one of the choices; did you mean 'real'?"),
        (["tiny.toml", "--placement", "peer"], "placement: 'peer' needs time = 'real'"),
        (["tiny.toml", "--time", "real", "--placement", "peer"], "placement: 'peer' needs Ray"),
        (["tiny.toml", "--shards", "2"], "--inline runs without Ray; --shards needs it"),
        (["tiny.toml", "--address", "auto"], "--inline runs without Ray; --address needs it"),
        (["tiny.toml", "--out", "tiny.toml"], "no run folder in 'tiny.toml'"),
        (["tiny.toml", "--set", "plugins=['no.such']"], "no.such"),
    ],
)
def test_bad_request_is_one_line_that_names_the_key(arguments: list[str], complaint: str) -> None:
    Path("broken.toml").write_text("peers = ")
    done = invoke("run", *arguments, "--inline")
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run"], "Missing argument 'scenario'"),
        (["run", "tiny.toml", "--peers", "many"], "Invalid value for '--peers'"),
        (["run", "tiny.toml", "--peer", "3"], "No such option: --peer"),
        (["dance"], "No such command 'dance'"),
        (["diff", "one"], "Missing argument 'RUN_B'"),
    ],
)
def test_words_that_are_not_understood_are_one_line(arguments: list[str], complaint: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


@pytest.mark.parametrize(
    ("error", "code"),
    [(ShardLostError("shard 1 is gone"), 3), (RuntimeError("two\nlines"), 1), (KeyboardInterrupt(), 130)],
)
def test_failed_run_has_a_code_of_its_own_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cluster.simulation.simulate", fail)
    done = invoke("run", "tiny.toml", "--inline")
    assert done.exit_code == code
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("deep inside")

    monkeypatch.setattr("cluster.simulation.simulate", fail)
    done = invoke("run", "tiny.toml", "--inline", "--debug")
    assert isinstance(done.exception, RuntimeError)


def test_reader_that_has_seen_enough_is_no_error() -> None:
    script = f'{sys.executable} -c "from cluster.cli import main; main()" scenarios | head -n 1'
    done = subprocess.run(script, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""


# -- the other commands ---------------------------------------------------------------------------------------


def test_scenarios_lists_what_is_shipped() -> None:
    done = invoke("scenarios")
    assert done.exit_code == 0
    for name in ("demo", "churn", "partition", "cold-start", "big", "inside", "crashes"):
        assert name in done.stdout


def test_help_names_every_command_and_needs_no_heavy_import() -> None:
    done = command("--help")
    assert all(name in done.stdout for name in ("run", "scenarios", "conformance", "diff"))
    heavy = "ray", "polars", "cryptography", "opentelemetry", "cluster.simulation"
    probe = f"import sys, cluster.cli; sys.exit(str([m for m in {heavy!r} if m in sys.modules] or ''))"
    imported = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=60)
    assert imported.stderr.strip() == ""


def test_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout.startswith("spacepanda 0.")


def test_conformance_counts_cases_and_fails_on_a_failure(tmp_path: Path) -> None:
    case = {"protocol_name": "Noise_NN_25519_ChaChaPoly_SHA256", "messages": [], "init_ephemeral": "00" * 32}
    Path("bad.json").write_text(json.dumps({"vectors": [case | {"messages": [{"payload": "", "ciphertext": "00"}]}]}))
    done = invoke("conformance", "bad.json")
    assert done.exit_code == 1
    assert "bad.json: Noise, 0 passed, 1 failed, 0 unsupported" in done.stdout
    told = json.loads(invoke("conformance", "bad.json", "--json").stdout)
    assert (told[0]["passed"], len(told[0]["failed"])) == (0, 1)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"vectors": []}'])
def test_conformance_refuses_what_is_no_vector_file(content: str | None) -> None:
    if content is not None:
        Path("file.json").write_text(content)
    done = invoke("conformance", "file.json")
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: file.json: ")


def test_diff_of_equal_runs_is_same_and_of_others_different() -> None:
    for seed in ("7", "7", "8"):
        assert invoke("run", "tiny.toml", "--inline", "--seed", seed).exit_code == 0
    one, again, other = folders()
    assert invoke("diff", str(one), str(again)).exit_code == 0
    done = invoke("diff", str(one), str(other))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "different"
    assert "scenario seed: 7 and 8" in done.stdout
    assert "the first event that differs is handled by peer" in done.stdout


def test_diff_refuses_what_is_no_run() -> None:
    Path("empty").mkdir()
    for folder in ("empty", "missing"):
        done = invoke("diff", folder, folder)
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
