"""``kill -9`` at any moment: whatever was acknowledged is there, exactly, and nothing is there by half."""

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

from actors.storage.files import SafeFile
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import Vault
from protocols.journal import Journal
from tests.actors.storage.victims import (
    BORN,
    CHEAP,
    DEAD,
    GENERATION,
    JOURNAL,
    KEYSTORE,
    PASSPHRASE,
    READY,
    STREAMS,
    WORD,
    content,
    journal_keys,
    payload,
    state,
)

ROOT: Final = Path(__file__).resolve().parents[3]
KILLS: Final = pytest.mark.parametrize("kills", [200, pytest.param(1000, marks=pytest.mark.campaign)])
ROUNDS_OF_A_STORE: Final = 20
"""Then a new one begins, so that creating one is interrupted too."""
OPENING: Final = 0.15
"""How many are killed while they open what the one before left."""
OPENING_S: Final = 0.02
"""How long that takes, about."""

Figures = Counter[str]


class Nursery:
    """The process that forks them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.actors.storage.victims"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def close(self) -> None:
        self._stdin.close()
        self._process.wait(10)
        self._stdout.close()

    def kill_one(self, victim: str, folder: Path, random: Random, most: int, figures: Figures) -> dict[int, int]:
        """Have one killed while it opens what it writes to, or at any moment about the first ``most`` words after.
        Returns the last number of each word that it said."""
        self._stdin.write(f"{victim} {random.randrange(2**32)} {folder}\n".encode())
        words: dict[int, int] = {}
        word, child = self._word()
        assert word == BORN
        longest_s = OPENING_S
        if random.random() >= OPENING:
            self._hear(words)
            began, heard = time.monotonic(), random.randint(0, most)
            for _ in range(heard):
                self._hear(words)
            # About as long as from one word to the next, however fast this machine is just now.
            longest_s = 2 * (time.monotonic() - began) / max(heard, 1)
        deadline = time.monotonic() + random.uniform(0, longest_s)
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._stdout], [], [], left)[0]:
                self._hear(words)
        os.kill(child, signal.SIGKILL)
        while (last := self._word())[0] != DEAD:
            words[last[0]] = last[1]
        assert os.WTERMSIG(last[1]) == signal.SIGKILL
        figures["kills"] += 1
        figures["while it opened"] += READY not in words
        figures["bytes torn"] += words.pop(READY, 0)
        return words

    def _hear(self, words: dict[int, int]) -> None:
        """One word of somebody who is alive."""
        word, words[word] = self._word()
        assert word != DEAD, f"it ended by itself: {words[word]}"

    def _word(self) -> tuple[int, int]:
        data = self._stdout.read(WORD.size)
        assert data, "the nursery is gone"
        assert len(data) == WORD.size
        word, number = WORD.unpack(data)
        return word, number


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    result = Nursery()
    yield result
    result.close()


def check_journal(folder: Path, acknowledged: dict[int, int], figures: Figures) -> dict[int, int]:
    """Every record that was acknowledged is there as it was. Returns how many each stream has now."""
    store = SqliteStore(folder / JOURNAL)
    journal = Journal.open(journal_keys(), store)
    sequences: dict[int, int] = {}
    for index, name in enumerate(STREAMS):
        stream, recovery = journal.open_stream(name)
        first = stream.sequence - len(recovery.records)
        if recovery.snapshot is None:
            assert first == 0
        else:
            assert recovery.snapshot == state(name, first)
        expected = range(first + 1, stream.sequence + 1)
        assert [(each.sequence, each.kind) for each in recovery.records] == [(number, "test") for number in expected]
        assert [each.payload for each in recovery.records] == [payload(name, number) for number in expected]
        assert not recovery.damaged
        assert stream.sequence >= acknowledged.get(index, 0), f"{name!r} lost what it had acknowledged"
        figures["kept without having been acknowledged"] += stream.sequence - acknowledged.get(index, 0)
        sequences[index] = stream.sequence
    figures["bytes torn"] += store.torn
    figures["ends that were torn"] += store.torn > 0
    store.close()
    return sequences


@KILLS
def test_records_that_were_acknowledged_survive_kill_9_at_any_moment(
    nursery: Nursery, tmp_path: Path, kills: int
) -> None:
    random = Random(6)
    figures: Figures = Counter()
    acknowledged: dict[int, int] = {}
    for kill in range(kills):
        folder = tmp_path / str(kill // ROUNDS_OF_A_STORE)
        if not folder.exists():
            folder.mkdir()
            acknowledged = {}
        before = dict(acknowledged)
        acknowledged |= nursery.kill_one("append", folder, random, 20, figures)
        figures["records acknowledged"] += sum(acknowledged.values()) - sum(before.values())
        acknowledged = check_journal(folder, acknowledged, figures)
    print(f"\njournal: {dict(figures)}")
    assert figures["records acknowledged"] > kills


def with_vault(folder: Path, work: Callable[[Vault], None]) -> None:
    file = SafeFile(str(folder / KEYSTORE))
    vault = Vault.open(file, SqliteStore(folder / JOURNAL), PASSPHRASE, 0, os.urandom)
    work(vault)
    vault.abandon()


@KILLS
def test_a_keystore_opens_with_what_was_saved_last_or_the_next_after_kill_9_at_any_moment(
    nursery: Nursery, tmp_path: Path, kills: int
) -> None:
    random = Random(7)
    figures: Figures = Counter()
    file = SafeFile(str(tmp_path / KEYSTORE))
    store = SqliteStore(tmp_path / JOURNAL)
    Vault.create(file, store, content(0), PASSPHRASE, CHEAP, 0, os.urandom).abandon()
    generation = 0

    def check(vault: Vault) -> None:
        nonlocal generation
        found = vault.content
        assert found.generation in (generation, generation + 1)
        figures["saves kept without having been acknowledged"] += found.generation - generation
        generation = found.generation
        if found.generation > 2:
            expected = content(generation)
            assert (found.imported, found.devices) == (expected.imported, expected.devices)

    generation = _generation(tmp_path)
    for _ in range(kills):
        words = nursery.kill_one("save", tmp_path, random, 5, figures)
        before, generation = generation, max(generation, words.get(GENERATION, 0))
        figures["saves acknowledged"] += generation - before
        leftovers = [each.name for each in tmp_path.iterdir() if each.name.endswith(".new")]
        figures["new files left over"] += len(leftovers)
        assert len(leftovers) <= 1
        with_vault(tmp_path, check)
    print(f"\nkeystore: {dict(figures)}")
    assert figures["saves acknowledged"] > kills // 2


def _generation(folder: Path) -> int:
    found: list[int] = []
    with_vault(folder, lambda vault: found.append(vault.content.generation))
    return found[0]
