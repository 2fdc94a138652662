"""Text that many edit at once: the tree of Fugue (Weidner & Kleppmann 2023), of which the text is a walk in order.

Every character is a child of another one, on its left or its right; siblings are in the order of their operations' ids
and their numbers in these. So the order of all characters is a function of the set of insertions, whatever they are:
YATA, which finds a place by comparing with the insertions that happen to be there, is known to give the same answer
only for those that an honest writer could have made, and ours need not be honest. That two runs typed at one place
are not mixed is what Fugue adds to it.

Deleted characters stay in the tree, as others may hang on them, but their text is dropped. The same for characters of
an operation that does not count: an honest writer may have typed next to them before that was known.

What it costs: an insertion and a deletion touch one place each, found by binary search among the at most 65,536
characters of one operation; each leaves at most four more spans and bounds in the list. Siblings are found by binary
search, and subtrees by their bounds, so neither wide nor deep trees are dear. A deletion of what is deleted already
skips it (paths are compressed as in union-find). Linear are only a jump of the local cursor, by chunks, and moving the
pointers of later siblings in an array. Trees built to be dear (65,536 characters cut to pieces, chains and fans of
64,000) cost up to ten times the usual.
"""

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from protocols.crdt.changes import Edit, Insert, Reference
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.text_spans import Bound, Item, Span, Spans, span_after

_OFFSET: Final = attrgetter("offset")


class Part(NamedTuple):
    """Visible characters in a row that one operation inserted in a row."""

    id: bytes
    offset: int
    text: str


class Block:
    """What one operation inserted."""

    __slots__ = ("children", "ends", "held", "id", "size", "spans")

    def __init__(self, held: Held | None, identifier: bytes) -> None:
        self.held = held
        """None for the root, and for what is not signed yet."""
        self.id = identifier
        self.size = 0
        self.spans: Final[list[Span]] = []
        """In the order of their offsets; one begins where the one before ends."""
        self.ends: Final[list[Bound]] = []
        """Where the subtrees of its runs end. A run whose character has another right child besides the run's next
        character goes on as a run of its own, so none but the last character of a run has several."""
        self.children: Final[list[Bound]] = []
        """By ``_rank``: of left children where their subtrees begin, of right children where they end."""

    def at(self, offset: int) -> Span:
        """The span in which a character is."""
        spans = self.spans
        return spans[0] if len(spans) == 1 else spans[bisect_right(spans, offset, key=_OFFSET) - 1]

    def visible(self) -> Iterator[tuple[int, str]]:
        """Its visible characters: offsets, and what is there in a row."""
        start, end, texts = 0, -1, [""]
        for span in self.spans:
            if not span.visible:
                continue
            if span.offset != end:
                if end >= 0:
                    yield start, "".join(texts)
                start, texts = span.offset, []
            texts.append(span.text)
            end = span.offset + span.length
        if end >= 0:
            yield start, "".join(texts)

    def run_at(self, offset: int) -> int:
        """The number of the run in which a character is."""
        return 0 if len(self.ends) == 1 else bisect_right(self.ends, offset, key=_OFFSET) - 1


class _Written:
    """The blocks of one lane, in order."""

    __slots__ = ("blocks", "cleared")

    def __init__(self) -> None:
        self.blocks: Final[list[Block]] = []
        self.cleared = 0
        """How many of the first have no visible characters any more, as somebody cleared all of them."""


