"""The peers of the MLS benchmark, each a child process that times its own work.

The peers are written in three languages, so each is asked in JSON lines for one operation on a group of ``n``, and
answers with what its own clock says: neither the process nor the JSON is in a figure. A child makes the groups it
needs at the first question about them, keeps them, and measures on copies, so a second answer means the same as the
first. The first also warms up a compiler in node: several rounds, and the median of them.

What a library does, with suite 0x0001, basic credentials, private messages without padding, and the tree in the
Welcome, from bytes to bytes:

=====================  ===============================================================================================
``key_package``        one more, for a client that has its signature key
``create``             a group, and one commit that adds n - 1 others
``add_one``            to a group of n: a commit with a path, its Welcome, and the committer in the next epoch
``process_add``        the last member of the group goes where that commit leads
``..._no_path``        the same without a path
``commit_blank``       an empty commit of the first member, nearly all parents blank: right after ``create``
``process_blank``      by the last member
``..._full``           the same in a group that has no blank parent
``join``               by the Welcome of ``create``, or by the last of them: above 1,000 members, one commit adds 1,000
``send``, ``receive``  100 bytes, not the first of the epoch
``state_bytes``        the group as it is stored by its last member
``memory_bytes``       what one more member's group takes in the heap
=====================  ===============================================================================================

Every one of them uses one core. None is needed, none is installed with us: they are built once into a cache outside
the tree, at exact versions, and whoever has no node, cargo or network is told so.
"""

import hashlib
import importlib.metadata
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).parent
RFC9420: Final = "rfc9420==1.3.0"

PATIENCE_S: Final = 120
"""For one answer, and the groups made for it: what takes longer is too big for this peer."""
BUILD_TIMEOUT_S: Final = 1_800
"""Some two hundred crates, on one core, at low priority: two minutes on a quiet machine."""
BYTES: Final = ("state_bytes", "memory_bytes")
"""Operations whose figure is a size, in bytes; that of all others is a time, in microseconds."""


class Largest(NamedTuple):
    """The groups that a library makes within ``PATIENCE_S``: by one commit, by several, without blank parents."""

    create: int
    blank: int
    full: int


class Missing(NamedTuple):
    """A peer that cannot be measured here."""

    name: str
    reason: str


@dataclass
class Peer:
    """A library in a process of its own, to be closed.

    Args:
        command: what starts it.
        largest: what it is asked for at most.
    """

    name: str
    command: Sequence[str]
    largest: Largest
    _child: "_Child | None" = field(default=None, init=False)
    _reasons: dict[tuple[str, int], str] = field(default_factory=dict, init=False)
    _sizes: dict[tuple[str, int], int] = field(default_factory=dict, init=False)
    _entered: list[int] = field(default_factory=list, init=False)

    def measure(self, op: str, n: int) -> float | None:
        """Its figure, or nothing if it cannot do this: then ``reason`` says why."""
        kind = "full" if op.endswith("_full") else "create" if op == "create" else "blank"
        if n > getattr(self.largest, kind) and not (kind == "full" and n in self._entered):
            self._reasons.setdefault((op, n), f"a group of {n} is too big for it")
        if (op, n) in self._reasons:
            return None
        try:
            answer = self._ask({"op": op, "n": n})
        except TimeoutError as error:
            self._reasons[op, n] = str(error)
            self.largest = self.largest._replace(**{kind: n - 1})
            return None
        if reason := answer.get("unsupported") or answer.get("error"):
            self._reasons[op, n] = reason
            return None
        if (size := answer.get("bytes")) is not None:
            self._sizes[op, n] = size
        return float(answer["bytes" if op in BYTES else "us"])

    def reason(self, op: str, n: int) -> str | None:
        """Why it could not do this, if it was asked."""
        return self._reasons.get((op, n))

    def size(self, op: str, n: int) -> int | None:
        """How many bytes it last made or took in: a commit, a message, for ``join`` the Welcome."""
        return self._sizes.get((op, n))

    def packages(self, n: int) -> list[bytes]:
        """The key packages of two new clients, who wait for a Welcome to a group of ``n`` that somebody else made."""
        answer = self._ask({"op": "packages", "n": n})
        if "packages" not in answer:
            raise ValueError(answer.get("unsupported") or answer.get("error"))
        return [bytes.fromhex(each) for each in answer["packages"]]

    def enter(self, n: int, welcome: bytes) -> None:
        """Those two join and from then on are the first and the last member of the group without blank parents.

        Such a group costs a library thousands of commits, and whoever can write down a tree nothing.
        """
        answer = self._ask({"op": "enter", "n": n, "welcome": welcome.hex()})
        if reason := answer.get("error"):
            raise ValueError(reason)
        self._entered.append(n)

    def close(self) -> None:
        """End its process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._child is None:
            self._child = _Child(self.command)
            self._entered.clear()
        try:
            return self._child.ask(question)
        except (TimeoutError, ConnectionError) as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise
            return {"error": str(error)}


class _Child:
    """A process that answers every line with a line. It is ended by its handle, and ends itself when we do."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process is
        with one_core():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=os.environ | {"RAYON_NUM_THREADS": "1"},
            )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        line, deadline = b"", time.monotonic() + PATIENCE_S
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            raise ConnectionError(self._last_words()) from None
        while not line.endswith(b"\n"):
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._process.kill()
                raise TimeoutError(f"more than {PATIENCE_S} s")
            part = stdout.read(1 << 16)
            if not part:
                raise ConnectionError(self._last_words())
            line += part
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return _tail(self._errors.read().decode(errors="replace")) or f"it ended with {self._process.returncode}"


