from pathlib import Path

import pytest

from cluster.conformance import run_files
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import vector_path, vectors


def test_crypto_basics_of_all_seven_suites_pass() -> None:
    [result] = run_files([vector_path("mls/crypto-basics.json")])
    assert (result.kind, result.passed, result.total) == ("MLS crypto-basics", 7, 7)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("ref_hash", "out"),
        ("expand_with_label", "context"),
        ("derive_secret", "secret"),
        ("derive_tree_secret", "out"),
        ("sign_with_label", "content"),
        ("sign_with_label", "pub"),
        ("encrypt_with_label", "context"),
        ("encrypt_with_label", "kem_output"),
        ("encrypt_with_label", "plaintext"),
        ("encrypt_with_label", "pub"),
    ],
)
def test_flipped_bit_in_any_part_fails_every_suite(tmp_path: Path, part: str, field: str) -> None:
    cases = vectors("mls/crypto-basics.json")
    for case in cases:
        case[part][field] = flipped(case[part][field])
    result = run(tmp_path, cases)
    assert (len(result.failed), result.passed) == (7, 0)


def test_suite_that_is_not_ours_is_unsupported(tmp_path: Path) -> None:
    cases = vectors("mls/crypto-basics.json")
    cases[3]["cipher_suite"] = 0x0F0F
    result = run(tmp_path, cases)
    assert [case.case for case in result.unsupported] == ["3: cipher suite 3855"]
    assert (result.passed, result.failed) == (6, ())
