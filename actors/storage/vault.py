"""A keystore that knows how far it was: its file, and the journal that remembers which file is the last.

A file by itself cannot tell that an older one was put in its place. So every save is journaled around the move of the
file: an ``intent`` with the next generation and the file's hash, durable before the file is touched, then the file,
then ``done``. Whoever opens them finds the file that was done last; or, if a save was interrupted, that one or the
intended one, and settles which. Anything else is refused. The other way round the file anchors the journal: it holds
how far each stream went when it was saved, so a journal from before that, or none, is refused too.

What is detected: an older keystore beside the present journal, an older journal beside the present keystore, either
one from elsewhere, a journal that is gone. What is not: both put back together, with everything that remembers them,
to a state that once was. Nothing in the folder can know better; peers who were sent its signed heads can, and until
they have said so, or after an import, a peer sends nothing that could repeat itself. Nor can a journal that was never
there be missed: a keystore that was only ever handled by itself, with no journal beside it, is opened as it is.
"""

import hashlib
from types import TracebackType
from typing import Final, NamedTuple, Self

from msgspec.structs import replace

from actors.storage.files import NAME_ENTROPY_SIZE, FileError, SafeFile
from protocols.crypto import Secret
from protocols.errors import LocalError
from protocols.identity.keystore import (
    KEYSTORE_SIZE_MAX,
    Anchor,
    Argon2Parameters,
    Content,
    KeystoreError,
    Unlocked,
    unlock_content,
)
from protocols.identity.keystore.content import ANCHORS_MAX
from protocols.identity.keystore.kdf import SALT_SIZE
from protocols.identity.keystore.sealed import GENERATION_SIZE, NONCE_SIZE
from protocols.journal import (
    Entropy,
    Entry,
    Head,
    Journal,
    JournalError,
    JournalKeys,
    Recovery,
    Store,
    Stream,
)

STREAM: Final = b"keystore"
INTENT: Final = "intent"
DONE: Final = "done"
RECORDS_MAX: Final = 64
"""After so many a snapshot sums them up."""
DIGEST_SIZE: Final = 32


class Saved(NamedTuple):
    """One file: no two that were ever sealed are equal."""

    generation: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes, generation: int) -> Self:
        return cls(generation, hashlib.sha256(data).digest())

    def to_bytes(self) -> bytes:
        return self.generation.to_bytes(GENERATION_SIZE, "big") + self.digest

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        if len(data) != GENERATION_SIZE + DIGEST_SIZE:
            raise JournalError("version", "the journal knows keystores of another sort")
        return cls(int.from_bytes(data[:GENERATION_SIZE], "big"), data[GENERATION_SIZE:])


