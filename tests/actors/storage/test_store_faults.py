"""Whatever fails, and whenever: what was acknowledged is there, and of the rest all or nothing of a batch.

Figures: ``pytest -s`` prints how many cases there were.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

import apsw
import pytest

from actors.storage import sqlite_store
from actors.storage.sqlite_store import SqliteStore
from protocols.journal.store import STREAM_SIZE, Batch, Removal, Row, StoreError, Table
from tests.actors.storage.disks import KINDS, Fault, FaultyDisk, Platter, Step

Content = dict[tuple[int, bytes, int], bytes]

STREAMS: Final = (b"a" * STREAM_SIZE, b"b" * STREAM_SIZE)
NAME: Final = "journal.db"


def script() -> list[Batch]:
    """Appends to two streams, heads that are written again, snapshots that compact, and one that erases."""
    random = Random(4)
    batches = [Batch((Row(Table.ROLL, b"", 0, b"roll"),))]
    for round_ in range(10):
        rows: list[Row] = []
        for stream in STREAMS:
            number = 1 + round_ * 3
            rows.append(Row(Table.GROUP, stream, number, random.randbytes(random.choice((40, 900, 9_000)))))
            rows.append(Row(Table.HEAD, stream, 0, random.randbytes(60)))
        batch = Batch(tuple(rows))
        if round_ in (4, 7):
            stream = STREAMS[round_ % 2]
            snapshot = Row(Table.SNAPSHOT, stream, number, random.randbytes(6_000))
            removals = (Removal(Table.GROUP, stream, 0, number), Removal(Table.SNAPSHOT, stream, 0, number))
            batch = Batch((*rows, snapshot), removals, erase=round_ == 7)
        batches.append(batch)
    return batches


def after(content: Content, batch: Batch) -> Content:
    """The rows that a batch leaves."""
    result = dict(content)
    for removal in batch.removals:
        for key in [
            k for k in result if k[:2] == (removal.table, removal.stream) and removal.first <= k[2] < removal.end
        ]:
            del result[key]
    for row in batch.rows:
        result[row.table, row.stream, row.number] = row.data
    return result


BATCHES: Final = script()
STATES: Final[list[Content]] = [{}]
for _batch in BATCHES:
    STATES.append(after(STATES[-1], _batch))

ERASED_AFTER: Final = next(number for number, batch in enumerate(BATCHES, start=1) if batch.erase)
"""So many batches."""
ERASED: Final = [
    data for state in STATES[:ERASED_AFTER] for data in state.values() if data not in STATES[ERASED_AFTER].values()
]


def content(store: SqliteStore) -> Content:
    """All rows of a store."""
    return {
        (table, stream, row.number): row.data
        for table in Table
        for stream in (*STREAMS, b"")
        for row in store.rows(table, stream)
    }


class Run:
    """The script, until it is through or the store fails."""

    def __init__(self, folder: Path, disk: FaultyDisk, first: int = 0) -> None:
        self.acknowledged = first
        self.failed = ""
        store = None
        try:
            store = SqliteStore(folder / NAME, vfs=disk.name)
            disk.steps.append(Step("mark", offset=first))
            for batch in BATCHES[first:]:
                store.write(batch, 0)
                self.acknowledged += 1
                disk.steps.append(Step("mark", offset=self.acknowledged))
            assert content(store) == STATES[-1]
        except StoreError as error:
            self.failed = error.reason
            if store is not None:
                _require_closed(store)
        finally:
            if store is not None:
                store.close()

    def is_right(self, found: Content) -> bool:
        """Whether this is what was acknowledged, or with it the one batch that was not."""
        return found in STATES[self.acknowledged : self.acknowledged + 2]


def _require_closed(store: SqliteStore) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.write(BATCHES[0], 0),
        lambda: store.row(Table.ROLL, b"", 0),
        lambda: next(store.rows(Table.ROLL, b"")),
    )
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.reason == "closed"


@contextmanager
def disk(fault: Fault | None = None) -> Iterator[FaultyDisk]:
    result = FaultyDisk("faulty", fault)
    try:
        yield result
    finally:
        result.unregister()


@pytest.fixture(autouse=True)
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come within the script."""
    monkeypatch.setattr(sqlite_store, "LOG_PAGES_MAX", 12)


def fresh(folder: Path, number: int) -> Path:
    result = folder / str(number)
    result.mkdir()
    return result


def faults(calls: Sequence[str]) -> Iterator[Fault]:
    """Each call in each way, alone and for good."""
    for number, call in enumerate(calls):
        for error in KINDS[call]:
            for lasting in (False, True):
                yield Fault(number, error, lasting)


