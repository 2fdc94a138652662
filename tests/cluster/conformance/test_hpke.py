import json
from pathlib import Path
from typing import Any

from cluster.conformance import run_files
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import packaged_path


def rfc_9180(name: str) -> Path:
    return packaged_path(f"HPKE/{name}")


def test_base_and_psk_modes_of_rfc_9180_pass_and_the_others_are_unsupported() -> None:
    [result] = run_files([rfc_9180("test-vectors.json")])
    assert (result.kind, result.failed) == ("HPKE", ())
    assert result.passed == len(result.unsupported) == 64
    assert {case.reason for case in result.unsupported} == {"MLS has no use for the authenticated modes"}


def test_the_hybrid_of_draft_ietf_hpke_pq_passes() -> None:
    [result] = run_files([rfc_9180("hpke-pq-test-vectors.json")])
    assert (result.passed, result.failed) == (1, ())


def test_flipped_bit_in_an_hpke_case_fails(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = json.loads(rfc_9180("test-vectors.json").read_bytes())
    [case] = (c for c in cases if [c[k] for k in ("mode", "kem_id", "kdf_id", "aead_id")] == [1, 0x20, 1, 1])
    del case["encryptions"][3:]
    assert run(tmp_path, [case]).passed == 1
    places: list[tuple[dict[str, Any], str]] = [
        *((case, field) for field in ("ikmR", "ikmE", "enc", "info", "psk", "psk_id", "shared_secret")),
        *((case["encryptions"][2], field) for field in ("aad", "pt", "ct")),
        *((case["exports"][2], field) for field in ("exporter_context", "exported_value")),
    ]
    for holder, field in places:
        text = holder[field]
        holder[field] = flipped(text)
        assert len(run(tmp_path, [case]).failed) == 1, field
        holder[field] = text


def test_hpke_case_that_is_malformed_fails(tmp_path: Path) -> None:
    case = {"mode": 0, "kem_id": 0x20, "kdf_id": 1, "aead_id": 1, "encryptions": []}
    result = run(tmp_path, [case, "no case", {"mode": 9}, {**case, "aead_id": 0x77}])
    assert [each.case for each in result.failed] == ["0: base 0x0020 0x0001 0x0001", "1: not an object"]
    assert [each.reason for each in result.unsupported] == [
        "MLS has no use for the authenticated modes",
        "AEAD 0x0077",
    ]
