from pathlib import Path

import pytest

from cluster.conformance import run_files
from tests.cluster.conformance.documents import run
from tests.vectors import vector_path, vectors


@pytest.mark.parametrize(("kind", "cases"), [("deserialization", 14), ("messages", 300)])
def test_every_published_case_passes(kind: str, cases: int) -> None:
    [result] = run_files([vector_path(f"mls/{kind}.json")])
    assert (result.kind, result.passed, result.total) == (f"MLS {kind}", cases, cases), result.failed


def test_other_length_or_header_fails(tmp_path: Path) -> None:
    cases = vectors("mls/deserialization.json")
    for case in cases:
        case["length"] += 1
    assert len(run(tmp_path, cases).failed) == len(cases)
    cases = [{"vlbytes_header": header, "length": 1} for header in ("4001", "80000001", "c000000000000001", "0101", "")]
    assert len(run(tmp_path, cases).failed) == len(cases)


def test_structure_with_a_byte_more_or_less_fails(tmp_path: Path) -> None:
    [case, *_] = vectors("mls/messages.json")
    for field, text in case.items():
        altered = [case | {field: text + "00"}, case | {field: text[:-2]}]
        assert len(run(tmp_path, altered).failed) == 2, field


def test_message_of_another_kind_fails(tmp_path: Path) -> None:
    [case, *_] = vectors("mls/messages.json")
    fields = ("mls_welcome", "mls_group_info", "mls_key_package", "private_message", "public_message_proposal")
    for field, other in zip(fields, (*fields[1:], "public_message_commit"), strict=True):
        [failed] = run(tmp_path, [case | {field: case[other]}]).failed
        assert failed.reason.startswith(field)
