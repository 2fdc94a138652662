"""The command line. Commands import what they need when they run: ``--help`` has to be there at once.

What ends a command early, and with which exit code, is in ``command``.
"""

# ruff: noqa: PLC0415 - see above
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.command import EXIT_INTERRUPTED, EXIT_NO, EXIT_UNUSABLE, Debug, Json, errors, fail, print_json
from cluster.keystore.cli import keystore

if TYPE_CHECKING:
    from cluster.scenario import Scenario

app = typer.Typer(
    name="spacepanda",
    help="Real peers (Noise sessions, RPC, Kademlia) on Ray, in virtual time that repeats exactly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(keystore, name="keystore")


def main() -> None:
    """The command ``spacepanda``."""
    from typer.exceptions import TyperException

    sys.path.append(os.getcwd())  # plugins may lie where the command was started
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        # Typer's own way is a box around the sentence, below three lines of usage.
        if sentence := error.format_message():  # none if no command was given: that has printed the help
            fail(sentence, EXIT_UNUSABLE)
        sys.exit(EXIT_UNUSABLE)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. The interpreter must not find out again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_NO)
    sys.exit(code or 0)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"spacepanda {version('spacepanda')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A scenario's file, or the name of one that is shipped.")],
    peers: Annotated[int | None, typer.Option(help="How many peers.")] = None,
    seed: Annotated[int | None, typer.Option(help="What every draw follows from.")] = None,
    shards: Annotated[int | None, typer.Option(help="Ray actors that share the peers; by default one a core.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Run in this process, without Ray.")] = False,
    time: Annotated[str | None, typer.Option(metavar="virtual|real", help="The clock.")] = None,
    placement: Annotated[
        str | None, typer.Option(metavar="packed|peer|subsystem", help="What shares a Ray actor, in real time.")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set any option, e.g. network.loss=0.05. Repeatable."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="auto|HOST:PORT", help="Join a running Ray cluster instead of starting one.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run's folder is made.")] = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a scenario and leave a folder of results.

    [dim]spacepanda run demo
    spacepanda run demo --peers 100 --seed 7 --inline
    spacepanda run my.toml --shards 4 --set network.loss=0.05 --set churn.model=none[/dim]
    """
    with errors(debug):
        options = {"peers": peers, "seed": seed, "shards": shards, "time": time, "placement": placement}
        resolved = _scenario(scenario, {k: v for k, v in options.items() if v is not None}, assign or [])
        if inline and (shards is not None or address is not None):
            from protocols.errors import LocalError

            raise LocalError(f"--inline runs without Ray; --{'shards' if shards is not None else 'address'} needs it")
        code = _run(resolved, inline, address, out, json)
    if code:
        raise typer.Exit(code)


@app.command()
def scenarios(debug: Debug = False) -> None:
    """List the scenarios that are shipped."""
    with errors(debug):
        from rich.console import Console

        from cluster.console import scenarios_table
        from cluster.scenario import shipped

        Console().print(scenarios_table(shipped()))


@app.command()
def conformance(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of published test vectors.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run published test vectors against our code.

    A file is recognised by its shape, not by its name.
    """
    with errors(debug):
        from cluster.conformance import run_files

        results = run_files(files)
    if json:
        print_json(
            [
                {
                    "file": str(each.path),
                    "kind": each.kind,
                    "passed": each.passed,
                    "failed": [{"case": case.case, "reason": case.reason} for case in each.failed],
                    "unsupported": [{"case": case.case, "reason": case.reason} for case in each.unsupported],
                }
                for each in results
            ]
        )
    else:
        for each in results:
            counts = f"{each.passed} passed, {len(each.failed)} failed, {len(each.unsupported)} unsupported"
            typer.echo(f"{each.path}: {each.kind}, {counts}")
            for verdict, cases in (("failed", each.failed), ("unsupported", each.unsupported)):
                for case in cases:
                    typer.echo(f"  {verdict} {case.case}: {case.reason}")
    if any(each.failed for each in results):
        raise typer.Exit(EXIT_NO)


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The folder of a run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The folder of another.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether two runs are the same; if not, replay both and name the first event that differs."""
    with errors(debug):
        from dataclasses import asdict

        from rich.console import Console

        from cluster.console import print_verdict, progress
        from cluster.diff import compare
        from cluster.results import load

        with progress(Console(stderr=True), "replaying") as watch:
            verdict = compare(load(run_a), load(run_b), watch)
    if json:
        print_json(asdict(verdict))
    else:
        print_verdict(Console(), verdict)
    if not verdict.same:
        raise typer.Exit(EXIT_NO)


def _scenario(file_or_name: str, options: dict[str, Any], assignments: list[str]) -> "Scenario":
    """The scenario with what the command line says instead. ``--set`` comes last."""
    from cluster.options import ScenarioError
    from cluster.scenario import load, parse_value

    for each in assignments:
        path, equals, value = each.partition("=")
        if not equals or not path.strip():
            raise ScenarioError("--set", f"{each!r} is not KEY.PATH=VALUE")
        options[path.strip()] = parse_value(value.strip())
    scenario = load(file_or_name)
    return scenario.with_overrides(options) if options else scenario


def _run(scenario: "Scenario", inline: bool, address: str | None, out: Path, as_json: bool) -> int:
    """Run, write and show it; returns the exit code."""
    from rich.console import Console

    from cluster import console, results, simulate

    screen, aside = Console(), Console(stderr=True)
    ray = f"the Ray cluster {address}" if address else "a local Ray"
    where = (
        "in this process"
        if inline
        else f"{scenario.shards or 'as many'} shards{'' if scenario.shards else ' as cores'} on {ray}"
    )
    folder = results.create(scenario, out)
    for line in console.describe(scenario, where):
        (aside if as_json else screen).print(line, highlight=False, markup=False, soft_wrap=True)
    with console.progress(aside) as watch:
        outcome = simulate(scenario, inline=inline, address=address, watch=watch)
    result = results.write(outcome, folder)
    for warning in result.warnings:
        aside.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json({"folder": str(folder)} | result.summary)
    else:
        screen.print()
        screen.print(console.results_table(result.summary), highlight=False)
        screen.print(f"results in {folder}", highlight=False, markup=False, soft_wrap=True)
    if result.summary["interrupted"]:
        until = result.summary["virtual_s"]
        aside.print(f"interrupted at {until:g} s; the folder has what there is", highlight=False, soft_wrap=True)
        return EXIT_INTERRUPTED
    for broken in result.summary["broken"]:
        aside.print(f"broken promise: {broken}", highlight=False, markup=False, soft_wrap=True)
    return EXIT_NO if result.summary["broken"] else 0
