"""The characters of a text, deleted ones too, in their order: spans in a linked list, in chunks that are counted.

Where a character stands never changes, so an insertion only has to find its neighbour, and a linked list takes it in
constant time however long the text is. Positions, which only local editing asks for, are found by the counts of chunks
and from where the last one was. A balanced tree would find any position in logarithmic time, and make every insertion
of everybody pay for it.

Besides spans the list has **bounds**: where a subtree of Fugue's tree begins or ends. They take no room in the text.
They spare the walk along the subtree to its outermost character, which whoever builds deep trees could make long.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protocols.crdt.text import Block

CHUNK_MAX: Final = 256
"""Items; half of them are walked to find a position, and half are moved when a chunk divides."""


class Item:
    """A place in the list."""

    __slots__ = ("after", "before", "block", "chunk", "offset", "visible")

    after: "Item"
    before: "Item"
    chunk: "Chunk"

    def __init__(self, block: "Block", offset: int, visible: int) -> None:
        self.block: Final = block
        self.offset: Final = offset
        """In what its operation inserted: of the first character of the span, or of the subtree."""
        self.visible = visible
        """How many characters it shows."""


class Bound(Item):
    """One end of a subtree; which, depends on where it is kept."""

    __slots__ = ("place",)

    def __init__(self, block: "Block", offset: int, place: int) -> None:
        super().__init__(block, offset, 0)
        self.place: Final = place
        """Where the subtree hangs: twice the offset of its parent, and one more on the right side."""


class Span(Item):
    """Characters that one operation inserted, of which each is the right child of the one before, with nothing in
    between; all of them are visible, or none is."""

    __slots__ = ("following", "length", "text")

    def __init__(self, block: "Block", offset: int, text: str, length: int, visible: int) -> None:
        super().__init__(block, offset, visible)
        self.text = text
        """Nothing if they are not visible."""
        self.length = length
        self.following: Span | None = None
        """A later span of the same operation, such that there is no visible one between."""


class Chunk:
    """Up to ``CHUNK_MAX`` items in a row."""

    __slots__ = ("after", "before", "count", "first", "spans", "visible")

    after: "Chunk"
    before: "Chunk"

    def __init__(self, first: Item) -> None:
        self.first = first
        self.count = 0
        self.spans = 0
        self.visible = 0


class Spans:
    """The list. It is a ring, so that every item has neighbours; nothing is ever removed from it."""

    __slots__ = ("_chunk", "_start", "first", "visible")

    def __init__(self, first: Span) -> None:
        self.first: Final = first
        self.visible = 0
        """Characters in all."""
        chunk = Chunk(first)
        chunk.after = chunk.before = chunk
        chunk.count = chunk.spans = 1
        first.after = first.before = first
        first.chunk = chunk
        self._chunk, self._start = chunk, 0
        """Where the last position was found, and the position of that chunk's first character."""

    def insert(self, item: Item, after: Item) -> None:
        """Put an item behind another."""
        follower, chunk = after.after, after.chunk
        item.before, item.after, item.chunk = after, follower, chunk
        after.after = follower.before = item
        chunk.count += 1
        if item.visible:
            chunk.visible += item.visible
            self.visible += item.visible
        if isinstance(item, Span):
            chunk.spans += 1
        if chunk.count > CHUNK_MAX:
            _divide(chunk)

    def split(self, span: Span, at: int) -> Span:
        """Split a span before its character ``at``, which is not its first; the second part is new."""
        visible = span.length - at if span.visible else 0
        rest = Span(span.block, span.offset + at, span.text[at:], span.length - at, 0)
        self.insert(rest, span)
        rest.visible, rest.following = visible, span.following
        span.text, span.length, span.following = span.text[:at], at, rest
        if visible:
            span.visible = at
            if rest.chunk is not span.chunk:
                span.chunk.visible -= visible
                rest.chunk.visible += visible
        return rest

    def extend(self, span: Span, text: str) -> None:
        """Append to a visible span."""
        size = len(text)
        span.text += text
        span.length += size
        span.visible += size
        span.chunk.visible += size
        self.visible += size

    def hide(self, span: Span) -> None:
        """Delete all characters of a visible span."""
        span.chunk.visible -= span.visible
        self.visible -= span.visible
        span.visible, span.text = 0, ""

    def locate(self, position: int) -> tuple[Span, int]:
        """The visible character at a position, as a span and an offset in it; there has to be one."""
        chunk, start = self._chunk, self._start
        while position < start:
            chunk = chunk.before
            start -= chunk.visible
        while position >= start + chunk.visible:
            start += chunk.visible
            chunk = chunk.after
        self._chunk, self._start = chunk, start
        item, rest = chunk.first, position - start
        while rest >= item.visible:
            rest -= item.visible
            item = item.after
        assert isinstance(item, Span), "only spans are visible"
        return item, rest

    def forget_position(self) -> None:
        """Characters came or went elsewhere than at the last position found or after it."""
        self._chunk, self._start = self.first.chunk, 0

    def __iter__(self) -> Iterator[Span]:
        """The visible spans, in order."""
        chunk = first = self.first.chunk
        while True:
            if chunk.visible:
                item = chunk.first
                for _ in range(chunk.count):
                    if item.visible and isinstance(item, Span):
                        yield item
                    item = item.after
            chunk = chunk.after
            if chunk is first:
                return


def span_after(item: Item) -> Span:
    """The next span, visible or not."""
    item = item.after
    while not isinstance(item, Span):
        item = item.after if item.chunk.spans else item.chunk.after.first
    return item


def visible_after(item: Item) -> Span:
    """The next visible span; there has to be one."""
    item = item.after
    while not item.visible:
        item = item.after if item.chunk.visible else item.chunk.after.first
    assert isinstance(item, Span), "only spans are visible"
    return item


def _divide(chunk: Chunk) -> None:
    """Move the second half to a chunk of its own."""
    item, kept = chunk.first, chunk.count // 2
    for _ in range(kept):
        item = item.after
    rest = Chunk(item)
    rest.before, rest.after = chunk, chunk.after
    chunk.after.before = rest
    chunk.after = rest
    for _ in range(chunk.count - kept):
        item.chunk = rest
        rest.visible += item.visible
        rest.spans += isinstance(item, Span)
        item = item.after
    rest.count = chunk.count - kept
    chunk.count = kept
    chunk.spans -= rest.spans
    chunk.visible -= rest.visible
