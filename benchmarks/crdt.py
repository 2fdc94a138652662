"""Signed operations on documents, beside pycrdt and loro, which sign nothing.

*Operations*: assignments to a thousand keys of a map, and additions to a set of as many elements as there are
operations; read (decoded, verified, admitted, applied) and written (signed, admitted, applied), in bundles of 1, 8
and 64. pycrdt (Yjs in Rust) and loro get the same in transactions of as many, and read them as as many updates; to
read everything as one update is a figure of its own. They have no sets: theirs are the keys of a map. ``ratio`` is our
operations a second over pycrdt's. *The signature floor* is what Ed25519 allows by itself, with one signature for each
bundle, and ``times_floor`` how many times as long as that all of it takes.

*Text*: the 259,778 keystrokes of a paper, one at a time (github.com/josephg/editing-traces, from the folder that
``SPACEPANDA_VECTORS`` names), typed, read, and stored with the whole history; the bounds are 20,000 keystrokes a second
and 2 bytes for each. Ours are signed every 64 or 4,096 keystrokes, and read bundle by bundle. pycrdt and loro have a
transaction for each keystroke, and are read as one update.

*Reconciliation* of two replicas with 100,000 operations each, of which 100 are not common, and of equal ones: round
trips, bytes both ways but for the operations themselves, and time. The bounds are 4 round trips and 128 KiB; equal
replicas have one round trip of at most 64 bytes each way.

*Compaction*: bytes that a snapshot has for each of the operations behind it, and seconds to load it, beside the archive
of the whole history.

*Memory* is by how much a process grows that reads as many operations, each contender in one of its own. On the text
they are keystrokes.
"""

import gc
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, Final, Protocol

from benchmarks.rows import OURS, Row, interleaved, main, package, rounded, row, skipped
from cluster.memory import proportional_set_size
from protocols.crdt.answering import Answerer
from protocols.crdt.archive import archive
from protocols.crdt.changes import Add, Assign, Change, Role
from protocols.crdt.exchange import Exchange
from protocols.crdt.messages import REQUESTS, RESPONSES, Push, Response
from protocols.crdt.reconciliation import KeyedSets
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import decode_sealed, encode_sealed
from protocols.crypto import ed25519_sign, ed25519_verify
from protocols.identity.signing import SigningKey

KEYS: Final = 1_000
"""Of the map."""
OPERATIONS: Final = 12_800
REMEMBERED: Final = 100_000
"""Operations whose memory is measured."""
BUNDLES: Final = (1, 8, 64)
RECONCILED: Final = 100_000
APART: Final = 100
"""Authors, and operations that only one replica has."""
ROUNDS: Final = 5
TEXT_ROUNDS: Final = 3
DRAFTS: Final = (64, 4_096)
"""Keystrokes that are signed together."""
TEXT: Final = ("text",)
NOW: Final = 1_800_000_000 * 10**9
BURST: Final = 2**32
"""Of the channels here: nobody's allowance runs out."""
SEALED_SIZE: Final = 200
"""Bytes that the signature of a bundle is over, about."""

AUTHOR: Final = SigningKey.generate(b"benchmark of the crdt's author..")
FLOOR: Final = "signature floor"
ARCHIVE: Final = "whole history"
TRACE: Final = "automerge-paper.json.gz"


def run(quick: bool) -> Iterator[Row]:
    peers, missing = found_peers()
    for name, reason in missing.items():
        yield skipped("crdt", "everything", name, reason)
    for part in (operations, text, reconciliation, compaction, memory):
        yield from part(peers, quick)


# -- contenders -----------------------------------------------------------------------------------------


class Peer(Protocol):
    """A library that does the same unsigned."""

    name: str

    def write(self, kind: str, count: int, size: int) -> list[bytes]:
        """``count`` operations in transactions of ``size``; returns an update for each."""

    def read(self, updates: Sequence[bytes]) -> Any:
        """A new document that takes them one after the other."""

    def whole(self, updates: Sequence[bytes]) -> bytes:
        """All that is in these, as it is stored with its history, and sent at once."""

    def type(self, edits: "Edits") -> list[bytes]:
        """Type a text, a keystroke at a time, and return what others need to have it."""

    def text(self, read: Any) -> str:
        """The text of what was read."""


