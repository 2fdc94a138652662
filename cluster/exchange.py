"""How shards meet between windows: directly, over sockets, in one round.

Each window ends with every shard telling every other one what crosses to it and when its own next event
is. As Ray calls through the driver that round costs 2 ms or more; a window of a real run has a
millisecond of work. The same round over a connection between each pair costs a tenth of it, so Ray places
the shards, starts them, watches them and collects their results, and the rounds stay between them.

Connections are the standard library's: framed, and opened only to who proves to know the run's key, since
what arrives here is believed. A pair exchanges in a fixed order, the lower number first, so no circle of
shards can wait for each other however large the batches are.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from struct import Struct
from typing import Final

from protocols.errors import SpacePandaError

BATCH_SIZE_MAX: Final = 1 << 30
"""Bytes from one shard to another in one window; a hundred thousand peers at their busiest send a tenth."""

_HEAD: Final = Struct("<q")


class ShardLostError(SpacePandaError):
    """A shard of this run is gone; without it no window can end."""


class Exchange:
    """One shard's end of the connections to all others."""

    def __init__(self, number: int, shards: int, key: bytes, host: str = "127.0.0.1") -> None:
        self._number = number
        self._key = key
        self._links: list[Connection | None] = [None] * shards
        self._listener = Listener((host, 0), "AF_INET", backlog=max(1, shards), authkey=key)

    @property
    def address(self) -> tuple[str, int]:
        """Where the other shards reach this one."""
        host, port = self._listener.address
        return host, port

    def connect(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Connect to every shard; each pair has one connection, opened by its higher number."""
        for number, address in enumerate(addresses[: self._number]):
            link = Client(address, "AF_INET", authkey=self._key)
            link.send_bytes(_HEAD.pack(self._number))
            self._links[number] = _prompt(link)
        for _ in addresses[self._number + 1 :]:
            link = self._greet()
            (number,) = _HEAD.unpack(link.recv_bytes(_HEAD.size))
            self._links[number] = _prompt(link)
        self._listener.close()

    def _greet(self) -> Connection:
        """The next shard that calls; who does not know the key is turned away, and keeps nobody from coming."""
        while True:
            with suppress(AuthenticationError, EOFError, ConnectionError):
                return self._listener.accept()

    def round(self, earliest: int, batches: Sequence[bytes]) -> tuple[int, list[bytes]]:
        """Send ``batches`` (one per shard) and the time of our earliest event; receive everybody's.

        Returns:
            the earliest event of all shards, and the batches for this one.

        Raises:
            ShardLostError: a shard does not answer any more.
        """
        received: list[bytes] = []
        head = _HEAD.pack(earliest)
        for number, link in enumerate(self._links):
            if link is None:
                continue
            try:
                if number > self._number:
                    link.send_bytes(head + batches[number])
                message = link.recv_bytes(BATCH_SIZE_MAX)
                if number < self._number:
                    link.send_bytes(head + batches[number])
            except (EOFError, OSError) as error:
                self.close()  # so that who waits for us learns it too
                raise ShardLostError(f"shard {number} does not answer shard {self._number} any more") from error
            (theirs,) = _HEAD.unpack_from(message)
            earliest = min(earliest, theirs)
            if len(message) > _HEAD.size:
                received.append(message[_HEAD.size :])
        return earliest, received

    def close(self) -> None:
        """Close every connection; the others notice."""
        for link in self._links:
            if link is not None:
                with suppress(OSError):
                    link.close()
        with suppress(OSError):
            self._listener.close()


def _prompt(link: Connection) -> Connection:
    """Send small batches at once: a batch of two writes would wait 40 ms for an acknowledgement."""
    with socket.socket(fileno=socket.dup(link.fileno())) as duplicate:
        duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
