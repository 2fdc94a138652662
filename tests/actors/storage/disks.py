"""Disks that fail, as file layers of SQLite.

``FaultyDisk`` fails at one call, or from there on. It also keeps a log of what reaches the disk, out of which
``Platter`` makes what a power failure may have left at any point of it: of what was not synced any subset of
sectors, of files any that were not made or removed for good. Syncs themselves are left out, as nobody pulls a plug.
"""

from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import apsw

SECTOR: Final = 512

KINDS: Final[dict[str, tuple[type[apsw.Error], ...]]] = {
    "xOpen": (apsw.CantOpenError, apsw.IOError),
    "xDelete": (apsw.IOError,),
    "xAccess": (apsw.IOError,),
    "xRead": (apsw.IOError,),
    "xWrite": (apsw.IOError, apsw.FullError),
    "xSync": (apsw.IOError, apsw.FullError),
    "xTruncate": (apsw.IOError,),
    "xFileSize": (apsw.IOError,),
    "xLock": (apsw.IOError, apsw.BusyError),
}
"""How each call may fail; after ``FullError`` a write has been done by half."""


class Fault(NamedTuple):
    """What fails: a call by its number, in this way; and all later ones too, if ``lasting``."""

    call: int
    error: type[apsw.Error]
    lasting: bool = False


class Step(NamedTuple):
    """Something that reached the disk, or that the test did (``mark``)."""

    what: str
    name: str = ""
    offset: int = 0
    data: bytes = b""


class FaultyDisk(apsw.VFS):
    """A file layer over SQLite's own."""

    def __init__(self, name: str, fault: Fault | None = None) -> None:
        super().__init__(name, "")
        self.name = name
        self.fault = fault
        self.calls: list[str] = []
        """The names of the calls so far."""
        self.steps: list[Step] = []
        self.hit = ""
        """Which call failed, and how."""

    def reach(self, call: str, what: str = "") -> type[apsw.Error] | None:
        """Count a call, and say how it fails."""
        number = len(self.calls)
        self.calls.append(call)
        fault = self.fault
        if fault is None or number < fault.call or (number > fault.call and not fault.lasting):
            return None
        error = fault.error if fault.error in KINDS[call] else apsw.IOError
        if number == fault.call:
            self.hit = f"{call}({what}): {error.__name__}"
        return error

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        if error := self.reach("xOpen", path.name):
            raise error("injected")
        if flags[0] & apsw.SQLITE_OPEN_CREATE and not path.exists():
            self.steps.append(Step("create", path.name))
        return FaultyFile(self, name, flags, path.name)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        name = Path(filename).name
        if error := self.reach("xDelete", name):
            raise error("injected")
        super().xDelete(filename, False)
        self.steps.append(Step("remove" if syncdir else "unlink", name))

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        if error := self.reach("xAccess", Path(pathname).name):
            raise error("injected")
        return super().xAccess(pathname, flags)


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, path: str | apsw.URIFilename | None, flags: list[int], name: str) -> None:
        super().__init__("", path, flags)
        self.disk = disk
        self.name = name

    def _may(self, call: str) -> None:
        if error := self.disk.reach(call, self.name):
            raise error("injected")

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._may("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        error = self.disk.reach("xWrite", self.name)
        if error is apsw.IOError:
            raise error("injected")
        done = bytes(data) if error is None else bytes(data[: len(data) // 2])
        super().xWrite(done, offset)
        self.disk.steps.append(Step("write", self.name, offset, done))
        if error:
            raise error("injected")

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._may("xTruncate")
        super().xTruncate(newsize)
        self.disk.steps.append(Step("truncate", self.name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        if error := self.disk.reach("xSync", self.name):
            self.disk.steps.append(Step("lose", self.name))
            raise error("injected")
        self.disk.steps.append(Step("sync", self.name))

    def xFileSize(self) -> int:  # noqa: N802
        self._may("xFileSize")
        return super().xFileSize()

    def xLock(self, level: int) -> None:  # noqa: N802
        self._may("xLock")
        super().xLock(level)


class _File:
    """What the disk has of a file, and what it was told since the last sync."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.pending: list[Step] = []
        self.named = False
        """Whether its name is in the folder for good."""

    def left(self, random: Random, share: float) -> bytes:
        """What a power failure may leave: of each sector that was written what it had before, or this."""
        content = bytearray(self.content)
        for step in self.pending:
            if step.what == "truncate":
                if random.random() < share:
                    _resize(content, step.offset)
                continue
            at = 0
            while at < len(step.data):
                until = at + SECTOR - (step.offset + at) % SECTOR
                if random.random() < share:
                    _put(content, step.offset + at, step.data[at:until])
                at = until
        return bytes(content)


class Platter:
    """The disk after some steps of a log, which began with one empty file."""

    def __init__(self, first: str) -> None:
        self.files: dict[str, _File] = {first: _File()}
        self.files[first].named = True
        self.ghosts: dict[str, _File] = {}
        """Files whose removal the folder may not have noted."""

    def take(self, step: Step) -> None:
        """One step more."""
        match step.what:
            case "create":
                self.files[step.name] = _File()
            case "write" | "truncate":
                self.files[step.name].pending.append(step)
            case "sync":
                file = self.files[step.name]
                file.content = bytearray(file.left(Random(0), 2))
                file.pending.clear()
                if not file.named:  # SQLite syncs the folder of a new file with it
                    self._sync_folder()
            case "lose":
                # The kernel calls the pages clean although they never came to the disk; it shows them as written. The
                # file's size is in the file system's own journal.
                file = self.files[step.name]
                file.pending = [each for each in file.pending if each.what == "truncate"]
            case "unlink":
                file = self.files.pop(step.name)
                if file.named:
                    self.ghosts[step.name] = file
            case "remove":
                self.files.pop(step.name, None)
                self._sync_folder()

    def _sync_folder(self) -> None:
        self.ghosts.clear()
        for file in self.files.values():
            file.named = True

    def write_out(self, folder: Path, random: Random) -> None:
        """What a power failure now may leave, as files in ``folder``."""
        share = random.choice((0, 0.1, 0.5, 0.9, 1))
        names = {**self.ghosts, **self.files}
        for name in names:
            file = self.files.get(name)
            ghost = self.ghosts.get(name)
            if file is not None and not file.named and random.random() < 0.5:
                file = None
            if file is None and ghost is not None and random.random() < 0.5:
                file = ghost
            if file is not None:
                path = folder / name
                path.write_bytes(file.left(random, share))
                path.chmod(0o600)


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data
