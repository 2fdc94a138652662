import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from actors.storage.files import SafeFile
from actors.storage.sqlite_store import SqliteStore
from actors.storage.vault import Vault
from cluster.cli import app
from cluster.keystore.passphrase import PASSPHRASE_SIZE_MAX, Source
from protocols.errors import LocalError, StorageError
from protocols.identity.keystore import Content, Header, Role, unlock_content
from protocols.identity.keystore.content import DeviceKeys
from tests.protocols.identity.keystore.files import CHEAP, NOW, entropy
from tests.protocols.identity.keystore.test_content import secrets

WORD = "a passphrase that no message shows"
CHEAPEST = "19,1,1"


@pytest.fixture(autouse=True)
def in_a_folder_with_passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for name, word in (("word", WORD), ("other", "another passphrase"), ("wrong", "no passphrase of anything")):
        Path(name).write_text(f"{word}\n")
        os.chmod(name, 0o600)


@pytest.fixture
def alice() -> Path:
    """A keystore. The test's folder is the present one."""
    Vault.create(
        SafeFile("alice"),
        None,
        Content.generate(entropy(128), b"spacepanda", NOW, 2 * NOW),
        WORD.encode(),
        CHEAP,
        NOW,
        os.urandom,
    ).close(NOW)
    return Path("alice")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keystore", *arguments])


