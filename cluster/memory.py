"""How much memory a set of processes really takes.

The proportional set size counts a page shared by n processes as a n-th in each, so sums are honest: Ray's
workers share their libraries and the object store.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def proportional_set_size(processes: Iterable[int]) -> int:
    """Bytes of PSS of these processes together; those that are gone count nothing. 0 where the system has no /proc."""
    total = 0
    for process in processes:
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, ())
    return found


def family_memory() -> int:
    """Bytes of this process and its descendants, among which a Ray started here is."""
    return proportional_set_size(family(os.getpid()))
