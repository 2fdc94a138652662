"""How much memory processes take together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.memory import family, family_memory, proportional_set_size

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system has no /proc")


def test_memory_that_is_taken_is_seen() -> None:
    before = proportional_set_size([os.getpid()])
    taken = bytearray(b"x") * (64 << 20)
    assert proportional_set_size([os.getpid()]) - before > 0.9 * len(taken)


def test_a_process_that_is_gone_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert proportional_set_size([child.pid]) == 0
    assert child.pid not in family(os.getpid())


def test_descendants_belong_to_the_family_and_to_its_memory() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        ours = family(os.getpid())
        assert child.pid in ours
        assert len(family(child.pid)) == 2
        assert family_memory() > proportional_set_size([os.getpid()])
        child.stdin.close()
