"""A snapshot as a replica goes on from it: a history without its beginning, and a document to begin with.

What is loaded is checked as far as anything can: acts by their signatures, everything else by making the same snapshot
again out of what was loaded, byte by byte. Whether the past was as it says is the word of who signed it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from protocols.crdt.bundles import Seal, parse
from protocols.crdt.changes import AUTHORITY, Acknowledge, Change, Delete, Edit, Genesis, Insert, Path
from protocols.crdt.compacted import Compacted
from protocols.crdt.document import Document
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import BLOCK, Blocks, Held
from protocols.crdt.judgement import Judge
from protocols.crdt.operations import NOTHING, Operation
from protocols.crdt.quota import Quota
from protocols.crdt.snapshot import (
    ACT,
    COUNTS,
    HEAD,
    VOUCHED,
    Sealed,
    Snapshot,
    Stub,
    Typed,
    body_of,
    decode_snapshot,
)


def restored(genesis: bytes, sealed: Sealed) -> "Base":
    """What a snapshot says, checked as far as it can be without making it again; ``genesis`` is the channel's first
    bundle.

    Raises:
        CrdtError: ``bad_snapshot``: it contradicts itself, or ``bad_signature``: an author did not write that.
    """
    try:
        return Base(genesis, sealed)
    except (IndexError, KeyError, OverflowError, ValueError) as error:
        raise CrdtError("bad_snapshot", f"it names what is not there: {error!r}") from None


class Base:
    """What a replica begins with, instead of a genesis."""

    def __init__(self, genesis: bytes, sealed: Sealed) -> None:
        self.sealed: Final = msgspec.structs.replace(sealed, tail=())
        """What this is made of."""
        snapshot, units = self.snapshot(), sealed.units
        first = parse(NOTHING, genesis).operations[0]
        if first.id != snapshot.channel or not isinstance(first.change, Genesis):
            raise CrdtError("bad_snapshot", "it is another channel's")
        self.history: Final = Compacted(snapshot.channel, snapshot.lanes, snapshot.authors)
        self.lane_of: Final = dict(snapshot.branches)
        """The stretches of live operations whose authors have several."""
        _check_lanes(snapshot)
        texts = {typed.id: (path, typed) for path, rows in snapshot.texts for typed in rows}
        edits: dict[bytes, Change] = {
            typed.id: edit
            for path, rows in snapshot.texts
            for typed, edit in zip(rows, _edits(path, rows), strict=True)
        }
        acts = iter(units)
        vouched: dict[bytes, bool] = {}
        for stub in snapshot.stubs:
            held = self._act(stub, next(acts, b"")) if stub.flags & ACT else self._stub(stub, edits)
            held.counts = bool(stub.flags & COUNTS)
            vouched[held.id] = bool(stub.flags & VOUCHED)
            if held.id in texts and texts[held.id][1].counts != held.counts:
                raise CrdtError("bad_snapshot", "an operation that counts and does not count")
            self.history.keep(held, bool(stub.flags & HEAD))
        if next(acts, None) is not None or not units or units[0] != genesis:
            raise CrdtError("bad_snapshot", "it has other acts than its stubs say")
        for typed in sorted((each for _, each in texts.values()), key=_rank(snapshot)):
            if typed.id not in self.history:
                held = self._place(typed.id, typed.lane, typed.sequence, typed.clock, edits[typed.id])
                held.counts = typed.counts
                self.history.keep(held, False)
        self.history.begin()
        self.judge: Final = Judge.resumed(self.history, vouched)
        self.quota: Final = Quota(first.change.burst, first.change.rate_per_s)
        left = {(stub.lane, stub.sequence): stub.left for stub in snapshot.stubs}
        for number, lane in enumerate(self.history.lanes):
            self.quota.resume(left[number, lane.first], lane.operations[0])

    def snapshot(self) -> Snapshot:
        """It is needed when the document has to be made again, and small until then."""
        return decode_snapshot(body_of(self.sealed.body, self.sealed.size))

    def document(self) -> Document:
        """The document at the frontier; a new one each time.

        Raises:
            CrdtError: ``bad_snapshot``.
        """
        history, snapshot = self.history, self.snapshot()
        document = Document(history)
        for container in snapshot.live:
            for entry, change in container.changes():
                lane = self.lane_at(entry.author, entry.id)
                if not history.stretches[lane].first <= entry.sequence <= history.floor[lane]:
                    raise CrdtError("bad_snapshot", "what is live in it is not behind its frontier")
                document.apply(self._place(entry.id, lane, entry.sequence, entry.clock, change))
        for _, rows in snapshot.texts:
            for typed in rows:
                document.apply(history.operations[typed.id])
        return document

    def lane_at(self, author: bytes, identifier: bytes) -> int:
        """The stretch in which an operation is that is live."""
        lanes = [lane for lane in self.history.lanes_of[author] if lane < len(self.history.floor)]
        lane = self.lane_of[identifier] if len(lanes) > 1 else lanes[0]
        if lane not in lanes:
            raise CrdtError("bad_snapshot", "an operation in somebody else's chain")
        return lane

    def _act(self, stub: Stub, unit: bytes) -> Held:
        """An operation that is whole, with its signature."""
        channel = NOTHING if stub.id == self.history.channel else self.history.channel
        parcel = parse(channel, unit)
        parcel.seal.verify(channel)
        operation = parcel.operations[0]
        said = (stub.id, self.history.author_of(stub.lane), stub.sequence, stub.clock)
        if len(parcel.operations) != 1 or said != (
            operation.id,
            operation.author,
            operation.sequence,
            operation.clock,
        ):
            raise CrdtError("bad_snapshot", "an act is not where its stub says")
        if not isinstance(operation.change, AUTHORITY):
            raise CrdtError("bad_snapshot", "an act that is not about authority")
        mark = 1 << len(self.history.authority)
        return self._held(stub, operation, mark, parcel.seal, parcel.path)

    def _stub(self, stub: Stub, edits: Mapping[bytes, Change]) -> Held:
        author, change = self.history.author_of(stub.lane), edits.get(stub.id, _SILENT)
        operation = Operation(stub.id, author, stub.sequence, _unknown(stub.id), (), stub.clock, change)
        return self._held(stub, operation, 0, _UNPROVEN, None)

    def _held(self, stub: Stub, operation: Operation, mark: int, seal: Seal, path: tuple[bytes, ...] | None) -> Held:
        lanes, floor = self.history.stretches, self.history.floor
        known = int.from_bytes(stub.known, "little")
        if (
            not lanes[stub.lane].first <= stub.sequence <= floor[stub.lane]
            or len(stub.past) > len(floor)
            or any(a > b for a, b in zip(stub.past, floor, strict=False))
            or stub.past[stub.lane] != stub.sequence
            or known >> len(self.history.authority)
        ):
            raise CrdtError("bad_snapshot", "an operation that has seen what is not there")
        return Held(operation, stub.lane, _blocks(stub.past), known, mark, seal, path, self.history.stubs)

    def _place(self, identifier: bytes, lane: int, sequence: int, clock: int, change: Change) -> Held:
        """An operation that nothing is asked of but who wrote it and whether another one has seen it."""
        author = self.history.author_of(lane)
        operation = Operation(identifier, author, sequence, NOTHING, (), clock, change)
        return Held(operation, lane, (), 0, 0, _UNPROVEN, None, self.history.stubs)


_SILENT: Final = Acknowledge()
"""In place of changes that were dropped."""
_UNPROVEN: Final = Seal(b"", 1, 2, b"", b"")
"""Of operations that cannot be shown to others any more: no path leads to them."""


def _unknown(identifier: bytes) -> bytes:
    """In place of a back-link that was dropped: one that nothing else has, as a fork has it twice."""
    return bytes(byte ^ 0xFF for byte in identifier)


def _rank(snapshot: Snapshot) -> Callable[[Typed], tuple[int, bytes, int, bytes]]:
    def rank(typed: Typed) -> tuple[int, bytes, int, bytes]:
        return typed.clock, snapshot.authors[snapshot.lanes[typed.lane].author], typed.sequence, typed.id

    return rank


def _check_lanes(snapshot: Snapshot) -> None:
    for number, lane in enumerate(snapshot.lanes):
        parent = lane.parent - 1
        if not 1 <= lane.first <= lane.last or parent >= number or lane.author >= len(snapshot.authors):
            raise CrdtError("bad_snapshot", f"stretch {number} is none")
        if parent >= 0:
            above = snapshot.lanes[parent]
            if (above.author, above.last + 1) != (lane.author, lane.first):
                raise CrdtError("bad_snapshot", f"stretch {number} does not go on from its parent")


def _blocks(past: Sequence[int]) -> Blocks:
    padded = (*past, *(0,) * (-len(past) % BLOCK))
    return tuple(padded[start : start + BLOCK] for start in range(0, len(padded), BLOCK))


def _edits(path: Path, rows: Sequence[Typed]) -> Iterator[Edit]:
    """Edits that give a text its tree, and delete again what is not visible: what was deleted is typed as zeros."""
    numbers = {typed.id: number for number, typed in enumerate(rows)}
    if len(numbers) != len(rows):
        raise CrdtError("bad_snapshot", "an operation is twice in a text")
    sizes: list[int] = []
    for typed in rows:
        characters = ["\0" * run.length for run in typed.runs]
        text, size = "".join(characters), 0
        hidden: list[Delete] = []
        at, pieces = 0, []
        for offset, shown in typed.visible:
            if not typed.counts or offset < at + (at > 0) or offset + len(shown) > len(text):
                raise CrdtError("bad_snapshot", "visible characters that were not inserted")
            if offset > at:
                hidden.append(Delete(0, at, offset - at))
            pieces += [text[at:offset], shown]
            at = offset + len(shown)
        if typed.counts and at < len(text):
            hidden.append(Delete(0, at, len(text) - at))
        text = "".join((*pieces, text[at:]))
        edits: list[Insert | Delete] = []
        for run in typed.runs:
            number = run.parent - 2
            room = 1 if run.parent == 0 else size if run.parent == 1 else sizes[number] if number < len(sizes) else 0
            if run.offset >= room or (run.parent == 0 and run.left):
                raise CrdtError("bad_snapshot", "a character hangs on one that is not there")
            parent = None if run.parent == 0 else 0 if run.parent == 1 else rows[number].id
            edits.append(Insert(parent, run.offset, run.left, text[size : size + run.length]))
            size += run.length
        sizes.append(size)
        yield Edit(path, (*edits, *hidden))
