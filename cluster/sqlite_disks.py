"""The disks of peers in real time: a database for each, in a folder that lasts as long as the run.

A sync stops the host that it is on, and so all peers of that host, as it would stop any program with one thread.
Which journals are on one disk together is the placement's business.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from actors.storage.sqlite_store import SqliteStore
from protocols.errors import LocalError


class SqliteDisks:
    """The disks of one host's peers; the folder is made for the first that is opened."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._open: Final[dict[int, SqliteStore]] = {}

    def open(self, peer: int) -> SqliteStore:
        """The disk of a peer that comes up."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="spacepanda-")
        store = self._open[peer] = SqliteStore(Path(self._folder.name) / f"peer-{peer}.db")
        return store

    def crash(self, peer: int, now: int) -> None:
        """A peer goes down. What it was told is durable is; nothing else was written, as a write waits for its sync."""
        store = self._open.pop(peer, None)
        if store is not None:
            store.close()

    def to_bytes(self, peer: int) -> bytes:
        raise LocalError("a disk of real time is not part of a host's state")

    def restore(self, peer: int, data: bytes) -> None:
        raise LocalError("a disk of real time is not part of a host's state")

    def close(self) -> None:
        """The run is over, and nobody needs what is on them."""
        for peer in tuple(self._open):
            self.crash(peer, 0)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
