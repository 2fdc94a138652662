"""Are two runs the same, and if not, where do they part?

Equal digests settle it: every peer handled the same messages in the same order. Otherwise both are run again from
their scenarios, side by side and inline, and the peers' digests are compared after every short window of
virtual time. Each side keeps the messages of the current window only; the first window whose digests differ
has the first message that does. Restoring a state and bisecting was the other way: it writes every host's
state again and again, where this costs one replay, on two cores at once.

The two replays are processes that hash strings differently, so a run that depends on hash order parts from itself.
Two runs of one scenario with different digests are compared like that as well: either the replays part, or the
recorded runs were of other versions, and which of them this version still agrees with is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from cluster.replay import Handled, Replay, side_by_side
from cluster.results import Run
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.simulation import Progress, overall_digest
from protocols.errors import LocalError

WINDOW_FIRST_NS: Final = 100_000_000
WINDOW_HANDLED: Final = 20_000
"""Messages of a window that a replay should have to keep: 10 MB or so."""

FIGURES: Final = (
    *("version", "events", "packets", "bytes", "handshakes", "drops", "security_events", "lookups", "puts", "journal"),
    *("possession", "convergence"),
)
"""Figures of the summary that a seed decides; the rest is about the machine."""

BODY_SHOWN: Final = 48
"""Bytes of a message that are shown around the first that differs."""

Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found."""

    same: bool
    lines: list[str]
    """For people."""
    keys: dict[str, list[Any]] = field(default_factory=dict)
    """Options of the scenarios that differ, with both values."""
    figures: dict[str, list[Any]] = field(default_factory=dict)
    """Figures that differ, with both values."""
    first: dict[str, Any] | None = None
    """The first event that differs, as each run has it."""


def compare(a: Run, b: Run, watch: Watch | None = None) -> Verdict:
    """Compare two runs; replays them when their digests differ.

    Raises:
        LocalError: one of them has no digest, or cannot be replayed.
    """
    digests = [_digest(run) for run in (a, b)]
    keys = differences(a.scenario.to_table(), b.scenario.to_table())
    mine, theirs = ({name: run.summary.get(name) for name in FIGURES} for run in (a, b))
    figures = differences(mine, theirs)
    lines = [f"scenario {name}: {_shown(one)} and {_shown(other)}" for name, (one, other) in keys.items()]
    if digests[0] == digests[1]:
        return Verdict(True, [f"digest {digests[0]}", *lines], keys, figures)
    lines = [f"digest {digests[0]} and {digests[1]}", *lines]
    lines += [f"summary {name}: {_shown(one)} and {_shown(other)}" for name, (one, other) in figures.items()]
    replayed, first, where = replay(a.scenario, b.scenario, watch)
    lines += where
    if first is None:
        lines += [
            f"a replay of {name} ends in the digest that it recorded"
            if recorded == now
            else f"a replay of {name} ends in {now}: it was recorded by another version, or on a machine that differs"
            for name, recorded, now in zip(("RUN_A", "RUN_B"), digests, replayed, strict=True)
        ]
    return Verdict(False, lines, keys, figures, first)


