from pathlib import Path

import pytest

from cluster.conformance import run_files
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import vector_path, vectors


@pytest.mark.parametrize(("name", "count"), [("tree-math", 10), ("tree-operations", 5), ("tree-validation", 98)])
def test_every_published_case_passes(name: str, count: int) -> None:
    [result] = run_files([vector_path(f"mls/{name}.json")])
    assert (result.kind, result.passed, result.total) == (f"MLS {name}", count, count)


@pytest.mark.parametrize("relation", ["root", "left", "right", "parent", "sibling"])
def test_relation_that_is_another_fails(tmp_path: Path, relation: str) -> None:
    cases = vectors("mls/tree-math.json")[3:4]
    if relation == "root":
        cases[0]["root"] += 1
    else:
        cases[0][relation][3] = 12
    [failed] = run(tmp_path, cases).failed
    assert failed.reason.startswith(relation)


@pytest.mark.parametrize("field", ["tree_before", "tree_after", "tree_hash_before", "tree_hash_after"])
def test_altered_operation_fails(tmp_path: Path, field: str) -> None:
    cases = vectors("mls/tree-operations.json")
    for case in cases:
        case[field] = flipped(case[field])
    result = run(tmp_path, cases)
    assert (result.passed, len(result.failed)) == (0, 5)


@pytest.mark.parametrize("field", ["tree", "group_id"])
def test_altered_tree_fails_in_every_suite(tmp_path: Path, field: str) -> None:
    cases = [case for case in vectors("mls/tree-validation.json") if len(case["tree_hashes"]) == 15]
    assert {case["cipher_suite"] for case in cases} == set(range(1, 8))
    for case in cases:
        case[field] = flipped(case[field])
    result = run(tmp_path, cases)
    assert (result.passed, len(result.failed)) == (0, len(cases))


def test_altered_resolution_or_hash_fails(tmp_path: Path) -> None:
    cases = vectors("mls/tree-validation.json")[:2]
    cases[0]["resolutions"][1] = [0]
    cases[1]["tree_hashes"][0] = "00" * 32
    assert [each.reason.split(":")[0] for each in run(tmp_path, cases).failed] == [
        "resolution of node 1",
        "tree hash of node 0",
    ]


def test_suite_that_is_not_ours_is_unsupported(tmp_path: Path) -> None:
    cases = vectors("mls/tree-validation.json")[:1]
    cases[0]["cipher_suite"] = 0x0F0F
    assert len(run(tmp_path, cases).unsupported) == 1
