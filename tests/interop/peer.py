"""ts-mls as a peer: an implementation of RFC 9420 that shares no line with ours, alive in a node process.

Published vectors show that we compute what others computed once. A peer answers what we send now, refuses what we
must not send, and moves on with us epoch by epoch. ``TsMls`` is the process, driven by JSON lines over its pipes;
``TsClient`` is one member-to-be inside, of which it holds any number.

The packages are installed once, outside of the checkout, into a folder named after what ``package.json`` pins; a
lock keeps two test processes from installing at the same time, a rename at the end makes the folder appear whole.
Where node, npm or the packages are not to be had, the test that asks is skipped with the reason.
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

import pytest

from tests.interop.member import Committed, Extensions, Proposal, Received, Refused, Status

HERE: Final = Path(__file__).parent
INSTALL_TIMEOUT_S: Final = 120
ANSWER_TIMEOUT_S: Final = 20
"""The slowest operation of a test takes a tenth of a second; a busy machine is given two hundred times that."""

NODE_MAJOR_MIN: Final = 20
"""What ts-mls asks for."""

FOREVER: Final = (0, 2**63 - 1)
"""The lifetime of key packages that a test does not care about (ts-mls's own default): good at any clock."""


class TsMls:
    """A node process with ts-mls in it. Used as a context manager, or closed by hand."""

    def __init__(self, node: str, packages: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [node, str(HERE / "driver.mjs"), str(packages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    @classmethod
    def start(cls) -> Self:
        """A process, or a skipped test."""
        found = install()
        if isinstance(found, str):
            pytest.skip(f"no live interop with ts-mls: {found}")
        return cls(*found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process by the end of its input, by force if it does not listen."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # what a dead process left unread
            self._process.stdin.close()
        try:
            self._process.wait(ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def client(self, name: str, suite: int, lifetime: tuple[int, int] = FOREVER) -> "TsClient":
        """A client with a signature key of its own. ``lifetime``: of its key packages, in Unix seconds."""
        answer = self.ask({"op": "client", "name": name, "suite": suite, "lifetime": [str(each) for each in lifetime]})
        return TsClient(self, answer["client"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, one answer. A process that takes too long is killed, which ends both of its pipes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
            watchdog.join()
        if not line:
            status = self._process.wait(ANSWER_TIMEOUT_S)
            raise RuntimeError(f"the driver ended with {status} at {request['op']!r}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:]


class TsClient:
    """One ts-mls client: a ``Member``. Its handshake messages are private unless asked otherwise."""

    changes_context_by_path = False

    def __init__(self, host: TsMls, number: int) -> None:
        self._host = host
        self._number = number

    def key_package(self, suite: int | None = None) -> bytes:
        return _bytes(self._ask("key_package", suite=suite)["key_package"])

    def create_group(self, group_id: bytes, extensions: Extensions = ()) -> None:
        self._ask("create_group", group_id=group_id.hex(), extensions=_pairs(extensions))

    def join(self, welcome: bytes, tree: bytes = b"", resume: bool = False) -> None:
        self._ask("join", welcome=welcome.hex(), tree=tree.hex(), resume=resume)

    def external_commit(self, group_info: bytes, tree: bytes = b"", resync: bool = False) -> bytes:
        answer = self._ask("external_commit", group_info=group_info.hex(), tree=tree.hex(), resync=resync)
        return _bytes(answer["commit"])

    def propose_to_join(self, group_info: bytes) -> bytes:
        return _bytes(self._ask("propose_to_join", group_info=group_info.hex())["message"])

    def propose(self, proposal: Proposal, public: bool = False) -> bytes:
        return _bytes(self._ask("propose", proposal=_plain(proposal), public=public)["message"])

    def commit(self, *proposals: Proposal, public: bool = False, with_tree: bool = True) -> Committed:
        plain = [_plain(each) for each in proposals]
        answer = self._ask("commit", proposals=plain, public=public, with_tree=with_tree)
        return Committed(_bytes(answer["commit"]), _optional(answer.get("welcome")))

    def process(self, message: bytes) -> Received:
        answer = self._ask("process", message=message.hex())
        return Received(answer["kind"], _bytes(answer.get("data", "")), answer.get("removed", False))

    def encrypt(self, data: bytes, authenticated_data: bytes = b"") -> bytes:
        answer = self._ask("encrypt", data=data.hex(), authenticated_data=authenticated_data.hex())
        return _bytes(answer["message"])

    def succeed(
        self, usage: Literal["reinit", "branch"], group_id: bytes, key_packages: Sequence[bytes], suite: int
    ) -> bytes:
        plain = [each.hex() for each in key_packages]
        answer = self._ask("succeed", usage=usage, group_id=group_id.hex(), key_packages=plain, suite=suite)
        return _bytes(answer["welcome"])

    def store_psk(self, psk_id: bytes, psk: bytes) -> None:
        self._ask("store_psk", psk_id=psk_id.hex(), psk=psk.hex())

    def group_info(self, with_tree: bool = True) -> bytes:
        return _bytes(self._ask("group_info", with_tree=with_tree)["group_info"])

    def ratchet_tree(self) -> bytes:
        return _bytes(self._ask("ratchet_tree")["tree"])

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return _bytes(self._ask("export", label=label, context=context.hex(), length=length)["secret"])

    def status(self) -> Status:
        answer = self._ask("status")
        return Status(
            group_id=_bytes(answer["group_id"]),
            epoch=answer["epoch"],
            tree_hash=_bytes(answer["tree_hash"]),
            confirmed_transcript_hash=_bytes(answer["confirmed_transcript_hash"]),
            epoch_authenticator=_bytes(answer["epoch_authenticator"]),
            extensions=tuple((kind, _bytes(data)) for kind, data in answer["extensions"]),
            members={index: _bytes(identity) for index, identity in answer["members"]},
        )

    def own_index(self) -> int:
        index: int = self._ask("status")["own_index"]
        return index

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._host.ask({"op": operation, "client": self._number, **arguments})


def _plain(proposal: Proposal) -> dict[str, Any]:
    """As the driver reads it."""
    plain: dict[str, Any] = {"type": type(proposal).__name__}
    for name, value in proposal._asdict().items():
        match value:
            case bytes():
                plain[name] = value.hex()
            case int():
                plain[name] = value
            case _:
                plain[name] = _pairs(value)
    return plain


def _pairs(extensions: Extensions) -> list[tuple[int, str]]:
    return [(kind, data.hex()) for kind, data in extensions]


def _optional(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


@functools.cache
def install() -> tuple[str, Path] | str:
    """Node and the folder of the packages, or why not. Once a process: no second try on a machine without network."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "node and npm are not both here"
    pinned = (HERE / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacepanda"
    packages = cache / f"ts-mls-{hashlib.sha256(pinned).hexdigest()[:16]}"
    try:
        version = subprocess.run([node, "--version"], check=True, timeout=ANSWER_TIMEOUT_S, capture_output=True).stdout
        if int(version.decode().strip().lstrip("v").split(".")[0]) < NODE_MAJOR_MIN:
            return f"node {version.decode().strip()} is older than {NODE_MAJOR_MIN}"
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "ts-mls.lock"):
            if not packages.is_dir():
                _npm_install(npm, pinned, packages)
    except (OSError, subprocess.SubprocessError) as error:
        return f"its packages cannot be installed: {_reason(error)}"
    return node, packages


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """At most one process inside; the system opens the lock of one that dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _npm_install(npm: str, pinned: bytes, packages: Path) -> None:
    with tempfile.TemporaryDirectory(dir=packages.parent) as scratch:
        prefix = Path(scratch) / "packages"
        prefix.mkdir()
        (prefix / "package.json").write_bytes(pinned)
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
        subprocess.run(
            [npm, "install", "--prefix", str(prefix), *quiet],
            check=True,
            timeout=INSTALL_TIMEOUT_S,
            capture_output=True,
            cwd=prefix,
        )
        prefix.rename(packages)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return f"npm answered {error.returncode} ({lines[0] if lines else 'without a word'})"
    return f"{type(error).__name__}: {error}"
