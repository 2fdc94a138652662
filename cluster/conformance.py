"""Published test vectors, run against our own code: which file is it, which cases pass, what did not.

A file is recognised by its shape, not by its name, as people rename them: a ``Kind`` is a predicate on the
parsed document, how to list its cases, and how to run one. Adding a protocol's vectors is one ``register``.

A case that our code was never meant to do (another curve, an older revision) is ``unsupported`` and says
why; it is not passed. A file that is no vector file at all is a ``LocalError``: nobody should read a green
line for a path with a typing mistake.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.errors import LocalError, SpacePandaError
from protocols.noise.errors import NoiseError
from protocols.noise.handshake import HandshakeState, KeyPair
from protocols.noise.suite import protocol

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


# -- Noise: the JSON shape of cacophony, snow and noise-c ------------------------------------------------


def _is_noise(document: Any) -> bool:
    match document:
        case {"vectors": [{"messages": [*_]} as first, *_]}:
            return str(first.get("protocol_name", first.get("name"))).startswith("Noise")
    return False


def _noise_cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, case in enumerate(document["vectors"]):
        name = _noise_name(case) if isinstance(case, dict) else "not an object"
        yield f"{number}: {name}", case


def _noise_name(case: dict[str, Any]) -> str:
    return str(case.get("protocol_name", case.get("name")))


def _run_noise(case: dict[str, Any]) -> None:
    if case.get("fail"):
        raise UnsupportedError("cases that end in a failure are not specified by revision 34")
    messages = [(_bytes(m["payload"]), _bytes(m["ciphertext"])) for m in case["messages"]]
    done = 0
    if case.get("fallback"):
        first, second = _run_to_fallback(case, *messages[0])
        done = 1
    else:
        name = _noise_name(case)
        first, second = _side(case, "init", name, True), _side(case, "resp", name, False)

    while not first.finished:
        if done == len(messages):
            raise MismatchError(f"the handshake needs more than the {done} messages given")
        payload, ciphertext = messages[done]
        writer, reader = (first, second) if first.our_turn else (second, first)
        expect_equal(f"message {done}", writer.write_message(payload), ciphertext)
        expect_equal(f"payload {done}", reader.read_message(ciphertext), payload)
        done += 1

    one_way = first.protocol.pattern.one_way
    handshake_messages = len(first.protocol.pattern.messages)
    ends = first.split(), second.split()
    for end in ends:
        if "handshake_hash" in case:
            expect_equal("handshake hash", end.handshake_hash, _bytes(case["handshake_hash"]))
    for number, (payload, ciphertext) in enumerate(messages[done:], handshake_messages):
        sender, receiver = ends if one_way or number % 2 == 0 else reversed(ends)
        expect_equal(f"message {done}", sender.encrypt(payload), ciphertext)
        expect_equal(f"payload {done}", receiver.decrypt(ciphertext), payload)
        done += 1


def _run_to_fallback(case: dict[str, Any], payload: bytes, ciphertext: bytes) -> tuple[HandshakeState, HandshakeState]:
    """The responder cannot read the first message and starts the fallback, as its initiator (§10.4).

    noise-c names the fallback and gives the first pattern beside it; others the other way round.
    """
    name = _noise_name(case)
    head, shape, *algorithms = name.split("_")
    fallback_shape = case.get("fallback_pattern", shape)
    first_shape = shape if "fallback_pattern" in case else case.get("pattern", "IK")
    first_name, fallback_name = ("_".join((head, s, *algorithms)) for s in (first_shape, fallback_shape))

    alice, bob = _side(case, "init", first_name, True), _side(case, "resp", first_name, False)
    expect_equal("message 0", alice.write_message(payload), ciphertext)
    try:
        bob.read_message(ciphertext)
    except NoiseError:
        pass
    else:
        raise MismatchError("message 0 was read, so there is nothing to fall back from")
    ephemeral = ciphertext[: alice.protocol.dh.size]
    return (
        _side(case, "resp", fallback_name, True, remote_ephemeral=ephemeral),
        _side(case, "init", fallback_name, False),
    )


def _side(case: dict[str, Any], who: str, name: str, initiator: bool, remote_ephemeral: bytes = b"") -> HandshakeState:
    """One side, with those of the case's keys that the pattern needs: some files give all keys to all."""
    try:
        suite = protocol(name)
    except NoiseError as error:
        raise UnsupportedError(str(error)) from None
    plan = suite.initiator if initiator else suite.responder

    def key(field: str) -> bytes:
        return _bytes(case.get(f"{who}_{field}", ""))

    static = KeyPair(key("static"), suite.dh.public(key("static"))) if plan.needs_static else None
    return HandshakeState(
        name,
        initiator=initiator,
        prologue=key("prologue"),
        static=static,
        ephemeral=key("ephemeral") if plan.needs_ephemeral else b"",
        remote_static=key("remote_static") if plan.needs_remote_static else b"",
        remote_ephemeral=remote_ephemeral if plan.needs_remote_ephemeral else b"",
        psks=[_bytes(psk) for psk in case.get(f"{who}_psks", ())],
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


register(Kind("Noise", _is_noise, _noise_cases, _run_noise))
