"""Keystores that a command reads, changes or makes.

What a file says about itself is looked at first, so that nobody types a passphrase for something that it cannot open.
A journal that lies beside a keystore, under its name and ``.journal``, belongs to it: then what is changed is recorded
there.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from actors.storage.files import NAME_ENTROPY_SIZE, FileError, SafeFile, read
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import Vault
from cluster.keystore.passphrase import Source
from protocols.errors import LocalError
from protocols.identity.keystore import (
    KEYSTORE_SIZE_MAX,
    Argon2Parameters,
    Content,
    Header,
    KeystoreError,
    Role,
    Unlocked,
    unlock_content,
)
from protocols.identity.keystore.kdf import SALT_SIZE
from protocols.identity.keystore.sealed import NONCE_SIZE
from protocols.journal import JournalError

JOURNAL: Final = ".journal"


def look(path: Path, role: Role, source: Source) -> tuple[Header, Content]:
    """What is in a file, without a lock, and changing nothing."""
    data = read(str(path), KEYSTORE_SIZE_MAX)
    with _named(path):
        header = Header.expect(data, role)
        with source.passphrase(f"of {path}") as secret:
            keys, content = unlock_content(data, secret, role)
        keys.lock()
    return header, content


@contextmanager
def opened(path: Path, source: Source) -> Iterator[Vault]:
    """A keystore to change, with its journal if there is one; closed in order if the block ends so."""
    with _named(path):
        Header.expect(read(str(path), KEYSTORE_SIZE_MAX), Role.KEYSTORE)
    with ExitStack() as stack:
        secret = stack.enter_context(source.passphrase(f"of {path}"))
        safe = stack.enter_context(SafeFile(str(path)))
        store = SqliteStore(journal(path)) if has_journal(path) else None
        if store is not None:
            stack.callback(store.close)
        with _named(path):
            vault = stack.enter_context(Vault.open(safe, store, secret, time.time_ns(), os.urandom))
        yield vault
        vault.close(time.time_ns())


def create(path: Path, content: Content, secret: bytearray, parameters: Argon2Parameters) -> None:
    """A keystore where there was none. Its journal begins when a peer opens it."""
    with SafeFile(str(path)) as safe:
        now = time.time_ns()
        Vault.create(safe, None, content, secret, parameters, now, os.urandom).close(now)


def export(path: Path, content: Content, secret: bytearray, parameters: Argon2Parameters) -> None:
    with SafeFile(str(path)) as safe:
        with Unlocked.derive(secret, os.urandom(SALT_SIZE), parameters) as keys:
            data = content.seal(keys, os.urandom(NONCE_SIZE), Role.EXPORT)
        safe.create(data, os.urandom(NAME_ENTROPY_SIZE))


def require_free(path: Path) -> None:
    """Before a passphrase is typed for nothing. That nobody makes it in between is made sure of when it is made."""
    if os.path.lexists(path):
        raise FileError("exists", f"{path} is there already, and is not overwritten")
    if has_journal(path):
        raise LocalError(f"{journal(path)} is there, and belongs to another keystore")


def journal(path: Path) -> Path:
    """Where a keystore's journal is, if it has one."""
    return path.parent / f"{path.name}{JOURNAL}"


def has_journal(path: Path) -> bool:
    """A link that leads nowhere is one too: to go on without would be to go on without what it knows."""
    return os.path.lexists(journal(path))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which keystore something is the matter; files and stores say it themselves."""
    try:
        yield
    except KeystoreError as error:
        raise KeystoreError(error.reason, f"{path}: {error.detail}") from None
    except JournalError as error:
        raise JournalError(error.reason, f"{journal(path)}: {error.detail}") from None