class Text:
    """The text at one path."""

    __slots__ = ("_blocks", "_history", "_lanes", "root", "spans")

    def __init__(self, history: History) -> None:
        self._history: Final = history
        self.root: Final = Block(None, b"")
        """The root has one character, which is not visible and has a right side only."""
        first = Span(self.root, 0, "", 1, 0)
        self.root.spans.append(first)
        self.root.size = 1
        self.spans: Final = Spans(first)
        end = Bound(self.root, 0, 0)
        self.root.ends.append(end)
        self.spans.insert(end, first)
        self._blocks: Final[dict[bytes, Block]] = {}
        """What is signed, by the id of its operation, in order of arrival."""
        self._lanes: Final[dict[int, _Written]] = {}

    def __repr__(self) -> str:
        return f"<Text of {len(self)} characters>"

    def __len__(self) -> int:
        return self.spans.visible

    def __str__(self) -> str:
        return "".join([span.text for span in self.spans])

    def parts(self) -> Iterator[Part]:
        """What is visible, in the one form that all replicas have."""
        block, offset, texts, end = self.root, 0, [""], 0
        for span in self.spans:
            if span.block is not block or span.offset != end:
                if block is not self.root:
                    yield Part(block.id, offset, "".join(texts))
                block, offset, texts = span.block, span.offset, []
            texts.append(span.text)
            end = span.offset + span.length
        if block is not self.root:
            yield Part(block.id, offset, "".join(texts))

    # -- operations ---------------------------------------------------------------------------------------

    def apply(self, held: Held) -> None:
        """Take in an ``Edit`` that ``check_edits`` has passed, after all that it refers to."""
        change = held.operation.change
        assert isinstance(change, Edit), "whoever calls this has looked"
        own: Block | None = None
        for edit in change.edits:
            if isinstance(edit, Insert):
                if own is None:
                    own = Block(held, held.id)
                parent = self.root if edit.parent is None else self._block(held, edit.parent) if edit.parent else own
                self.insert(own, edit.text, parent, edit.offset, edit.left, held.counts)
            elif held.counts:
                block = self._block(held, edit.target) if edit.target else own
                assert block is not None, "it inserted what it deletes"
                self._delete(block, edit.offset, edit.offset + edit.count)
        if own is not None:
            self.keep(own, held)
        self.spans.forget_position()

    def clear(self, held: Held) -> None:
        """Delete all that a ``Clear`` has seen."""
        for lane in self._lanes.values():
            while lane.cleared < len(lane.blocks):
                block = lane.blocks[lane.cleared]
                assert block.held is not None, "it is signed"
                if not held.sees(block.held):
                    break
                self._delete(block, 0, block.size)
                lane.cleared += 1
        self.spans.forget_position()

    def keep(self, block: Block, held: Held) -> None:
        """Remember what an operation inserted, by its id and for whoever clears."""
        block.held, block.id = held, held.id
        self._blocks[held.id] = block
        lane = self._lanes.get(held.lane)
        if lane is None:
            lane = self._lanes[held.lane] = _Written()
        lane.blocks.append(block)

    def blocks(self) -> Iterator[Block]:
        """What each operation inserted that inserted anything, in order of arrival."""
        return iter(self._blocks.values())

    def _block(self, held: Held, reference: Reference) -> Block:
        if isinstance(reference, int):
            target = self._history.at(held.lane, held.sequence - reference)
            assert target is not None, "check_edits has found it"
            return self._blocks[target.id]
        return self._blocks[reference]

    # -- the tree -----------------------------------------------------------------------------------------

    def insert(self, block: Block, text: str, parent: Block, offset: int, left: bool, visible: bool) -> Span:
        """Append a run to what an operation inserted, as a child of the character ``offset`` of ``parent``."""
        spans, start, size = self.spans, block.size, len(text)
        place = 2 * offset + (not left)
        span = Span(block, start, text if visible else "", size, size if visible else 0)
        end = Bound(block, start, place)
        if left:
            before = self._left_neighbour(block, parent, place, start)
            begin = Bound(block, start, place)
            spans.insert(begin, before)
            spans.insert(span, begin)
            _add_child(parent, begin)
        else:
            spans.insert(span, self._right_neighbour(block, parent, place, start))
            _add_child(parent, end)
        spans.insert(end, span)
        if block.spans:
            block.spans[-1].following = span
        block.spans.append(span)
        block.ends.append(end)
        block.size = start + size
        return span

    def _left_neighbour(self, block: Block, parent: Block, place: int, start: int) -> Item:
        """What comes before a new left child: it goes before the next sibling's subtree, or else before the parent."""
        children = parent.children
        index = bisect_right(children, (place, block.id, start), key=_rank) if children else 0
        if index < len(children) and children[index].place == place:
            follower: Item = children[index]
        else:
            follower = self._split(parent, place >> 1)
        return follower.before

    def _right_neighbour(self, block: Block, parent: Block, place: int, start: int) -> Item:
        """What comes before a new right child: the subtree of the sibling before it, or else the parent."""
        children, offset = parent.children, place >> 1
        if offset + 1 < parent.size:
            self._end_run(parent, offset)
            self._split(parent, offset + 1)
        index = bisect_right(children, (place, block.id, start), key=_rank) if children else 0
        if index and children[index - 1].place == place:
            return children[index - 1]
        return parent.at(offset)

    def _end_run(self, block: Block, offset: int) -> None:
        """Let the rest of a run after a character be a run of its own, if the run does not end there."""
        run = block.run_at(offset)
        if run + 1 < len(block.ends) and block.ends[run + 1].offset == offset + 1:
            return
        end = block.ends[run]
        rest = Bound(block, offset + 1, 2 * offset + 1)
        self.spans.insert(rest, end.before)
        block.ends.insert(run + 1, rest)
        _add_child(block, rest)

    def _split(self, block: Block, offset: int) -> Span:
        """The span that begins with a character, after splitting it off if it has to be."""
        spans = block.spans
        index = bisect_right(spans, offset, key=_OFFSET) - 1
        span = spans[index]
        if span.offset == offset:
            return span
        rest = self.spans.split(span, offset - span.offset)
        spans.insert(index + 1, rest)
        return rest

    def _delete(self, block: Block, start: int, stop: int) -> None:
        """Hide the characters of a block from ``start`` to before ``stop``."""
        span: Span | None = block.at(start)
        passed: list[Span] = []
        while span is not None and span.offset < stop:
            if span.visible:
                span = self.hide(span, max(start - span.offset, 0), min(stop - span.offset, span.length))
            passed.append(span)
            span = span.following
        for each in passed[:-1]:
            each.following = span or passed[-1]

    def hide(self, span: Span, start: int, stop: int) -> Span:
        """Delete some characters of a visible span, and split it as far as that is needed; what is hidden."""
        block, offset = span.block, span.offset
        if start:
            span = self._split(block, offset + start)
        if stop - start < span.length:
            self._split(block, offset + stop)
        self.spans.hide(span)
        return span

    def place_at(self, position: int) -> tuple[Block, int, bool]:
        """Where a character that is typed at a position hangs (Fugue, algorithm 1): on the right of the one before it,
        if nothing hangs there, or else on the left of the one, visible or not, that comes next."""
        if position:
            span, index = self.spans.locate(position - 1)
        else:
            span, index = self.spans.first, 0
            self.spans.forget_position()
        block, offset = span.block, span.offset + index
        if index + 1 == span.length and not self._has_right_child(block, offset):
            return block, offset, False
        if index + 1 < span.length:
            return block, offset + 1, True
        follower = span_after(span)
        return follower.block, follower.offset, True

    def _has_right_child(self, block: Block, offset: int) -> bool:
        if offset + 1 < block.size:
            run = block.run_at(offset)
            if run + 1 == len(block.ends) or block.ends[run + 1].offset != offset + 1:
                return True
        place, children = 2 * offset + 1, block.children
        index = bisect_right(children, place, key=_PLACE)
        return index > 0 and children[index - 1].place == place


