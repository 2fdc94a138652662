"""Keys: what follows from the journal's root key, and what an epoch of a stream is sealed with.

The root key comes out of the keystore and seals little: the key of each epoch, and the list of streams. Everything
else is under the key of its epoch, which is random and follows from nothing, so that once its row is gone, whoever
has the root key and whatever was left on the disk is no further. Nonces are random too, and long enough for that: a
group that was lost in a crash may be on the disk all the same while its numbers are given out again, so a nonce that
counts would repeat.

What it does not help against is who copied the rows before and learns the root key after.
"""

from collections.abc import Callable
from typing import Final

from protocols.crypto import (
    SHA256,
    XCHACHA_NONCE_SIZE,
    CryptoError,
    Secret,
    xchacha20_poly1305_open,
    xchacha20_poly1305_seal,
)
from protocols.errors import LocalError
from protocols.journal.errors import JournalError
from protocols.journal.store import STREAM_SIZE, Table

Entropy = Callable[[int], bytes]

VERSION: Final = 1
"""Of every row: its first byte."""
ROOT_SIZE: Final = 32
EPOCH_SECRET_SIZE: Final = 32
TAG_SIZE: Final = 32


class JournalKeys:
    """Everything that a journal derives from its root key."""

    __slots__ = ("_naming", "_wrapping")

    def __init__(self, root: Secret) -> None:
        if len(root) != ROOT_SIZE:
            raise LocalError(f"a journal's root key has {ROOT_SIZE} bytes, not {len(root)}")
        self._naming = SHA256.hkdf_expand(root.reveal(), b"spacepanda journal 1 naming", 32)
        self._wrapping = SHA256.hkdf_expand(root.reveal(), b"spacepanda journal 1 wrapping", 32)

    def stream(self, name: bytes) -> bytes:
        """A stream's id. Names say which groups somebody is in; a file shows only this."""
        return SHA256.hmac(self._naming, name)[:STREAM_SIZE]

    def wrap(self, table: Table, stream: bytes, number: int, plaintext: bytes, entropy: Entropy) -> bytes:
        """A row for this one place: ``VERSION(1) | NONCE(24) | SEALED``."""
        nonce = entropy(XCHACHA_NONCE_SIZE)
        sealed = xchacha20_poly1305_seal(self._wrapping, nonce, _place(table, stream, number), plaintext)
        return bytes([VERSION]) + nonce + sealed

    def unwrap(self, table: Table, stream: bytes, number: int, data: bytes) -> bytes:
        """Raises:
        JournalError: ``version``, ``bad_roll`` or ``bad_key``.
        """
        check_version(data, what := f"the {table.name.lower()} row")
        nonce, sealed = data[1 : 1 + XCHACHA_NONCE_SIZE], data[1 + XCHACHA_NONCE_SIZE :]
        try:
            return xchacha20_poly1305_open(self._wrapping, nonce, _place(table, stream, number), sealed)
        except CryptoError:
            raise JournalError(
                f"bad_{table.name.lower()}", f"{what} does not open: it was altered, or another key wrote it"
            ) from None


class EpochKeys:
    """The keys of one epoch of one stream."""

    __slots__ = ("_authenticating", "_sealing", "epoch", "stream")

    def __init__(self, stream: bytes, epoch: int, secret: bytes) -> None:
        self.stream: Final = stream
        self.epoch: Final = epoch
        self._sealing = SHA256.hkdf_expand(secret, b"spacepanda journal 1 sealing", 32)
        self._authenticating = SHA256.hkdf_expand(secret, b"spacepanda journal 1 authenticating", 32)

    def seal(self, nonce: bytes, associated_data: bytes, plaintext: bytes) -> bytes:
        return xchacha20_poly1305_seal(self._sealing, nonce, associated_data, plaintext)

    def open(self, nonce: bytes, associated_data: bytes, sealed: bytes) -> bytes:
        """Raises:
        CryptoError: ``decrypt_failed``.
        """
        return xchacha20_poly1305_open(self._sealing, nonce, associated_data, sealed)

    def tag(self, domain: bytes, *fields: bytes) -> bytes:
        """The MAC over fields of which all but the last have a fixed size; domains end in a zero byte."""
        return SHA256.hmac(self._authenticating, b"".join((domain, self.stream, *fields)))


def check_version(data: bytes, what: str) -> None:
    """Raises:
    JournalError: ``version``.
    """
    if data[:1] != bytes([VERSION]):
        raise JournalError("version", f"{what} has version {data[0] if data else 'none'}, and this reads {VERSION}")


def _place(table: Table, stream: bytes, number: int) -> bytes:
    return b"spacepanda journal 1 row\0" + bytes([VERSION, table]) + number.to_bytes(8, "big") + stream
