"""Structures changed in a place of the fuzzer's choice, into others of the same types.

What is put in comes from the same field of other sound structures where there are such (``Donors``), because a
key that is valid and another's gets further than one that is noise. What cannot be encoded cannot be sent:
``sendable`` tells.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from protocols.errors import LocalError
from tests.fuzz.draws import Draws

S = TypeVar("S", bound=msgspec.Struct)

Slot: TypeAlias = tuple[type | None, str]
"""A field of a type of structure, or an item of one."""

DONORS_MAX: Final = 32
"""Values of one slot that are remembered: as many as one byte chooses from with room to spare."""


class Donors:
    """Every value in some sound structures, by the field it stands in."""

    def __init__(self, samples: Iterable[Any]) -> None:
        self._values: dict[Slot, list[Any]] = {}
        for sample in samples:
            self._collect(sample, (None, ""))

    def of(self, slot: Slot) -> list[Any]:
        return self._values.get(slot, [])

    def all(self) -> Iterator[Any]:
        """Every structure among them."""
        for values in self._values.values():
            yield from (value for value in values if isinstance(value, msgspec.Struct))

    def _collect(self, value: Any, slot: Slot) -> None:
        known = self._values.setdefault(slot, [])
        if value not in known and len(known) < DONORS_MAX:
            known.append(value)
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                self._collect(getattr(value, name), (type(value), name))
        elif isinstance(value, tuple):
            for item in value:
                self._collect(item, (slot[0], slot[1] + "[]"))


def mutated(value: S, draws: Draws, donors: Donors, times: int = 1, *, check: bool = True) -> S:
    """``value`` with so many changes, or as it was if they cannot be encoded."""
    new = value
    for _ in range(times):
        new = _struct(new, draws, donors)
    return new if not check or sendable(new) else value


def sendable(value: Any) -> bool:
    """Whether the wire has a place for it: numbers as large as their field, extensions of a known shape."""
    try:
        value.encode()
    except (LocalError, struct.error, IndexError, ValueError, OverflowError):
        return False
    return True


def _struct(value: S, draws: Draws, donors: Donors) -> S:
    if not value.__struct_fields__:
        return value
    name = draws.choice(value.__struct_fields__)
    return msgspec.structs.replace(value, **{name: _altered(getattr(value, name), (type(value), name), draws, donors)})


def _altered(value: Any, slot: Slot, draws: Draws, donors: Donors) -> Any:
    given = donors.of(slot)
    if given and draws.chance(4):
        return draws.choice(given)
    match value:
        case msgspec.Struct():
            return _struct(value, draws, donors)
        case tuple():
            return _tuple(value, (slot[0], slot[1] + "[]"), draws, donors)
        case bytes():
            return draws.altered(value)
        case bool():
            return not value
        case int():
            return draws.number(value)
        case _:
            return draws.choice(given) if given else value


def _tuple(items: tuple[Any, ...], slot: Slot, draws: Draws, donors: Donors) -> tuple[Any, ...]:
    at = draws.below(len(items)) if items else 0
    head, tail = items[:at], items[at + 1 :]
    operation = draws.below(8)
    if not items or operation == 7:
        given = donors.of(slot)
        return (*items, draws.choice(given)) if given else items
    match operation:
        case 4:
            return head + tail
        case 5:
            return (*head, items[at], *items[at:])
        case 6:
            return (*tail, *head, items[at])
        case _:
            return (*head, _altered(items[at], slot, draws, donors), *tail)
