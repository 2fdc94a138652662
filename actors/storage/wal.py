"""What a crash left at the end of SQLite's write-ahead log, which SQLite itself drops without a word.

A commit appends frames to the log, a header of 24 bytes and a page each, the last of them marked as the commit; then
it syncs. A reader takes all up to the last commit whose frames' checksums chain. What stands behind that is torn, if
its frames bear the salts of the log's header: older salts are leftovers of an earlier round, as the log is written
again from its start. (https://www.sqlite.org/fileformat2.html#walformat)

As each commit is synced before the next begins, a crash tears one transaction at most: nothing stands behind its
last frame, which alone has a mark. (SQLite repeats it for disks where a write may damage the bytes beside it, and
takes none for one.) Frames behind the mark of a commit that is not taken show something else: acknowledged bytes that
were damaged later, with which SQLite would drop all that came after them. Not the last commit of all, though:
damaged, it looks like a torn one. And a log that was cut where a commit ended looks like one that ended there: to find
that out takes an anchor, outside of the file.

The header is synced before a frame follows it. One that is broken is what a crash left of the beginning of a round,
and what stands behind it is of the round before, and carried over; unless that belongs to this very header. Then all
of it was acknowledged, and is what SQLite would drop.
"""

from struct import Struct
from typing import Final, NamedTuple, Protocol

HEADER: Final = Struct(">8I")
"""Magic, format, page size, number of the checkpoint, two salts, two checksums of the former."""
FRAME: Final = Struct(">6I")
"""Page number, size of the database after a commit or 0, two salts, two checksums."""
MAGIC: Final = 0x377F0682
"""The lowest bit says in which order of bytes the checksums read their words: 1, the largest first."""
PAGE_SIZES: Final = tuple(1 << bits for bits in range(9, 17))


class Readable(Protocol):
    """The log, as SQLite's own file layer reads it."""

    def xRead(self, amount: int, offset: int) -> bytes: ...  # noqa: N802

    def xFileSize(self) -> int: ...  # noqa: N802


class Tail(NamedTuple):
    """What SQLite does not take."""

    torn: int
    """Bytes of frames of this round, and of a header that was not finished."""
    damaged: bool
    """Whether there is more than a crash can explain."""


def tail(log: Readable, taken: int) -> Tail:
    """What stands behind the first ``taken`` frames, which SQLite accepts."""
    size = log.xFileSize()
    head = log.xRead(min(size, HEADER.size), 0)
    if len(head) < HEADER.size:
        return Tail(len(head), False)
    _, _, page, _, *salts, _, _ = HEADER.unpack(head)
    if page not in PAGE_SIZES or not _intact(head):
        return Tail(HEADER.size, _is_of_what_follows(head, log))
    torn = 0
    committed = damaged = False
    for start in range(HEADER.size + taken * (FRAME.size + page), size, FRAME.size + page):
        length = min(size - start, FRAME.size + page)
        if length < FRAME.size:
            torn += length
            break
        _, commit, *found, _, _ = FRAME.unpack(log.xRead(FRAME.size, start))
        if found == salts:
            torn += length
            damaged |= committed
            committed |= commit > 0
    return Tail(torn, damaged)


def _intact(head: bytes) -> bool:
    """Whether it is a header, with the right checksum."""
    magic = HEADER.unpack(head)[0]
    return magic & ~1 == MAGIC and HEADER.unpack(head)[6:] == _checksum(head[:-8], magic)


def _is_of_what_follows(head: bytes, log: Readable) -> bool:
    """Whether a broken header is the one that the first frame was written behind: it bears its salts, or the frame's
    checksum follows from it. With a checkpoint's number that is one too high it is the beginning of a new one."""
    magic, form, page, number, *salts, first, second = HEADER.unpack(head)
    start, size = HEADER.size + FRAME.size, log.xFileSize()
    if size < start:
        return False
    frame = log.xRead(FRAME.size, HEADER.size)
    _, _, *found, third, fourth = FRAME.unpack(frame)
    if page not in PAGE_SIZES or size < start + page:
        return found == salts
    data = frame[:8] + log.xRead(page, start)
    before = HEADER.pack(magic, form, page, (number - 1) & 0xFFFFFFFF, *found, 0, 0)
    if _checksum(data, magic, _checksum(before[:-8], magic)) == (third, fourth):
        return False
    return found == salts or _checksum(data, magic, (first, second)) == (third, fourth)


def _checksum(data: bytes, magic: int, start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Fletcher's, over pairs of words."""
    words = Struct(f"{'>' if magic & 1 else '<'}{len(data) // 4}I").unpack(data)
    first, second = start
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return first, second
