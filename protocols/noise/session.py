"""One established session: two keys, two counters and a window, and nothing else.

Datagrams carry their counters, as they may be lost, repeated or out of order (Noise §11.4). What was seen is
kept in a sliding window (RFC 6479's purpose; one integer of bits does here for its ring of words). Nothing of it
moves before the tag verifies, so a forged counter can neither shut out an honest one nor use up a key.

Keys age by count: every 2**16 messages each direction applies Noise's REKEY, so the epoch of a datagram is its
counter's upper part and needs no field. The receiver keeps the key before the current one only as long as
its window may still admit such a counter. A datagram of a later epoch is tried with keys derived for it
alone; they are adopted when it verifies.

A session is plain data of less than 1 kB. AEAD contexts are on loan from ``AeadContexts``.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag

from protocols.errors import LocalError
from protocols.noise.contexts import AeadContexts
from protocols.noise.datagrams import (
    DATA,
    DATA_HEADER,
    DATA_HEADER_SIZE,
    PLAINTEXT_SIZE_MAX,
    SessionError,
    StaleDatagramError,
)
from protocols.noise.symmetric import CHACHA_POLY

WINDOW_SIZE: Final = 1024
"""How far behind the newest a datagram may come: 10 ms of reordering at 100,000 a second."""

EPOCH_BITS: Final = 16
"""A key seals 65,536 messages, a minute of them at 1,000 a second. A REKEY costs as much as two."""

EPOCH_STEPS_MAX: Final = 8
"""Epochs that may be lost whole, at one REKEY (2 µs) each for a forged counter: half a million messages in a row."""

COUNTER_LIMIT: Final = 2**63
"""Counters end before this; the session dies first. Noise reserves 2**64 - 1, and half is as unreachable."""

_WINDOW_MASK: Final = (1 << WINDOW_SIZE) - 1
_EPOCH_MASK: Final = (1 << EPOCH_BITS) - 1
_NONCE: Final = CHACHA_POLY.pack_nonce


class CounterExhaustedError(LocalError):
    """This session has sealed all it may; it sends nothing any more."""


class Session(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False, eq=False):
    """Both directions of one session. Its index is the local name; the remote index goes into datagrams."""

    index: int
    remote_index: int
    device: bytes
    endpoint: int
    """Where the newest datagram came from; a session follows its device when it moves."""
    initiator: bool
    handshake_hash: bytes
    """Names this session and no other: Noise §11.2, channel binding."""
    send_key: bytes
    receive_key: bytes
    reject_at: int
    """From this time on the session neither sends nor receives."""
    received_at: int
    """When the peer last proved to be there."""
    previous_key: bytes = b""
    """The receiving key of the epoch before; empty when the window admits none of its counters."""
    send_counter: int = 0
    newest: int = -1
    """The highest counter that verified."""
    window: int = 0
    """Bit i: the counter ``newest - i`` was received."""

    def __repr__(self) -> str:
        return f"Session({self.index:#010x} with {self.device.hex()[:16]} at {self.endpoint})"

    def seal(self, plaintext: bytes, contexts: AeadContexts) -> bytes:
        """The datagram that carries ``plaintext``.

        Raises:
            CounterExhaustedError: there are no counters left.
            LocalError: the plaintext does not fit a datagram.
        """
        counter = self.send_counter
        if len(plaintext) > PLAINTEXT_SIZE_MAX:
            raise LocalError(f"{len(plaintext)} bytes do not fit a datagram: {PLAINTEXT_SIZE_MAX} do")
        if counter >= COUNTER_LIMIT:
            raise CounterExhaustedError(repr(self))
        if not counter & _EPOCH_MASK and counter:
            contexts.forget(self.send_key)
            self.send_key = CHACHA_POLY.rekey(self.send_key)
        self.send_counter = counter + 1
        header = DATA_HEADER.pack(DATA, self.remote_index, counter)
        return header + contexts.of(self.send_key).encrypt(_NONCE(counter), plaintext, header)

    def open(self, counter: int, datagram: bytes, contexts: AeadContexts) -> bytes:
        """The plaintext of a DATA datagram with this ``counter`` in its header.

        Raises:
            StaleDatagramError: ``replayed`` or ``counter_too_old``.
            SessionError: ``decrypt_failed`` or ``counter_too_far``.
        """
        newest = self.newest
        behind = newest - counter
        if behind >= 0:
            if behind >= WINDOW_SIZE:
                raise StaleDatagramError("counter_too_old", f"{behind} behind the newest")
            if self.window >> behind & 1:
                raise StaleDatagramError("replayed", f"counter {counter}")
        steps = (counter >> EPOCH_BITS) - (newest >> EPOCH_BITS if newest > 0 else 0)
        if steps == 0:
            context = contexts.of(self.receive_key)
        elif steps < 0:
            # The window is shorter than an epoch, so this is the one before.
            context = contexts.of(self.previous_key)
        else:
            if steps > EPOCH_STEPS_MAX or counter >= COUNTER_LIMIT:
                raise SessionError("counter_too_far", f"{-behind} ahead of the newest")
            previous, key = self._later_keys(steps)
            # Not from the cache, where keys that may never be adopted would displace others.
            context = CHACHA_POLY.context(key)
        try:
            plaintext = context.decrypt(_NONCE(counter), datagram[DATA_HEADER_SIZE:], datagram[:DATA_HEADER_SIZE])
        except InvalidTag:
            raise SessionError("decrypt_failed", f"{len(datagram)} bytes do not authenticate") from None

        if steps > 0:
            self.forget_keys(contexts, sending=False)
            self.previous_key, self.receive_key = previous, key
        if behind >= 0:
            self.window |= 1 << behind
        else:
            self.window = (self.window << -behind | 1) & _WINDOW_MASK if behind > -WINDOW_SIZE else 1
            self.newest = counter
            if self.previous_key and counter & _EPOCH_MASK >= WINDOW_SIZE - 1:
                contexts.forget(self.previous_key)
                self.previous_key = b""
        return plaintext

    def forget_keys(self, contexts: AeadContexts, *, sending: bool = True) -> None:
        """Give back the contexts on loan."""
        contexts.forget(self.receive_key)
        contexts.forget(self.previous_key)
        if sending:
            contexts.forget(self.send_key)

    def _later_keys(self, steps: int) -> tuple[bytes, bytes]:
        previous, key = b"", self.receive_key
        for _ in range(steps):
            previous, key = key, CHACHA_POLY.rekey(key)
        return previous, key
