"""The fuzz targets without a fuzzer: seeds and some hundreds of fixed inputs, so that they do not rot.

And what fuzzing has found, each as the claim that was wrong.
"""

import importlib.util
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest

from protocols.errors import LocalError
from protocols.mls.group import Group
from protocols.mls.proposals import PreSharedKey
from protocols.mls.psk import ExternalPsk
from protocols.mls.records import RECORDS, EpochsDropped, ProposalKept
from protocols.mls.send_ledger import SendLedger
from tests.fuzz import __main__ as command
from tests.fuzz.draws import Draws
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS, target
from tests.fuzz.world import NOW_NS, adopt, entropy_of, world

INPUTS = {"decoder": 2000, "group": 150, "state": 200}


def inputs(name: str) -> Iterator[bytes]:
    """The seeds, then each with what a fuzzer might do to it."""
    seeds = target(name).seeds()
    draw = entropy_of(f"inputs for {name}")
    return chain(seeds, (Draws(draw(32)).altered(seed) + draw(64) for seed in chain.from_iterable([seeds] * 1000)))


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_its_promises_for_fixed_inputs(name: str) -> None:
    run = target(name).run
    for data in islice(inputs(name), INPUTS[name]):
        run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_target_takes_no_bytes_at_all(name: str) -> None:
    target(name).run(b"")


def test_mutation_depends_on_the_bytes_alone() -> None:
    made = world(1)
    package = made.bundles[0].key_package
    data = bytes(range(100, 160))
    once, again = (mutated(package, Draws(data), made.donors, 3) for _ in range(2))
    assert once == again
    assert once != package


def test_without_atheris_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "decoder"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert command.main() == 2
    assert "needs atheris" in capsys.readouterr().err


def test_one_input_is_run_again_without_atheris(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "input"
    kept.write_bytes(b"\0\0")
    monkeypatch.setattr(sys, "argv", ["fuzz", "decoder", "--input", str(kept)])
    assert command.main() == 0


# -- what fuzzing has found ---------------------------------------------------------------------------------------


def test_proposal_of_a_psk_that_nobody_knows_keeps_nobody_from_committing() -> None:
    made = world(1)
    alice, erin = made.restored("alice"), made.restored("erin")
    psk = PreSharedKey(ExternalPsk(b"unheard of", bytes(made.suite.hash_size)))
    alice.receive(erin.propose(psk, entropy=entropy_of("erin")).message)
    own = alice.commit(entropy=entropy_of("alice"), now_ns=NOW_NS)
    assert "8.4/unknown-psk" in [each.error.reason for each in own.rejected]
    adopt(erin, own.message)
    alice.adopt(own.commit, now_ns=NOW_NS)
    assert erin.current.authenticator == alice.current.authenticator


def test_refused_record_of_a_proposal_uses_no_key() -> None:
    alice = world(1).restored("alice")
    authenticated = alice.proposals()[0].authenticated.encode()
    position = bytes((0, 0, 0, 3)) + bytes(5)  # Of erin, who has sent nothing yet.
    for record in (
        ProposalKept(alice.current.authenticator, authenticated[:-1], position),
        ProposalKept(
            alice.current.authenticator,
            alice.proposals()[2].authenticated.encode(),
            position,
            encryption_private=b"key",
        ),
    ):
        assert_refused(alice, RECORDS.encode(record))


def test_record_that_drops_an_epoch_twice_or_the_current_one_is_refused() -> None:
    alice = world(1).restored("alice")
    old, current = alice.epochs
    for epochs in ((old, old), (current,)):
        assert_refused(alice, RECORDS.encode(EpochsDropped(epochs)))


def assert_refused(group: Group, record: bytes) -> None:
    before = group.to_bytes()
    with pytest.raises(LocalError):
        group.replay(record)
    assert group.to_bytes() == before
    assert Group.from_bytes(before, SendLedger()).to_bytes() == before
