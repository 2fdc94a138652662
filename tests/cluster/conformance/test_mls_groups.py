import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cluster.conformance import run_files
from protocols.mls.suite import SUITES
from tests.cluster.conformance.documents import flipped, run
from tests.protocols.mls.deeds import founded, happen, lineage
from tests.protocols.mls.histories import Case, History, document
from tests.vectors import vector_path, vectors

RFC_SUITES = range(1, 8)


@pytest.mark.parametrize(
    ("file", "kind", "cases"),
    [
        ("welcome", "welcome", 7),
        ("passive-client-welcome", "passive-client", 56),
        ("passive-client-handling-commit", "passive-client", 91),
    ],
)
def test_every_published_case_of_all_seven_suites_passes(file: str, kind: str, cases: int) -> None:
    [result] = run_files([vector_path(f"mls/{file}.json")])
    assert (result.kind, result.passed, result.total) == (f"MLS {kind}", cases, cases), result.failed


@pytest.mark.parametrize("field", ["init_priv", "key_package", "signer_pub", "welcome"])
def test_altered_welcome_fails_in_every_suite(tmp_path: Path, field: str) -> None:
    cases = vectors("mls/welcome.json")
    for case in cases:
        case[field] = flipped(case[field])
    result = run(tmp_path, cases)
    assert (result.passed, len(result.failed)) == (0, 7)


def test_suite_that_is_not_ours_is_unsupported(tmp_path: Path) -> None:
    for file in ("welcome", "passive-client-welcome"):
        [case, *_] = vectors(f"mls/{file}.json")
        assert len(run(tmp_path, [case | {"cipher_suite": 0x0F0F}]).unsupported) == 1


# -- passive clients, in histories of our own -------------------------------------------------------

EVERY_STEP = {
    "external commit",
    "member's commit",
    "path",
    "no path",
    *(f"{kind} by value" for kind in ("Add", "Remove", "PreSharedKey", "GroupContextExtensions", "Custom")),
    *(f"{kind} by MEMBER" for kind in ("Add", "Remove", "PreSharedKey", "GroupContextExtensions", "Custom")),
    *(f"{kind} by EXTERNAL" for kind in ("Add", "Remove", "PreSharedKey", "GroupContextExtensions")),
    "Add by NEW_MEMBER_PROPOSAL",
    "Update by MEMBER",
    "SelfRemove by MEMBER",
    "ExternalInit by value",
    "ReInit by value",
    "ReInit by MEMBER",
}


@cache
def told(suite: int) -> tuple[History, ...]:
    return lineage(SUITES[suite], SUITES[suite % 7 + 1], "conformance")


def cases_of(suite: int) -> list[Case]:
    return copy.deepcopy(document(told(suite)))


@pytest.mark.parametrize("suite", RFC_SUITES)
def test_whole_histories_are_followed_into_branch_and_reinitialised_group(tmp_path: Path, suite: int) -> None:
    result = run(tmp_path, cases_of(suite))
    assert (result.kind, result.passed, result.failed) == ("MLS passive-client", 3, ())


def test_the_histories_have_every_kind_of_step() -> None:
    assert {step for suite in RFC_SUITES for history in told(suite) for step in history.followed} >= EVERY_STEP


def test_a_hundred_commits_are_followed(tmp_path: Path) -> None:
    history = founded(SUITES[1], "long")
    happen(history, 9)
    [case] = document([history])
    assert len(case["epochs"]) > 100
    assert run(tmp_path, [case]).passed == 1


@pytest.mark.parametrize("suite", RFC_SUITES)
def test_one_altered_commit_fails_where_it_stands(tmp_path: Path, suite: int) -> None:
    cases = cases_of(suite)
    at = len(cases[0]["epochs"]) - 3
    cases[0]["epochs"][at]["commit"] = flipped(cases[0]["epochs"][at]["commit"])
    [group, _branched, _reinitialised] = run(tmp_path, cases).failed  # what follows on a group that was not followed
    assert group.case == f"0: cipher suite {suite}"


@pytest.mark.parametrize(
    "field",
    [
        "key_package",
        "signature_priv",
        "encryption_priv",
        "init_priv",
        "welcome",
        "initial_epoch_authenticator",
        "external_psks.0.psk",
        "external_psks.1.psk",
        "epochs.2.epoch_authenticator",
    ],
)
def test_any_altered_field_fails_the_case(tmp_path: Path, field: str) -> None:
    cases = cases_of(3)
    *way, last = field.split(".")
    place: Any = cases[0]
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = flipped(place[last])
    assert run(tmp_path, cases[:1]).passed == 0


def test_altered_or_missing_proposal_fails_the_case(tmp_path: Path) -> None:
    cases = cases_of(1)[:1]
    epoch = next(each for each in cases[0]["epochs"] if each["proposals"])
    [first, *others] = epoch["proposals"]
    epoch["proposals"] = [flipped(first), *others]
    assert run(tmp_path, cases).passed == 0
    epoch["proposals"] = []
    assert "erratum-8815/unknown-proposal" in run(tmp_path, cases).failed[0].reason


def test_tree_that_is_given_apart_is_the_one_that_is_believed(tmp_path: Path) -> None:
    apart = [case for case in vectors("mls/passive-client-welcome.json") if case["ratchet_tree"] is not None]
    for case in apart:
        case["ratchet_tree"] = flipped(case["ratchet_tree"])
    assert run(tmp_path, apart).passed == 0
    for case in apart:
        case["ratchet_tree"] = None
    assert all("12.4.3.1/no-tree" in each.reason for each in run(tmp_path, apart).failed)


def test_group_that_continues_another_needs_the_other_one_before_it(tmp_path: Path) -> None:
    [group, branched, reinitialised] = cases_of(1)
    reasons = [each.reason for each in run(tmp_path, [branched, reinitialised, group]).failed]
    assert len(reasons) == 2
    assert all("8.4/unknown-psk" in reason for reason in reasons)


@pytest.mark.parametrize("kind", ["commit", "proposals"])
def test_message_of_another_kind_fails_the_case(tmp_path: Path, kind: str) -> None:
    cases = cases_of(1)[:1]
    epoch = next(each for each in cases[0]["epochs"] if each["proposals"])
    if kind == "commit":
        epoch["commit"] = epoch["proposals"].pop()
    else:
        epoch["proposals"] = [epoch["commit"]]
    [failed] = run(tmp_path, cases).failed
    assert "Verified" in failed.reason


@pytest.mark.campaign
@pytest.mark.parametrize("suite", RFC_SUITES)
def test_many_more_histories_are_followed(tmp_path: Path, suite: int) -> None:
    for seed in range(12):
        told_anew = document(lineage(SUITES[suite], SUITES[seed % 7 + 1], f"campaign {seed}", 1 + seed % 4))
        assert run(tmp_path, told_anew).failed == (), seed
