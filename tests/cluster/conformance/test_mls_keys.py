from pathlib import Path
from typing import Any

import pytest

from cluster.conformance import run_files
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import vector_path, vectors


@pytest.mark.parametrize(
    ("kind", "cases"),
    [
        ("key-schedule", 7),
        ("psk_secret", 77),
        ("secret-tree", 21),
        ("transcript-hashes", 7),
        ("message-protection", 7),
    ],
)
def test_every_published_case_of_all_seven_suites_passes(kind: str, cases: int) -> None:
    [result] = run_files([vector_path(f"mls/{kind}.json")])
    assert (result.kind, result.passed, result.total) == (f"MLS {kind}", cases, cases), result.failed


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("key-schedule", "initial_init_secret"),
        *(
            ("key-schedule", f"epochs.1.{field}")
            for field in (
                "commit_secret",
                "psk_secret",
                "group_context",
                "joiner_secret",
                "external_pub",
                "init_secret",
            )
        ),
        ("key-schedule", "epochs.0.exporter.context"),
        ("psk_secret", "psk_secret"),
        ("secret-tree", "encryption_secret"),
        ("secret-tree", "sender_data.sender_data_secret"),
        ("secret-tree", "leaves.0.0.handshake_nonce"),
        ("secret-tree", "leaves.0.1.application_key"),
        ("transcript-hashes", "authenticated_content"),
        ("transcript-hashes", "interim_transcript_hash_after"),
        *(
            ("message-protection", field)
            for field in ("commit", "commit_pub", "commit_priv", "proposal_priv", "application_priv", "tree_hash")
        ),
    ],
)
def test_flipped_bit_fails_every_case(tmp_path: Path, kind: str, path: str) -> None:
    cases = vectors(f"mls/{kind}.json")[:7]
    for case in cases[1:]:
        *way, last = path.split(".")
        place: Any = case
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[last] = flipped(place[last])
    result = run(tmp_path, cases)
    assert (result.kind, len(result.failed), result.passed) == (f"MLS {kind}", len(cases) - 1, 1)


def test_missing_message_is_not_a_passed_case(tmp_path: Path) -> None:
    cases = vectors("mls/message-protection.json")
    del cases[0]["commit_pub"]
    result = run(tmp_path, cases)
    assert "commit_pub is missing" in result.failed[0].reason
