"""What is being typed into a text, before it is signed.

An operation's id is the hash of all of it, and what is typed next hangs on characters of the one before. So keystrokes
go into a draft: they are in the text at once, in blocks that have no id yet, and become operations together. A fresh
character never has a sibling on its side (Fugue's rule sees to that), so its place does not depend on an id either.

Keystrokes in a row become one edit: typing appends to a run; deleting, forwards or backwards, widens a deletion.
Nothing is left out of what the others get: who types a letter and takes it back has inserted and deleted it.

No operation may be applied to the text while a draft is open.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from protocols.crdt.changes import EDITS_MAX, RUN_SIZE_MAX, Delete, Edit, Insert, Path, Reference
from protocols.crdt.history import Held
from protocols.crdt.text import Block, Text
from protocols.crdt.text_spans import Span, visible_after
from protocols.errors import LocalError

INSERTED_SIZE_MAX: Final = 48 * 1024
"""Bytes that one operation inserts; with 64 references it stays below what an operation may have."""


class _Insertion:
    """An ``Insert`` to be."""

    __slots__ = ("left", "offset", "parent", "size", "texts")

    def __init__(self, parent: Block | None, offset: int, left: bool, text: str) -> None:
        self.parent = parent
        self.offset = offset
        self.left = left
        self.texts = [text]
        self.size = len(text)


class _Deletion:
    """A ``Delete`` to be."""

    __slots__ = ("count", "offset", "target")

    def __init__(self, target: Block, offset: int, count: int) -> None:
        self.target = target
        self.offset = offset
        self.count = count


class _Piece:
    """An operation to be."""

    __slots__ = ("block", "edits", "size")

    def __init__(self) -> None:
        self.block: Final = Block(None, b"")
        self.edits: Final[list[_Insertion | _Deletion]] = []
        self.size = 0
        """Bytes inserted."""


class Draft:
    """Keystrokes in one text."""

    __slots__ = ("_closed", "_end", "_pieces", "_run", "_tail", "_text", "path")

    def __init__(self, text: Text, path: Path) -> None:
        self.path: Final = path
        self._text: Final = text
        self._pieces: Final[list[_Piece]] = []
        self._run: _Insertion | None = None
        """What typing at ``_end`` continues, and the span of it."""
        self._tail: Span | None = None
        self._end = -1
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __len__(self) -> int:
        return len(self._text)

    def __str__(self) -> str:
        return str(self._text)

    @property
    def edits(self) -> int:
        """How many edits the keystrokes came to so far."""
        return sum(len(piece.edits) for piece in self._pieces)

    # -- keystrokes ---------------------------------------------------------------------------------------

    def insert(self, position: int, text: str) -> None:
        """Type or paste before the character at ``position``.

        Raises:
            LocalError: there is no such position, the text is no Unicode, or the draft is closed.
        """
        size = len(text)
        if not text.isascii():
            try:
                size = len(text.encode())
            except UnicodeEncodeError as error:
                raise LocalError(f"half a character cannot be inserted: {error.reason}") from None
        run, tail = self._run, self._tail
        if (
            position == self._end
            and run is not None
            and tail is not None
            and run.size + len(text) <= RUN_SIZE_MAX
            and self._pieces[-1].size + size <= INSERTED_SIZE_MAX
        ):
            self._text.spans.extend(tail, text)
            run.texts.append(text)
            run.size += len(text)
            piece = self._pieces[-1]
            piece.size += size
            piece.block.size += len(text)
            self._end = position + len(text)
            return
        if self._closed or not 0 <= position <= len(self._text):
            raise LocalError(f"nothing can be inserted at {position} of {len(self._text)}, or the draft is closed")
        for start in range(0, len(text), RUN_SIZE_MAX):
            part = text[start : start + RUN_SIZE_MAX]
            self._begin_run(position + start, part, len(part.encode()))

    def delete(self, position: int, count: int = 1) -> None:
        """Delete characters.

        Raises:
            LocalError: there are no such characters, or the draft is closed.
        """
        if self._closed or not (count > 0 and 0 <= position <= len(self._text) - count):
            raise LocalError(f"nothing to delete at {position} of {len(self._text)}, or the draft is closed")
        self._run = self._tail = None
        span, index = self._text.spans.locate(position)
        while True:
            hidden = self._text.hide(span, index, min(index + count, span.length))
            self._record_deletion(hidden)
            count -= hidden.length
            if not count:
                return
            span, index = visible_after(hidden), 0

    def _begin_run(self, position: int, text: str, size: int) -> None:
        parent, offset, left = self._text.place_at(position)
        piece = self._pieces[-1] if self._pieces else None
        if piece is None or len(piece.edits) == EDITS_MAX or piece.size + size > INSERTED_SIZE_MAX:
            piece = self._next_piece()
        self._run = _Insertion(None if parent is self._text.root else parent, offset, left, text)
        self._tail = self._text.insert(piece.block, text, parent, offset, left, True)
        self._end = position + len(text)
        piece.edits.append(self._run)
        piece.size += size

    def _record_deletion(self, span: Span) -> None:
        piece = self._pieces[-1] if self._pieces else self._next_piece()
        last = piece.edits[-1] if piece.edits else None
        if isinstance(last, _Deletion) and last.target is span.block:
            if last.offset + last.count == span.offset:
                last.count += span.length
                return
            if span.offset + span.length == last.offset:
                last.offset = span.offset
                last.count += span.length
                return
        if len(piece.edits) == EDITS_MAX:
            piece = self._next_piece()
        piece.edits.append(_Deletion(span.block, span.offset, span.length))

    def _close(self) -> None:
        self._closed = True
        self._run = self._tail = None

    def _next_piece(self) -> _Piece:
        piece = _Piece()
        self._pieces.append(piece)
        return piece

    # -- signing ------------------------------------------------------------------------------------------

    def changes(self, lane: int, sequence: int) -> list[Edit]:
        """The operations that the keystrokes come to, of up to ``EDITS_MAX`` edits each, and close the draft.

        Args:
            lane: their author's, -1 if it has none yet.
            sequence: of the first of them; they follow each other.
        """
        self._close()
        numbers = {piece.block: number for number, piece in enumerate(self._pieces)}

        def reference(block: Block, number: int) -> Reference:
            held = block.held
            if held is None:
                return number - numbers[block]
            return sequence + number - held.sequence if held.lane == lane else held.id

        changes = []
        for number, piece in enumerate(self._pieces):
            edits: list[Insert | Delete] = []
            for each in piece.edits:
                if isinstance(each, _Deletion):
                    edits.append(Delete(reference(each.target, number), each.offset, each.count))
                else:
                    parent = None if each.parent is None else reference(each.parent, number)
                    edits.append(Insert(parent, each.offset, each.left, "".join(each.texts)))
            changes.append(Edit(self.path, tuple(edits)))
        return changes

    def signed(self, helds: Sequence[Held]) -> None:
        """The operations that ``changes`` became. If one of them does not count, the text has to be made again."""
        for piece, held in zip(self._pieces, helds, strict=True):
            if piece.block.size:
                self._text.keep(piece.block, held)
