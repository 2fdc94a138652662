"""All benchmarks, or some: ``python -m benchmarks [NAME ...] [--json FILE] [--quick] [--list]``.

Each runs in a process of its own, so none measures what another left in memory, and prints its rows as JSON
lines as they come. At a terminal a table follows.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row

FOLDER = Path(__file__).parent
COMMON = ("benchmark", "case", "beside", "ratio", "cores")


def names() -> list[str]:
    """The modules here that are benchmarks."""
    return sorted(each.stem for each in FOLDER.glob("*.py") if each.stem not in ("__init__", "__main__", "rows"))


def idea(name: str) -> str:
    """The first line of a benchmark's docstring."""
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8").partition("\n")[0].strip('"')


def rows(name: str, quick: bool) -> Iterator[Row]:
    """The rows of a benchmark.

    Raises:
        CalledProcessError: it failed, and has said why.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
            else:
                print(line, end="", file=sys.stderr)  # Ray says what it has to say on its driver's standard output
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def table(found: Sequence[Row]) -> Table:
    """The rows for people."""
    result = Table("benchmark", "case", "figures", "beside", "ratio", title="benchmarks")
    for each in found:
        figures = ", ".join(f"{name} {_figure(value)}" for name, value in each.items() if name not in COMMON)
        ratio = each.get("ratio")
        result.add_row(
            each["benchmark"], each["case"], figures, each.get("beside", ""), "" if ratio is None else _figure(ratio)
        )
    return result


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(".")[0] + ".")
    parser.add_argument("name", nargs="*", help="a benchmark; all by default")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there, too")
    parser.add_argument("--quick", action="store_true", help="so little work that the figures mean nothing")
    options = parser.parse_args(arguments)
    if options.list:
        for name in names():
            print(f"{name:15} {idea(name)}")
        return 0
    unknown = [name for name in options.name if name not in names()]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(names())}")
    found: list[Row] = []
    failures = 0
    for name in options.name or names():
        try:
            for each in rows(name, options.quick):
                print(json.dumps(each), flush=True)
                found.append(each)
        except subprocess.CalledProcessError as error:
            print(f"benchmark {name} failed with exit code {error.returncode}", file=sys.stderr)
            failures += 1
    if options.json:
        options.json.write_text("".join(json.dumps(each) + "\n" for each in found), encoding="utf-8")
    console = Console()
    if console.is_terminal:
        console.print(table(found))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
