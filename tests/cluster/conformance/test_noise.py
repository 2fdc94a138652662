from pathlib import Path
from typing import Any

import pytest

from protocols.noise.suite import protocol
from tests.cluster.conformance.documents import run
from tests.protocols.noise.pair import XX, key, side
from tests.vectors import vectors

IK = "Noise_IK_25519_ChaChaPoly_BLAKE2s"
FALLBACK = "Noise_XXfallback_25519_ChaChaPoly_BLAKE2s"


@pytest.fixture
def few() -> list[dict[str, Any]]:
    """Every hundredth published case."""
    cases: list[dict[str, Any]] = vectors("noise/cacophony.json")["vectors"]
    return cases[::100]


def test_file_is_known_by_its_shape_whatever_its_name(tmp_path: Path, few: list[dict[str, Any]]) -> None:
    result = run(tmp_path, {"vectors": few})
    assert (result.kind, result.passed, result.total) == ("Noise", len(few), len(few))


@pytest.mark.parametrize("field", ["ciphertext", "payload"])
def test_flipped_byte_in_a_vector_is_reported_with_its_case(
    tmp_path: Path, few: list[dict[str, Any]], field: str
) -> None:
    for message in range(len(few[2]["messages"])):
        text = few[2]["messages"][message][field]
        few[2]["messages"][message][field] = f"{int(text[:2], 16) ^ 1:02x}" + text[2:]
        result = run(tmp_path, {"vectors": few})
        few[2]["messages"][message][field] = text
        [failure] = result.failed
        assert failure.case == f"2: {few[2]['protocol_name']}"
        assert f"message {message}: ours" in failure.reason
        assert result.passed == len(few) - 1


def test_wrong_handshake_hash_fails(tmp_path: Path, few: list[dict[str, Any]]) -> None:
    few[0]["handshake_hash"] = "00" * 32
    result = run(tmp_path, {"vectors": few})
    assert "handshake hash" in result.failed[0].reason


def test_case_without_enough_messages_fails(tmp_path: Path, few: list[dict[str, Any]]) -> None:
    few[-1]["messages"] = []
    few[-2]["messages"] = [{"payload": "zz"}]
    few[-3]["init_ephemeral"] = "00"
    result = run(tmp_path, {"vectors": few})
    assert len(result.failed) == 3


def test_case_that_asks_for_other_algorithms_is_unsupported_not_passed(
    tmp_path: Path, few: list[dict[str, Any]]
) -> None:
    few[1]["protocol_name"] = "Noise_XXhfs_25519+NewHope_ChaChaPoly_SHA256"
    few[2]["protocol_name"] = "NoisePSK_XX_25519_ChaChaPoly_SHA256"
    result = run(tmp_path, {"vectors": few})
    assert [case.reason.split(":")[0] for case in result.unsupported] == ["unknown_modifier", "malformed_name"]
    assert (result.passed, result.failed) == (len(few) - 2, ())


def fallback_case() -> dict[str, Any]:
    """As noise-c writes them, with ciphertexts of our own."""
    stale = protocol(IK).dh.public(b"\7" * 32)
    alice = side(protocol(IK), initiator=True, remote_static=stale, prologue=b"")
    ciphertexts = [alice.write_message(b"\0")]
    bob = side(protocol(FALLBACK), initiator=True, remote_ephemeral=ciphertexts[0][:32], prologue=b"")
    alice = side(protocol(FALLBACK), initiator=False, ephemeral=key("initiatore", 32), prologue=b"")
    # ``side`` names keys after roles; in the fallback Alice is the responder, with her own static key.
    alice._static = side(protocol(IK), initiator=True)._static
    bob._static = side(protocol(IK), initiator=False)._static
    bob._ephemeral = key("responders", 32)
    ciphertexts.append(bob.write_message(b"\1"))
    alice.read_message(ciphertexts[1])
    ciphertexts.append(alice.write_message(b"\2"))
    bob.read_message(ciphertexts[2])
    ciphertexts.append(bob.split().encrypt(b"\3"))
    return {
        "name": FALLBACK,
        "pattern": "IK",
        "fallback": True,
        "init_static": key("initiators", 32).hex(),
        "init_ephemeral": key("initiatore", 32).hex(),
        "init_remote_static": stale.hex(),
        "resp_static": key("responders", 32).hex(),
        "resp_ephemeral": key("responders", 32).hex(),
        "messages": [{"payload": f"0{n}", "ciphertext": c.hex()} for n, c in enumerate(ciphertexts)],
    }


def test_fallback_case_is_run_by_either_naming(tmp_path: Path) -> None:
    by_fallback = fallback_case()
    by_first = {key: value for key, value in by_fallback.items() if key not in ("name", "pattern")}
    by_first |= {"protocol_name": IK, "fallback_pattern": "XXfallback"}
    result = run(tmp_path, {"vectors": [by_fallback, by_first]})
    assert (result.passed, result.failed) == (2, ())


def test_fallback_case_whose_first_message_can_be_read_fails(tmp_path: Path) -> None:
    case = fallback_case()
    suite = protocol(IK)
    case["init_remote_static"] = suite.dh.public(key("responders", 32)).hex()
    case["messages"][0]["ciphertext"] = side(suite, initiator=True, prologue=b"").write_message(b"\0").hex()
    result = run(tmp_path, {"vectors": [case]})
    assert "nothing to fall back from" in result.failed[0].reason


def test_unneeded_keys_of_a_case_are_left_out(tmp_path: Path, few: list[dict[str, Any]]) -> None:
    [plain] = [
        case for case in vectors("noise/cacophony.json")["vectors"] if case["protocol_name"] == XX.replace("XX", "NN")
    ]
    plain |= {"init_static": "11" * 32, "resp_static": "22" * 32}
    result = run(tmp_path, {"vectors": [plain]})
    assert result.passed == 1
