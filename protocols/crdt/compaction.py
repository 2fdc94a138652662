"""Compaction: a replica lets go of what lies behind its stable frontier, and keeps the state that it came to.

A frontier may be compacted behind when nothing that is held in front of it can still change what is behind it:

- no revocation and no proof: what they take back has to have been taken back before;
- no fork without a proof, or its proof would come later, and take back;
- no ``Clear`` that has not seen all of what is behind, as of counters only sums are kept.

All of this is true of some frontier soon after things calm down, and until then nothing is lost by waiting. Behind it
everything has had its effect: whoever could still vouch for, revoke or contradict anything has seen it all.

What devices write with an old date that were removed long ago cannot defeat their removal, as the owners, who are
always waited for, had seen that first (``resolution``). Open is what takes two: of a device that was fenced and still
has a role, somebody who was removed without being fenced may vouch for more, with an old date, where the history is
kept; so whoever is fenced should be revoked as well. And a member that depends on what is ``behind_frontier``, by
arrangement with who was removed, parts those who have compacted from those who have not; a new snapshot mends that.

To keep the history instead, do not compact: an ``archive`` takes less than 2 bytes a keystroke.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from protocols.crdt.bundles import encode_bundle, encode_single
from protocols.crdt.cells import rank
from protocols.crdt.changes import Clear, Edit, Insert, Revoke
from protocols.crdt.cuts import Cut
from protocols.crdt.document import Document
from protocols.crdt.history import Held, History, Past, covers, meet
from protocols.crdt.judgement import Judge
from protocols.crdt.outgoing import pack
from protocols.crdt.proofs import path_to
from protocols.crdt.quota import Quota
from protocols.crdt.restoring import Base
from protocols.crdt.snapshot import (
    ACT,
    COUNTS,
    HEAD,
    VERSION,
    VOUCHED,
    Frame,
    Run,
    Snapshot,
    Stub,
    Typed,
)
from protocols.crdt.stability import stable_past
from protocols.crdt.state import Entry, Kind, Live
from protocols.crdt.text import Text

_INTEGER_MAX: Final = 2**63 - 1


def frontier(history: History, judge: Judge) -> Past:
    """What may be compacted behind now; nothing, while that is not certain."""
    active = [device for device in judge.members if device not in judge.fenced]
    revocations = [
        held for held in history.authority if isinstance(held.operation.change, Revoke) and judge.is_effective(held)
    ]
    past = stable_past(history, active, revocations, {device: judge.grants_of(device) for device in active})
    fenced = judge.fenced
    if judge.accusations_due or not all(_covers_one(past, fenced[device]) for device in judge.fenced_members):
        return ()
    if sum(past) <= 1:
        return ()  # The genesis is no news to anybody.
    for held in history.after(past):
        if held.counts and isinstance(held.operation.change, Clear) and not within(past, held.past()):
            return ()
    return past


def within(past: Past, other: Past) -> bool:
    """Whether one past has nothing that another one has not."""
    return meet([past, other]) == past


def _covers_one(past: Past, proofs: Sequence[Held]) -> bool:
    return any(covers(past, each) for each in proofs)


def take(
    history: History, judge: Judge, quota: Quota, past: Past, base: Base | None, like: Frame | None = None
) -> Snapshot:
    """The state at a past that ``frontier`` gave, or that somebody else's snapshot has.

    Args:
        base: what the history began with, if not with a genesis.
        like: of a snapshot at the same past, which has the same stubs; else it has those of what is named in front.
    """
    cut = Cut(history, past, None if like is None else dict.fromkeys(like.ends))
    stubs = {held.id: held for held in (*cut.acts, *cut.tips)}
    if like is None:
        for held in history.after(past):
            for identifier in (held.operation.previous, *held.operation.dependencies):
                cause = history.operations.get(identifier)
                if cause is not None and covers(past, cause):
                    stubs[identifier] = cause
    else:
        stubs |= {each: history.operations[each] for each in (*like.ends, *like.named)}
    document = document_at(history, past, base)
    last = {held.id for held in cut.tips}
    heads = {held.id for held in cut.tips if not any(other is not held and other.sees(held) for other in cut.tips)}
    rows = []
    for held in sorted(stubs.values(), key=rank):
        flags = (
            COUNTS * held.counts | VOUCHED * judge.is_vouched(held) | HEAD * (held.id in heads) | ACT * (held.mark != 0)
        )
        left = quota.left(history, held) if held.id in last else 0
        lane = cut.lane(held.lane, held.sequence)
        operation = held.operation
        rows.append(
            Stub(held.id, lane, held.sequence, operation.clock, cut.past_of(held), cut.known(held), flags, left)
        )
    live, branches = _live(document, cut, base)
    return Snapshot(
        VERSION,
        history.channel,
        document.digest(),
        cut.authors,
        cut.stretches(),
        tuple(rows),
        live,
        tuple(texts for path, text in document.texts() if (texts := (path, _typed(text, cut)))[1]),
        branches,
    )


def document_at(history: History, past: Past, base: Base | None) -> Document:
    """The document as it is at a past, of which all has had its effect."""
    if base is None:
        document = Document(history)
        for held in history:
            if covers(past, held):
                document.apply(held)
        return document
    document = base.document()
    for held in history.after(base.history.floor):
        if covers(past, held):
            document.apply(held)
    return document


def _live(document: Document, cut: Cut, base: Base | None) -> tuple[tuple[Live, ...], tuple[tuple[bytes, int], ...]]:
    """What is live in the containers, and in which stretch, where that does not go without saying."""
    lanes_of: dict[int, int] = {}
    for stretch in cut.stretches():
        lanes_of[stretch.author] = lanes_of.get(stretch.author, 0) + 1
    forked = {cut.authors[author] for author, count in lanes_of.items() if count > 1}

    def stretch_of(entry: Entry) -> int:
        held = cut.history.operations.get(entry.id)
        if held is not None:
            return cut.lane(held.lane, held.sequence)
        assert base is not None, "whatever is live in a whole history is held"
        return cut.lane(base.lane_at(entry.author, entry.id), entry.sequence)

    live = []
    branches: dict[bytes, int] = {}
    for container in document.live():
        entries = container.entries
        if container.kind is Kind.COUNTER:
            entries = _summed(entries, stretch_of)
        branches.update((each.id, stretch_of(each)) for each in entries if each.author in forked)
        live.append(Live(container.path, container.kind, entries))
    return tuple(live), tuple(sorted(branches.items()))


def _summed(entries: Iterable[Entry], stretch_of: Callable[[Entry], int]) -> tuple[Entry, ...]:
    """The increments of each stretch as one, in place of the last: whoever clears that has seen all. A sum that is too
    large for one is several, in the one way that there is."""
    last: dict[int, Entry] = {}
    sums: dict[int, int] = {}
    for entry in entries:
        assert isinstance(entry.value, int), "an increment"
        stretch = stretch_of(entry)
        last[stretch] = entry
        sums[stretch] = sums.get(stretch, 0) + entry.value
    summed = []
    for stretch, entry in last.items():
        rest = sums[stretch]
        while abs(rest) > _INTEGER_MAX:
            part = _INTEGER_MAX if rest > 0 else -_INTEGER_MAX
            summed.append(msgspec.structs.replace(entry, value=part))
            rest -= part
        summed.append(msgspec.structs.replace(entry, value=rest))
    return tuple(summed)


def _typed(text: Text, cut: Cut) -> tuple[Typed, ...]:
    """What each operation inserted into a text, in an order in which causes come before effects."""
    blocks = [(block.held, block) for block in text.blocks() if block.held is not None]
    blocks.sort(key=lambda each: rank(each[0]))
    numbers = {held.id: number for number, (held, _) in enumerate(blocks)}
    rows = []
    for held, block in blocks:
        runs = []
        change = held.operation.change
        assert isinstance(change, Edit), "nothing else is in a text"
        for edit in change.edits:
            if not isinstance(edit, Insert):
                continue
            parent = edit.parent
            if isinstance(parent, int) and parent:
                cause = cut.history.at(held.lane, held.sequence - parent)
                assert cause is not None, "what others hang on is kept"
                parent = cause.id
            number = 0 if parent is None else 1 if isinstance(parent, int) else 2 + numbers[parent]
            runs.append(Run(number, edit.offset, edit.left, len(edit.text)))
        lane = cut.lane(held.lane, held.sequence)
        visible = tuple(block.visible())
        rows.append(Typed(held.id, lane, held.sequence, held.operation.clock, held.counts, tuple(runs), visible))
    return tuple(rows)


# -- whole replicas -------------------------------------------------------------------------------------


def units_of(history: History, acts: Sequence[Held]) -> tuple[bytes, ...]:
    """Acts as they travel, each alone."""
    units = []
    for held in acts:
        if held.seal.count == 1:
            units.append(encode_bundle(held.seal, [held.operation]))
        else:
            units.append(encode_single(held.seal, held.operation, path_to(history, held)))
    return tuple(units)


def tail_of(history: History, past: Past) -> tuple[bytes, ...]:
    """What is held in front of a past, as it travels, causes first."""
    units: list[bytes] = []
    wanted: Iterable[Held] = history.after(past)
    while wanted:
        batch = pack(history, wanted)
        units += batch.units
        wanted = batch.rest
    return tuple(units)
