import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from actors.storage.files import FileError, SafeFile, System, read
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import STREAM, Vault
from protocols.errors import LocalError, StorageError
from protocols.identity.keystore import (
    KEYSTORE_SIZE_MAX,
    Argon2Parameters,
    Content,
    DeviceKeys,
    KeystoreError,
    sealed,
    unlock_content,
)
from protocols.identity.keystore.kdf import argon2id
from protocols.identity.keystore.sealed import HEADER_SIZE
from protocols.journal import Batch, Entry, JournalError, StoreError, Table
from protocols.journal.messages import STREAM_NAME_SIZE_MAX
from tests.actors.storage.test_files import Faulty
from tests.protocols.identity.keystore.files import CHEAP, NOW, PASSPHRASE, content, entropy
from tests.protocols.journal.memory import MemoryStore

DHT = b"dht"


class Killed(BaseException):
    """The process is no more: nothing that it would do after this happens."""


class Place:
    """A folder, and a journal's rows, which outlive whoever opens them."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "keystore")
        self.rows: dict[tuple[Table, bytes, int], bytes] = {}

    def create(self, value: Content | None = None, journal: bool = True) -> Vault:
        file, store = SafeFile(self.path), self.store() if journal else None
        try:
            return Vault.create(file, store, value or content(), PASSPHRASE, CHEAP, NOW, os.urandom)
        except BaseException:
            file.close()
            raise

    def open(self, passphrase: bytes = PASSPHRASE, journal: bool = True, system: System | None = None) -> Vault:
        file = SafeFile(self.path, system) if system else SafeFile(self.path)
        try:
            return Vault.open(file, self.store() if journal else None, passphrase, NOW, os.urandom)
        except BaseException:
            file.close()
            raise

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.stored = self.rows
        return store

    def file(self) -> bytes:
        return read(self.path, KEYSTORE_SIZE_MAX)

    def put_back(self, file: bytes | None = None, rows: dict[tuple[Table, bytes, int], bytes] | None = None) -> None:
        if file is not None:
            Path(self.path).write_bytes(file)
        if rows is not None:
            self.rows = dict(rows)

    def copy(self) -> tuple[bytes, dict[tuple[Table, bytes, int], bytes]]:
        return self.file(), dict(self.rows)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(place: Place, kind: type[StorageError], reason: str, **options: Any) -> str:
    """The sentence with which it is not opened; the file and the journal are as they were."""
    before, rows, status = place.file(), dict(place.rows), os.stat(place.path)
    with pytest.raises(kind) as caught:
        place.open(**options)
    assert caught.value.reason == reason
    after = os.stat(place.path)
    assert (place.file(), place.rows) == (before, rows)
    assert (after.st_mtime_ns, after.st_ino, after.st_mode) == (status.st_mtime_ns, status.st_ino, status.st_mode)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(value: Content) -> Content:
    return replace(value, imported=not value.imported)


# -- saving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [True, False])
def test_what_was_saved_is_there_with_the_next_generation(place: Place, journal: bool) -> None:
    vault = place.create(journal=journal)
    first = vault.content
    assert replace(first, generation=0, anchors=()) == content()
    vault.save(changed(vault.content), NOW)
    assert vault.content.generation == first.generation + 1
    saved = vault.content
    vault.close(NOW)
    vault.close(NOW)
    again = place.open(journal=journal)
    assert again.content == saved
    assert again.content.imported
    again.close(NOW)
    assert unlock_content(place.file(), PASSPHRASE)[1] == saved


def test_a_vault_on_a_real_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "keystore")
    store = SqliteStore(tmp_path / "keystore.journal")
    vault = Vault.create(SafeFile(path), store, content(), PASSPHRASE, CHEAP, NOW, os.urandom)
    stream, _ = vault.open_stream(DHT)
    stream.append([Entry("stored", b"a record")], NOW)
    vault.save(vault.content.without_user_seed(), NOW)
    vault.close(NOW)
    again = Vault.open(SafeFile(path), SqliteStore(tmp_path / "keystore.journal"), PASSPHRASE, NOW, os.urandom)
    _, recovery = again.open_stream(DHT)
    assert [each.payload for each in recovery.records] == [b"a record"]
    assert recovery.clean
    assert recovery.anchored
    again.close(NOW)


def test_a_keystore_that_is_there_is_not_created_again(place: Place) -> None:
    place.create().close(NOW)
    before = place.copy()
    place.rows = {}
    with pytest.raises(FileError) as caught:
        place.create(content(1))
    assert caught.value.reason == "exists"
    assert place.file() == before[0]


def test_a_new_keystore_does_not_take_an_old_journal(place: Place) -> None:
    place.create().close(NOW)
    os.unlink(place.path)
    with pytest.raises(LocalError):
        place.create()
    with pytest.raises(JournalError) as caught:
        place.create(content(1))
    assert caught.value.reason == "bad_roll"
    assert not os.path.exists(place.path)


def test_a_wrong_passphrase_opens_nothing(place: Place) -> None:
    place.create().close(NOW)
    refused(place, KeystoreError, "wrong_passphrase", passphrase=b"wrong")


@pytest.mark.parametrize("journal", [True, False])
def test_after_a_change_of_passphrase_the_new_one_opens_it_and_the_old_one_does_not(
    place: Place, journal: bool
) -> None:
    vault = place.create(journal=journal)
    stronger = Argon2Parameters(CHEAP.memory_kib, 2, 1)
    vault.change_passphrase(b"another", stronger, NOW)
    vault.save(changed(vault.content), NOW)
    vault.close(NOW)
    refused(place, KeystoreError, "wrong_passphrase", journal=journal)
    assert place.open(b"another", journal=journal).content.imported


def test_a_closed_vault_saves_nothing_and_has_no_keys(place: Place) -> None:
    vault = place.create()
    keys = vault._keys
    vault.close(NOW)
    assert keys.locked
    with pytest.raises((LocalError, StoreError)):
        vault.save(vault.content, NOW)
    place.open().close(NOW)


def test_a_keystore_keeps_the_key_of_its_journal(place: Place) -> None:
    vault = place.create()
    with pytest.raises(LocalError):
        vault.save(vault.content.from_elsewhere(bytes(32)), NOW)
    vault.save(vault.content, NOW)


def test_what_the_journal_knows_of_saves_does_not_grow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.storage.vault.RECORDS_MAX", 8)
    vault = place.create()
    sizes = []
    for _ in range(40):
        vault.save(vault.content, NOW)
        sizes.append(len(place.rows))
    assert max(sizes[20:]) <= max(sizes[:20]) <= 25
    generation = vault.content.generation
    vault.close(NOW)
    assert place.open().content.generation == generation


@pytest.mark.usefixtures("derived_once")
def test_5_2_a_corrupted_file_is_refused_and_left_as_it_is(place: Place) -> None:
    """Every byte of the header and of the end; what the bytes are is tested where they are made."""
    place.create().close(NOW)
    whole = place.file()
    for index in [*range(HEADER_SIZE), len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[index] ^= 0x40
        place.put_back(bytes(flipped))
        refused_somehow(place)
    for data in (whole[:0], whole[:7], whole[:100], whole[:-1], whole + b"\0", whole + bytes(KEYSTORE_SIZE_MAX)):
        place.put_back(data)
        refused_somehow(place)
    place.put_back(whole)
    place.open().close(NOW)


def refused_somehow(place: Place) -> None:
    data = place.file() if os.path.getsize(place.path) <= KEYSTORE_SIZE_MAX else b""
    before, rows = os.stat(place.path), dict(place.rows)
    with pytest.raises(StorageError) as caught:
        place.open()
    after = os.stat(place.path)
    assert (after.st_mtime_ns, after.st_ino, after.st_size) == (before.st_mtime_ns, before.st_ino, before.st_size)
    assert place.rows == rows
    assert not data or place.file() == data
    for secret in (PASSPHRASE.decode(), content().journal_root.hex(), repr(content().journal_root)[2:-1]):
        assert secret not in str(caught.value)


# -- which file is the last ---------------------------------------------------------------------------------


def test_an_older_keystore_is_refused(place: Place) -> None:
    vault = place.create()
    older = place.file()
    for _ in range(3):
        vault.save(vault.content, NOW)
        vault.abandon()
        newest = place.file()
        place.put_back(older)
        assert "an older one" in refused(place, KeystoreError, "rolled_back")
        place.put_back(newest)
        vault = place.open()


def test_an_older_keystore_is_refused_also_if_it_had_no_journal_then(place: Place) -> None:
    place.create(journal=False).close(NOW)
    older = place.file()
    place.open().close(NOW)
    place.put_back(older)
    refused(place, KeystoreError, "rolled_back")


def test_an_older_journal_is_refused(place: Place) -> None:
    vault = place.create()
    older = dict(place.rows)
    vault.save(vault.content, NOW)
    vault.close(NOW)
    place.put_back(rows=older)
    assert "the journal is an older one" in refused(place, KeystoreError, "rolled_back")


def test_a_journal_from_before_the_last_but_one_save_misses_the_anchor(place: Place) -> None:
    vault = place.create()
    older = dict(place.rows)
    vault.save(vault.content, NOW)
    vault.save(vault.content, NOW)
    vault.close(NOW)
    place.put_back(rows=older)
    refused(place, JournalError, "truncated")


def test_a_journal_that_is_gone_is_missed(place: Place) -> None:
    place.create().close(NOW)
    assert "is gone" in refused(place, KeystoreError, "rolled_back", journal=False)
    place.put_back(rows={})
    refused(place, JournalError, "missing")


def test_a_journal_of_another_keystore_is_refused(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    os.mkdir(tmp_path / "other")
    other.create(content(1)).close(NOW)
    place.create().close(NOW)
    place.put_back(rows=other.rows)
    refused(place, JournalError, "bad_roll")


def test_a_file_of_the_same_generation_from_a_copy_of_the_folder_is_refused(place: Place) -> None:
    place.create().close(NOW)
    start = place.copy()
    vault = place.open()
    vault.save(changed(vault.content), NOW)
    vault.close(NOW)
    other, _ = place.copy()
    place.put_back(*start)
    vault = place.open()
    vault.save(vault.content, NOW)
    vault.close(NOW)
    place.put_back(other)
    assert "not the one" in refused(place, KeystoreError, "rolled_back")


def test_a_folder_that_was_put_back_whole_is_found_out_by_a_witness_only(place: Place) -> None:
    vault = place.create()
    stream, _ = vault.open_stream(DHT)
    stream.append([Entry("stored", b"first")], NOW)
    vault.save(vault.content, NOW)
    start = place.copy()
    stream.append([Entry("stored", b"second")], NOW)
    vault.close(NOW)
    witnessed = stream.head
    place.put_back(*start)
    with place.open() as vault:
        assert not vault.open_stream(DHT)[1].clean
    with place.open() as vault, pytest.raises(JournalError) as caught:
        vault.open_stream(DHT, witnessed)
    assert caught.value.reason == "truncated"


# -- what the keystore remembers of the journal -------------------------------------------------------------


def test_closing_remembers_how_far_the_streams_went_and_only_then_saves(place: Place) -> None:
    vault = place.create()
    stream, _ = vault.open_stream(DHT)
    stream.append([Entry("stored", b"one")], NOW)
    generation = vault.content.generation
    vault.close(NOW)
    assert vault.content.generation == generation + 1
    assert {each.stream: each.sequence for each in vault.content.anchors}[DHT] == 1
    vault = place.open()
    assert vault.open_stream(DHT)[1].anchored
    vault.close(NOW)
    assert vault.content.generation == generation + 1


def test_a_stream_of_the_longest_name_is_remembered(place: Place) -> None:
    vault = place.create()
    name = b"n" * STREAM_NAME_SIZE_MAX
    vault.open_stream(name)[0].append([Entry("stored", b"one")], NOW)
    vault.close(NOW)
    assert place.open().open_stream(name)[1].anchored


def test_streams_that_were_not_opened_stay_remembered(place: Place) -> None:
    vault = place.create()
    vault.open_stream(DHT)[0].append([Entry("stored", b"one")], NOW)
    vault.close(NOW)
    vault = place.open()
    vault.save(changed(vault.content), NOW)
    vault.close(NOW)
    assert {each.stream for each in place.open().content.anchors} == {DHT, STREAM}


def test_a_removed_stream_is_forgotten_first_and_may_begin_anew(place: Place) -> None:
    vault = place.create()
    vault.open_stream(DHT)[0].append([Entry("stored", b"one")] * 9, NOW)
    vault.close(NOW)
    vault = place.open()
    with pytest.raises(LocalError):
        vault.remove_stream(STREAM, NOW)
    with pytest.raises(LocalError):
        vault.remove_stream(b"no such", NOW)
    vault.remove_stream(DHT, NOW)
    vault.open_stream(DHT)[0].append([Entry("stored", b"two")], NOW)
    vault.close(NOW)
    _, recovery = place.open().open_stream(DHT)
    assert [each.payload for each in recovery.records] == [b"two"]


def test_after_an_import_no_stream_is_clean_until_others_confirmed_how_far_its_devices_were(place: Place) -> None:
    vault = place.create(content().from_elsewhere(bytes(32)))
    assert not vault.open_stream(DHT)[1].clean
    vault.close(NOW)
    vault = place.open()
    assert not vault.open_stream(DHT)[1].clean
    vault.save(vault.content.confirmed(), NOW)
    vault.close(NOW)
    assert place.open().open_stream(DHT)[1].clean


def test_without_a_journal_there_are_no_streams(place: Place) -> None:
    vault = place.create(journal=False)
    with pytest.raises(LocalError):
        vault.open_stream(DHT)
    with pytest.raises(LocalError):
        vault.remove_stream(DHT, NOW)
    assert "without a journal" in repr(vault)


# -- at every call ------------------------------------------------------------------------------------------


class Script(System):
    """Counts what reaches the disk, files and journal alike, and lets one of these calls go wrong."""

    def __init__(self, at: int = -1, mode: str = "") -> None:
        self.at = at
        self.mode = mode
        self.calls: list[str] = []
        self.killed = False
        self.descriptors: list[int] = []

    def step(self, name: str, do: Callable[[], Any], error: Exception) -> Any:
        if self.killed:
            raise Killed
        self.calls.append(name)
        if len(self.calls) - 1 != self.at:
            return do()
        if self.mode.endswith("after it"):
            do()
        if self.mode.startswith("fails"):
            raise error
        self.killed = True
        raise Killed

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in vars(System):
            return found

        def call(*arguments: Any) -> Any:
            result = self.step(name, lambda: found(*arguments), OSError(errno.EIO, "Input/output error"))
            if name == "open":
                self.descriptors.append(result)
            return result

        return call

    def die(self) -> None:
        """What the system does for a process that is no more."""
        for each in self.descriptors:
            with suppress(OSError):
                os.close(each)


class ScriptedStore(MemoryStore):
    """Its writes are among the calls that go wrong."""

    def __init__(self, rows: dict[tuple[Table, bytes, int], bytes], script: Script) -> None:
        super().__init__()
        self.stored = rows
        self.script = script

    def write(self, batch: Batch | None, now: int = 0) -> int:
        self.script.step("commit", lambda: super(ScriptedStore, self).write(batch, now), StoreError("io", "the disk"))
        return now


class Story:
    """What somebody does with a vault, and what of it they were told is done."""

    def __init__(self, place: Place, script: Script) -> None:
        self.place = place
        self.script = script
        self.acknowledged = 2
        """The generation that is there for sure,"""
        self.records = 0
        """and the records of another stream."""
        self.attempted = {2: content()}

    def run(self) -> None:
        entropy = Draws()
        file = SafeFile(self.place.path, self.script)
        try:
            store = ScriptedStore(self.place.rows, self.script)
            vault = Vault.open(file, store, PASSPHRASE, NOW, entropy)
            self.acknowledge(vault)
            stream, recovery = vault.open_stream(DHT)
            self.records = len(recovery.records)
            stream.append([Entry("stored", b"one")], NOW)
            self.save(vault, lambda: vault.save(self.next(vault), NOW))
            self.records = 1
            self.save(vault, lambda: vault.save(self.next(vault), NOW))
            stream.append([Entry("stored", b"two")], NOW)
            self.attempted[vault.content.generation + 1] = vault.content
            self.save(vault, lambda: vault.change_passphrase(b"another", CHEAP, NOW))
            self.records = 2
            stream.append([Entry("stored", b"three")], NOW)
            self.attempted[vault.content.generation + 1] = vault.content
            vault.close(NOW)
            self.records = 3
        finally:
            file.close()

    def next(self, vault: Vault) -> Content:
        value = vault.content
        value = value.rotate_device(value.device_public, device(value.generation), NOW)
        self.attempted[value.generation + 1] = value
        return value

    def save(self, vault: Vault, attempt: Callable[[], None]) -> None:
        before = vault.content
        try:
            attempt()
        except StorageError:
            assert vault.content == before
            raise
        self.acknowledge(vault)

    def acknowledge(self, vault: Vault) -> None:
        self.acknowledged = vault.content.generation
        self.attempted.setdefault(vault.content.generation, vault.content)

    def check(self) -> None:
        """What was acknowledged is there, or what was being done."""
        vault = self.reopened()
        found = vault.content
        assert found.generation in (self.acknowledged, self.acknowledged + 1)
        assert replace(found, generation=0, anchors=()) == replace(
            self.attempted[found.generation], generation=0, anchors=()
        )
        _, recovery = vault.open_stream(DHT)
        assert self.records <= len(recovery.records) <= self.records + 1
        vault.save(changed(vault.content), NOW)
        vault.close(NOW)
        assert sorted(os.listdir(Path(self.place.path).parent)) == ["keystore"]

    def reopened(self) -> Vault:
        """One of the two passphrases opens it; to interrupt a change of it may leave either."""
        try:
            return self.place.open()
        except KeystoreError:
            return self.place.open(b"another")


class Draws:
    """The same entropy in every run of a story, so that each key is derived once for all of them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return entropy(size, ("story", self.count))


