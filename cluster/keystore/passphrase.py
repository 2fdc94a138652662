"""Where a passphrase comes from: a prompt, a descriptor or a file of one's own. Never the command line or the
environment, which other processes can read, and which shells and supervisors write down.

The first line counts, without its end. It is normalised as RFC 8265 §4.2.2 has it (every space is the same one, then
NFC), so that the same letters typed on another system, or read from a file, are the same passphrase; bytes that are
no text stay what they are.
"""

import getpass
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from actors.storage.files import read
from protocols.errors import LocalError
from protocols.identity.keystore import wipe

PASSPHRASE_SIZE_MAX: Final = 1024
"""In bytes. More is a wrong file."""


class Source(NamedTuple):
    """Where to take it from; typed unseen if neither is given."""

    option: str
    """How the options are called that say so, without their end."""
    descriptor: int | None
    file: Path | None

    @contextmanager
    def passphrase(self, what: str, *, confirm: bool = False) -> Iterator[bytearray]:
        """The passphrase ``what`` it is for; wiped after the block. ``confirm``: whoever types it does so twice."""
        found = bytearray(_normal(self._line(what, confirm)))
        try:
            if not found:
                raise LocalError(f"the passphrase {what} is empty")
            if len(found) > PASSPHRASE_SIZE_MAX:
                raise LocalError(f"the passphrase {what} has more than {PASSPHRASE_SIZE_MAX} bytes")
            yield found
        finally:
            wipe(found)

    def _line(self, what: str, confirm: bool) -> bytes:
        if self.descriptor is not None and self.file is not None:
            raise LocalError(f"give one of {self.option}-fd and {self.option}-file")
        if self.file is not None:
            return read(str(self.file), PASSPHRASE_SIZE_MAX).partition(b"\n")[0].removesuffix(b"\r")
        if self.descriptor is not None:
            return _first_line(self.descriptor)
        if sys.stdin is None or not sys.stdin.isatty():
            raise LocalError(
                f"no terminal to ask for the passphrase {what}: give {self.option}-fd or {self.option}-file"
            )
        try:
            typed = getpass.getpass(f"passphrase {what}: ")
            if confirm and getpass.getpass("once more: ") != typed:
                raise LocalError("the two passphrases differ")
        except EOFError:
            raise LocalError(f"no passphrase {what} was typed") from None
        return typed.encode(errors="surrogateescape")


def _first_line(descriptor: int) -> bytes:
    """Byte by byte: what follows may be another passphrase, for another reader of this descriptor."""
    line = b""
    try:
        while len(line) <= PASSPHRASE_SIZE_MAX and (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
            line += byte
    except OSError as error:
        raise LocalError(f"no passphrase can be read from descriptor {descriptor}: {error.strerror}") from None
    return line.removesuffix(b"\r")


def _normal(line: bytes) -> bytes:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return line
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in text)
    return unicodedata.normalize("NFC", spaced).encode()