def differences(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> dict[str, list[Any]]:
    """The paths under which two nested tables differ, with both values; None where one has nothing."""
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys((*a, *b)):
        mine, theirs, here = a.get(key), b.get(key), f"{path}{key}"
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found |= differences(mine, theirs, f"{here}.")
        elif mine != theirs:
            found[here] = [mine, theirs]
    return found


def replay(
    a: Scenario, b: Scenario, watch: Watch | None = None
) -> tuple[tuple[str, str], dict[str, Any] | None, list[str]]:
    """Run two scenarios side by side until a peer handles different messages.

    Returns:
        both digests (as far as the replays went), the first event that differs, and the same in words.
    """
    end = min(a.duration_ns, b.duration_ns)
    began = perf_counter()
    now, window, handled_before = 0, WINDOW_FIRST_NS, 0
    with side_by_side(a, b) as pair:
        while True:
            until = min(now + window, end)
            for each in pair:
                each.advance(until)
            (handled, up, mine), (_, _, theirs) = (each.update() for each in pair)
            if mine != theirs:
                first, lines = _first_difference(pair, mine, theirs, now, until)
                return (overall_digest(mine), overall_digest(theirs)), first, lines
            now = until
            if watch is not None:
                watch(Progress(now, end, handled, perf_counter() - began, up))
            if now == end:
                break
            busy = handled - handled_before
            handled_before = handled
            window = max(
                1_000_000,
                window * 2 if busy < WINDOW_HANDLED // 2 else window // 2 if busy > WINDOW_HANDLED else window,
            )
    # The same as far as the shorter one goes.
    words = "two replays handled the same messages at every peer"
    if a.duration_ns != b.duration_ns:
        words += f", for the {end / NS_PER_S:g} s of the shorter one"
    return (overall_digest(mine), overall_digest(theirs)), None, [words]


def _first_difference(
    pair: tuple[Replay, Replay], mine: Mapping[int, bytes], theirs: Mapping[int, bytes], start: int, end: int
) -> tuple[dict[str, Any], list[str]]:
    """Which message parts them: the earliest by time, peer, source, sequence and tag."""
    peers = sorted(peer for peer in mine.keys() | theirs.keys() if mine.get(peer) != theirs.get(peer))
    both = [each.handled(peers) for each in pair]
    candidates: list[tuple[tuple[Any, ...], int, list[Handled | None]]] = []
    for peer in peers:
        left, right = (table.get(peer, []) for table in both)
        for i in range(max(len(left), len(right))):
            versions = [rows[i] if i < len(rows) else None for rows in (left, right)]
            if versions[0] != versions[1]:
                earliest = min(
                    (each.time, peer, each.source, each.sequence, each.tag) for each in versions if each is not None
                )
                candidates.append((earliest, peer, versions))
                break
    between = f"between {start / NS_PER_S:g} s and {end / NS_PER_S:g} s"
    if not candidates:
        one = f"peer {peers[0]}" + (f" and {len(peers) - 1} others" if len(peers) > 1 else "")
        first = {"from_ns": start, "until_ns": end, "peers": peers}
        return first, [f"{between}, {one} came up or went down at another time, or exist in one run only"]
    _, peer, versions = min(candidates, key=lambda each: each[0])
    at = _parting(versions)
    lines = [f"the first event that differs is handled by peer {peer}, {between}:"]
    lines += [f"  {name}: {_event(each, at)}" for name, each in zip(("RUN_A", "RUN_B"), versions, strict=True)]
    first = {
        "peer": peer,
        **{
            name: None if each is None else each._asdict() | {"body": each.body.hex()}
            for name, each in zip(("a", "b"), versions, strict=True)
        },
    }
    return first, lines


def _event(event: Handled | None, at: int | None) -> str:
    if event is None:
        return "nothing"
    body = f"{len(event.body)} bytes"
    if at is not None:
        start = max(0, at - BODY_SHOWN // 4)
        body += f", at byte {start}: {event.body[start : start + BODY_SHOWN].hex()}"
    # Between the actors of a peer nothing is numbered: order is all there is.
    source = (
        f"from peer {event.source}, number {event.sequence}" if event.sequence >= 0 else "from another of its actors"
    )
    return f"{event.time / NS_PER_S:.9f} s, {event.tag} for {event.service!r}, {source}; {body}"


def _parting(versions: Sequence[Handled | None]) -> int | None:
    """The first byte at which two bodies differ."""
    bodies = [each.body for each in versions if each is not None]
    if len(bodies) < 2 or bodies[0] == bodies[1]:
        return None
    return next((i for i, (one, other) in enumerate(zip(*bodies, strict=False)) if one != other), min(map(len, bodies)))


def _digest(run: Run) -> str:
    digest = run.summary.get("digest")
    if isinstance(digest, str) and digest:
        return digest
    why = "was interrupted" if run.summary.get("interrupted") else f"ran in {run.scenario.time} time"
    raise LocalError(f"{run.folder} has no digest to compare: it {why}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