def crashed(folder: Path, first: int) -> dict[str, bytes]:
    """The files of a store that crashed after so many batches."""
    if not first:
        return {}
    store = SqliteStore(folder / NAME)
    for batch in BATCHES[:first]:
        store.write(batch, 0)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.close()
    return files


@pytest.mark.parametrize("first", [0, 6], ids=["a new store", "one that crashed"])
def test_whichever_call_fails_what_was_acknowledged_is_there_and_a_batch_is_whole(tmp_path: Path, first: int) -> None:
    files = crashed(tmp_path, first)

    def run(number: int, fault: Fault | None) -> tuple[Path, FaultyDisk, Run]:
        folder = fresh(tmp_path, number)
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
        with disk(fault) as faulty:
            return folder, faulty, Run(folder, faulty, first)

    _, whole, through = run(0, None)
    assert not through.failed
    assert len({"xSync", "xWrite", "xTruncate", "xDelete"} & set(whole.calls)) == 4
    figures: Counter[str] = Counter()
    for number, fault in enumerate(faults(whole.calls), start=1):
        folder, faulty, then = run(number, fault)
        store = SqliteStore(folder / NAME, synced=False)
        found = content(store)
        store.close()
        assert then.is_right(found), (fault, faulty.hit, then.acknowledged, then.failed)
        assert then.failed or then.acknowledged == len(BATCHES), (fault, faulty.hit)
        figures["cases"] += 1
        figures[f"store says {then.failed or 'nothing'}"] += 1
        figures["batch kept that was not acknowledged"] += found != STATES[then.acknowledged]
    print(f"\nfaults at {len(whole.calls)} calls: {dict(figures)}")
    assert figures["store says full"]
    assert figures["store says io"]


def require_right_after_crashes(
    folder: Path, steps: Sequence[Step], numbers: Iterable[int], acknowledged: int, draws: int
) -> Counter[str]:
    """Pull the platter after each of these steps, open what that leaves, and look.

    Args:
        acknowledged: how many batches were before the first step that says so.
    """
    random = Random(5)
    figures: Counter[str] = Counter()
    platter = Platter(NAME)
    taken = 0
    for number in numbers:
        for step in steps[taken:number]:
            platter.take(step)
            if step.what == "mark":
                acknowledged = step.offset
        taken = number
        for draw in range(draws):
            place = fresh(folder, 10 * number + draw)
            platter.write_out(place, random)
            if acknowledged >= ERASED_AFTER:
                left = b"".join(path.read_bytes() for path in place.iterdir())
                assert not any(data[:16] in left for data in ERASED), (number, draw, steps[number - 1])
            store = SqliteStore(place / NAME, synced=False)
            found = content(store)
            store.close()
            assert found in STATES[acknowledged : acknowledged + 2], (number, draw, steps[number - 1])
            figures["cases"] += 1
            figures["torn"] += store.torn > 0
            figures["bytes torn"] += store.torn
            figures["batch kept that was not acknowledged"] += found != STATES[acknowledged]
    return figures


def test_after_any_power_failure_what_was_acknowledged_is_there_and_what_was_erased_is_not(tmp_path: Path) -> None:
    with disk() as whole:
        Run(fresh(tmp_path, 0), whole)
    figures = require_right_after_crashes(tmp_path, whole.steps, range(1, len(whole.steps) + 1), 0, draws=3)
    print(f"\npower failures: {dict(figures)}")
    assert figures["torn"]


def test_what_a_store_shows_after_a_failed_fsync_survives_the_power_failure_that_follows(tmp_path: Path) -> None:
    """The kernel shows pages that the disk never got, and calls them clean."""
    with disk() as whole:
        Run(fresh(tmp_path, 0), whole)
    figures: Counter[str] = Counter()
    for number, call in enumerate(whole.calls):
        if call != "xSync":
            continue
        folder = fresh(tmp_path, number + 1)
        with disk(Fault(number, apsw.IOError)) as faulty:
            run = Run(folder, faulty)
        with disk() as again:
            again.steps += faulty.steps
            store = SqliteStore(folder / NAME, vfs=again.name)
            shown = STATES.index(content(store))
            assert shown in (run.acknowledged, run.acknowledged + 1)
            again.steps.append(Step("mark", offset=shown))
            for batch in BATCHES[shown:][:2]:
                store.write(batch, 0)
                shown += 1
                again.steps.append(Step("mark", offset=shown))
            steps = list(again.steps)
            store.close()
        numbers = range(len(faulty.steps), len(steps) + 1)
        figures += require_right_after_crashes(fresh(folder, 0), steps, numbers, run.acknowledged, draws=2)
        figures["fsyncs that failed"] += 1
    print(f"\nfailed fsyncs and power failures: {dict(figures)}")
