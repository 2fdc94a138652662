import msgspec
from hypothesis import given, settings

from protocols.crdt.bundles import Seal
from protocols.crdt.changes import Assign
from protocols.crdt.document import Document
from protocols.crdt.history import Held, History
from protocols.crdt.operations import NOTHING, Operation
from protocols.crdt.state import Live, digest_of, encode_state
from tests.protocols.crdt.documents import document_of, replay
from tests.protocols.crdt.strategies import content
from tests.protocols.crdt.worlds import World, worlds


@settings(max_examples=40, deadline=None)
@given(worlds(content(texts=False)))
def test_live_operations_make_the_same_state_again(world: World) -> None:
    document = replay(world, world.written)
    data = msgspec.msgpack.encode(tuple(document.live()))
    again = Document(History(world.channel))
    lane = 0
    for live in msgspec.msgpack.decode(data, type=tuple[Live, ...]):
        for entry, change in live.changes():
            operation = Operation(entry.id, entry.author, entry.sequence, NOTHING, (), entry.clock, change)
            again.apply(Held(operation, lane, (), 0, 0, Seal(entry.author, 1, 1, b"", b""), None, lane))
            lane += 1
    assert msgspec.msgpack.encode(tuple(again.live())) == data
    assert again.state_bytes() == document.state_bytes()


def test_the_state_names_authors_and_ids_and_no_numbers_of_ours() -> None:
    world = World()
    written = world.write(1, Assign(("a",), 1), after=[], clock=9)
    entry = (written.id, world.public(1), 1, 9, 1)
    assert document_of(world).state_bytes() == msgspec.msgpack.encode([(("a",), 1, [entry])])


def test_a_state_is_not_hashed_as_anything_else_is() -> None:
    empty = encode_state(())
    assert digest_of(empty) == Document(History(NOTHING)).digest()
    assert digest_of(empty) != digest_of(empty + b"\0")
