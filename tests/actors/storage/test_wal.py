from pathlib import Path
from random import Random
from typing import Final

import apsw
import pytest

from actors.storage.wal import FRAME, HEADER, Tail, tail

PAGE: Final = 512


class Log:
    """A log in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        assert offset + amount <= len(self.content)
        return self.content[offset : offset + amount]

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.content)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A log that SQLite wrote, of several commits, and how many frames each had."""
    path = tmp_path_factory.mktemp("wal") / "a.db"
    connection = apsw.Connection(str(path))
    connection.pragma("page_size", PAGE)
    connection.pragma("journal_mode", "wal")
    connection.pragma("wal_autocheckpoint", 0)
    counts: list[int] = []

    def committed(_connection: apsw.Connection, _name: str, frames: int) -> int:
        counts.append(frames)
        return apsw.SQLITE_OK

    connection.set_wal_hook(committed)
    connection.execute("CREATE TABLE t (data)")
    for size in (10, 3000, 900, 5000):
        connection.execute("INSERT INTO t VALUES (?)", (Random(size).randbytes(size),))
    content = Path(f"{path}-wal").read_bytes()
    connection.close()
    return content, counts


def frame(number: int) -> int:
    """Where it begins."""
    return HEADER.size + number * (FRAME.size + PAGE)


def test_nothing_stands_behind_the_last_commit_of_a_log_that_was_finished(log: tuple[bytes, list[int]]) -> None:
    content, counts = log
    assert tail(Log(content), counts[-1]) == Tail(0, False)


def test_every_end_of_a_torn_commit_is_counted_to_the_byte(log: tuple[bytes, list[int]]) -> None:
    content, counts = log
    start = frame(counts[-2])
    for end in range(start, len(content) + 1):
        assert tail(Log(content[:end]), counts[-2]) == Tail(end - start, False)


def test_frames_behind_a_commit_that_is_not_taken_are_damage(log: tuple[bytes, list[int]]) -> None:
    content, counts = log
    assert tail(Log(content[: frame(counts[-2])]), counts[-3]) == Tail(frame(counts[-2]) - frame(counts[-3]), False)
    assert tail(Log(content[: frame(counts[-2] + 1)]), counts[-3]).damaged
    assert tail(Log(content), counts[-3]).damaged


def test_leftovers_of_an_earlier_round_are_neither_torn_nor_damage(log: tuple[bytes, list[int]]) -> None:
    content, counts = log
    old = bytearray(content)
    for number in range(counts[1], counts[-1]):
        old[frame(number) + 8 : frame(number) + 16] = b"\0\0\0\1 old"
    assert tail(Log(bytes(old)), counts[1]) == Tail(0, False)
    old[frame(counts[1] + 1) + 8 : frame(counts[1] + 1) + 16] = content[16:24]
    assert tail(Log(bytes(old)), counts[1]) == Tail(FRAME.size + PAGE, False), "sectors come to the disk in any order"


def test_a_header_that_was_not_finished_has_nothing_behind_it_that_counts(log: tuple[bytes, list[int]]) -> None:
    """A new round begins with the number of the next checkpoint and other salts, over the log of the round before."""
    content, _ = log
    assert tail(Log(b""), 0) == Tail(0, False)
    for end in range(HEADER.size):
        assert tail(Log(content[:end]), 0) == Tail(end, False)
    magic, form, page, number, salt, *_ = HEADER.unpack(content[: HEADER.size])
    assert (page, number) == (PAGE, 0)
    begun = HEADER.pack(magic, form, page, 1, (salt + 1) & 0xFFFFFFFF, 0x01234567, 0x89ABCDEF, 0xFEDCBA98)
    for end in range(16, HEADER.size + 1):
        assert tail(Log(begun[:end] + content[end:]), 0) == Tail(HEADER.size, False)


def test_a_damaged_header_is_no_unfinished_one(log: tuple[bytes, list[int]]) -> None:
    """But for one bit, which looks like the number of the next checkpoint."""
    content, _ = log
    for at in range(HEADER.size):
        for bit in range(8):
            altered = bytearray(content)
            altered[at] ^= 1 << bit
            assert tail(Log(bytes(altered)), 0) == Tail(HEADER.size, (at, bit) != (15, 0))
    altered = bytearray(content)
    altered[17:20] = b"\0\0\0"
    assert tail(Log(bytes(altered[: frame(1) - 1])), 0) == Tail(HEADER.size, False), "no frame is whole"
    altered[11] = 7
    assert not tail(Log(bytes(altered)), 0).damaged, "nothing of it is left that could be recognised"
