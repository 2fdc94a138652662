"""``python -m tests.fuzz TARGET...``: fuzz for a while, or run one input again.

Each target runs in a process of its own, as libFuzzer ends the process that it is in. What it prints goes
through; a summary follows. Exit status 1 if an input broke a promise, 2 if there is no ``atheris`` here.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.fuzz.targets import TARGETS, target

INPUT_SECONDS_MAX: Final = 20
"""For one input, of which the slowest takes 50 ms. It has to hold on a busy machine under instrumentation."""

MEMORY_MEGABYTES_MAX: Final = 1024
"""For everything, of which a tenth is used; an input that claims a large length must not get it."""

INPUT_SIZE_MAX: Final = 16 * 1024
"""Of an input: the largest seeds, whole Welcomes, have a third of it."""


def main() -> int:
    options = _options()
    if options.input is not None:
        for name in options.target:
            target(name).run(options.input.read_bytes())
            print(f"{name}: {options.input} breaks no promise")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzzing needs atheris, which not every platform has: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    options.crashes.mkdir(parents=True, exist_ok=True)
    return max(_fuzz(name, options.seconds, options.crashes) for name in options.target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Coverage-guided fuzzing of MLS.")
    parser.add_argument("target", nargs="+", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600, help="how long each target runs (default: 600)")
    parser.add_argument("--crashes", type=Path, default=Path("runs/fuzz"), help="where inputs go that break a promise")
    parser.add_argument("--input", type=Path, help="run this one input, without atheris")
    return parser.parse_args()


def _fuzz(name: str, seconds: int, crashes: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        for seed in target(name).seeds():
            Path(corpus, sha256(seed).hexdigest()).write_bytes(seed)
        command = [
            *(sys.executable, "-m", "tests.fuzz.guided", name, corpus),
            f"-max_total_time={seconds}",
            f"-max_len={INPUT_SIZE_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-rss_limit_mb={MEMORY_MEGABYTES_MAX}",
            f"-artifact_prefix={crashes}/{name}-",
            "-print_final_stats=1",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stderr is not None
            report = list(_shown(process.stderr))
    print(_summary(name, report))
    for path in re.findall(r"Test unit written to (\S+)", "".join(report)):
        print(f"{name}: {Path(path).read_bytes().hex()}\n  again: python -m tests.fuzz {name} --input {path}")
    return 1 if process.returncode else 0


def _shown(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        sys.stderr.write(line)
        yield line


def _summary(name: str, report: list[str]) -> str:
    """What libFuzzer counted: inputs, and branches at first and at last."""
    text = "".join(report)
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", text)
    inputs = re.findall(r"number_of_executed_units: (\d+)", text)
    rate = re.findall(r"average_exec_per_sec: +(\d+)", text)
    if not coverage or not inputs or not rate:
        return f"{name}: libFuzzer did not start"
    (first, features), (last, more) = coverage[0], coverage[-1]
    return f"{name}: {inputs[0]} inputs, {rate[0]}/s; edges {first} -> {last}, features {features} -> {more}"


if __name__ == "__main__":
    sys.exit(main())
