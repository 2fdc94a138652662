from importlib.util import find_spec
from pathlib import Path

import pytest

from protocols.errors import LocalError
from protocols.identity.keystore import kdf
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.kdf import (
    LANES_MAX,
    MEMORY_KIB_MAX,
    MEMORY_KIB_MIN,
    PASSES_MAX,
    TARGET_NS_MAX,
    TARGET_NS_MIN,
    Argon2Parameters,
    argon2id,
    calibrate,
    wipe,
)

MS = 1_000_000


def published() -> list[dict[str, str]]:
    """RFC 9106 §5.3 and the vectors of OpenSSL and the reference program, as the package of vectors carries them."""
    spec = find_spec("cryptography_vectors")
    if spec is None or spec.origin is None:
        pytest.skip("Argon2id's published vectors are in the package cryptography_vectors, which is not installed")
    cases: list[dict[str, str]] = []
    for line in (Path(spec.origin).parent / "KDF" / "argon2id.txt").read_text().splitlines():
        name, equals, value = (each.strip() for each in line.partition("="))
        if name == "COUNT":
            cases.append({})
        elif equals and cases:
            cases[-1][name] = value
    return cases


def test_published_vectors_and_first_of_all_the_one_of_the_rfc() -> None:
    cases = published()
    assert cases[0]["pass"] == "01" * 32
    assert cases[0]["secret"] == "03" * 8
    assert cases[0]["ad"] == "04" * 12
    assert len(cases) >= 6
    for case in cases:
        output = argon2id(
            bytearray.fromhex(case["pass"]),
            bytes.fromhex(case["salt"]),
            int(case["memcost"]),
            int(case["iter"]),
            int(case["lanes"]),
            int(case["length"]),
            secret=bytes.fromhex(case.get("secret", "")),
            associated_data=bytes.fromhex(case.get("ad", "")),
        )
        assert isinstance(output, bytearray)
        assert output.hex() == case["output"]


def test_the_default_is_the_second_choice_of_rfc_9106() -> None:
    assert Argon2Parameters() == Argon2Parameters(memory_kib=64 * 1024, passes=3, lanes=4)


@pytest.mark.parametrize(
    "parameters",
    [
        Argon2Parameters(),
        Argon2Parameters(MEMORY_KIB_MIN, 1, 1),
        Argon2Parameters(MEMORY_KIB_MAX, PASSES_MAX, LANES_MAX),
    ],
)
def test_parameters_go_to_bytes_and_back(parameters: Argon2Parameters) -> None:
    data = parameters.to_bytes()
    assert len(data) == kdf.PARAMETERS_SIZE
    assert Argon2Parameters.from_bytes(data) == parameters


OUT_OF_BOUNDS = [
    (MEMORY_KIB_MIN - 1, 1, 1),
    (MEMORY_KIB_MAX + 1, 1, 1),
    (2**32 - 1, 1, 1),
    (0, 1, 1),
    (MEMORY_KIB_MIN, 0, 1),
    (MEMORY_KIB_MIN, PASSES_MAX + 1, 1),
    (MEMORY_KIB_MIN, 2**32 - 1, 1),
    (MEMORY_KIB_MIN, 1, 0),
    (MEMORY_KIB_MIN, 1, LANES_MAX + 1),
    (MEMORY_KIB_MIN, 1, 255),
]


@pytest.mark.parametrize("asked", OUT_OF_BOUNDS)
def test_parameters_out_of_bounds_are_refused_whoever_asks_for_them(asked: tuple[int, int, int]) -> None:
    memory_kib, passes, lanes = asked
    with pytest.raises(LocalError):
        Argon2Parameters(memory_kib, passes, lanes)
    data = b"\1" + memory_kib.to_bytes(4, "big") + passes.to_bytes(4, "big") + lanes.to_bytes(1, "big")
    with pytest.raises(KeystoreError) as caught:
        Argon2Parameters.from_bytes(data)
    assert caught.value.reason == "bad_kdf"


@pytest.mark.parametrize("algorithm", [0, 2, 255])
def test_another_key_derivation_is_refused(algorithm: int) -> None:
    data = bytes([algorithm]) + Argon2Parameters().to_bytes()[1:]
    with pytest.raises(KeystoreError) as caught:
        Argon2Parameters.from_bytes(data)
    assert caught.value.reason == "bad_kdf"


def test_too_little_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        def __init__(self, **_: object) -> None: ...

        def derive_into(self, *_: object) -> None:
            raise MemoryError

    monkeypatch.setattr(kdf, "Argon2id", Exhausted)
    with pytest.raises(KeystoreError, match="needs 64 MiB of free memory") as caught:
        argon2id(b"", bytes(16), 64 * 1024, 1, 1)
    assert caught.value.reason == "no_memory"


class Machine:
    """Takes so long for a pass over a MiB."""

    def __init__(self, ns: int) -> None:
        self.ns = ns
        self.measured: list[Argon2Parameters] = []

    def __call__(self, parameters: Argon2Parameters) -> int:
        self.measured.append(parameters)
        return self.ns * parameters.memory_kib // 1024 * parameters.passes


@pytest.mark.parametrize("ns", [0, 1, 10_000, 100_000, 300_000, 700_000, 2_000_000, 10_000_000, 10**12])
@pytest.mark.parametrize("target_ns", [TARGET_NS_MIN, 500 * MS, TARGET_NS_MAX])
def test_calibration_comes_near_the_target_and_is_never_weaker_than_the_default(ns: int, target_ns: int) -> None:
    machine = Machine(ns)
    found = calibrate(target_ns, machine)
    default = Argon2Parameters()
    assert found.memory_kib >= default.memory_kib
    assert found.passes >= default.passes
    assert found.lanes == default.lanes
    assert len(machine.measured) <= 6
    taken_ns = machine(found)
    if machine(default) < target_ns and found != Argon2Parameters(MEMORY_KIB_MAX, PASSES_MAX):
        assert target_ns // 2 < taken_ns <= target_ns
    elif found != Argon2Parameters(MEMORY_KIB_MAX, PASSES_MAX):
        assert found == default


@pytest.mark.parametrize("target_ns", [0, TARGET_NS_MIN - 1, TARGET_NS_MAX + 1])
def test_an_unreasonable_target_is_refused(target_ns: int) -> None:
    with pytest.raises(LocalError):
        calibrate(target_ns, Machine(1))


def test_wiping_is_in_place() -> None:
    buffer, other = bytearray(b"secret"), bytearray(b"key")
    wipe(buffer, other)
    assert buffer == bytes(6)
    assert other == bytes(3)