def peers(quick: bool) -> Iterator[Peer | Missing]:
    """All of them; if quick, whatever is not there yet is not installed or built either."""
    for prepare, kinds in (
        (_rust, {"openmls": Largest(1_000, 10_000, 1_000), "mls-rs": Largest(10_000, 10_000, 1_000)}),
        (
            _node,
            {
                "core-crypto": Largest(1_000, 1_000, 100),
                "ts-mls": Largest(1_000, 1_000, 100),
                "openmls-wasm": Largest(1_000, 1_000, 1_000),
            },
        ),
        (_python, {"rfc9420": Largest(1_000, 1_000, 1_000)}),
    ):
        command = _prepared(prepare, quick)
        for name, largest in kinds.items():
            yield Missing(name, command) if isinstance(command, str) else Peer(name, [*command, name], largest)


class _UnavailableError(Exception):
    """What is missing on this machine."""


Prepare = Callable[[bool], list[str]]


def _prepared(prepare: Prepare, quick: bool) -> list[str] | str:
    try:
        return prepare(quick)
    except (_UnavailableError, OSError) as error:
        return str(error)
    except subprocess.TimeoutExpired as error:
        return f"{error.cmd[0]} took more than {BUILD_TIMEOUT_S} s"


def _rust(quick: bool) -> list[str]:
    """openmls and mls-rs, linked into one program."""
    sources = _files("rust")

    def build(folder: Path) -> None:
        cargo = _tool("cargo")
        with tempfile.TemporaryDirectory() as copy:  # cargo writes a lock file next to what it builds
            for path, content in sources.items():
                (Path(copy) / path).parent.mkdir(exist_ok=True)
                (Path(copy) / path).write_bytes(content)
            target = _cache() / "rust-target"
            _run([*_nicely(), cargo, "build", "--release", "-j1", "--target-dir", str(target)], Path(copy))
        shutil.copy(target / "release" / "mls-peers", folder)

    return [str(_made("rust", sources, build, quick) / "mls-peers")]


def _node(quick: bool) -> list[str]:
    """The libraries of npm. What drives them is copied beside them, as node looks there for packages."""
    node, drivers = _tool("node"), _files("node")

    def install(folder: Path) -> None:
        (folder / "package.json").write_bytes(drivers["package.json"])
        flags = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
        _run([_tool("npm"), "install", "--prefix", str(folder), *flags], folder)

    folder = _made("node", {"package.json": drivers["package.json"]}, install, quick)
    for path, content in drivers.items():
        (folder / path).write_bytes(content)
    return [node, "--expose-gc", str(folder / "serve.mjs")]


def _python(quick: bool) -> list[str]:
    """rfc9420 in an environment of its own, over the same cryptography as ours."""
    wanted = [RFC9420, f"cryptography=={importlib.metadata.version('cryptography')}"]

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted], folder)

    folder = _made("python", {"wanted": "\n".join([sys.version, *wanted]).encode()}, install, quick)
    return [str(folder / "bin" / "python"), str(HERE / "python" / "serve.py")]


def _made(kind: str, inputs: dict[str, bytes], make: Callable[[Path], None], quick: bool) -> Path:
    """The folder in the cache that was made from these inputs, and is made now if there is none."""
    digest = hashlib.sha256(b"".join(path.encode() + b"\0" + inputs[path] + b"\0" for path in sorted(inputs)))
    folder = _cache() / f"{kind}-{digest.hexdigest()[:16]}"
    done = folder / "done"
    if not done.exists():
        if quick:
            raise _UnavailableError("not built here")
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        done.touch()
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacepanda" / "mls-peers"


def _files(folder: str) -> dict[str, bytes]:
    """What is in one of our folders, without what tools may have left there."""
    kinds = {".toml", ".rs", ".mjs", ".json"}
    paths = sorted(path for path in (HERE / folder).rglob("*") if path.suffix in kinds and "target" not in path.parts)
    return {str(path.relative_to(HERE / folder)): path.read_bytes() for path in paths}


def _tool(name: str) -> str:
    if (path := shutil.which(name)) is None:
        raise _UnavailableError(f"no {name}")
    return path


def _nicely() -> list[str]:
    nice = shutil.which("nice")
    return [nice, "-n", "10"] if nice else []


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise _UnavailableError(f"{Path(command[0]).name}: {_tail(done.stderr) or done.returncode}")


def _tail(text: str) -> str:
    """The end of what a tool said: the cause is in the last lines."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-400:]


@contextmanager
def one_core() -> Iterator[None]:
    """What is started in here uses one core for good, as every figure in a row should."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(ours)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
