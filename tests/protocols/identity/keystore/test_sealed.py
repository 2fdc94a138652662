import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import XCHACHA_NONCE_SIZE
from protocols.errors import LocalError
from protocols.identity.keystore import sealed
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.kdf import MEMORY_KIB_MAX, MEMORY_KIB_MIN, Argon2Parameters
from protocols.identity.keystore.sealed import (
    GENERATION_MAX,
    HEADER_SIZE,
    KEYSTORE_SIZE_MAX,
    MAGIC,
    PLAINTEXT_SIZE_MAX,
    VERSION,
    Header,
    Role,
    Unlocked,
    unlock,
)
from tests.protocols.identity.keystore.files import CHEAP, PASSPHRASE, entropy, keys, nonce

DEVICE = bytes(range(32))
PLAINTEXT = b"a secret that no message may show"

FIELDS = {
    "magic": (0, 8),
    "version": (8, 9),
    "role": (9, 10),
    "device": (10, 42),
    "generation": (42, 50),
    "kdf": (50, 60),
    "salt": (60, 76),
    "nonce": (76, 100),
    "commitment": (100, 132),
}
"""The layout of the format, in numbers: a change of it breaks this table, and files that exist."""


def a_file(generation: int = 7, salt_seed: object = 0, device: bytes = DEVICE, role: Role = Role.KEYSTORE) -> bytes:
    return keys(salt_seed=salt_seed).seal(role, device, generation, PLAINTEXT, nonce((generation, salt_seed)))


def refusal(attempt: Callable[..., Any], *arguments: Any, **named: Any) -> KeystoreError:
    """That it was refused, in one sentence that gives nothing away."""
    with pytest.raises(KeystoreError) as caught:
        attempt(*arguments, **named)
    error = caught.value
    text = repr(error) + str(error) + repr(error.__cause__)
    assert str(error)
    assert "\n" not in str(error)
    for secret in (PLAINTEXT, PASSPHRASE, bytes(keys()._encryption_key), bytes(keys()._commitment_key)):
        assert secret.decode("latin-1") not in text
        assert secret.hex() not in text
    return error


def test_a_file_opens_with_its_passphrase_and_gives_back_what_was_sealed() -> None:
    data = a_file()
    opened, plaintext = unlock(data, bytearray(PASSPHRASE), device=DEVICE)
    assert plaintext == PLAINTEXT
    assert opened.open(data, Role.KEYSTORE) == PLAINTEXT


def test_the_layout_is_the_documented_one() -> None:
    data = a_file()
    header = Header.parse(data)
    part = {name: data[start:end] for name, (start, end) in FIELDS.items()}
    assert part["magic"] == MAGIC
    assert part["version"] == bytes([VERSION])
    assert part["role"] == bytes([header.role]) == b"\1"
    assert part["device"] == header.device == DEVICE
    assert int.from_bytes(part["generation"], "big") == header.generation == 7
    assert part["kdf"] == CHEAP.to_bytes() == header.parameters.to_bytes()
    assert part["salt"] == header.salt == keys().salt
    assert part["nonce"] == header.nonce
    assert len(part["nonce"]) == XCHACHA_NONCE_SIZE
    assert part["commitment"] == header.commitment
    assert FIELDS["commitment"][1] == HEADER_SIZE
    assert len(data) == HEADER_SIZE + len(PLAINTEXT) + 16


@settings(max_examples=30, deadline=None)
@given(
    st.binary(max_size=300),
    st.binary(min_size=32, max_size=32),
    st.integers(0, GENERATION_MAX),
    st.sampled_from(Role),
    st.binary(min_size=24, max_size=24),
)
def test_whatever_is_sealed_comes_back(plaintext: bytes, device: bytes, generation: int, role: Role, at: bytes) -> None:
    data = keys().seal(role, device, generation, plaintext, at)
    assert keys().open(data, role, device) == plaintext
    assert Header.parse(data).generation == generation


# -- no byte of it can be altered ---------------------------------------------------------------------------


def test_5_2_corrupted_bytes_rejected() -> None:
    """Every byte, in all of its bits; the derived keys are shared where the header asks for the same derivation."""
    data = a_file()
    for index in range(len(data)):
        for mask in (0x01, 0x02, 0x10, 0x80, 0xFF):
            corrupted = bytearray(data)
            corrupted[index] ^= mask
            error = refusal(keys().open, bytes(corrupted), Role.KEYSTORE)
            assert error.reason in expected(index, corrupted[index]), (index, mask)


