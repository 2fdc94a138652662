"""Small files that must not be lost, half written or read by others: how they are read and replaced.

A reader sees the old file or the new one, whatever happens in between. So the new one is written beside it under
a name of its own, made durable, moved over the old one, and the folder made durable too: without the last step a
power cut may undo the move of a file that was reported as saved.

What a failed fsync leaves behind nobody knows: the kernel may drop the pages, forget the error, and let the next fsync
succeed ("Can Applications Recover from fsync Failures?", ATC 2020). So a writer whose fsync, rename or close failed
is dead. Who opens the file anew sees which of the two it is. A full disk does not kill it, as long as only the new file
was being filled: the old one is in place, and space can be made.

A file that others can read or write, that belongs to somebody else, or whose name is a symbolic link, is refused:
whoever controls it chooses what we unlock. Two writers are kept apart by a lock on a file beside it; readers need
none. Who lets go of the lock removes its file, so who takes it makes sure that the file is still the one of that name.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from protocols.errors import LocalError, StorageError

MODE: Final = 0o600
OTHERS: Final = 0o077
NEW: Final = ".new"
"""How the names of files end that are being written."""
LOCK: Final = ".lock"
NAME_ENTROPY_SIZE: Final = 8
READ_SIZE: Final = 64 * 1024


class FileError(StorageError):
    """A file cannot be read or written as asked.

    Reasons. Of what is there: ``missing``, ``exists``, ``unreadable``, ``symlink``, ``not_a_file``, ``foreign``,
    ``exposed``, ``too_large``. Of writing: ``read_only``, ``locked``, ``full``, ``io``; ``closed`` once one of these
    was fatal.
    """


class System:
    """The calls that are made, so that a test can make each of them fail."""

    open = staticmethod(os.open)
    fstat = staticmethod(os.fstat)
    lstat = staticmethod(os.lstat)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)
    close = staticmethod(os.close)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    listdir = staticmethod(os.listdir)
    flock = staticmethod(fcntl.flock)


SYSTEM: Final = System()

_SENTENCES: Final = {
    errno.ENOENT: ("missing", "{} does not exist"),
    errno.ENOTDIR: ("missing", "{} does not exist: what should be its folder is a file"),
    errno.ELOOP: ("symlink", "{} is a symbolic link, which is not followed"),
    errno.EISDIR: ("not_a_file", "{} is not a regular file"),
    errno.ENXIO: ("not_a_file", "{} is not a regular file"),
    errno.EROFS: ("read_only", "{} cannot be written: its file system is read-only"),
    errno.ENOSPC: ("full", "{} cannot be written: the disk is full"),
    errno.EDQUOT: ("full", "{} cannot be written: the quota is used up"),
    errno.EWOULDBLOCK: ("locked", "{} is being used by another process"),
}


@contextmanager
def sentences(path: str, verb: str) -> Iterator[None]:
    """Turn what the system says into one sentence about ``path``. ``verb``: what it "cannot be"."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = "unreadable" if verb == "read" else "read_only"
            where = "" if verb == "read" else f" to write in {os.path.dirname(os.path.abspath(path))}"
            raise FileError(reason, f"{path} cannot be {verb}: no permission{where}") from None
        if verb == "written" and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileError("missing", f"{path} cannot be written: there is no such folder") from None
        if found := _SENTENCES.get(error.errno or 0):
            raise FileError(found[0], found[1].format(path)) from None
        raise FileError("io", f"{path} cannot be {verb}: {error.strerror or 'the system does not say why'}") from None


def read(path: str, size_max: int, system: System = SYSTEM) -> bytes:
    """The bytes of a file that is ours alone.

    Raises:
        FileError: see there.
    """
    with sentences(path, "read"):
        # Without O_NONBLOCK a pipe of that name would be waited for.
        descriptor = system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            require_ours(path, system.fstat(descriptor))
            chunks, size = [], 0
            while chunk := system.read(descriptor, READ_SIZE):
                chunks.append(chunk)
                size += len(chunk)
                if size > size_max:
                    raise FileError("too_large", f"{path} has more than {size_max} bytes")
        finally:
            system.close(descriptor)
    return b"".join(chunks)