def device(seed: int) -> DeviceKeys:
    return DeviceKeys.generate(entropy(64, ("rotated", seed)), b"spacepanda-test", NOW)


@pytest.fixture
def derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derive = argon2id
    known: dict[tuple[bytes, bytes], bytes] = {}

    def derived(passphrase: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytearray:
        if (passphrase, salt) not in known:
            known[passphrase, salt] = bytes(derive(passphrase, salt, memory_kib, passes, lanes))
        return bytearray(known[passphrase, salt])

    monkeypatch.setattr(sealed, "argon2id", derived)


MODES = ["is killed before it", "is killed after it", "fails", "fails after it"]


@pytest.mark.usefixtures("derived_once")
@pytest.mark.parametrize("mode", MODES)
def test_whichever_call_it_is_the_old_keystore_or_the_new_one_opens(tmp_path: Path, mode: str) -> None:
    start = prepared(tmp_path / "start")
    whole = Story(placed(tmp_path, -1, start), script := Script())
    whole.run()
    whole.check()
    assert script.calls.count("rename") == 4
    assert script.calls.count("commit") >= 9
    for number in range(len(script.calls)):
        story = Story(placed(tmp_path, number, start), one := Script(number, mode))
        try:
            story.run()
        except (Killed, StorageError):
            pass
        else:
            assert one.calls[number] in ("listdir", "close", "unlink"), "a failure that nobody was told of"
        one.die()
        story.check()
    print(f"{mode}: {len(script.calls)} calls, old or new after each")


def prepared(folder: Path) -> tuple[bytes, dict[tuple[Table, bytes, int], bytes]]:
    os.mkdir(folder)
    place = Place(folder)
    place.create().close(NOW)
    return place.copy()


def placed(folder: Path, number: int, start: tuple[bytes, dict[tuple[Table, bytes, int], bytes]]) -> Place:
    folder = folder / f"{number}"
    os.mkdir(folder)
    place = Place(folder)
    Path(place.path).touch(0o600)
    place.put_back(*start)
    return place


@pytest.mark.usefixtures("derived_once")
@pytest.mark.parametrize("mode", MODES)
def test_a_creation_that_was_interrupted_leaves_no_keystore_or_one_that_opens(tmp_path: Path, mode: str) -> None:
    def create(place: Place, script: Script) -> None:
        file = SafeFile(place.path, script)
        try:
            store = ScriptedStore(place.rows, script)
            Vault.create(file, store, content(), PASSPHRASE, CHEAP, NOW, Draws())
        finally:
            file.close()

    def run(number: int) -> tuple[Place, Script]:
        folder = tmp_path / f"{number}"
        os.mkdir(folder)
        place, script = Place(folder), Script(number, mode)
        with suppress(Killed, StorageError):
            create(place, script)
        script.die()
        return place, script

    _, whole = run(-1)
    for number in range(len(whole.calls)):
        place, _ = run(number)
        if not os.path.exists(place.path):
            place.create().close(NOW)
        vault = place.open()
        assert replace(vault.content, generation=0, anchors=()) == content()
        vault.close(NOW)


def test_a_move_that_a_power_cut_could_undo_is_made_durable_before_the_journal_says_done(place: Place) -> None:
    place.create().close(NOW)
    vault = place.open()
    before_done = iter([None, StoreError("io", "the second commit fails, which says done")])
    write = MemoryStore.write

    def failing(store: MemoryStore, batch: Batch | None, now: int = 0) -> int:
        if error := next(before_done):
            raise error
        return write(store, batch, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "write", failing)
        with pytest.raises(StoreError):
            vault.save(changed(vault.content), NOW)
    vault.abandon()
    script = Script()
    store = ScriptedStore(place.rows, script)
    vault = Vault.open(SafeFile(place.path, script), store, PASSPHRASE, NOW, os.urandom)
    assert vault.content.imported
    assert [each for each in script.calls if each in ("fsync", "commit")] == ["fsync", "fsync", "commit"]


def test_a_full_disk_leaves_a_vault_that_saves_once_there_is_space(place: Place) -> None:
    place.create().close(NOW)
    vault = place.open(system=(system := Faulty()))
    before = vault.content
    vault.save(changed(before), NOW)
    system.fault = errno.ENOSPC
    system.fail_at = len(system.calls) + system.calls[1:].index("write") - system.calls.index("listdir") + 1
    with pytest.raises(FileError) as caught:
        vault.save(before, NOW)
    assert caught.value.reason == "full"
    assert vault.content.imported
    vault.save(before, NOW)
    vault.close(NOW)
    assert not place.open().content.imported


class Unsettled(System):
    """Its next fsync of a folder fails, after the file was moved; or somebody presses Ctrl-C just then."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error
        self.moved = False

    def rename(self, *arguments: str) -> None:  # type: ignore[override]
        os.rename(*arguments)
        self.moved = True

    def fsync(self, descriptor: int) -> None:  # type: ignore[override]
        if self.moved and self.error is not None:
            error, self.error = self.error, None
            raise error
        os.fsync(descriptor)


@pytest.mark.parametrize("again", ["save", "change_passphrase", "remove_stream", "close"])
def test_a_save_after_a_fatal_one_does_not_hide_which_file_is_in_place(place: Place, again: str) -> None:
    place.create().close(NOW)
    vault = place.open(system=Unsettled(OSError(errno.EIO, "Input/output error")))
    stream, _ = vault.open_stream(DHT)
    stream.append([Entry("stored", b"one")], NOW)
    with pytest.raises(FileError):
        vault.save(changed(vault.content), NOW)
    stream.append([Entry("stored", b"two")], NOW)
    calls: dict[str, Callable[[], None]] = {
        "save": lambda: vault.save(vault.content, NOW),
        "change_passphrase": lambda: vault.change_passphrase(b"another", CHEAP, NOW),
        "remove_stream": lambda: vault.remove_stream(DHT, NOW),
        "close": lambda: vault.close(NOW),
    }
    with pytest.raises(FileError) as caught:
        calls[again]()
    assert caught.value.reason == "closed"
    vault.abandon()
    assert place.open().content.imported


def test_a_save_that_was_interrupted_after_the_move_is_known_also_after_another_attempt(place: Place) -> None:
    place.create().close(NOW)
    vault = place.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vault, "_append", interrupted_before_done(Vault._append))
        with pytest.raises(KeyboardInterrupt):
            vault.save(changed(vault.content), NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeFile, "replace", full)
        with pytest.raises(FileError):
            vault.save(vault.content, NOW)
    vault.abandon()
    assert place.open().content.imported


def interrupted_before_done(append: Callable[..., None]) -> Callable[..., None]:
    def appending(vault: Vault, kind: str, *arguments: Any) -> None:
        if kind == "done":
            raise KeyboardInterrupt
        append(vault, kind, *arguments)

    return appending


def full(*_: object) -> None:
    raise FileError("full", "the disk is full")