def expected(index: int, value: int) -> set[str]:
    name = next((name for name, (start, end) in FIELDS.items() if start <= index < end), "ciphertext")
    match name:
        case "magic":
            return {"not_a_keystore"}
        case "version":
            return {"future_version" if value > VERSION else "not_a_keystore"}
        case "role":
            return {"wrong_role"}
        case "kdf":
            return {"bad_kdf", "wrong_passphrase"}
        case "ciphertext":
            return {"tampered"}
        case _:
            return {"wrong_passphrase"}


def test_a_changed_header_is_refused_also_when_its_own_derivation_is_run() -> None:
    """As an attacker's change of salt or parameters makes other keys, which the commitment does not know."""
    data = a_file()
    for index, mask in (*((index, 0x40) for index in range(60, 76)), (53, 1), (58, 1 ^ 2), (59, 1 ^ 2)):
        corrupted = bytearray(data)
        corrupted[index] ^= mask
        error = refusal(unlock, bytes(corrupted), PASSPHRASE)
        assert error.reason in ("wrong_passphrase", "bad_kdf")


def test_every_truncation_is_rejected() -> None:
    data = a_file()
    for size in range(len(data)):
        error = refusal(keys().open, data[:size], Role.KEYSTORE)
        assert error.reason == ("truncated" if size < HEADER_SIZE + 16 else "tampered"), size


def test_appended_bytes_are_rejected() -> None:
    for extra in (b"\0", b"\n", PLAINTEXT, bytes(1000)):
        assert refusal(keys().open, a_file() + extra, Role.KEYSTORE).reason == "tampered"


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("magic", "version", "role")])
def test_header_fields_swapped_between_two_files_of_one_passphrase_are_rejected(name: str) -> None:
    """Both of the same owner: an older one and a newer one, and one that was sealed after a change of passphrase."""
    start, end = FIELDS[name]
    for one, other in ((a_file(7), a_file(8)), (a_file(7), a_file(7, "other salt", bytes(32)))):
        mixed = one[:start] + other[start:end] + one[end:]
        if mixed not in (one, other):
            assert refusal(unlock, mixed, PASSPHRASE).reason == "wrong_passphrase"


def test_a_whole_header_over_another_ciphertext_is_tampering() -> None:
    mixed = a_file(8)[:HEADER_SIZE] + a_file(7)[HEADER_SIZE:]
    assert refusal(keys().open, mixed, Role.KEYSTORE).reason == "tampered"


def test_downgrade_of_the_version_is_rejected() -> None:
    data = bytearray(a_file())
    data[8] = 0
    assert refusal(unlock, bytes(data), PASSPHRASE).reason == "not_a_keystore"


def test_downgrade_of_the_derivation_is_rejected() -> None:
    """Weaker parameters that are within bounds give other keys; below them they are not even tried."""
    strong = keys(parameters=Argon2Parameters(MEMORY_KIB_MIN, 2, 1))
    data = strong.seal(Role.KEYSTORE, DEVICE, 1, PLAINTEXT, nonce())
    weaker = data[:50] + CHEAP.to_bytes() + data[60:]
    assert refusal(unlock, weaker, PASSPHRASE).reason == "wrong_passphrase"
    none = data[:50] + b"\0" + data[51:]
    assert refusal(unlock, none, PASSPHRASE).reason == "bad_kdf"


def test_there_is_no_plaintext_mode() -> None:
    """However a file says that it is not sealed, what it holds is not taken from it."""
    data = bytearray(a_file())
    data[50:60] = bytes(10)
    data[100:132] = bytes(32)
    data[132:] = PLAINTEXT
    assert refusal(unlock, bytes(data), b"").reason == "bad_kdf"


# -- what can be said without the passphrase ----------------------------------------------------------------


@pytest.fixture
def no_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    def derive(*_: object) -> bytearray:
        raise AssertionError("a key was derived")

    monkeypatch.setattr(sealed, "argon2id", derive)


@pytest.mark.usefixtures("no_derivation")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"PANDA", "truncated"),
        (MAGIC, "truncated"),
        (b"SPKS0001" + bytes(200), "not_a_keystore"),
        (MAGIC + b"\2", "future_version"),
        (MAGIC + b"\xff" + bytes(10_000_000), "future_version"),
        (MAGIC + b"\1" + bytes(KEYSTORE_SIZE_MAX), "too_large"),
        (MAGIC + b"\1\1" + bytes(40), "truncated"),
        (MAGIC + b"\1\1" + bytes(200), "bad_kdf"),
        (MAGIC + b"\1\1" + bytes(40) + b"\1" + (MEMORY_KIB_MAX + 1).to_bytes(4, "big") + bytes(200), "bad_kdf"),
        (MAGIC + b"\1\3" + bytes(40) + CHEAP.to_bytes() + bytes(200), "wrong_role"),
        (MAGIC + b"\1\2" + bytes(40) + CHEAP.to_bytes() + bytes(200), "wrong_role"),
        (MAGIC + b"\1\1" + bytes(40) + CHEAP.to_bytes() + bytes(200), "wrong_device"),
    ],
)
def test_what_needs_no_passphrase_is_said_before_any_key_is_derived(data: bytes, reason: str) -> None:
    assert refusal(unlock, data, PASSPHRASE, device=DEVICE).reason == reason