class Ours:
    """Bundles of one author, and a replica that has nothing else."""

    name = OURS

    def __init__(self, draft: int = 64) -> None:
        """``draft`` keystrokes are signed together, in operations of up to 64 edits."""
        self._draft = draft
        founded = Replica.found(AUTHOR, {}, nonce=bytes(32), now_ns=NOW, burst=BURST)
        self.genesis: Final = founded.genesis

    def write(self, kind: str, count: int, size: int) -> list[bytes]:
        changes = [change(kind, number) for number in range(count)]
        replica = Replica(self.genesis)
        return [replica.write(AUTHOR, changes[at : at + size], NOW) for at in range(0, count, size)]

    def read(self, bundles: Sequence[bytes]) -> Replica:
        replica = Replica(self.genesis)
        for each in bundles:
            replica.receive(each, AUTHOR.public, NOW)
        return replica

    def whole(self, updates: Sequence[bytes]) -> bytes:
        return archive(self.read(updates).history)

    def type(self, edits: "Edits") -> list[bytes]:
        replica = Replica(self.genesis)
        bundles: list[bytes] = []
        for start in range(0, len(edits), self._draft):
            draft = replica.draft(TEXT)
            for at, cut, typed in edits[start : start + self._draft]:
                if cut:
                    draft.delete(at, cut)
                if typed:
                    draft.insert(at, typed)
            bundles += replica.seal(AUTHOR, NOW)
        return bundles

    def text(self, read: Replica) -> str:
        return str(read.document.text(TEXT))


class Compacted(Ours):
    """The same without what is behind the stable frontier: with one author, without nearly all of it."""

    name = "compacted"

    def write(self, kind: str, count: int, size: int) -> list[bytes]:
        return [self._sealed(super().write(kind, count, size))]

    def type(self, edits: "Edits") -> list[bytes]:
        return [self._sealed(super().type(edits))]

    def read(self, bundles: Sequence[bytes]) -> Replica:
        replica = Replica.restored(self.genesis, decode_sealed(bundles[0]))
        assert replica.document, "it is made when it is asked for"
        return replica

    def _sealed(self, bundles: Sequence[bytes]) -> bytes:
        sealed = super().read(bundles).snapshot()
        assert sealed is not None, "its only author has seen all of it"
        return encode_sealed(sealed)


class Pycrdt:
    name = "pycrdt"

    def __init__(self, module: ModuleType) -> None:
        self._m = module

    def write(self, kind: str, count: int, size: int) -> list[bytes]:
        doc, updates = self._m.Doc(), []
        kept = doc.observe(lambda event: updates.append(event.update))
        target = doc.get(kind, type=self._m.Map)
        for at in range(0, count, size):
            with doc.transaction():
                for number in range(at, min(at + size, count)):
                    name, value = plain(kind, number)
                    target[name] = value
        doc.unobserve(kept)
        return updates

    def read(self, updates: Sequence[bytes]) -> Any:
        doc = self._m.Doc()
        for each in updates:
            doc.apply_update(each)
        return doc

    def whole(self, updates: Sequence[bytes]) -> bytes:
        update: bytes = self.read(updates).get_update()
        return update

    def type(self, edits: "Edits") -> list[bytes]:
        doc = self._m.Doc()
        text = doc.get("text", type=self._m.Text)
        for at, cut, typed in edits:
            with doc.transaction():
                if cut:
                    del text[at : at + cut]
                if typed:
                    text.insert(at, typed)
        return [doc.get_update()]

    def text(self, read: Any) -> str:
        return str(read.get("text", type=self._m.Text))


class Loro:
    name = "loro"

    def __init__(self, module: ModuleType) -> None:
        self._m = module

    def write(self, kind: str, count: int, size: int) -> list[bytes]:
        doc = self._m.LoroDoc()
        updates: list[bytes] = []

        def note(update: Any) -> bool:
            updates.append(bytes(update))
            return True

        kept = doc.subscribe_local_update(note)
        target = doc.get_map(kind)
        for at in range(0, count, size):
            for number in range(at, min(at + size, count)):
                target.insert(*plain(kind, number))
            doc.commit()
        kept.unsubscribe()
        return updates

    def read(self, updates: Sequence[bytes]) -> Any:
        doc = self._m.LoroDoc()
        for each in updates:
            doc.import_(each)
        return doc

    def whole(self, updates: Sequence[bytes]) -> bytes:
        return self._exported(self.read(updates))

    def type(self, edits: "Edits") -> list[bytes]:
        doc = self._m.LoroDoc()
        text = doc.get_text("text")
        for at, cut, typed in edits:
            if cut:
                text.delete(at, cut)
            if typed:
                text.insert(at, typed)
            doc.commit()
        return [self._exported(doc)]

    def text(self, read: Any) -> str:
        text: str = read.get_text("text").to_string()
        return text

    def _exported(self, doc: Any) -> bytes:
        update: bytes = doc.export(self._m.ExportMode.Updates(self._m.VersionVector()))
        return update


