"""A document: what the operations that count come to.

It is told operations in an order in which causes come before effects, and is a function of the set alone. Operations
that do not count leave no trace, except that a text keeps the places of what they inserted. If the verdict about an
earlier operation changes, the document is made again from the history.

To carry out a ``Clear`` costs as much as there is at its path and below, whether it saw any of it or not, so that a
chain of clears beside a large map would keep every replica busy for nothing. So a clear is remembered where it applies,
which costs next to nothing, and is carried out when somebody looks, with those that came since. What came after it does
not mind, as no clear can have seen it. Of clears at one path that see each other the last is enough.
"""

from collections.abc import Iterator
from typing import Any, Final

from protocols.crdt.cells import Cell
from protocols.crdt.changes import Add, Append, Assign, AssignMulti, Clear, Edit, Increment, Path, Remove, Value
from protocols.crdt.counters import Counter
from protocols.crdt.history import Held, History
from protocols.crdt.maps import Container, Node
from protocols.crdt.registers import MultiRegister, Register
from protocols.crdt.sets import Elements
from protocols.crdt.state import Entry, Live, digest_of, encode_state, entries_of
from protocols.crdt.text import Text
from protocols.crdt.timelines import Timeline


class Document:
    """The state at one replica."""

    def __init__(self, history: History) -> None:
        """Empty, whatever the history has."""
        self._history: Final = history
        self._root: Final = Node(())
        self._nodes: Final[dict[Path, Node]] = {(): self._root}
        """The whole tree, by path."""
        self._cleared: Final[dict[Path, Node]] = {}
        """The nodes with clears that are to be carried out."""

    def __repr__(self) -> str:
        return f"<Document of {len(self._nodes) - 1} names>"

    # -- operations ---------------------------------------------------------------------------------------

    def apply(self, held: Held) -> None:
        """Take in an operation, after all that it depends on; what changes no document is passed over."""
        change = held.operation.change
        if not held.counts:
            if isinstance(change, Edit):
                self._text(change.path).apply(held)
            return
        match change:
            case Assign():
                node = self._node(change.path)
                if node.register is None:
                    node.register = Register()
                node.register.put(held)
            case Add():
                node = self._node(change.path)
                if node.elements is None:
                    node.elements = Elements()
                node.elements.add(held, change.element)
            case Remove():
                there = self._nodes.get(change.path)
                if there is not None and there.elements is not None:
                    there.elements.remove(held, change.element)
            case Edit():
                self._text(change.path).apply(held)
            case Increment():
                node = self._node(change.path)
                if node.counter is None:
                    node.counter = Counter()
                node.counter.increment(held, change.by)
            case AssignMulti():
                node = self._node(change.path)
                if node.multi is None:
                    node.multi = MultiRegister()
                node.multi.put(held)
            case Append():
                node = self._node(change.path)
                if node.timeline is None:
                    node.timeline = Timeline()
                node.timeline.append(held)
            case Clear():
                there = self._nodes.get(change.path)
                if there is not None:
                    if there.clears is None:
                        there.clears = Cell()
                        self._cleared[change.path] = there
                    there.clears.put(held)

    # -- asked --------------------------------------------------------------------------------------------

    def __contains__(self, path: Path) -> bool:
        """Whether anything is at a path or below."""
        return self._there(path) is not None

    def keys(self, path: Path = ()) -> list[str]:
        """Of the map at a path, sorted."""
        node = self._there(path)
        return node.keys() if node else []

    def value(self, path: Path = ()) -> Any:
        """All that is at a path and below, as dictionaries, lists and plain values; None if nothing is."""
        node = self._there(path)
        return node.value() if node else None if path else {}

    def register(self, path: Path, default: Value = None) -> Value:
        """The last write."""
        node = self._there(path)
        return node.register.winner() if node and node.register else default

    def values(self, path: Path) -> list[Value]:
        """Of a multi-value register."""
        node = self._there(path)
        return node.multi.values() if node and node.multi else []

    def counter(self, path: Path) -> int:
        node = self._there(path)
        return node.counter.value() if node and node.counter else 0

    def elements(self, path: Path) -> list[Value]:
        """Of a set, in the order of their encodings."""
        node = self._there(path)
        return node.elements.elements() if node and node.elements else []

    def contains(self, path: Path, element: Value) -> bool:
        """Whether an element is in a set."""
        node = self._there(path)
        return node is not None and node.elements is not None and element in node.elements

    def entries(self, path: Path) -> list[Entry]:
        """Of a timeline: each with who wrote it and when."""
        node = self._there(path)
        return list(entries_of(node.timeline.live())) if node and node.timeline else []

    def text(self, path: Path) -> Text:
        """The text at a path, to read or to draft on until the next operation is applied; one is made if none is."""
        self._carry_out()
        return self._text(path)

    # -- as data ------------------------------------------------------------------------------------------

    def live(self) -> Iterator[Live]:
        """All containers but the texts, with what is live in them, sorted by path and kind."""
        self._carry_out()
        for node in self._root.walk():
            for kind, each in node.containers():
                if not isinstance(each, Text):
                    yield Live(node.path, kind, entries_of(each.live()))

    def texts(self) -> Iterator[tuple[Path, Text]]:
        """All that were ever edited, sorted by path; some may be empty."""
        self._carry_out()
        for node in self._root.walk():
            if node.text is not None:
                yield node.path, node.text

    def state_bytes(self) -> bytes:
        """What is shown, with the ids of what shows it; the same bytes wherever the same operations count."""
        self._carry_out()
        return encode_state(
            (node.path, kind, _shown(each)) for node in self._root.walk() for kind, each in node.containers()
        )

    def digest(self) -> bytes:
        """Of ``state_bytes``, 32 bytes."""
        return digest_of(self.state_bytes())

    # -- the tree -----------------------------------------------------------------------------------------

    def _there(self, path: Path) -> Node | None:
        """The node at a path, if it has anything in it."""
        self._carry_out()
        return self._nodes.get(path) or None

    def _text(self, path: Path) -> Text:
        node = self._node(path)
        if node.text is None:
            node.text = Text(self._history)
        return node.text

    def _node(self, path: Path) -> Node:
        node = self._nodes.get(path)
        if node is None:
            above = self._node(path[:-1])
            node = Node(path)
            if above.children is None:
                above.children = {}
            above.children[path[-1]] = self._nodes[path] = node
        return node

    def _carry_out(self) -> None:
        """Carry out the clears that wait."""
        for node in self._cleared.values():
            assert node.clears is not None, "it is here because it has some"
            node.clear(node.clears)
            node.clears = None
            for each in node.prune():
                del self._nodes[each.path]
            self._drop(node)
        self._cleared.clear()

    def _drop(self, node: Node) -> None:
        """Drop a node if nothing is left of it, and so upwards."""
        while node.path and self._nodes.get(node.path) is node and node.is_bare():
            above = self._nodes[node.path[:-1]]
            above.drop(node)
            del self._nodes[node.path]
            node = above


def _shown(container: Container) -> Any:
    """What of a container enters the state."""
    match container:
        case Text():
            return tuple(container.parts())
        case Counter():
            return container.sums()
        case _:
            return entries_of(container.live())