class Vault:
    """A keystore that is open: what it holds, and the one way to save it.

    A save that fails for want of space leaves everything as it was; after any other failure it has to be opened anew.
    """

    def __init__(self, file: SafeFile, store: Store | None, entropy: Entropy, keys: Unlocked, content: Content) -> None:
        """See ``create`` and ``open``."""
        self.content = content
        """As it was saved last."""
        self.journal: Journal | None = None
        """Whoever else appends to it flushes and writes on the same thread: a save here takes along what waits."""
        self._file: Final = file
        self._store: Final = store
        self._entropy: Final = entropy
        self._keys = keys
        self._streams: dict[bytes, Stream] = {}
        self._summed = 0
        """The last of our records that a snapshot sums up."""

    def __repr__(self) -> str:
        return f"<Vault: {self.content!r}{'' if self.journal else ', without a journal'}>"

    @classmethod
    def create(
        cls,
        file: SafeFile,
        store: Store | None,
        content: Content,
        passphrase: bytes | bytearray,
        parameters: Argon2Parameters,
        now: int,
        entropy: Entropy,
    ) -> Self:
        """A keystore where there was none, and with a ``store`` its journal.

        Raises:
            FileError: ``exists``, ...
            StorageError: the store is not empty, or failed.
        """
        if store is not None and Journal.open(_journal_keys(content), store).streams:
            raise LocalError("a new keystore does not begin with an old journal")
        if file.exists():
            raise FileError("exists", f"{file.path} is there already, and is not overwritten")
        keys = Unlocked.derive(passphrase, entropy(SALT_SIZE), parameters)
        try:
            content = replace(content, generation=content.generation + 1)
            data = content.seal(keys, entropy(NONCE_SIZE))
            file.create(data, entropy(NAME_ENTROPY_SIZE))
            vault = cls(file, store, entropy, keys, content)
            vault._join(Saved.of(data, content.generation), now)
        except BaseException:
            keys.lock()
            raise
        return vault

    @classmethod
    def open(
        cls, file: SafeFile, store: Store | None, passphrase: bytes | bytearray, now: int, entropy: Entropy
    ) -> Self:
        """The keystore in a file; without a ``store`` only if it never had one.

        Raises:
            KeystoreError: it does not open, or is not the last one; see there.
            FileError, StoreError, JournalError: what is stored cannot be read, or is not what was written.
        """
        data = file.read(KEYSTORE_SIZE_MAX)
        keys, content = unlock_content(data, passphrase)
        try:
            vault = cls(file, store, entropy, keys, content)
            vault._join(Saved.of(data, content.generation), now)
        except BaseException:
            keys.lock()
            raise
        return vault

    @property
    def parameters(self) -> Argon2Parameters:
        """What its passphrase is derived with."""
        return self._keys.parameters

    def save(self, content: Content, now: int) -> None:
        """Make ``content`` what the keystore holds, with the next generation and what the journal anchors.

        Raises:
            StorageError: nothing was changed; or, if this is over, the old content is there or the new one.
        """
        self.content = self._saved(content, self._keys, now)

    def change_passphrase(self, passphrase: bytes | bytearray, parameters: Argon2Parameters, now: int) -> None:
        """Whoever has an older file and the older passphrase opens that one all the same: what the keys protect from
        now on, they protect if that file is gone."""
        keys = Unlocked.derive(passphrase, self._entropy(SALT_SIZE), parameters)
        try:
            self.content = self._saved(self.content, keys, now)
        except BaseException:
            keys.lock()
            raise
        self._keys.lock()
        self._keys = keys

    def open_stream(self, name: bytes, witnessed: Head | None = None) -> tuple[Stream, Recovery]:
        """A stream of the journal, which has to contain the place that the keystore remembers; or the one that
        others ``witnessed``, if that is further on.

        As long as the keystore says that it was imported, none is clean, however it was closed: what the devices
        did in the other place is not in this journal. ``Content.confirmed`` ends that.

        Raises:
            JournalError: it does not, or is not what was written.
        """
        if self.journal is None:
            raise LocalError("this keystore has no journal")
        anchor = self._anchor(name)
        if witnessed is not None and (anchor is None or witnessed.sequence > anchor.sequence):
            anchor = witnessed
        stream, recovery = self.journal.open_stream(name, anchor)
        self._streams[name] = stream
        return stream, replace(recovery, clean=recovery.clean and not self.content.imported)

    def check_streams(self) -> None:
        """Open all streams, as ``open_stream`` does. The next save then remembers how far each of them goes: for a
        peer whose own actor writes to them while this vault is closed."""
        if self.journal is not None:
            for name in self.journal.streams:
                if name not in self._streams:
                    self.open_stream(name)

    @property
    def anchors(self) -> dict[bytes, Head]:
        """How far each stream went when the keystore was saved last, by name."""
        names = [each.stream for each in self.content.anchors]
        return {name: anchor for name in names if (anchor := self._anchor(name)) is not None}

    def remove_stream(self, name: bytes, now: int) -> None:
        """Destroy a stream, and first what the keystore remembers of it: that would be missed at the next opening."""
        if self.journal is None or name == STREAM or name not in self.journal.streams:
            raise LocalError(f"no stream {name!r} to remove")
        self._streams.pop(name, None)
        self.content = self._saved(self.content, self._keys, now, forgotten=name)
        self.journal.remove_stream(name)
        self._commit(now)

    def close(self, now: int) -> None:
        """Lock the keys and let go of the file; with a journal, remember how far it went. Again is no mistake."""
        try:
            if self.journal is not None and not self._keys.locked:
                self._commit(now)
                if self._moved():
                    self.save(self.content, now)
                batch = self.journal.close(self._entropy)
                if batch is not None and self._store is not None:
                    self._store.write(batch, now)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Lock the keys and let go, and write nothing any more: as if the power had gone."""
        self._keys.lock()
        self._file.close()
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    # -- which file is the last -----------------------------------------------------------------------------

    def _join(self, file: Saved, now: int) -> None:
        """Compare the file with what the journal says, and settle an interrupted save."""
        if self._store is None:
            if self.content.anchors:
                raise KeystoreError("rolled_back", "the journal that belongs to this keystore is gone")
            return
        self.journal = Journal.open(_journal_keys(self.content), self._store)
        stream, recovery = self.open_stream(STREAM)
        self._summed = stream.sequence - len(recovery.records)
        done, intents = _recovered(recovery)
        if done is None:
            # Its first journal. The second save anchors that, so from now on it would be missed.
            self._append(DONE, file, now)
            self._commit(now)
            self.save(self.content, now)
        elif file != done and file not in intents:
            raise KeystoreError("rolled_back", _difference(file, done))
        elif intents:
            # Whoever was interrupted may not have come to the folder's fsync: a power cut could still undo the move.
            self._file.sync()
            self._append(DONE, file, now)
            self._commit(now)
        stream.settle()

    def _saved(self, content: Content, keys: Unlocked, now: int, forgotten: bytes = b"") -> Content:
        """``content`` as it is in the file now."""
        if self._keys.locked:
            raise LocalError("the vault is closed")
        if content.journal_root != self.content.journal_root:
            raise LocalError("a keystore keeps the key of its journal")
        self._file.require_usable()  # or the intent below would take the place of one that may have been carried out
        self._commit(now)
        anchors = tuple(each for each in self._anchors() if each.stream != forgotten)
        content = replace(content, generation=self.content.generation + 1, anchors=anchors)
        data = content.seal(keys, self._entropy(NONCE_SIZE))
        file = Saved.of(data, content.generation)
        self._append(INTENT, file, now)
        self._commit(now)
        self._file.replace(data, self._entropy(NAME_ENTROPY_SIZE))
        self._append(DONE, file, now)
        self._commit(now)
        return content

    def _append(self, kind: str, file: Saved, now: int) -> None:
        if stream := self._streams.get(STREAM):
            stream.append([Entry(kind, file.to_bytes())], now)
            if kind == DONE and stream.sequence - self._summed >= RECORDS_MAX:
                self._summed = stream.snapshot(file.to_bytes())

    def _commit(self, now: int) -> None:
        if self.journal is None or self._store is None:
            return
        batch = self.journal.flush(self._entropy)
        if batch is not None:
            try:
                self._store.write(batch, now)
            except BaseException:
                self.journal.failed()
                raise

    # -- how far the journal is -----------------------------------------------------------------------------

    def _anchor(self, name: bytes) -> Head | None:
        for each in self.content.anchors:
            if each.stream == name:
                return Head(_journal_keys(self.content).stream(name), each.sequence, each.tag)
        return None

    def _anchors(self) -> tuple[Anchor, ...]:
        """Those of streams that are open are as far as these are, the others stay; beyond the limit there are none."""
        anchors = {each.stream: each for each in self.content.anchors}
        for name, stream in self._streams.items():
            head = stream.head
            if head.sequence and (name in anchors or len(anchors) < ANCHORS_MAX):
                anchors[name] = Anchor(name, head.sequence, head.tag)
        return tuple(anchors[name] for name in sorted(anchors))

    def _moved(self) -> bool:
        """Whether any stream but ours went further than the keystore remembers."""
        return any(each not in self.content.anchors for each in self._anchors() if each.stream != STREAM)


def _recovered(recovery: Recovery) -> tuple[Saved | None, list[Saved]]:
    """``(the file that was saved last, those that were going to be)``: one, and those that it was tried to save before
    it, as whoever interrupts a save may leave the file moved and the vault in use."""
    done = None if recovery.snapshot is None else Saved.from_bytes(recovery.snapshot)
    intents = []
    for record in recovery.records:
        if record.kind == INTENT:
            intents.append(Saved.from_bytes(record.payload))
        else:
            done, intents = Saved.from_bytes(record.payload), []
    return done, intents


def _difference(file: Saved, done: Saved) -> str:
    if file.generation < done.generation:
        return f"it is an older one: generation {file.generation}, and {done.generation} was saved"
    if file.generation > done.generation:
        return f"the journal is an older one: it ends at generation {done.generation}, and this is {file.generation}"
    return f"it is not the one that was saved as generation {done.generation}"


def _journal_keys(content: Content) -> JournalKeys:
    return JournalKeys(Secret(content.journal_root))
