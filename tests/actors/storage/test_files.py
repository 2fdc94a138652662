import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors.storage.files import FileError, SafeFile, System, read
from protocols.errors import LocalError, StorageError

OLD = b"what was there"
NEW = b"what is to be there"
NAME = bytes(8)


class Faulty(System):
    """Counts the calls that are made, and makes one of them fail: or write one byte, as a disk does that fills up."""

    def __init__(self, fail_at: int = -1, fault: int | str = errno.EIO, lasting: bool = False) -> None:
        self.calls: list[str] = []
        self.fail_at = fail_at
        self.fault = fault
        self.lasting = lasting

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in vars(System):
            return found

        def call(*arguments: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if number != self.fail_at and not (self.lasting and 0 <= self.fail_at < number):
                return found(*arguments)
            if isinstance(self.fault, int):
                if name == "close":
                    found(*arguments)  # as the system does, whatever it answers
                raise OSError(self.fault, os.strerror(self.fault))
            if self.fault == "short" and name == "write":
                return found(arguments[0], bytes(arguments[1])[:1])
            if self.fault == "nothing" and name == "write":
                return 0
            return found(*arguments)

        return call


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keystore")


@pytest.fixture
def old(path: str) -> str:
    with SafeFile(path) as file:
        file.create(OLD, NAME)
    return path


@pytest.fixture
def wide_open() -> Iterator[None]:
    """However careless the user's mask is."""
    before = os.umask(0)
    yield
    os.umask(before)


def names(path: str) -> list[str]:
    return sorted(each.name for each in Path(path).parent.iterdir())


def refused(reason: str, attempt: Any, *arguments: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        attempt(*arguments)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, StorageError)
    return caught.value


# -- reading ------------------------------------------------------------------------------------------------


def test_a_file_is_read_whole_up_to_a_limit(old: str) -> None:
    assert read(old, len(OLD)) == OLD
    refused("too_large", read, old, len(OLD) - 1)


def test_what_is_not_a_file_of_ours_alone_is_refused(old: str, tmp_path: Path) -> None:
    assert old in str(refused("missing", read, f"{old}.not", 99))
    refused("missing", read, f"{old}/not", 99)
    assert "no such folder" in str(refused("missing", SafeFile, f"{old}/not"))
    assert "no such folder" in str(refused("missing", SafeFile, str(tmp_path / "not" / "keystore")))
    refused("not_a_file", read, str(tmp_path), 99)
    os.symlink(old, tmp_path / "link")
    refused("symlink", read, str(tmp_path / "link"), 99)
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused("not_a_file", read, str(tmp_path / "pipe"), 99)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_a_file_that_is_open_to_others_is_refused_and_left_as_it_is(old: str, mode: int) -> None:
    os.chmod(old, mode)
    before = os.stat(old)
    assert "chmod 600" in str(refused("exposed", read, old, 99))
    after = os.stat(old)
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_someone_elses_file_is_refused(old: str) -> None:
    os.chown(old, 12345, -1)
    assert "someone else's file" in str(refused("foreign", read, old, 99))


def test_someone_elses_file_is_refused_also_if_nobody_is_root(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    refused("foreign", read, old, 99)


# -- writing ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("wide_open")
def test_a_new_file_is_its_owners_alone_and_leaves_nothing_beside_it(path: str) -> None:
    with SafeFile(path) as file:
        assert not file.exists()
        file.create(OLD, NAME)
        assert file.exists()
        file.replace(NEW, NAME)
        assert file.read(99) == NEW
        assert names(path) == ["keystore", "keystore.lock"]
        for each in (path, f"{path}.lock"):
            assert stat.S_IMODE(os.stat(each).st_mode) == 0o600
    assert names(path) == ["keystore"]


def test_a_file_that_is_there_is_not_created_again(old: str) -> None:
    with SafeFile(old) as file:
        refused("exists", file.create, NEW, NAME)
        assert read(old, 99) == OLD
        os.unlink(old)
        os.symlink("nowhere", old)
        refused("exists", file.create, NEW, NAME)
    assert names(old) == ["keystore"]


def test_two_writers_are_kept_apart_and_readers_are_not(old: str) -> None:
    with SafeFile(old):
        refused("locked", SafeFile, old)
        assert read(old, 99) == OLD
    with SafeFile(old) as file:
        file.replace(NEW, NAME)
    file.close()
    with pytest.raises(LocalError):
        file.replace(OLD, NAME)
    assert read(old, 99) == NEW


def test_a_lock_whose_file_was_removed_in_between_is_none(old: str) -> None:
    """It was opened while another one held it, and got when that one let go: a third could have a file of its own."""
    other = SafeFile(old)

    class Late(System):
        def flock(self, *arguments: Any) -> None:
            other.close()
            fcntl.flock(*arguments)

    refused("locked", SafeFile, old, Late())
    with SafeFile(old):
        refused("locked", SafeFile, old)


def test_a_file_stays_the_same_when_the_process_goes_elsewhere(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(old).parent)
    with SafeFile("keystore") as file:
        monkeypatch.chdir("/")
        file.replace(NEW, NAME)
        assert file.exists()
        assert file.read(99) == NEW
    assert names(old) == ["keystore"]


def test_the_lock_goes_with_the_process_that_died(old: str) -> None:
    script = f"import os; from actors.storage.files import SafeFile; file = SafeFile({old!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 9
    SafeFile(old).close()


@pytest.mark.parametrize("kind", ["link", "exposed", "folder"])
def test_a_lock_that_somebody_prepared_is_refused(path: str, kind: str) -> None:
    lock = f"{path}.lock"
    match kind:
        case "link":
            os.symlink(path, lock)
        case "exposed":
            Path(lock).touch(0o644)
            os.chmod(lock, 0o644)
        case _:
            os.mkdir(lock)
    reason = {"link": "symlink", "exposed": "exposed", "folder": "not_a_file"}[kind]
    refused(reason, SafeFile, path)


def test_a_file_that_is_no_lock_is_not_taken_for_one_nor_removed(old: str) -> None:
    lock = Path(f"{old}.lock")
    lock.write_bytes(OLD)
    os.chmod(lock, 0o600)
    assert "no lock of ours" in str(refused("locked", SafeFile, old))
    assert lock.read_bytes() == OLD


def test_leftovers_of_a_writer_that_was_killed_are_removed_by_the_next_and_nothing_else_is(old: str) -> None:
    folder = Path(old).parent
    random = "0123456789abcdef"
    left = [f".keystore.{random}.new", f".keystore.{random}00.new"]
    # Another keystore's writer may be at work on one, and its owner may have made another.
    others = [f".keystore.copy.{random}.new", f".keystore2.{random}.new", ".keystore.backup.new", ".keystore.cafe.new"]
    others += ["keystore.new", ".keystore.old", ".other.00.new"]
    for each in left + others:
        (folder / each).write_bytes(b"")
    with SafeFile(old) as file:
        file.replace(NEW, NAME)
    assert names(old) == sorted(["keystore", *others])


def test_a_name_that_somebody_guessed_is_not_written_through(old: str, tmp_path: Path) -> None:
    class Planting(System):
        """Puts a link where the new file is to be, after the leftovers were removed."""

        def open(self, path: str, *arguments: Any) -> int:  # type: ignore[override]
            if path.endswith(".new") and not os.path.lexists(path):
                os.symlink(tmp_path / "victim", path)
            return os.open(path, *arguments)

    with SafeFile(old, Planting()) as file:
        refused("io", file.replace, NEW, NAME)
    assert not (tmp_path / "victim").exists()
    assert read(old, 99) == OLD


def test_a_name_takes_entropy(old: str) -> None:
    with SafeFile(old) as file, pytest.raises(LocalError):
        file.replace(NEW, b"short")


# -- every call that can fail, in turn ----------------------------------------------------------------------


def replaced(path: str, system: System) -> None:
    with SafeFile(path, system) as file:
        file.read(99)
        file.replace(NEW, NAME)


def calls(path: str) -> list[str]:
    """Those of a replacement that goes well."""
    system = Faulty()
    replaced(path, system)
    with SafeFile(path) as file:
        file.replace(OLD, NAME)
    return system.calls


FAULTS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EINVAL]
REASONS = {
    errno.EIO: {"io"},
    errno.EINVAL: {"io"},
    errno.ENOSPC: {"full"},
    errno.EDQUOT: {"full"},
    errno.EROFS: {"read_only"},
    errno.EACCES: {"read_only", "unreadable"},
}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from there on"])
@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
def test_whichever_call_fails_the_old_file_is_there_or_the_new_one(old: str, fault: int, lasting: bool) -> None:
    done = calls(old)
    assert done.count("fsync") == 2
    assert done.count("rename") == 1
    cases = harmless = 0
    for number, name in enumerate(done):
        system = Faulty(number, fault, lasting)
        caught: FileError | None = None
        try:
            replaced(old, system)
        except FileError as error:
            caught = error
        cases += 1
        found = read(old, 99)
        if caught is None:
            # What is not needed: to remove leftovers, and to be told that the lock was let go.
            assert name in ("listdir", "unlink", "close")
            assert found == NEW
            harmless += 1
        else:
            assert caught.reason in REASONS[fault]
            assert found in (OLD, NEW)
            assert found == OLD or number > done.index("rename")
        # Whoever opens it next finds nothing in the way.
        with SafeFile(old) as file:
            file.replace(OLD, NAME)
        assert names(old) == ["keystore"]
    assert cases == len(done) >= 16
    assert harmless <= 3


def test_after_a_failed_fsync_rename_or_close_the_writer_is_dead(old: str) -> None:
    done = calls(old)
    last_write = len(done) - 1 - done[::-1].index("write")
    for number, name in enumerate(done[:-2]):
        if number > last_write:
            with SafeFile(old, system := Faulty(number)) as file:
                file.read(99)
                refused("io", file.replace, NEW, NAME)
                made = len(system.calls)
                assert "opened anew" in str(refused("closed", file.replace, NEW, NAME)), name
                refused("closed", file.create, NEW, NAME)
                refused("closed", file.sync)
                assert len(system.calls) == made
    assert read(old, 99) in (OLD, NEW)


def test_a_disk_that_was_full_can_be_written_once_there_is_space(old: str) -> None:
    number = calls(old).index("write")
    with SafeFile(old, Faulty(number, errno.ENOSPC)) as file:
        file.read(99)
        refused("full", file.replace, NEW, NAME)
        assert names(old) == ["keystore", "keystore.lock"]
        assert read(old, 99) == OLD
        file.replace(NEW, NAME)
    assert read(old, 99) == NEW


def test_short_writes_are_gone_on_with(old: str) -> None:
    number = calls(old).index("write")
    replaced(old, Faulty(number, "short", lasting=True))
    assert read(old, 99) == NEW
    with SafeFile(old, Faulty(number, "nothing")) as file:
        file.read(99)
        refused("io", file.replace, OLD, NAME)
    assert read(old, 99) == NEW


def test_syncing_again_what_another_writer_left_is_fatal_if_it_fails(old: str) -> None:
    with SafeFile(old, system := Faulty()) as file:
        file.sync()
        assert system.calls.count("fsync") == 2
        system.fail_at = len(system.calls) + 1
        refused("io", file.sync)
        refused("closed", file.replace, NEW, NAME)


def test_no_descriptor_is_left_open(old: str) -> None:
    done = calls(old)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(len(done)):
        with suppress(FileError):
            replaced(old, Faulty(number))
    assert len(os.listdir("/proc/self/fd")) == before
