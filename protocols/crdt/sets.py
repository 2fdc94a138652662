"""Sets in which an addition wins over a removal that did not see it (Shapiro et al. 2011, OR-Set).

Each element has a cell of the additions that nobody removed knowingly; adding again replaces the additions seen, which
whoever removes the new one has seen too. Elements are told apart by their encoding: ``True`` and ``1`` are equal to
Python, and two elements here.
"""

from typing import Any, Final

import msgspec

from protocols.crdt.cells import Cell, plain
from protocols.crdt.changes import Add, Value
from protocols.crdt.history import Held

_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Elements:
    """The elements that are in a set."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: Final[dict[bytes, Cell]] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, element: Value) -> bool:
        return _ENCODE(element) in self._cells

    def add(self, held: Held, element: Value) -> None:
        key = _ENCODE(element)
        cell = self._cells.get(key)
        if cell is None:
            self._cells[key] = Cell((held,))
        else:
            cell.put(held)

    def remove(self, held: Held, element: Value) -> None:
        self._clear(_ENCODE(element), held)

    def clear(self, clear: Held) -> None:
        """Remove all elements, as far as ``clear`` sees them."""
        for key in tuple(self._cells):
            self._clear(key, clear)

    def live(self) -> list[Held]:
        """The additions that keep elements here, by encoding and rank."""
        return [each for key in sorted(self._cells) for each in self._cells[key].live()]

    def elements(self) -> list[Value]:
        """In the order of their encodings."""
        changes = [self._cells[key].live()[0].operation.change for key in sorted(self._cells)]
        return [change.element for change in changes if isinstance(change, Add)]

    def value(self) -> Any:
        return [plain(each) for each in self.elements()]

    def _clear(self, key: bytes, clear: Held) -> None:
        cell = self._cells.get(key)
        if cell is not None:
            cell.clear(clear)
            if not cell:
                del self._cells[key]
