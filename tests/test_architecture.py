"""The shape of the house: who imports whom, what the cores cannot do, and that every module has its tests."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.architecture import RULES, files, violations

ROOT: Final = Path(__file__).resolve().parents[1]

EXCEPTIONS: Final = {
    "actors/randomness.py": {"imports os", "calls urandom()"},
    "actors/storage/files.py": {"imports os"},
    "actors/storage/sqlite_store.py": {"imports os", "imports pathlib"},
}
"""What is allowed after all. The system's entropy enters in one place, for peers that run in real time, and files are
opened in one."""

COVERED_ELSEWHERE: Final = {
    "actors/actor.py": "actors/test_host.py",
    "actors/checkpoint.py": "actors/test_host.py",
    "actors/context.py": "actors/test_host.py",
    "actors/crdt_settling.py": "actors/test_crdt_compaction.py",
    "actors/group_mail.py": "actors/test_group_journal.py",
    "actors/peer.py": "cluster/test_simulation.py",
    "actors/setup.py": "cluster/test_simulation.py",
    "actors/storage/__init__.py": "actors/storage/test_sqlite_store.py",
    "cluster/__init__.py": "cluster/test_results.py",
    "cluster/command.py": "cluster/test_cli.py",
    "cluster/conformance/__init__.py": "cluster/conformance/test_registry.py",
    "cluster/conformance/shapes.py": "cluster/conformance/test_mls_groups.py",
    "cluster/console.py": "cluster/test_cli.py",
    "cluster/crdt_liars.py": "cluster/test_crdt_adversaries.py",
    "cluster/crdt_traitor.py": "cluster/test_crdt_adversaries.py",
    "cluster/export.py": "cluster/test_telemetry.py",
    "cluster/options.py": "cluster/test_scenario.py",
    "cluster/population.py": "cluster/test_simulation.py",
    "cluster/ray_real_time.py": "cluster/test_real_time.py",
    "cluster/ray_shards.py": "cluster/test_simulation.py",
    "cluster/regions.py": "cluster/test_network.py",
    "cluster/replay.py": "cluster/test_diff.py",
    "cluster/sections.py": "cluster/test_scenario.py",
    "cluster/summary.py": "cluster/test_results.py",
    "protocols/contact.py": "protocols/kademlia/test_messages.py",
    "protocols/crdt/__init__.py": "protocols/crdt/test_replica.py",
    "protocols/crdt/compacted.py": "protocols/crdt/test_restoring.py",
    "protocols/crdt/config.py": "actors/test_crdt_channel.py",
    "protocols/crdt/cuts.py": "protocols/crdt/test_compaction.py",
    "protocols/crdt/errors.py": "protocols/crdt/test_bundles.py",
    "protocols/crdt/requests.py": "actors/test_crdt_replica.py",
    "protocols/errors.py": "protocols/test_messages.py",
    "protocols/identity/__init__.py": "protocols/identity/test_chain.py",
    "protocols/identity/errors.py": "protocols/identity/test_chain.py",
    "protocols/identity/keystore/__init__.py": "protocols/identity/keystore/test_content.py",
    "protocols/identity/keystore/errors.py": "protocols/identity/keystore/test_sealed.py",
    "protocols/journal/__init__.py": "protocols/journal/test_journal.py",
    "protocols/journal/changes.py": "protocols/journal/test_journal.py",
    "protocols/journal/errors.py": "protocols/journal/test_journal.py",
    "protocols/journal/messages.py": "protocols/journal/test_journal.py",
    "protocols/journal/roll.py": "protocols/journal/test_recovery.py",
    "protocols/journal/store.py": "protocols/journal/test_journal.py",
    "protocols/journal/stream.py": "protocols/journal/test_journal.py",
    "protocols/kademlia/config.py": "protocols/kademlia/test_node.py",
    "protocols/kademlia/tasks.py": "protocols/kademlia/test_node.py",
    "protocols/mls/__init__.py": "protocols/mls/test_group.py",
    "protocols/mls/commit.py": "protocols/mls/test_message.py",
    "protocols/mls/credentials.py": "protocols/mls/test_message.py",
    "protocols/mls/errors.py": "protocols/mls/test_message.py",
    "protocols/mls/framing.py": "protocols/mls/test_message.py",
    "protocols/mls/group_context.py": "protocols/mls/test_message.py",
    "protocols/mls/key_package.py": "protocols/mls/test_message.py",
    "protocols/mls/outcomes.py": "protocols/mls/test_group.py",
    "protocols/mls/policy.py": "protocols/mls/test_proposal_list.py",
    "protocols/mls/proposals.py": "protocols/mls/test_message.py",
    "protocols/mls/secret_tree.py": "protocols/mls/test_message_keys.py",
    "protocols/mls/services.py": "protocols/mls/test_group.py",
    "protocols/mls/storing.py": "protocols/mls/test_records.py",
    "protocols/mls/tree_changes.py": "protocols/mls/test_ratchet_tree.py",
    "protocols/mls/tree_nodes.py": "protocols/mls/test_ratchet_tree.py",
    "protocols/mls/tree_private.py": "protocols/mls/test_treekem.py",
    "protocols/mls/update_path.py": "protocols/mls/test_message.py",
    "protocols/mls/welcome.py": "protocols/mls/test_message.py",
    "protocols/noise/contexts.py": "protocols/noise/test_session.py",
    "protocols/noise/cookies.py": "protocols/noise/test_session_floods.py",
    "protocols/noise/datagrams.py": "protocols/noise/test_session.py",
    "protocols/noise/errors.py": "protocols/noise/test_patterns.py",
    "protocols/noise/exchange.py": "protocols/noise/test_session_handshake.py",
    "protocols/noise/interface.py": "protocols/noise/test_session_handshake.py",
    "protocols/noise/pending.py": "protocols/noise/test_session_handshake.py",
    "protocols/noise/sessions.py": "protocols/noise/test_session_handshake.py",
    "protocols/noise/suite.py": "protocols/noise/test_handshake.py",
    "protocols/noise/table.py": "protocols/noise/test_session_ages.py",
    "protocols/rpc/client.py": "protocols/rpc/test_calls.py",
    "protocols/rpc/machine.py": "protocols/rpc/test_calls.py",
    "protocols/rpc/pending.py": "protocols/rpc/test_calls.py",
    "protocols/rpc/server.py": "protocols/rpc/test_calls.py",
}
"""Modules that are parts of one subject, and where that is tested: as a whole."""

WITHOUT_TESTS: Final[dict[str, str]] = {}
"""Modules without tests of their own, and why."""


def modules(*packages: str) -> list[str]:
    return [str(each) for each in files(ROOT, packages) if (ROOT / each).stat().st_size]


@pytest.mark.parametrize("module", modules(*RULES))
def test_cores_and_actors_read_no_clock_no_entropy_no_file_and_no_hash_order(module: str) -> None:
    rules = RULES[module.partition("/")[0]]
    found = violations((ROOT / module).read_text(encoding="utf-8"), rules)
    allowed = EXCEPTIONS.get(module, set())
    assert [f"{module}:{each.line} {each.what}" for each in found if each.what not in allowed] == []
    assert allowed <= {each.what for each in found}, "an exception that is not needed any more"


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ("import time", "imports time"),
        ("def f():\n    from datetime import datetime", "imports datetime"),
        ("import os.path", "imports os.path"),
        ("from random import Random", "imports random"),
        ("import asyncio as a", "imports asyncio"),
        ("import ray", "imports ray"),
        ("from nacl.bindings import randombytes", "imports nacl.bindings.randombytes"),
        ("from nacl import bindings\nkey = bindings.randombytes(32)", "calls randombytes()"),
        ("key = X25519PrivateKey.generate()", "calls generate() without entropy"),
        ("with open('x') as file: pass", "calls open()"),
        ("bucket = hash(key) % 20", "calls hash()"),
        ("order = sorted(peers, key=lambda peer: id(peer))", "calls id()"),
        ("for key in {a, b}: send(key)", "iterates over a set"),
        ("def f(keys: set[bytes]):\n    return [key for key in keys]", "iterates over a set"),
        ("class A:\n    def f(self):\n        self.keys = set()\n        return list(self.keys)", "list() of a set"),
        ("seen: frozenset[bytes] = frozenset()\nfirst = next(iter(seen))", "iter() of a set"),
        ("keys = set(a) | b\nfor key in keys - c: send(key)", "iterates over a set"),
        ("def f(keys: set[bytes]):\n    return keys.pop()", "pops from a set"),
        ("keys = set(a)\nline = b''.join(keys)", "join() of a set"),
        ("keys = set(a)\nsend(*keys)", "unpacks a set"),
        ("half = timeout_ns / 2", "divides into a fraction"),
        ("deadline = now + 0.5", "has a fraction"),
        ("now = int(float(text))", "has a fraction"),
    ],
)
def test_a_planted_violation_is_found(planted: str, what: str) -> None:
    assert what in [each.what for each in violations(planted, RULES["protocols"])]


@pytest.mark.parametrize(
    "source",
    [
        "def f(keys: set[bytes]):\n    return sorted(keys), len(keys), b'x' in keys",
        "for key in {b'a': 1, b'b': 2}: send(key)",
        "half = timeout_ns // 2",
        "DeviceIdentity.generate(entropy, network_id)",
        "contacts.pop()",
    ],
)
def test_what_is_harmless_is_not_found(source: str) -> None:
    assert violations(source, RULES["protocols"]) == []


def test_imports_point_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_module_has_tests() -> None:
    missing = [each for each in modules("protocols", "actors", "cluster") if not _tests_of(each)]
    assert missing == []


def test_the_tables_of_modules_tested_elsewhere_hold_nothing_stale() -> None:
    there = set(modules("protocols", "actors", "cluster"))
    for module, test in COVERED_ELSEWHERE.items():
        assert module in there
        assert not _named_after(module), f"{module} has tests of its own"
        assert (ROOT / "tests" / test).is_file()
    for module in WITHOUT_TESTS:
        assert module in there
        assert not _named_after(module)


def _tests_of(module: str) -> bool:
    return bool(_named_after(module)) or module in COVERED_ELSEWHERE or module in WITHOUT_TESTS


def _named_after(module: str) -> list[Path]:
    """Test files in the mirrored folder with the module's name, or its beginning; or one for its whole package."""
    path = Path(module)
    folder = ROOT / "tests" / path.parent
    own = [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]
    return sorted([*own, *folder.parent.glob(f"test_{path.parent.name}.py")])
