"""Choices read from the fuzzer's bytes. When they are used up every choice is the first, so short inputs are tame
and a longer one differs from its prefix only in what comes later: that is what lets coverage guide it."""

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_EDGES: Final = tuple(2**bits + more for bits in (0, 6, 7, 8, 14, 16, 31, 32, 63, 64) for more in (-1, 0, 1))
"""Where lengths, indices and epochs of the wire begin and end."""


class Draws:
    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._offset = 0

    def byte(self) -> int:
        self._offset += 1
        return self._data[self._offset - 1] if self._offset <= len(self._data) else 0

    def below(self, count: int) -> int:
        """One of ``count`` numbers."""
        return (self.byte() if count <= 256 else self.byte() << 8 | self.byte()) % count

    def chance(self, one_in: int) -> bool:
        """Never, once the bytes are used up."""
        return self.below(one_in) == one_in - 1

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def take(self, size: int) -> bytes:
        """As many, or what is left."""
        taken = self._data[self._offset : self._offset + size]
        self._offset += size
        return taken

    def rest(self) -> bytes:
        return self.take(max(0, len(self._data) - self._offset))

    def number(self, old: int) -> int:
        """Another number than ``old``, near to it or near to an edge."""
        match self.below(4):
            case 0:
                return old + 1
            case 1:
                return max(0, old - 1)
            case 2:
                return self.choice(_EDGES)
            case _:
                return self.byte()

    def altered(self, old: bytes) -> bytes:
        """Other bytes than ``old``: a bit, the length, or all of them."""
        match self.below(6):
            case 0 if old:
                at = self.below(min(len(old), 2**16))
                return old[:at] + bytes((old[at] ^ 1 << self.below(8),)) + old[at + 1 :]
            case 1:
                return old[: self.below(min(len(old), 2**16 - 1) + 1)]
            case 2:
                return old + self.take(1 + self.below(4))
            case 3:
                return b""
            case 4 if old:
                at, new = self.below(min(len(old), 2**16)), self.take(1 + self.below(8))
                return old[:at] + new + old[at + len(new) :]
            case _:
                return self.take(self.below(64))
