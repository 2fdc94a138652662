"""A peer whose keys come out of a vault: its journal's actor holds the streams to what the keystore remembers."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.host import HandlerError, Host
from actors.journal import JournalActor
from actors.storage.files import SafeFile
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import Vault
from protocols.journal.messages import Append, Close, Closed, Entry, Forget, OpenStream, Recovered
from tests.actors.journal_world import OtherWriter, Setup, Write, Writer
from tests.protocols.identity.keystore.files import CHEAP, NOW, PASSPHRASE, content


class Home:
    """The folder of a peer."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        self.keystore, self.journal = folder / "keystore", folder / "journal"
        self.vault(create=True).close(NOW)

    def vault(self, *, create: bool = False) -> Vault:
        file, store = SafeFile(str(self.keystore)), SqliteStore(self.journal)
        if create:
            return Vault.create(file, store, content(), PASSPHRASE, CHEAP, NOW, os.urandom)
        return Vault.open(file, store, PASSPHRASE, NOW, os.urandom)

    def setup(self) -> Setup:
        """As a peer starts: the vault is opened, shows that all is there, and is closed again."""
        vault = self.vault()
        vault.check_streams()
        vault.close(NOW)
        known = vault.content
        return Setup(partial(SqliteStore, self.journal), known.journal_root, vault.anchors, known.imported)

    def start(self, setup: Setup) -> tuple[Host, Writer]:
        host = Host(lambda peer, incarnation: (setup, (JournalActor, Writer)))
        host.up(0)
        writer = host.actor(0, "a")
        assert isinstance(writer, Writer)
        return host, writer

    def append(self, *payloads: bytes) -> Recovered:
        """A whole life: up, some records, down in order. Returns what was there when it came up."""
        host, writer = self.start(self.setup())
        for token, payload in enumerate(payloads):
            host.tell(0, "a", Write(Append(token, b"a", (Entry("note", payload),))))
        host.tell(0, "a", Write(Close()))
        host.run(1)
        assert writer.ends == [Closed()]
        assert writer.recovered is not None
        return writer.recovered


def test_a_journal_put_back_under_a_peer_is_refused_by_its_actor(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.append(b"one")
    shutil.copy(home.journal, tmp_path / "old")
    assert [each.payload for each in home.append(b"two").records] == [b"one"]
    setup = home.setup()
    assert setup.journal_anchors[b"a"].sequence == 2
    shutil.copy(tmp_path / "old", home.journal)
    with pytest.raises(HandlerError, match="had 2 records before"):
        home.start(setup)


def test_what_was_imported_is_in_doubt_at_every_start_until_the_keystore_says_otherwise(tmp_path: Path) -> None:
    home = Home(tmp_path)
    vault = home.vault()
    vault.save(replace(vault.content, imported=True), NOW)
    vault.close(NOW)
    assert [home.append(b"note").clean for _ in range(3)] == [False, False, False]
    vault = home.vault()
    vault.save(vault.content.confirmed(), NOW)
    vault.close(NOW)
    assert home.append().clean


def test_a_stream_that_a_peer_forgot_is_not_missed_and_can_begin_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.append(b"one")
    host, writer = home.start(home.setup())
    told = (Forget(1, b"a"), OpenStream(b"a"), Append(2, b"a", (Entry("note", b"two"),)), Forget(3, b"a"), Close())
    for message in told:
        host.tell(0, "a", Write(message))
        host.run(host.now + 1)
    assert writer.recovered == Recovered(b"a", None, (), True)
    assert [each.token for _, each in writer.answers] == [1, 2, 3]
    assert writer.ends == [Closed()]
    again = home.append(b"three")
    assert (again.snapshot, again.records, again.clean) == (None, (), True)
    copy = tmp_path / "old"
    shutil.copy(home.journal, copy)
    assert [each.payload for each in home.append(b"four").records] == [b"three"]
    setup = home.setup()
    shutil.copy(copy, home.journal)
    with pytest.raises(HandlerError, match="records before"):
        home.start(setup)


def test_a_stream_can_be_forgotten_that_nobody_opened(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.append(b"one")
    setup = home.setup()
    host = Host(lambda peer, incarnation: (setup, (JournalActor, OtherWriter)))
    host.up(0)
    for message in (Forget(1, b"a"), Forget(2, b"a"), Close()):
        host.tell(0, "b", Write(message))
    host.run(1)
    again = home.append()
    assert (again.snapshot, again.records, again.clean) == (None, (), True)


def test_a_stream_that_was_forgotten_and_not_opened_since_is_not_to_be_used(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.append(b"one")
    host, _ = home.start(home.setup())
    host.tell(0, "a", Write(Forget(1, b"a")))
    host.run(1)
    with pytest.raises(HandlerError, match="is not open"):
        host.tell(0, "a", Write(Append(2, b"a", (Entry("note", b"two"),))))