_PLACE: Final = attrgetter("place")


def _rank(child: Bound) -> tuple[int, bytes, int]:
    return child.place, child.block.id, child.offset


def _add_child(parent: Block, child: Bound) -> None:
    children = parent.children
    if not children or child.place > children[-1].place:
        children.append(child)
    else:
        children.insert(bisect_right(children, _rank(child), key=_rank), child)


def inserted(edit: Edit) -> int:
    """How many characters an operation inserts."""
    return sum(len(each.text) for each in edit.edits if isinstance(each, Insert))


def check_edits(history: History, held: Held) -> None:
    """Whether what an ``Edit`` refers to is there, in its past, and in the same text.

    Raises:
        CrdtError: ``bad_reference``.
    """
    change = held.operation.change
    assert isinstance(change, Edit), "whoever calls this has looked"
    own = 0
    sizes: dict[Reference, int] = {}
    for edit in change.edits:
        if isinstance(edit, Insert):
            reference, stop = edit.parent, edit.offset + 1
        else:
            reference, stop = edit.target, edit.offset + edit.count
        if reference is None:
            size = 1
            if isinstance(edit, Insert) and edit.left:
                raise CrdtError("bad_reference", "the root has no left side")
        elif reference == 0:
            size = own
        else:
            known = sizes.get(reference)
            size = sizes[reference] = _size_of(history, held, change, reference) if known is None else known
        if stop > size:
            raise CrdtError("bad_reference", f"character {stop} of {size} that an operation inserted")
        if isinstance(edit, Insert):
            own += len(edit.text)


def _size_of(history: History, held: Held, change: Edit, reference: Reference) -> int:
    """How many characters the operation inserted to which another one refers."""
    if isinstance(reference, int):
        # ``held`` may begin a lane that is not there yet; the chain before it is.
        previous = history.operations.get(held.operation.previous)
        lane = held.lane if held.lane < len(history.lanes) else previous.lane if previous else -1
        target = history.at(lane, held.sequence - reference)
    else:
        target = history.operations.get(reference)
    if target is None or not held.sees(target):
        raise CrdtError("bad_reference", "an edit refers to what its author had not seen")
    there = target.operation.change
    if not isinstance(there, Edit) or there.path != change.path:
        raise CrdtError("bad_reference", "an edit refers to something else than an edit of the same text")
    return inserted(there)
