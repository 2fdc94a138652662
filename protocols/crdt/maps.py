"""Maps: the tree of names, with a container of each type at every name.

A map is not created and has no operations of its own, so two replicas that use a new one at the same time cannot lose
each other's: a key is there as long as something at it or below it is. What is assigned beside a ``Clear`` that did not
see it keeps its key and all names above, however deep.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from protocols.crdt.cells import Cell
from protocols.crdt.changes import Path
from protocols.crdt.counters import Counter
from protocols.crdt.registers import MultiRegister, Register
from protocols.crdt.sets import Elements
from protocols.crdt.state import Kind
from protocols.crdt.text import Text
from protocols.crdt.timelines import Timeline

Container: TypeAlias = Register | MultiRegister | Counter | Elements | Timeline | Text


class Node:
    """What is at one path."""

    __slots__ = (
        "children", "clears", "counter", "elements", "multi", "path", "register", "text", "timeline",
    )  # fmt: skip

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.children: dict[str, Node] | None = None
        self.register: Register | None = None
        self.multi: MultiRegister | None = None
        self.counter: Counter | None = None
        self.elements: Elements | None = None
        self.timeline: Timeline | None = None
        self.text: Text | None = None
        self.clears: Cell | None = None
        """Of this and of what is below, and not carried out yet; none sees another."""

    def containers(self) -> Iterator[tuple[Kind, Container]]:
        """Those that have anything in them."""
        if self.register:
            yield Kind.REGISTER, self.register
        if self.multi:
            yield Kind.MULTI, self.multi
        if self.counter:
            yield Kind.COUNTER, self.counter
        if self.elements:
            yield Kind.SET, self.elements
        if self.timeline:
            yield Kind.TIMELINE, self.timeline
        if self.text:
            yield Kind.TEXT, self.text

    def below(self) -> "list[Node]":
        """The nodes of the map that this is, sorted by name; some may be empty."""
        return [self.children[name] for name in sorted(self.children)] if self.children else []

    def walk(self) -> "Iterator[Node]":
        """This and all that is below, sorted by path."""
        yield self
        for each in self.below():
            yield from each.walk()

    def __bool__(self) -> bool:
        """Whether it has anything in it, so that its name is a key of the map above."""
        if next(self.containers(), None) is not None:
            return True
        return any(self.children.values()) if self.children else False

    def keys(self) -> list[str]:
        """Of the map that this is."""
        return [each.path[-1] for each in self.below() if each]

    def value(self) -> Any:
        """The value of the only container that has anything in it, or a dictionary by ``Kind`` if several have."""
        values: dict[Kind, Any] = {
            kind: str(each) if isinstance(each, Text) else each.value() for kind, each in self.containers()
        }
        entries = {each.path[-1]: each.value() for each in self.below() if each}
        if entries or not values:
            values[Kind.MAP] = entries
        return next(iter(values.values())) if len(values) == 1 else values

    def clear(self, clears: Cell) -> None:
        """Carry out clears, here and below."""
        for each in clears.live():
            for node in self.walk():
                for _, container in node.containers():
                    container.clear(each)

    def is_bare(self) -> bool:
        """Whether nobody would miss it. A text stays, as others may have hung characters on deleted ones."""
        return not self.children and self.text is None and not self

    def drop(self, child: "Node") -> None:
        assert self.children is not None, "it has this one"
        del self.children[child.path[-1]]

    def prune(self) -> "list[Node]":
        """Drop what is bare below, and return it."""
        dropped: list[Node] = []
        for each in self.below():
            dropped += each.prune()
            if each.is_bare():
                self.drop(each)
                dropped.append(each)
        return dropped