def done(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The one sentence, without what begins all of them."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert WORD not in line
    return line.removeprefix("error: ")


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The real thing, in a process of its own."""
    launch = [sys.executable, "-W", "error", "-c", "from cluster.cli import main; main()", "keystore", *arguments]
    options = {"stdin": subprocess.DEVNULL} | options
    return subprocess.run(launch, capture_output=True, text=True, check=False, timeout=60, **options)


def content(path: Path | str, word: str = WORD, role: Role = Role.KEYSTORE) -> Content:
    return unlock_content(Path(path).read_bytes(), word.encode(), role)[1]


# -- what the commands do -----------------------------------------------------------------------------------


def test_create_makes_a_user_and_a_device_and_a_file_for_its_owner_alone() -> None:
    said = done(
        "create", "bob", "--network", "here", "--valid-days", "2", "--kdf", CHEAPEST, "--passphrase-file", "word"
    )
    made = content("bob")
    assert (
        said == f"created bob: user {facts('bob')['user']['id'][:16]}, device {facts('bob')['devices'][0]['id'][:16]}\n"
    )
    assert os.stat("bob").st_mode & 0o777 == 0o600
    assert made.devices[0].network_id == b"here"
    certificate = made.devices[0].certificate
    assert certificate is not None
    assert certificate.not_after - certificate.not_before == 2 * 24 * 3600 * 10**9
    assert Header.parse(Path("bob").read_bytes()).parameters == CHEAP
    assert sorted(os.listdir()) == ["bob", "other", "word", "wrong"]


def test_create_costs_what_rfc_9106_recommends_unless_told_otherwise() -> None:
    done("create", "bob", "--passphrase-file", "word")
    parameters = Header.parse(Path("bob").read_bytes()).parameters
    assert (parameters.memory_kib, parameters.passes, parameters.lanes) == (64 * 1024, 3, 4)


def facts(path: Path | str, word: str = "word") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done("show", str(path), "--json", "--passphrase-file", word))
    return found


def test_show_prints_ids_purposes_validity_generation_and_derivation_and_no_secret(alice: Path) -> None:
    done("add-device", "alice", "--network", "there", "--purpose", "dht", "--passphrase-file", "word")
    table = done("show", "alice", "--passphrase-file", "word")
    known = facts(alice)
    assert known["generation"] == 2
    assert known["kdf"] == {"algorithm": "argon2id", "memory_kib": 19 * 1024, "passes": 1, "lanes": 1}
    assert known["user"]["certifies"]
    first, second = known["devices"]
    assert (first["network"], second["network"], second["purposes"]) == ("spacepanda", "there", ["dht"])
    assert first["not_before"] == "2023-11-14T22:13:20Z"
    for shown in (
        known["user"]["id"][:16],
        first["id"][:16],
        second["id"][:16],
        "2023-11-14",
        "19 MiB",
        "there",
        "dht",
    ):
        assert shown in table
    for secret in secrets(content(alice)):
        assert secret.hex() not in table + json.dumps(known)


def test_show_changes_nothing_and_needs_no_lock(alice: Path) -> None:
    before = os.stat(alice).st_mtime_ns
    with SafeFile("alice"):
        done("show", "alice", "--passphrase-file", "word")
        done("verify", "alice", "--passphrase-file", "word")
    assert os.stat(alice).st_mtime_ns == before


def test_show_of_a_device_whose_user_is_elsewhere(alice: Path) -> None:
    user = content(alice)
    keys = DeviceKeys.generate(entropy(64, "elsewhere"), b"\xff", 2**63 - 1)
    made = Content.for_device(user.user_public, keys, bytes(32))
    Vault.create(SafeFile("device"), None, made, WORD.encode(), CHEAP, NOW, os.urandom).close(NOW)
    table = done("show", "device", "--passphrase-file", "word")
    assert "whose key is elsewhere" in table
    assert "not certified" in table
    assert "nobody certified" in done("add-device", "device", "--passphrase-file", "word")


def test_passwd_changes_the_passphrase_and_keeps_the_derivation_unless_told_otherwise(alice: Path) -> None:
    done("passwd", "alice", "--passphrase-file", "word", "--new-passphrase-file", "other")
    assert Header.parse(alice.read_bytes()).parameters == CHEAP
    assert "wrong" in refused("show", "alice", "--passphrase-file", "word")
    done("passwd", "alice", "--kdf", "20,1,1", "--passphrase-file", "other", "--new-passphrase-file", "word")
    assert Header.parse(alice.read_bytes()).parameters.memory_kib == 20 * 1024
    assert facts(alice)["generation"] == 3


def test_an_export_is_imported_under_passphrases_of_their_own_and_says_that_it_was(alice: Path) -> None:
    done("export", "alice", "copy", "--passphrase-file", "word", "--new-passphrase-file", "other")
    assert content("copy", "another passphrase", Role.EXPORT) == content(alice)
    assert "an export, not a keystore" in refused("show", "copy", "--passphrase-file", "other")
    done("import", "copy", "there", "--passphrase-file", "other", "--new-passphrase-file", "word")
    there = content("there")
    assert there.imported
    assert there.devices == content(alice).devices
    assert there.journal_root != content(alice).journal_root
    assert "imported" in done("show", "there", "--passphrase-file", "word")
    assert "a keystore, not an export" in refused(
        "import", "there", "again", "--passphrase-file", "word", "--new-passphrase-file", "word"
    )


def test_devices_are_added_and_removed_by_their_id(alice: Path) -> None:
    said = done("add-device", "alice", "--passphrase-file", "word")
    added = said.split()[-1]
    for digits in (added[:7], "0" * 16, added[:-1] + "g", ""):
        assert "no device has an id" in refused("remove-device", "alice", digits, "--passphrase-file", "word")
    assert "rotate" in refused("remove-device", "alice", facts(alice)["devices"][0]["id"], "--passphrase-file", "word")
    assert facts(alice)["generation"] == 2
    assert added in done("remove-device", "alice", added[:8].upper(), "--passphrase-file", "word")
    known = facts(alice)
    assert len(known["devices"]) == 1
    assert [each["id"][:16] for each in known["retired"]] == [added]
    assert added in done("show", "alice", "--passphrase-file", "word")


def test_calibrate_prints_what_kdf_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.keystore.cli._measure", lambda parameters: parameters.passes * 50_000_000)
    assert "--kdf 64,10,4 " in done("calibrate")
    known = json.loads(done("calibrate", "--target-ms", "250", "--json"))
    assert known == {"algorithm": "argon2id", "memory_kib": 65536, "passes": 5, "lanes": 4, "ms": 250}
    monkeypatch.undo()
    from cluster.keystore.cli import _measure

    assert 1_000_000 < _measure(CHEAP) < 10_000_000_000


# -- with a journal -----------------------------------------------------------------------------------------


@pytest.fixture
def journaled(alice: Path) -> Path:
    """A keystore that a peer has opened."""
    Vault.open(SafeFile("alice"), SqliteStore(Path("alice.journal")), WORD.encode(), NOW, os.urandom).close(NOW)
    return alice


def test_what_is_changed_beside_a_journal_is_recorded_there(journaled: Path) -> None:
    older = journaled.read_bytes()
    done("passwd", "alice", "--passphrase-file", "word", "--new-passphrase-file", "other")
    done("add-device", "alice", "--passphrase-file", "other")
    assert "the last one that its journal knows" in done("verify", "alice", "--passphrase-file", "other")
    assert json.loads(done("verify", "alice", "--json", "--passphrase-file", "other"))["journal"]
    journaled.write_bytes(older)
    assert "an older one" in refused("verify", "alice", "--passphrase-file", "word")
    assert "an older one" in refused("add-device", "alice", "--passphrase-file", "word")


def test_a_journal_that_is_gone_or_of_another_keystore_is_one_sentence(journaled: Path) -> None:
    shutil.move("alice.journal", "away")
    assert "is gone" in refused("passwd", "alice", "--passphrase-file", "word", "--new-passphrase-file", "other")
    done("create", "bob", "--kdf", CHEAPEST, "--passphrase-file", "word")
    shutil.copy("away", "bob.journal")
    assert refused("verify", "bob", "--passphrase-file", "word").startswith("bob.journal: ")
    os.unlink("bob")
    assert "belongs to another keystore" in refused("create", "bob", "--passphrase-file", "word")


def test_a_keystore_that_a_peer_uses_is_not_changed(journaled: Path) -> None:
    with SafeFile("alice"):
        assert "used by another" in refused("add-device", "alice", "--passphrase-file", "word")
    store = SqliteStore(Path("alice.journal"))
    assert "in use" in refused("verify", "alice", "--passphrase-file", "word")
    store.close()


# -- passphrases --------------------------------------------------------------------------------------------


def test_one_descriptor_gives_two_passphrases_a_line_each(alice: Path) -> None:
    options = ("--passphrase-fd", "0", "--new-passphrase-fd", "0")
    result = command("passwd", "alice", *options, stdin=None, input=f"{WORD}\r\nanother passphrase\nand more\n")
    assert (result.returncode, result.stderr) == (0, "")
    assert content(alice, "another passphrase").generation == 2


def test_the_same_letters_are_the_same_passphrase() -> None:
    composed, decomposed = "caf\u00e9".encode(), "cafe\u0301".encode()
    assert composed != decomposed
    assert {_given(composed), _given(decomposed), _given(composed + b"\r\nmore")} == {composed}
    assert _given(b"\xff\xfe") == b"\xff\xfe"
    assert _given("two\u00a0words\u3000more".encode()) == b"two words more"


def _given(line: bytes) -> bytes:
    reader, writer = os.pipe()
    os.write(writer, line)
    os.close(writer)
    with Source("--passphrase", reader, None).passphrase("of a test") as secret:
        found = bytes(secret)
    assert secret == bytes(len(found))
    os.close(reader)
    return found


@pytest.mark.parametrize("line", [b"", b"\n", b"\r\n", b"\nsecond line", b"a" * (PASSPHRASE_SIZE_MAX + 1)])
def test_an_empty_passphrase_and_an_endless_one_are_refused(line: bytes) -> None:
    with pytest.raises(LocalError):
        _given(line)


def test_passphrase_files_are_as_private_as_keystores(alice: Path) -> None:
    os.chmod("word", 0o640)
    assert "chmod 600" in refused("show", "alice", "--passphrase-file", "word")
    os.symlink("other", "link")
    assert "symbolic link" in refused("show", "alice", "--passphrase-file", "link")
    assert "missing does not exist" in refused("show", "alice", "--passphrase-file", "missing")
    assert "descriptor 99" in refused("show", "alice", "--passphrase-fd", "99")
    for number in ("-1", "99999999999"):
        assert "--passphrase-fd" in sentence("show", "alice", "--passphrase-fd", number)
    assert "give one of" in refused("show", "alice", "--passphrase-fd", "0", "--passphrase-file", "word")


def typing(*arguments: str, lines: list[str]) -> tuple[int, str]:
    """A terminal, and somebody who answers each prompt: (exit code, what the terminal showed)."""
    master, slave = pty.openpty()
    launch = [sys.executable, "-W", "error", "-c", "from cluster.cli import main; main()", "keystore", *arguments]
    process = subprocess.Popen(launch, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown, answers = "", iter(lines)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([master], [], [], 60)[0]:
        try:
            new = os.read(master, 1024).decode()
        except OSError:  # the other end is closed
            break
        shown += new
        if new.endswith(": "):
            os.write(master, f"{next(answers)}\n".encode())
    os.close(master)
    return process.wait(timeout=60), shown


def test_a_new_passphrase_is_typed_twice_and_never_shown() -> None:
    code, shown = typing("create", "bob", "--kdf", CHEAPEST, lines=[WORD, WORD])
    assert code == 0, shown
    assert "passphrase that bob is to have: " in shown
    assert "once more: " in shown
    assert WORD not in shown
    code, shown = typing("show", "bob", lines=[WORD])
    assert code == 0
    assert "generation" in shown
    code, shown = typing("create", "carol", lines=[WORD, "something else"])
    assert code == 2
    assert "the two passphrases differ" in shown
    assert not Path("carol").exists()


# -- whatever is wrong: one sentence, exit code 2 -----------------------------------------------------------


def sentence(*arguments: str, **options: Any) -> str:
    result = command(*arguments, **options)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    for secret in (WORD, "another passphrase"):
        assert secret not in line
    return line.removeprefix("error: ")


def test_a_wrong_passphrase(alice: Path) -> None:
    before = alice.read_bytes(), os.stat(alice).st_mtime_ns
    said = sentence("show", "alice", "--passphrase-file", "wrong")
    assert said == "alice: the passphrase is wrong, or the file's header was altered"
    assert (alice.read_bytes(), os.stat(alice).st_mtime_ns) == before


def test_a_missing_passphrase(alice: Path) -> None:
    said = sentence("show", "alice")
    assert said == "no terminal to ask for the passphrase of alice: give --passphrase-fd or --passphrase-file"
    assert "that bob is to have" in sentence("create", "bob")
    assert "empty" in sentence("show", "alice", "--passphrase-fd", "0")
    closed = command("show", "alice", stdin=None, preexec_fn=lambda: os.close(0))
    assert (closed.returncode, closed.stderr) == (2, f"error: {said}\n")


def test_a_passphrase_on_the_command_line_is_no_option(alice: Path) -> None:
    assert "No such option" in sentence("show", "alice", "--passphrase", WORD)


def test_an_unreadable_path(alice: Path) -> None:
    os.chmod(alice, 0)
    assert without_privileges("show", "alice", "--passphrase-file", "word") == "alice cannot be read: no permission"
    assert sentence("show", "nowhere", "--passphrase-file", "word") == "nowhere does not exist"
    assert sentence("show", ".", "--passphrase-file", "word") == ". is not a regular file"
    for folder in (".", "/"):
        assert sentence("verify", folder, "--passphrase-file", "word") == f"{folder} is not a regular file"


def test_a_read_only_folder(alice: Path, tmp_path: Path) -> None:
    os.mkdir("folder")
    shutil.copy(alice, "folder/alice")
    os.chmod("folder", 0o500)
    for arguments in (
        ("create", "folder/bob", "--passphrase-file", "word"),
        ("add-device", "folder/alice", "--passphrase-file", "word"),
        ("export", "alice", "folder/copy", "--passphrase-file", "word", "--new-passphrase-file", "other"),
    ):
        said = without_privileges(*arguments)
        assert said.endswith(f"cannot be written: no permission to write in {tmp_path / 'folder'}")
    os.chmod("folder", 0o700)
    assert os.listdir("folder") == ["alice"]


def without_privileges(*arguments: str) -> str:
    """As whoever runs the tests; as root without what lets it pass over permissions."""
    if os.geteuid() != 0:
        return sentence(*arguments)
    if not (setpriv := shutil.which("setpriv")):
        pytest.skip("root may read and write everything, and there is no setpriv to give that up")
    script = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    launch = [setpriv, "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-W", "error", "-c"]
    launch += ["from cluster.cli import main; main()", "keystore", *arguments]
    result = subprocess.run(
        [sys.executable, "-c", script, *launch],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    [line] = result.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_someone_elses_file(alice: Path) -> None:
    os.chown(alice, 12345, -1)
    said = sentence("show", "alice", "--passphrase-file", "word")
    assert said == "alice is someone else's file: it belongs to user 12345"


def test_a_file_that_others_may_read(alice: Path) -> None:
    os.chmod(alice, 0o644)
    assert "open to others (mode 0644)" in sentence("show", "alice", "--passphrase-file", "word")


def test_a_file_from_a_future_version(alice: Path) -> None:
    data = bytearray(alice.read_bytes())
    data[8] = 2
    alice.write_bytes(bytes(data))
    said = sentence("show", "alice")  # before any passphrase is asked for
    assert said == "alice: it has version 2 of the format, and this program knows 1 only"


def test_an_existing_file_is_not_overwritten(alice: Path) -> None:
    before = alice.read_bytes()
    assert sentence("create", "alice") == "alice is there already, and is not overwritten"
    assert "is there already" in refused("export", "alice", "other", "--passphrase-file", "word")
    assert "is there already" in refused("import", "other", "alice", "--passphrase-file", "word")
    assert alice.read_bytes() == before


def test_what_is_no_keystore(alice: Path) -> None:
    assert refused("show", "word") == "word: it is not a keystore"
    data = alice.read_bytes()
    alice.write_bytes(data[:40])
    assert "40 bytes" in refused("show", "alice")
    alice.write_bytes(data[:-1] + b"?")
    assert "was altered" in refused("show", "alice", "--passphrase-file", "word")
    alice.write_bytes(data + bytes(2_000_000))
    assert "more than" in refused("show", "alice")


@pytest.mark.parametrize("kdf", ["", "64", "64,3", "64,3,4,5", "a,b,c", "18,1,1", "1025,1,1", "64,11,1", "64,1,9"])
def test_a_derivation_that_is_not_one(kdf: str) -> None:
    assert refused("create", "bob", "--kdf", kdf, "--passphrase-file", "word")
    assert not Path("bob").exists()


def test_what_was_mistyped(alice: Path) -> None:
    assert "1 to 64 bytes" in refused("create", "bob", "--network", "", "--passphrase-file", "word")
    assert "crdt, dht, mls, session" in refused("add-device", "alice", "--purpose", "fun", "--passphrase-file", "word")


def test_storage_errors_are_what_cannot_be_done() -> None:
    from cluster.command import EXIT_UNUSABLE, errors

    with pytest.raises(Exception) as caught, errors(debug=False):  # noqa: PT011 - typer's own, see its code
        raise StorageError("io", "the disk failed")
    assert getattr(caught.value, "exit_code", None) == EXIT_UNUSABLE


def test_a_derivation_out_of_bounds_is_refused_before_a_passphrase_is_asked_for() -> None:
    for kdf in ("1,1,1", "2000,1,1", "64,11,1", "64,3,9", "-64,3,4"):
        assert f"--kdf {kdf} is out of bounds" in refused("create", "bob", "--kdf", kdf)
    assert "such as 64,3,4" in refused("create", "bob", "--kdf", "64,3")


def test_a_network_is_any_bytes_and_none_of_them_steers_the_terminal() -> None:
    done("create", "bob", "--network", "\x1b[31mred\udcff", "--kdf", CHEAPEST, "--passphrase-file", "word")
    assert content("bob").devices[0].network_id == b"\x1b[31mred\xff"
    table = done("show", "bob", "--passphrase-file", "word")
    assert "\\x1b[31mred\\xff" in table
    assert "\x1b[31m" not in table


def test_a_keystore_called_like_a_lock_survives_work_on_the_one_that_it_would_lock(alice: Path) -> None:
    shutil.copy(alice, "alice.lock")
    assert "no lock of ours" in refused("add-device", "alice", "--passphrase-file", "word")
    assert Path("alice.lock").read_bytes() == alice.read_bytes()


def test_a_journal_that_is_a_link_to_nowhere_is_not_passed_over(alice: Path) -> None:
    os.symlink("nowhere", "alice.journal")
    assert "alice.journal" in refused("add-device", "alice", "--passphrase-file", "word")
