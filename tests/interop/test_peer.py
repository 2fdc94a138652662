"""ts-mls with itself, through the driver: what the driver says of it can be believed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.member import Add, Member, Refused, Remove
from tests.interop.peer import TsMls, install
from tests.interop.stories import Room, Story, tellings


@pytest.fixture(scope="module")
def ts_mls() -> Iterator[TsMls]:
    with TsMls.start() as process:
        yield process


@pytest.mark.parametrize(("story", "suite", "public"), tellings(()))
def test_ts_mls_lives_every_story_with_itself(ts_mls: TsMls, story: Story, suite: int, public: bool) -> None:
    def cast(name: str) -> Member:
        return ts_mls.client(name, suite)

    story(cast, suite, public)


def test_refusal_leaves_the_client_as_it_was(ts_mls: TsMls) -> None:
    room = Room(lambda name: ts_mls.client(name, 1), public=True)
    alice = room.found("alice")
    room.add("alice", "bob")
    before = alice.status()
    with pytest.raises(Refused, match="ValidationError"):
        alice.commit(Remove(7))
    with pytest.raises(Refused, match="CodecError"):
        alice.process(b"\x00\x01\x00\x01\x05")
    with pytest.raises(Refused, match="trailing bytes"):
        alice.commit(Add(ts_mls.client("carol", 1).key_package() + b"\x00"))
    assert alice.status() == before
    room.talk()


def test_message_is_read_once(ts_mls: TsMls) -> None:
    room = Room(lambda name: ts_mls.client(name, 1), public=True)
    alice = room.found("alice")
    room.add("alice", "bob")
    message = alice.encrypt(b"once")
    room.hear("alice", b"once", message)
    with pytest.raises(Refused):
        room.hear("alice", b"once", message)


def test_driver_without_its_packages_dies_with_a_reason(tmp_path: Path) -> None:
    found = install()
    if isinstance(found, str):
        pytest.skip(found)
    with TsMls(found[0], tmp_path) as process, pytest.raises(RuntimeError, match="Cannot find module"):
        process.client("alice", 1)


def test_machine_without_node_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert install.__wrapped__() == "node and npm are not both here"


def test_failed_install_leaves_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").write_text("#!/bin/sh\necho v20.1.0\n")
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 7\n")
    for name in ("node", "npm"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert install.__wrapped__() == "its packages cannot be installed: npm answered 7 (no network)"
    assert [each.name for each in (tmp_path / "cache" / "spacepanda").iterdir()] == ["ts-mls.lock"]


def test_old_node_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").write_text("#!/bin/sh\necho v18.20.8\n")
    shutil.copy(tmp_path / "node", tmp_path / "npm")
    for name in ("node", "npm"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert install.__wrapped__() == "node v18.20.8 is older than 20"
