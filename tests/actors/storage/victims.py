"""Programs that write, and say what they were told is durable, until they are killed.

``python -m tests.actors.storage.victims`` imports all that they need once and forks one for each line it reads, so
that hundreds can be killed in a few seconds. Everything that they write follows from a name and a number, so whoever
looks afterwards knows what has to be there.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import Struct
from typing import Final, NoReturn

from msgspec.structs import replace

from actors.storage.files import SafeFile
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import Vault
from protocols.crypto import Secret
from protocols.identity.keystore import Argon2Parameters, Content
from protocols.identity.keystore.content import CONTENT_ENTROPY_SIZE
from protocols.journal import Entry, Journal, JournalKeys, Stream

WORD: Final = Struct(">BQ")
"""What a victim says, and its number. Shorter than what a pipe takes whole."""
BORN: Final = 255
"""A process id."""
READY: Final = 254
DEAD: Final = 253
"""A wait status. Any other word: so many records of the stream of this number, or saves, are durable."""

STREAMS: Final = (b"dht", b"mls/7", b"crdt/2")
GENERATION: Final = len(STREAMS)
JOURNAL: Final = "journal.db"
KEYSTORE: Final = "keystore"
PASSPHRASE: Final = b"correct horse"
CHEAP: Final = Argon2Parameters(memory_kib=19 * 1024, passes=1, lanes=1)


def journal_keys() -> JournalKeys:
    return JournalKeys(Secret(b"r" * 32))


def payload(stream: bytes, sequence: int) -> bytes:
    random = Random(f"{stream!r} {sequence}")
    return random.randbytes(random.choice((0, 20, 200, 200, 200, 3_000)))


def state(stream: bytes, sequence: int) -> bytes:
    """Of a snapshot."""
    return Random(f"{stream!r} up to {sequence}").randbytes(5_000)


def content(generation: int) -> Content:
    """Of a keystore, but for what saving adds."""
    first = Content.generate(Random(1).randbytes(CONTENT_ENTROPY_SIZE), b"victims", 0, 10**18)
    return replace(first, imported=generation % 2 == 1)


def say(word: int, number: int) -> None:
    os.write(1, WORD.pack(word, number))


def append(folder: Path, random: Random) -> NoReturn:
    """A journal of several streams: batches of records for some of them, and snapshots, some of which erase."""
    store = SqliteStore(folder / JOURNAL)
    journal = Journal.open(journal_keys(), store)
    streams = [journal.open_stream(name)[0] for name in STREAMS]
    say(READY, store.torn)
    while True:
        chosen = random.sample(range(len(streams)), random.randint(1, len(streams)))
        for index in chosen:
            _append(streams[index], random)
        batch = journal.flush(random.randbytes)
        assert batch is not None
        store.write(batch, 0)
        for index in chosen:
            say(index, streams[index].sequence)


def _append(stream: Stream, random: Random) -> None:
    first = stream.sequence + 1
    numbers = range(first, first + random.choice((1, 1, 5, 64)))
    stream.append([Entry("test", payload(stream.name, number)) for number in numbers], now=first)
    if random.random() < 0.1:
        stream.snapshot(state(stream.name, stream.sequence), erase=random.random() < 0.3)


def save(folder: Path, random: Random) -> NoReturn:
    """A keystore with its journal, saved over and over."""
    file = SafeFile(str(folder / KEYSTORE))
    store = SqliteStore(folder / JOURNAL)
    vault = Vault.open(file, store, PASSPHRASE, 0, random.randbytes)
    say(READY, store.torn)
    while True:
        say(GENERATION, vault.content.generation)
        vault.save(replace(vault.content, imported=vault.content.generation % 2 == 0), 0)


VICTIMS: Final[dict[str, Callable[[Path, Random], NoReturn]]] = {"append": append, "save": save}


def main() -> None:
    """Each line: which victim, the seed of what it draws, and its folder."""
    for line in sys.stdin:
        name, seed, folder = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if not child:
            try:
                say(BORN, os.getpid())
                VICTIMS[name](Path(folder), Random(int(seed)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        say(DEAD, os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
