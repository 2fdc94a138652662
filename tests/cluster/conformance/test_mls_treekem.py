from pathlib import Path
from typing import Any

import pytest

from cluster.conformance import run_files
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import vector_path, vectors

TREEKEM = "mls/treekem.json"


def test_published_paths_are_opened_and_ours_are_agreed_on_in_all_suites() -> None:
    [result] = run_files([vector_path(TREEKEM)])
    assert (result.kind, result.passed, result.failed, result.unsupported) == ("MLS treekem", 77, (), ())


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("commit_secret", "commit secret at leaf"),
        ("tree_hash_after", "tree hash after the path"),
        ("update_path", "5.1.3/decrypt"),
    ],
)
def test_altered_path_is_reported(tmp_path: Path, field: str, reason: str) -> None:
    case: dict[str, Any] = vectors(TREEKEM)[2]
    case["update_paths"][0][field] = flipped(case["update_paths"][0][field])
    result = run(tmp_path, [case])
    assert result.passed == 0
    assert reason in result.failed[0].reason


def test_altered_private_key_is_reported(tmp_path: Path) -> None:
    case: dict[str, Any] = vectors(TREEKEM)[2]
    case["leaves_private"][0]["path_secrets"][0]["path_secret"] = "00" * 32
    result = run(tmp_path, [case])
    assert "private key held for node" in result.failed[0].reason