PEERS: Final[dict[str, Callable[[ModuleType], Peer]]] = {"pycrdt": Pycrdt, "loro": Loro}


def found_peers() -> tuple[list[Peer], dict[str, str]]:
    """Those that are installed, and why the others are not there."""
    modules = {name: package(name) for name in PEERS}
    peers = [PEERS[name](module) for name, module in modules.items() if isinstance(module, ModuleType)]
    return peers, {name: module for name, module in modules.items() if isinstance(module, str)}


def contenders(peers: Sequence[Peer]) -> list[Peer]:
    """Ours first."""
    return [Ours(), *peers]


def change(kind: str, number: int) -> Change:
    """An operation as ours,"""
    if kind == "map":
        return Assign(("map", f"key {number % KEYS}"), number)
    return Add(("set",), number)


def plain(kind: str, number: int) -> tuple[str, int | bool]:
    """and as a key and a value of a map."""
    return (f"key {number % KEYS}", number) if kind == "map" else (str(number), True)


# -- operations a second --------------------------------------------------------------------------------


def operations(peers: Sequence[Peer], quick: bool) -> Iterator[Row]:
    """Read and written, map and set, in bundles."""
    count, rounds = (128, 1) if quick else (OPERATIONS, ROUNDS)
    for kind in ("map", "set"):
        for size in BUNDLES:
            few = count if size > 1 else count // 4
            yield from [
                measured(f"{kind}, read, bundles of {size}", size, reading(peers, kind, few, size), verify, rounds),
                measured(f"{kind}, written, bundles of {size}", size, writing(peers, kind, few, size), sign, rounds),
            ]


def measured(
    case: str, size: int, work: dict[str, Callable[[], float]], signature: Callable[[], object], rounds: int
) -> Row:
    """A row with the floor that one ``signature`` for ``size`` operations is."""
    work[FLOOR] = lambda: size * rate(signature, 200)
    for measure in work.values():
        measure()
    figures = interleaved(work, rounds)
    above = median(floor / ours for floor, ours in zip(figures[FLOOR], figures[OURS], strict=True))
    return row("crdt", case, "per_s", figures, times_floor=rounded(above))


def reading(peers: Sequence[Peer], kind: str, count: int, size: int) -> dict[str, Callable[[], float]]:
    """From bytes to a document."""

    found: dict[str, Callable[[], float]] = {}
    for who in contenders(peers):
        found[who.name] = partial(timed, count, who.read, who.write(kind, count, size))
    for peer in peers:
        found[f"{peer.name} at once"] = partial(timed, count, peer.read, [peer.whole(peer.write(kind, count, count))])
    return found


def writing(peers: Sequence[Peer], kind: str, count: int, size: int) -> dict[str, Callable[[], float]]:
    """From changes to bytes."""

    return {who.name: partial(timed, count, partial(who.write, kind, count), size) for who in contenders(peers)}


