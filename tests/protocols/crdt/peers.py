"""Two that hold histories and reconcile them, without anybody's judgement: units are placed, or wait."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from protocols.crdt.answering import Answerer
from protocols.crdt.bundles import Parcel, parse, seal_bundle
from protocols.crdt.changes import Acknowledge, Change, Role
from protocols.crdt.exchange import Exchange
from protocols.crdt.history import History, MissingError
from protocols.crdt.messages import REQUESTS, RESPONSES, Push, Request, Response
from protocols.crdt.operations import NOTHING
from protocols.crdt.reconciliation import KeyedSets
from protocols.identity.signing import SigningKey
from tests.protocols.crdt.worlds import World, Written, deliver

BINDING: Final = bytes(range(32))
SEEN: Final = Acknowledge()


class Peer:
    """A history, and both sides of exchanges about it."""

    def __init__(self, channel: bytes, held: Iterable[Written] = ()) -> None:
        self.history: Final = History(channel)
        for each in held:
            deliver(self.history, each)
        self.sets: Final = KeyedSets(self.history)
        self.answerer: Final = Answerer(self.history, self.sets)
        self.waiting: list[Parcel] = []
        self.units = 0
        self.duplicates = 0

    @property
    def ids(self) -> set[bytes]:
        return set(self.history.operations)

    def receive(self, units: Iterable[bytes]) -> int:
        """How many operations came in."""
        before = len(self.history)
        for unit in units:
            parcel = parse(self.history.channel, unit)
            parcel.seal.verify(self.history.channel)
            self.units += 1
            self.waiting.append(parcel)
            while any(map(self._place, tuple(self.waiting))):
                pass
        return len(self.history) - before

    def take(self, parcel: Parcel) -> None:
        """What this peer wrote itself, or was given before the test begins."""
        self._place(parcel)

    def _place(self, parcel: Parcel) -> bool:
        """Whether something came in."""
        grown = False
        for operation in parcel.operations:
            if operation.id in self.history:
                continue
            try:
                held = self.history.place(operation, parcel.seal, parcel.path)
            except MissingError:
                return grown
            self.history.add(held)
            grown = True
        if parcel in self.waiting:
            self.waiting.remove(parcel)
        return grown

    def answer(self, body: bytes, binding: bytes = BINDING) -> bytes:
        question = REQUESTS.decode(body)
        if not isinstance(question, Push):
            return RESPONSES.encode(self.answerer.answer(question, binding))
        taken = self.receive(question.units)
        return RESPONSES.encode(self.answerer.pushed(question, binding, taken=taken, parked=0, refused=0))

    def asks(
        self,
        other: "Peer",
        until: Sequence[bytes] = (),
        lie: Callable[[Request, Response], Response] | None = None,
        binding: bytes = BINDING,
    ) -> Exchange:
        """One whole exchange; ``lie`` makes another answer of each that ``other`` gives."""
        exchange = Exchange(self.history, self.sets, until)
        while (body := exchange.request()) is not None:
            answer = other.answer(body, binding)
            if lie is not None:
                answer = RESPONSES.encode(lie(REQUESTS.decode(body), RESPONSES.decode(answer)))
            exchange = Exchange.from_bytes(self.history, self.sets, exchange.to_bytes())
            self.receive(exchange.answer(answer, binding))
        return exchange


class Author:
    """Writes bundles on the end of one chain, as of what a peer holds."""

    def __init__(self, key: SigningKey) -> None:
        self.key: Final = key
        self.sequence = 0
        self.previous = NOTHING

    def write(self, peer: Peer, count: int, change: Change = SEEN, *, aware: bool = True) -> Parcel:
        """A bundle that the peer holds then, and whose first operation has seen all that it held before; or none of
        it, but what this author wrote."""
        history = peer.history
        heads = history.heads if aware else [history.channel]
        seen = [each for each in heads if each != self.previous and (aware or not self.sequence)]
        clock = max(history.operations[each].operation.clock for each in history.heads)
        dated = [(change, clock + 1 + index, tuple(seen) if not index else ()) for index in range(count)]
        parcel = seal_bundle(self.key, history.channel, dated, self.sequence + 1, self.previous)
        self.sequence += count
        self.previous = parcel.operations[-1].id
        peer.take(parcel)
        return parcel


def pair(authors: int, common: int, *, aware: bool = True, bundle: int = 64) -> tuple[Peer, Peer, list[Author]]:
    """Two peers who hold the same ``common`` operations; whether authors read each other, or write on alone."""
    world = World(Role.OWNER, *[Role.MEMBER] * authors)
    ours, theirs = Peer(world.channel, [world.genesis]), Peer(world.channel, [world.genesis])
    writers = [Author(key) for key in world.keys[1:]]
    for number in range(common // bundle):
        theirs.take(writers[number % authors].write(ours, bundle, aware=aware))
    assert ours.ids == theirs.ids
    return ours, theirs, writers


def part(ours: Peer, theirs: Peer, writers: list[Author], count: int, *, aware: bool = True, bundle: int = 1) -> None:
    """Half of the authors write ``count`` operations at one peer, and as many at the other."""
    half = len(writers) // 2
    for number in range(count // bundle):
        writers[number % half].write(ours, bundle, aware=aware)
        writers[half + number % half].write(theirs, bundle, aware=aware)
