"""The table of rules is what the code enforces and what the tests break: no more, no less.

The rules are broken in the files beside this one, each by a message that is sound but for it. Here it is counted
that none is left out, and that a message which breaks two is refused by one of them.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.errors import LocalError
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, ExtensionType
from protocols.mls.leaf_node import LeafNodeSource
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Add, Custom, GroupContextExtensions, PreSharedKey, Proposal, Remove
from protocols.mls.psk import ExternalPsk
from protocols.mls.rules import RULES
from protocols.mls.update_path import UpdatePath
from tests.protocols.mls.forgery import forge_commit
from tests.protocols.mls.room import NOW_NS, Room, untouched

SHAPE = re.compile(r"(\d+(\.\d+)*|erratum-\d+|extensions-draft|policy|limit|fork)/[a-z0-9]+(-[a-z0-9]+)*")
TESTS = Path(__file__).parent
SOURCES = TESTS.parents[2] / "protocols" / "mls"


def named_in(files: Iterable[Path]) -> set[str]:
    """Whatever looks like a rule among the strings of these files."""
    return {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SHAPE.fullmatch(node.value)
    }


def test_every_rule_is_broken_by_a_test() -> None:
    assert named_in(TESTS.glob("test_rules_*.py")) == set(RULES)


def test_every_rule_is_enforced_and_every_refusal_is_a_rule() -> None:
    assert named_in(each for each in SOURCES.glob("*.py") if each.name != "rules.py") == set(RULES)


def test_rule_is_named_after_its_section_and_said_in_one_sentence() -> None:
    assert all(map(SHAPE.fullmatch, RULES))
    assert all(sentence and sentence.strip(". ") == sentence for sentence in RULES.values())
    assert len(set(RULES.values())) == len(RULES)


def test_rules_are_in_the_order_of_the_sections() -> None:
    sections = [rule.split("/")[0] for rule in RULES]
    numbered = [[int(part) for part in each.split(".")] for each in sections if each[0].isdigit()]
    assert numbered == sorted(numbered)
    assert sections[: len(numbered)] == [".".join(map(str, each)) for each in numbered]


def test_error_without_a_rule_is_our_own() -> None:
    with pytest.raises(LocalError):
        MlsError("7.3/no-such-rule")


# -- two at once ------------------------------------------------------------------------------------


def _shorter(path: UpdatePath) -> UpdatePath:
    return msgspec.structs.replace(path, nodes=path.nodes[:-1])


def _unsealed(path: UpdatePath) -> UpdatePath:
    *others, last = path.nodes
    return msgspec.structs.replace(path, nodes=(*others, msgspec.structs.replace(last, encrypted_path_secret=())))


DAVE = Room().client("dave")
PROPOSALS: Mapping[str, Proposal] = {
    "10.1/init-key": Add(DAVE.altered_key_package(init_key=DAVE.leaf.encryption_key)),
    "12.1.3/blank-leaf": Remove(7),
    "12.1.4/psk-nonce-size": PreSharedKey(ExternalPsk(b"psk", b"")),
    "12.2/already-member": Add(Room().client("carol").altered_key_package({"encryption_key": DAVE.encryption_key()})),
    "12.2/committer-remove": Remove(0),
    "12.2/unsupported-proposal-type": Custom(0xF00D, b""),
    "13.5/grease-proposal-type": Custom(0x0A0A, b""),
    "2.1/truncated": GroupContextExtensions((Extension(ExtensionType.REQUIRED_CAPABILITIES, b""),)),
    "8.4/unknown-psk": PreSharedKey(ExternalPsk(b"secret", bytes(32))),
}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "7.3/leaf-signature": {"leaf_signer": Room().client("carol")},
    "7.3/leaf-source": {"leaf": {"source": LeafNodeSource.UPDATE, "parent_hash": None}},
    "7.5/path-secret-mismatch": {"path_secrets": lambda secrets: tuple(bytes(len(each)) for each in secrets)},
    "7.6/ciphertext-count": {"path": _unsealed},
    "7.6/path-length": {"path": _shorter},
    "12.4.2/confirmation-tag": {"tag": lambda tag: bytes(len(tag))},
}
PAIRS = [
    (one, other)
    for one, other in combinations([*PROPOSALS, *STEPS], 2)
    if not STEPS.get(one, {}).keys() & STEPS.get(other, {}).keys()
]


@pytest.mark.parametrize("rules", PAIRS)
def test_commit_that_breaks_two_rules_is_refused_by_one_of_them(rules: tuple[str, str]) -> None:
    here = Room.of("alice", "bob", "carol")
    steps: dict[str, Any] = {}
    for rule in rules:
        steps |= STEPS.get(rule, {})
    forged = forge_commit(here["alice"], *(PROPOSALS[rule] for rule in rules if rule in PROPOSALS), **steps)
    found = here["bob"].receive(forged.message).content
    assert isinstance(found, VerifiedCommit)
    with untouched(here["bob"]), pytest.raises(MlsError) as caught:
        here["bob"].stage(found, now_ns=NOW_NS)
    assert caught.value.reason in rules