def rate(work: Callable[[], object], calls: int) -> float:
    """Calls a second."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return calls * 1e9 / (time.perf_counter_ns() - start)


SEALED: Final = bytes(SEALED_SIZE)
SIGNATURE: Final = ed25519_sign(AUTHOR.seed, AUTHOR.public, SEALED)


def verify() -> bool:
    return ed25519_verify(AUTHOR.public, SEALED, SIGNATURE)


def sign() -> bytes:
    return ed25519_sign(AUTHOR.seed, AUTHOR.public, SEALED)


# -- text -----------------------------------------------------------------------------------------------


Edits = list[tuple[int, int, str]]
"""Each with a position, how many characters are deleted there, and what is typed there."""


def trace() -> Path:
    folder = os.environ.get("SPACEPANDA_VECTORS") or Path(__file__).parents[2] / "shared" / "vectors"
    return Path(folder) / "crdt" / TRACE


@cache
def keystrokes(path: Path) -> tuple[Edits, str]:
    """Of a recording, and what they come to."""
    found = json.loads(gzip.decompress(path.read_bytes()))
    edits = [(at, cut, typed) for each in found["txns"] for at, cut, typed in each["patches"]]
    return edits, found["endContent"]


def text(peers: Sequence[Peer], quick: bool) -> Iterator[Row]:
    """A paper, as it was typed."""
    path = trace()
    if not path.is_file():
        yield skipped("crdt", "text", TRACE, f"it is not in {path.parent}: set SPACEPANDA_VECTORS")
        return
    edits, end = keystrokes(path)
    if quick:
        edits = edits[:1_000]
    rounds = 1 if quick else TEXT_ROUNDS
    typed = {who.name: who.type(edits) for who in peers}
    for draft in DRAFTS:
        everybody: list[Peer] = [Ours(draft), *peers]
        typed[OURS] = everybody[0].type(edits)
        if not quick:
            assert all(who.text(who.read(typed[who.name])) == end for who in everybody), "they typed something else"
        writes = {who.name: partial(timed, len(edits), who.type, edits) for who in everybody}
        reads = {who.name: partial(timed, len(edits), who.read, typed[who.name]) for who in everybody}
        stored = {who.name: [len(who.whole(typed[who.name])) / len(edits)] for who in everybody}
        case = f"text, {len(edits):,} keystrokes, {draft:,} signed together"
        yield row("crdt", f"{case}, typed", "per_s", interleaved(writes, rounds), bound_per_s=20_000)
        yield row("crdt", f"{case}, read", "per_s", interleaved(reads, rounds), bound_per_s=20_000)
        yield row("crdt", f"{case}, stored", "bytes", stored, bound_bytes=2)


# -- reconciliation ---------------------------------------------------------------------------------------


def reconciliation(peers: Sequence[Peer], quick: bool) -> Iterator[Row]:
    """Two replicas that share nearly all they have, and after that, all."""
    authors, each = (20, 40) if quick else (APART, RECONCILED // APART)
    keys = [SigningKey.generate(number.to_bytes(32, "big")) for number in range(authors)]
    founded = Replica.found(keys[0], {key.public: Role.MEMBER for key in keys[1:]}, nonce=bytes(32), now_ns=NOW)
    chains = [written_apart(founded.genesis, key, each) for key in keys]
    times: list[float] = []
    for _ in range(1 if quick else 3):
        one, other = (lacking(founded.genesis, chains, parity) for parity in (0, 1))
        start = time.perf_counter_ns()
        exchange, operations = reconcile(one, other)
        times.append((time.perf_counter_ns() - start) / 1e6)
        assert one.set_digest == other.set_digest, "they are equal now"
    count = authors * each
    yield row(
        "crdt",
        f"reconciliation, {count:,} operations each, {authors} differ",
        "ms",
        {OURS: times},
        round_trips=exchange.rounds,
        bound_round_trips=4,
        bytes_besides_operations=exchange.size - operations,
        bytes_of_operations=operations,
        bound_bytes=128 * 1024,
    )
    start = time.perf_counter_ns()
    exchange, _ = reconcile(one, other)
    yield row(
        "crdt",
        f"reconciliation, {count:,} operations each, none differ",
        "ms",
        {OURS: [(time.perf_counter_ns() - start) / 1e6]},
        round_trips=exchange.rounds,
        bound_round_trips=1,
        bytes_both_ways=exchange.size,
        bound_bytes=2 * 64,
    )


def written_apart(genesis: bytes, key: SigningKey, count: int) -> list[bytes]:
    """Bundles of an author who hears of nobody else; the last has one operation."""
    replica = Replica(genesis)
    changes = [change("set", number) for number in range(count - 1)]
    bundles = [replica.write(key, changes[at : at + 64], NOW) for at in range(0, len(changes), 64)]
    return [*bundles, replica.write(key, [change("set", count)], NOW)]


def lacking(genesis: bytes, chains: Sequence[Sequence[bytes]], parity: int) -> Replica:
    """A replica that has all but the last operation of every second author, and a hundred heads."""
    replica = Replica(genesis)
    for number, bundles in enumerate(chains):
        for each in bundles if number % 2 == parity else bundles[:-1]:
            replica.receive(each, AUTHOR.public, NOW)
    return replica


def reconcile(asker: Replica, answerer: Replica) -> tuple[Exchange, int]:
    """An exchange, and how many bytes of it were operations."""
    asked, answers = KeyedSets(asker.history), KeyedSets(answerer.history)
    exchange, server = Exchange(asker.history, asked), Answerer(answerer.history, answers)
    binding, operations = bytes(32), 0
    while (body := exchange.request()) is not None:
        question = REQUESTS.decode(body)
        if isinstance(question, Push):
            for unit in question.units:
                operations += len(unit)
                answerer.receive(unit, AUTHOR.public, NOW)
            response: Response = server.pushed(question, binding, taken=len(question.units), parked=0, refused=0)
        else:
            response = server.answer(question, binding)
        for unit in exchange.answer(RESPONSES.encode(response), binding):
            operations += len(unit)
            asker.receive(unit, AUTHOR.public, NOW)
    return exchange, operations


def timed(count: int, work: Callable[[Any], Any], argument: Any) -> float:
    """``count`` things a second, without what it takes to forget them."""
    start = time.perf_counter_ns()
    kept = work(argument)
    taken = time.perf_counter_ns() - start
    del kept
    return count * 1e9 / taken


# -- memory -------------------------------------------------------------------------------------------------


def compaction(peers: Sequence[Peer], quick: bool) -> Iterator[Row]:
    """What is stored of as many operations if the history is let go of, and how long it takes to load that."""
    for kind in ("map", "set", "text"):
        if kind == "text" and not trace().is_file():
            continue
        count = 640 if quick else REMEMBERED
        whole, compacted = Ours(), Compacted()
        if kind == "text":
            edits = keystrokes(trace())[0][:count]
            bundles, [sealed] = whole.type(edits), compacted.type(edits)
        else:
            bundles, [sealed] = whole.write(kind, count, 64), compacted.write(kind, count, 64)
        loads = {OURS: partial(timed, 1, compacted.read, [sealed]), ARCHIVE: partial(timed, 1, whole.read, bundles)}
        seconds = {who: [1 / each for each in rates] for who, rates in interleaved(loads, 1 if quick else 3).items()}
        sizes = {OURS: [len(sealed) / count], ARCHIVE: [len(whole.whole(bundles)) / count]}
        yield row("crdt", f"{kind}, {count:,} operations compacted, stored", "bytes", sizes)
        yield row("crdt", f"{kind}, {count:,} operations compacted, loaded", "s", seconds)


def memory(peers: Sequence[Peer], quick: bool) -> Iterator[Row]:
    """What one more operation costs whoever holds them all."""
    count = 640 if quick else REMEMBERED
    for kind in ("map", "set", "text"):
        if kind == "text" and not trace().is_file():
            continue
        figures = {}
        for who in (*contenders(peers), Compacted()):
            updates = who.type(keystrokes(trace())[0][:count]) if kind == "text" else who.write(kind, count, 64)
            bytes_more = grown(who.name, updates) if quick else alone(who.name, updates)
            figures[who.name] = [max(bytes_more, 1) / count]
        yield row("crdt", f"{kind}, memory an operation", "bytes", figures)


def grown(name: str, updates: Sequence[bytes]) -> int:
    """By how many bytes memory grows when ``name`` reads all of this."""
    module = package(name) if name in PEERS else None
    ours: Peer = Compacted() if name == Compacted.name else Ours()
    who = PEERS[name](module) if isinstance(module, ModuleType) else ours
    who.read(who.write("map", 64, 64))
    gc.collect()
    before = proportional_set_size([os.getpid()])
    kept = who.read(updates)
    gc.collect()
    after = proportional_set_size([os.getpid()])
    del kept
    return after - before


def alone(name: str, updates: Sequence[bytes]) -> int:
    """``grown`` in a process of its own, which has made none of it."""
    with get_context("spawn").Pool(1) as pool:
        figure: int = pool.apply(grown, (name, updates))
    return figure


if __name__ == "__main__":
    main(run)
