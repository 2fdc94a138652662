"""A journal that is easily opened again, and what its streams should hold."""

from typing import Final

from protocols.crypto import Secret
from protocols.journal import Batch, Entry, Head, Journal, JournalKeys, Record, Recovery, Stream
from tests.pair import Entropy
from tests.protocols.journal.memory import MemoryStore

KEYS: Final = JournalKeys(Secret(bytes(range(32))))
OTHER_KEYS: Final = JournalKeys(Secret(bytes(range(1, 33))))
NOW: Final = 1_700_000_000_000_000_000


def entries(*payloads: bytes) -> list[Entry]:
    return [Entry("test.record", payload) for payload in payloads]


def payloads(recovery: Recovery) -> list[bytes]:
    return [record.payload for record in recovery.records]


def total(recovery: Recovery) -> bytes:
    """The state of a caller whose state is all that was ever appended; so a snapshot and what follows are alike."""
    return (recovery.snapshot or b"") + b"".join(payloads(recovery))


class Peer:
    """A journal over a store in memory, with entropy of its own."""

    def __init__(self, store: MemoryStore | None = None, keys: JournalKeys = KEYS, seed: str = "peer") -> None:
        self.store = MemoryStore() if store is None else store
        self.keys = keys
        self.entropy = Entropy(seed)
        self.batches: list[Batch] = []
        self.journal = Journal.open(keys, self.store)

    def stream(self, name: bytes, anchor: Head | None = None) -> Stream:
        return self.journal.open_stream(name, anchor)[0]

    def flush(self) -> None:
        self._write(self.journal.flush(self.entropy))

    def close(self) -> None:
        self._write(self.journal.close(self.entropy))

    def _write(self, batch: Batch | None) -> None:
        self.store.write(batch)
        if batch is not None:
            self.batches.append(batch)

    def opened_again(self) -> "Peer":
        """By the next incarnation, which draws other bytes; what was not flushed is lost."""
        return Peer(MemoryStore(self.store.stored), self.keys, f"{self.entropy.seed}/{self.entropy.position}")

    def recovered(self, name: bytes, anchor: Head | None = None) -> Recovery:
        """What the next incarnation finds in a stream."""
        return self.opened_again().journal.open_stream(name, anchor)[1]


def numbered(first: int, *payloads: bytes) -> tuple[Record, ...]:
    return tuple(Record(first + place, NOW, "test.record", payload) for place, payload in enumerate(payloads))
