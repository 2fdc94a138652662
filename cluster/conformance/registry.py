"""Published test vectors, run against our own code: which file is it, which cases pass, what did not.

A file is recognised by its shape, not by its name, as people rename them: a ``Kind`` is a predicate on the
parsed document, how to list its cases, and how to run one. Adding a protocol's vectors is one ``register``.

A case that our code was never meant to do (another curve, an older revision) is ``unsupported`` and says
why; it is not passed. A file that is no vector file at all is a ``LocalError``: nobody should read a green
line for a path with a typing mistake.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.errors import LocalError, SpacePandaError

# The largest published file is 6 MB; what is much larger is not test vectors.
FILE_SIZE_MAX = 256 * 1024 * 1024


class MismatchError(Exception):
    """The case ran and something came out different; the text says what."""


class UnsupportedError(Exception):
    """The case asks for what we do not implement; the text says what."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``cases`` yields (name, case); ``run`` returns if the case passes and raises one of the two above."""

    name: str
    matches: Callable[[Any], bool]
    cases: Callable[[Any], Iterable[tuple[str, Any]]]
    run: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileResult:
    path: Path
    kind: str
    passed: int
    failed: tuple[CaseResult, ...]
    unsupported: tuple[CaseResult, ...]

    @property
    def total(self) -> int:
        return self.passed + len(self.failed) + len(self.unsupported)


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    if kind.name in _KINDS:
        raise LocalError(f"two kinds of vector files are called {kind.name!r}")
    _KINDS[kind.name] = kind


def run_files(paths: Iterable[Path | str]) -> list[FileResult]:
    """Run every case of every file. All files are read and recognised before the first case runs."""
    documents = [(Path(path), *_recognised(Path(path))) for path in paths]
    return [_run_file(path, kind, document) for path, kind, document in documents]


def _recognised(path: Path) -> tuple[Kind, Any]:
    try:
        size = path.stat().st_size
        if size > FILE_SIZE_MAX:
            raise LocalError(f"{path}: {size} bytes, more than the {FILE_SIZE_MAX} read as test vectors")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise LocalError(f"{path}: not JSON ({error})") from None
    for kind in _KINDS.values():
        if kind.matches(document):
            return kind, document
    raise LocalError(f"{path}: not a vector file of a known shape ({', '.join(_KINDS)})")


def _run_file(path: Path, kind: Kind, document: Any) -> FileResult:
    passed = 0
    failed, unsupported = [], []
    for name, case in kind.cases(document):
        try:
            kind.run(case)
        except UnsupportedError as error:
            unsupported.append(CaseResult(name, str(error)))
        except (MismatchError, SpacePandaError) as error:
            failed.append(CaseResult(name, str(error)))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            failed.append(CaseResult(name, f"malformed case: {type(error).__name__}: {error}"))
        else:
            passed += 1
    return FileResult(path, kind.name, passed, tuple(failed), tuple(unsupported))


def expect_equal(what: str, ours: object, published: object) -> None:
    """Published values are no secrets, so the text may show them."""
    if ours != published:
        shown = [value.hex() if isinstance(value, bytes) else repr(value) for value in (ours, published)]
        raise MismatchError(f"{what}: ours {shown[0]}, published {shown[1]}")
