"""Each forgery is refused by a replica for what is wrong with it, whatever it changes, and leaves nothing behind."""

from typing import Final

import pytest

from actors.randomness import Stream, derive_key
from cluster.crdt_forgeries import FORGERIES, Forgery, Material, Tip, any_change, content, written
from protocols.crdt import changes
from protocols.crdt.bundles import parse
from protocols.crdt.changes import Accuse, Acknowledge, Append, Assign, Change, Genesis, Grant, Increment, Revoke, Role
from protocols.crdt.clock import clock_at
from protocols.crdt.outgoing import pack
from protocols.crdt.replica import Replica
from protocols.identity import SigningKey

S: Final = 1_000_000_000
OWNER, MEMBER, FORGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
SAMPLES: Final = range(40)

REASONS: Final[dict[str, set[str]]] = {
    "unsigned": {"bad_signature"},
    "signed_with_another_key": {"bad_signature"},
    "signature_of_something_else": {"bad_signature"},
    "for_another_channel": {"bad_signature"},
    "by_a_stranger": {"unauthorised"},
    "altered": {"bad_signature", "malformed", "bad_count", "non_canonical", "oversized", "bad_path"},
    "renamed": {"bad_signature"},
    "bomb": {"malformed", "bad_count"},
    "wrong_count": {"bad_count"},
    "oversized": {"oversized"},
    "another_encoding": {"non_canonical"},
    "wrong_path": {"malformed", "bad_signature", "bad_path"},
    "out_of_order": {"bad_back_link", "bad_sequence", "bad_clock"},
    "another_genesis": {"bad_genesis"},
    "seizure": {"unauthorised"},
    "framing": {"bad_evidence"},
    "bad_reference": {"bad_reference"},
}


def channel() -> tuple[Replica, Material]:
    """An owner and a member have written; the forger is a member too."""
    replica = Replica.found(OWNER, {MEMBER.public: Role.MEMBER, FORGER.public: Role.MEMBER}, nonce=bytes(32), now_ns=0)
    for second, key in enumerate((OWNER, MEMBER, MEMBER), 1):
        replica.write(key, [Assign(("a",), second), Increment(("b",), 1), Append(("c",), "x")], second * S)
    held = list(replica.history)[1:]
    units = pack(replica.history, held).units
    return replica, Material(replica.channel, FORGER, Tip(), held, units, OWNER.public, clock_at(9 * S))


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda each: each.__name__)
def test_every_forgery_is_refused_for_what_is_wrong_with_it(forgery: Forgery) -> None:
    replica, made = channel()
    before = replica.to_bytes()
    reasons = set()
    for number in SAMPLES:
        draws = Stream(derive_key(number, "forgery"))
        receipt = replica.receive(forgery(made, draws.below, draws.entropy), FORGER.public, 9 * S)
        assert not receipt.added
        if receipt.refused is not None:
            reasons.add(receipt.refused.reason)
        else:  # another signature, for what is held already
            assert receipt.duplicates
    found, wanted = reasons, REASONS[forgery.__name__]
    assert found <= wanted if forgery.__name__ == "altered" else found == wanted
    assert replica.to_bytes() == before


@pytest.mark.parametrize("name", ["unsigned", "signed_with_another_key", "signature_of_something_else"])
def test_changes_of_every_type_are_forged_in_the_name_of_others(name: str) -> None:
    (forgery,) = (each for each in FORGERIES if each.__name__ == name)
    _, made = channel()
    forged = set()
    for number in range(200):
        draws = Stream(derive_key(number, "types"))
        (operation,) = parse(made.channel, forgery(made, draws.below, draws.entropy)).operations
        assert operation.author in (OWNER.public, MEMBER.public)
        forged.add(type(operation.change))
    assert forged == set(changes.Change.__args__)


def test_what_is_well_signed_and_within_the_rules_is_taken() -> None:
    replica, made = channel()
    tip, seen = Tip(), [(replica.channel, 1)]
    for number in SAMPLES:
        draws = Stream(derive_key(number, "good"))
        some: list[Change] = [content(draws.below, draws.entropy), Acknowledge()]
        unit, tip = written(FORGER, replica.channel, tip, some, seen, clock_at(9 * S))
        assert len(replica.receive(unit, FORGER.public, 9 * S).added) == 2
        seen = []
    assert made.tip == Tip()


def test_any_change_is_of_any_type() -> None:
    _, made = channel()
    draws = Stream(derive_key(1, "any"))
    drawn = {type(any_change(made, draws.below, draws.entropy)) for _ in range(300)}
    assert drawn >= {Accuse, Acknowledge, Genesis, Grant, Revoke, Assign}