def require_ours(path: str, status: os.stat_result) -> None:
    """A regular file, which belongs to whoever runs this and to nobody else."""
    if not stat.S_ISREG(status.st_mode):
        raise FileError("not_a_file", f"{path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise FileError("foreign", f"{path} is someone else's file: it belongs to user {status.st_uid}")
    if status.st_mode & OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise FileError("exposed", f"{path} is open to others (mode {mode:04o}): chmod 600 makes it yours alone")


class SafeFile:
    """One file and the right to write it, from when this is made until it is closed."""

    __slots__ = ("_dead", "_folder", "_lock", "_name", "_system", "_target", "path")

    def __init__(self, path: str, system: System = SYSTEM) -> None:
        """Raises:
        FileError: ``locked``, ``read_only``, ``missing`` (its folder), ...
        """
        self.path: Final = path
        self._target = os.path.abspath(path)
        self._folder, self._name = os.path.split(self._target)
        self._system = system
        self._dead = False
        self._lock = -1
        lock = f"{self._target}{LOCK}"
        with sentences(f"{path}{LOCK}", "written"):
            descriptor = system.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
            try:
                status = system.fstat(descriptor)
                require_ours(f"{path}{LOCK}", status)
                if status.st_size:
                    # It would be removed with the lock.
                    raise FileError("locked", f"{path} cannot be locked: {path}{LOCK} is there, and is no lock of ours")
                with sentences(path, "locked"):
                    system.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_still(lock, status):
                    raise FileError("locked", f"{path} was being used by another process until now")
            except BaseException:
                system.close(descriptor)
                raise
        self._lock = descriptor

    def exists(self) -> bool:
        with sentences(self.path, "read"):
            try:
                self._system.lstat(self._target)
            except FileNotFoundError:
                return False
        return True

    def read(self, size_max: int) -> bytes:
        return read(self._target, size_max, self._system)

    def create(self, data: bytes, entropy: bytes) -> None:
        """Raises:
        FileError: ``exists``, or as ``replace``.
        """
        self.require_usable()
        if self.exists():
            raise FileError("exists", f"{self.path} is there already, and is not overwritten")
        self.replace(data, entropy)

    def replace(self, data: bytes, entropy: bytes) -> None:
        """Put ``data`` in the file's place, durably. ``entropy`` names the new file until it is there.

        Raises:
            FileError: the old file is in place; or, if this writer is dead now, the old one or the new one.
        """
        self.require_usable()
        if len(entropy) < NAME_ENTROPY_SIZE:
            raise LocalError(f"a name takes {NAME_ENTROPY_SIZE} bytes of entropy, not {len(entropy)}")
        new = os.path.join(self._folder, f".{self._name}.{entropy.hex()}{NEW}")
        with sentences(self.path, "written"):
            self._remove_leftovers()
            try:
                self._write(new, data)
                with self._fatal():
                    self._system.rename(new, self._target)
                    self._sync(self._folder)
            except BaseException:
                with suppress(OSError):
                    self._system.unlink(new)
                raise

    def sync(self) -> None:
        """Make what is there durable, which the writer before us may not have come to."""
        self.require_usable()
        with sentences(self.path, "written"), self._fatal():
            self._sync(self._target)
            self._sync(self._folder)

    def require_usable(self) -> None:
        """Raises:
        FileError: ``closed``: a failure was fatal, and nobody knows which file is in place.
        """
        if self._dead:
            raise FileError("closed", f"{self.path}: an earlier write failed, so it has to be opened anew")
        if self._lock < 0:
            raise LocalError(f"{self.path} is closed")

    def close(self) -> None:
        """Let others write; again is no mistake."""
        if self._lock >= 0:
            descriptor, self._lock = self._lock, -1
            with suppress(OSError):
                self._system.unlink(f"{self._target}{LOCK}")
            with suppress(OSError):
                self._system.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_still(self, lock: str, status: os.stat_result) -> bool:
        try:
            found = self._system.lstat(lock)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)

    def _write(self, new: str, data: bytes) -> None:
        descriptor = self._system.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            rest = memoryview(data)
            while rest:
                if not (written := self._system.write(descriptor, rest)):
                    raise OSError(errno.EIO, "nothing was written")
                rest = rest[written:]
            with self._fatal():
                self._system.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                self._system.close(descriptor)
            raise
        with self._fatal():
            self._system.close(descriptor)  # a network's file system may say only here that it failed

    def _sync(self, path: str) -> None:
        descriptor = self._system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._system.fsync(descriptor)
        finally:
            self._system.close(descriptor)

    def _remove_leftovers(self) -> None:
        """What a writer left that was killed, and nothing that another file's writer or its owner would call so. They
        are sealed, so one that cannot be removed does no harm."""
        leftover = re.compile(rf"\.{re.escape(self._name)}\.[0-9a-f]{{{2 * NAME_ENTROPY_SIZE},}}{re.escape(NEW)}")
        with suppress(OSError):
            for each in sorted(self._system.listdir(self._folder)):
                if leftover.fullmatch(each):
                    self._system.unlink(os.path.join(self._folder, each))

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._dead = True
            raise
