"""A scenario run again, in a process of its own, by somebody who wants to see every message.

The process hashes strings as it is told to, so that two replays which agree do not owe it to the order of a set.
"""

import multiprocessing
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from cluster.scenario import Scenario
from cluster.shard import Shard, decode_report
from protocols.errors import LocalError
from protocols.messages import Message, encode

HASH_SEEDS: Final = ("1", "2")


class Handled(NamedTuple):
    """A message that a peer handled; of one peer they come in order."""

    time: int
    service: str
    source: int
    sequence: int
    tag: str
    body: bytes


Update = tuple[int, int, dict[int, bytes]]
"""What a replay says after a window: messages handled so far, peers up, and the digest of every peer."""


class Recorder:
    """A shard with all peers that remembers what they handled since the last call of ``advance``."""

    def __init__(self, scenario: Scenario) -> None:
        self._shard = Shard(scenario.to_toml(), 0, 1)
        self._shard.prepare([])
        self._events: list[tuple[int, int, str, int, int, Message]] = []
        self._shard._host.observer = lambda *event: self._events.append(event)

    def advance(self, until: int) -> Update:
        """Run to ``until``."""
        self._events.clear()
        report = decode_report(self._shard.advance(until))
        return report.handled, report.up, self._shard.digests()

    def handled(self, peers: Collection[int]) -> dict[int, list[Handled]]:
        """What these peers handled in the last window, in order."""
        table: dict[int, list[Handled]] = {peer: [] for peer in peers}
        for time, peer, service, source, sequence, message in self._events:
            if peer in table:
                tag = str(type(message).__struct_config__.tag)
                table[peer].append(Handled(time, service, source, sequence, tag, encode(message)))
        return table


class Replay:
    """A scenario that is run again in a process of its own, window by window."""

    def __init__(self, scenario: Scenario, hash_seed: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, scenario.to_toml()), daemon=True)
        with _environment("PYTHONHASHSEED", hash_seed):
            self._process.start()
        theirs.close()

    def advance(self, until: int) -> None:
        """Begin to run until then; ``update`` waits for it."""
        self._link.send(("advance", until))

    def update(self) -> Update:
        update: Update = self._receive()
        return update

    def handled(self, peers: list[int]) -> dict[int, list[Handled]]:
        """What these peers handled in the last window."""
        self._link.send(("handled", peers))
        table: dict[int, list[Handled]] = self._receive()
        return table

    def close(self) -> None:
        self._link.close()
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._link.recv()
        except EOFError:
            raise LocalError("a replay died") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def side_by_side(a: Scenario, b: Scenario) -> Iterator[tuple[Replay, Replay]]:
    """Two replays, ended with the block."""
    with closing(Replay(a, HASH_SEEDS[0])) as first, closing(Replay(b, HASH_SEEDS[1])) as second:
        yield first, second


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _work(link: Connection, scenario: str) -> None:
    """The replaying process. It ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this one
    try:
        recorder = Recorder(Scenario.from_toml(scenario))
        while True:
            verb, argument = link.recv()
            link.send(recorder.advance(argument) if verb == "advance" else recorder.handled(argument))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        link.send(LocalError(f"a replay failed: {type(error).__name__}: {error}"))