def test_an_export_is_no_keystore_and_a_keystore_no_export() -> None:
    assert refusal(unlock, a_file(role=Role.EXPORT), PASSPHRASE).reason == "wrong_role"
    assert refusal(unlock, a_file(), PASSPHRASE, Role.EXPORT).reason == "wrong_role"
    assert unlock(a_file(role=Role.EXPORT), PASSPHRASE, Role.EXPORT)[1] == PLAINTEXT


def test_a_keystore_of_another_device_is_refused() -> None:
    assert refusal(keys().open, a_file(), Role.KEYSTORE, bytes(32)).reason == "wrong_device"


@pytest.mark.parametrize("passphrase", [b"", b"correct horse battery stapl", PASSPHRASE + b" ", bytes(1000)])
def test_another_passphrase_is_wrong(passphrase: bytes) -> None:
    assert refusal(unlock, a_file(), passphrase).reason == "wrong_passphrase"


# -- unlocked keys ------------------------------------------------------------------------------------------


def test_a_session_of_saves_derives_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, plaintext = unlock(a_file(), PASSPHRASE)
    monkeypatch.setattr(sealed, "argon2id", None)
    later = opened.seal(Role.KEYSTORE, DEVICE, 8, plaintext + b"!", entropy(24, "later"))
    assert opened.open(later, Role.KEYSTORE) == plaintext + b"!"
    monkeypatch.undo()
    assert unlock(later, PASSPHRASE)[1] == plaintext + b"!"


def test_locked_keys_are_wiped_and_open_nothing() -> None:
    opened, _ = unlock(a_file(), PASSPHRASE)
    encryption_key, commitment_key = opened._encryption_key, opened._commitment_key
    assert any(encryption_key)
    with opened as same:
        assert (same is opened, opened.locked) == (True, False)
    assert (same is opened, opened.locked) == (True, True)
    assert not any(encryption_key)
    assert not any(commitment_key)
    opened.lock()
    with pytest.raises(LocalError, match="locked"):
        opened.open(a_file(), Role.KEYSTORE)
    with pytest.raises(LocalError, match="locked"):
        opened.seal(Role.KEYSTORE, DEVICE, 1, b"", nonce())


def test_keys_are_wiped_when_the_file_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Unlocked] = []
    derive = Unlocked.derive

    def remember(*arguments: Any) -> Unlocked:
        made.append(derive(*arguments))
        return made[-1]

    monkeypatch.setattr(Unlocked, "derive", remember)
    refusal(unlock, a_file(), b"wrong")
    assert [each.locked for each in made] == [True]


def test_keys_neither_print_nor_pickle() -> None:
    key = bytes(keys()._encryption_key)
    assert str(key) not in repr(keys())
    assert key.hex() not in repr(keys())
    with pytest.raises(LocalError):
        pickle.dumps(keys())


def test_the_two_keys_differ_and_follow_from_salt_and_parameters() -> None:
    several = [keys(), keys(salt_seed=1), keys(parameters=Argon2Parameters(MEMORY_KIB_MIN, 2, 1)), keys(b"other")]
    found = [bytes(key) for each in several for key in (each._encryption_key, each._commitment_key)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("device", "generation", "plaintext", "at"),
    [
        (bytes(31), 1, b"", bytes(24)),
        (bytes(32), -1, b"", bytes(24)),
        (bytes(32), GENERATION_MAX + 1, b"", bytes(24)),
        (bytes(32), 1, bytes(PLAINTEXT_SIZE_MAX + 1), bytes(24)),
        (bytes(32), 1, b"", bytes(12)),
    ],
)
def test_what_does_not_fit_is_not_sealed(device: bytes, generation: int, plaintext: bytes, at: bytes) -> None:
    with pytest.raises(LocalError):
        keys().seal(Role.KEYSTORE, device, generation, plaintext, at)


def test_a_salt_has_its_size() -> None:
    with pytest.raises(LocalError):
        Unlocked.derive(PASSPHRASE, bytes(8), CHEAP)
