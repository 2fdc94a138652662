"""Whatever happens to a journal, and wherever it stops, what is found again is what was durable, exactly."""

from dataclasses import dataclass, field
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocols.journal import Entry, Head, JournalError, Record, Recovery, Stream, Table
from tests.protocols.journal.kit import KEYS, NOW, Peer, entries, total
from tests.protocols.journal.memory import MemoryStore, Place

NAMES: Final = (b"a", b"b", b"c")
KINDS: Final = ("put", "drop", "a.longer.kind")


@dataclass
class Model:
    """A stream without any bytes."""

    snapshot: bytes | None = None
    records: list[Record] = field(default_factory=list)
    sequence: int = 0
    clean: bool = True
    settled: bool = True

    def copy(self) -> "Model":
        return Model(self.snapshot, list(self.records), self.sequence, self.clean, self.settled)

    @property
    def recovery(self) -> Recovery:
        return Recovery(self.snapshot, tuple(self.records), self.clean)


class Histories(RuleBasedStateMachine):
    """Two models: of what was told to the journal, and of what is durable."""

    @initialize()
    def begin(self) -> None:
        self.incarnation = 0
        self.told: dict[bytes, Model] = {}
        self.touched: list[bytes] = []
        self.durable: dict[bytes, Model] = {}
        self.anchors: dict[bytes, Head] = {}
        self.start(Peer())

    def start(self, peer: Peer) -> None:
        self.peer = peer
        self.streams: dict[bytes, Stream] = {}
        self.touched = []
        self.told = {name: model.copy() for name, model in self.durable.items()}
        assert peer.journal.streams == tuple(self.durable)

    @rule(name=st.sampled_from(NAMES))
    def open(self, name: bytes) -> None:
        if name not in self.streams:
            stream, recovery = self.peer.journal.open_stream(name, self.anchors.get(name))
            if name not in self.told:
                self.touched.append(name)
            model = self.told.setdefault(name, Model())
            assert recovery.snapshot == model.snapshot
            assert recovery.records == tuple(model.records)
            assert recovery.clean == model.clean
            assert stream.sequence == model.sequence
            model.settled = model.clean
            self.streams[name] = stream

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), count=st.integers(1, 5), size=st.integers(0, 40), now=st.integers(0, 2**63 - 1))
    def append(self, data: st.DataObject, count: int, size: int, now: int) -> None:
        name, model = self.one(data)
        kind = KINDS[(count + size) % 3]
        entries = [Entry(kind, bytes([place]) * size) for place in range(count)]
        for each in entries:
            model.sequence += 1
            model.records.append(Record(model.sequence, now, each.kind, each.payload))
        assert self.streams[name].append(entries, now) == model.sequence

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), state=st.binary(max_size=40), erase=st.booleans())
    def snapshot(self, data: st.DataObject, state: bytes, erase: bool) -> None:
        name, model = self.one(data)
        model.snapshot, model.records = state, []
        assert self.streams[name].snapshot(state, erase=erase) == model.sequence

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.streams)))
        self.streams[name].settle()
        self.told[name].settled = True

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.told)))
        self.peer.journal.remove_stream(name)
        self.streams.pop(name, None)
        del self.told[name]
        self.touched = [each for each in self.touched if each != name]
        self.anchors.pop(name, None)

    @rule()
    def flush(self) -> None:
        self.peer.flush()
        self.keep(closing=False)

    @rule()
    def close(self) -> None:
        self.peer.close()
        self.keep(closing=True)
        self.start(self.peer.opened_again())

    @rule(flushed=st.booleans())
    def crash(self, flushed: bool) -> None:
        """In the middle of a batch, too: the batch is made, and the store never gets it."""
        if flushed:
            self.peer.journal.flush(self.peer.entropy)
            self.peer.journal.failed()
        self.incarnation += 1
        self.start(Peer(MemoryStore(self.peer.store.stored), seed=f"incarnation {self.incarnation}"))

    def keep(self, *, closing: bool) -> None:
        for name in self.touched:
            self.told[name].clean = False
        if closing:
            for name in self.streams:
                self.told[name].clean = self.told[name].clean or self.told[name].settled
        self.touched = []
        self.durable = {name: model.copy() for name, model in self.told.items()}
        self.anchors |= {name: stream.head for name, stream in self.streams.items()}

    def one(self, data: st.DataObject) -> tuple[bytes, Model]:
        name = data.draw(st.sampled_from(list(self.streams)))
        self.touched.append(name)
        return name, self.told[name]

    @invariant()
    def nothing_is_kept_that_recovery_has_no_use_for(self) -> None:
        stored = self.peer.store.stored
        ids = {KEYS.stream(name): name for name in self.durable}
        for table, stream, _ in stored:
            assert table is Table.ROLL or stream in ids
        for stream in ids:
            count = {table: sum(at[:2] == (table, stream) for at in stored) for table in Table}
            assert (count[Table.HEAD], count[Table.KEY]) == (1, 1)
            assert count[Table.SNAPSHOT] <= 2


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


STEPS: Final = st.lists(st.sampled_from(["append", "flush", "snapshot", "erase"]), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_after_any_history_a_row_gone_or_changed_or_older_is_found_or_made_up_for(steps: list[str], seed: int) -> None:
    """A snapshot is the sum of the records, so there is one right answer, wherever recovery begins."""
    peer = Peer()
    stream = peer.stream(b"a")
    state = b""
    for number, step in enumerate(steps):
        if step == "append":
            stream.append(entries(payload := b"<%d>" % number), NOW)
            state += payload
        elif step == "flush":
            peer.flush()
        else:
            stream.snapshot(state, erase=step == "erase")
    peer.flush()
    assert total(peer.recovered(b"a")) == state
    older = [((row.table, row.stream, row.number), row.data) for batch in peer.batches for row in batch.rows]
    for at, data in peer.store.stored.items():
        flipped = bytearray(data)
        flipped[seed % len(data)] ^= 1 + seed % 255
        without = {each: kept for each, kept in peer.store.stored.items() if each != at}
        for rows in (without, {**without, at: bytes(flipped)}):
            _exact_and_reported_or_refused(rows, state)
    for at, data in older:
        if peer.store.stored.get(at) != data:
            _exact_and_reported_or_refused({**peer.store.stored, at: data}, state)


def _exact_and_reported_or_refused(rows: dict[Place, bytes], state: bytes) -> None:
    try:
        recovery = Peer(MemoryStore(rows)).journal.open_stream(b"a")[1]
    except JournalError:
        return
    assert total(recovery) == state
    assert recovery.damaged
