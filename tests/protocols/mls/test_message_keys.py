import copy
import pickle
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls import message_keys as module
from protocols.mls.errors import MlsError
from protocols.mls.message_keys import (
    ADVANCE_MAX,
    GENERATION_SKIP_MAX,
    SKIPPED_MAX,
    SKIPPED_TOTAL_MAX,
    MessageKeys,
    OwnMessageError,
)
from protocols.mls.ratchets import MessageKey, Ratchet
from protocols.mls.secret_tree import SecretTree
from protocols.mls.suite import cipher_suite
from tests.protocols.mls.kit import refused

SUITE = cipher_suite(1)
SECRET = b"\7" * 32
APPLICATION, HANDSHAKE = Ratchet.APPLICATION, Ratchet.HANDSHAKE


def message_keys(own_leaf: int | None = 0, leaves: int = 8) -> MessageKeys:
    return MessageKeys(SUITE, SECRET, leaves, own_leaf)


def receive(keys: MessageKeys, leaf: int, generation: int, ratchet: Ratchet = APPLICATION) -> MessageKey:
    opening = keys.peek(leaf, ratchet, generation)
    keys.consume(opening)
    return opening.key


# -- the tree ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [1, 2, 4, 8])
def test_secret_of_a_leaf_does_not_depend_on_which_were_taken_before(leaves: int) -> None:
    secrets = [SecretTree(SUITE, leaves, {1: SECRET}).split(leaf).leaf_secret for leaf in range(leaves)]
    assert len(set(secrets)) == leaves
    for order in list(permutations(range(leaves)))[:200]:
        tree = SecretTree(SUITE, leaves, {1: SECRET})
        for leaf in order:
            split = tree.split(leaf)
            assert split.leaf_secret == secrets[leaf]
            assert tree.take(split)
        assert tree.nodes() == []


def test_no_secret_is_kept_from_which_that_of_a_taken_leaf_follows() -> None:
    tree = SecretTree(SUITE, 8, {1: SECRET})
    tree.take(tree.split(5))
    assert [node for node, _ in tree.nodes()] == [2, 7, 12]
    with pytest.raises(LocalError, match="taken already"):
        tree.split(5)


def test_split_whose_node_is_gone_is_not_taken() -> None:
    tree = SecretTree(SUITE, 4, {1: SECRET})
    first, second = tree.split(0), tree.split(3)
    assert tree.take(first)
    before = tree.nodes()
    assert not tree.take(second)
    assert tree.nodes() == before


@pytest.mark.parametrize("leaves", [0, -1, 3, 6, 2**32])
def test_tree_has_a_power_of_two_of_leaves(leaves: int) -> None:
    with pytest.raises(LocalError):
        MessageKeys(SUITE, SECRET, leaves)


# -- receiving --------------------------------------------------------------------------------------


def test_sender_and_receiver_derive_the_same_keys() -> None:
    alice, bob = message_keys(0), message_keys(5)
    for ratchet in Ratchet:
        for generation in range(3):
            assert alice.advance(ratchet, generation) == receive(bob, 0, generation, ratchet)
            assert bob.advance(ratchet, generation) == receive(alice, 5, generation, ratchet)


def test_peeking_changes_nothing() -> None:
    keys = message_keys()
    receive(keys, 2, 3)
    before = keys.to_bytes()
    for leaf, generation in ((2, 1), (2, 4), (2, 900), (7, 0), (7, 900)):
        assert keys.peek(leaf, APPLICATION, generation).key == keys.peek(leaf, APPLICATION, generation).key
    assert keys.to_bytes() == before


def test_key_is_used_once() -> None:
    keys = message_keys()
    for generation in (3, 1, 0, 2, 4):
        receive(keys, 1, generation)
        before = keys.to_bytes()
        with refused("9.2/generation-used"):
            keys.peek(1, APPLICATION, generation)
        assert keys.to_bytes() == before


def test_two_copies_of_a_message_opened_at_once_are_consumed_once() -> None:
    keys = message_keys()
    receive(keys, 1, 5)
    for generation in (2, 6, 9):
        first, second = (keys.peek(1, APPLICATION, generation) for _ in range(2))
        keys.consume(first)
        before = keys.to_bytes()
        with refused("9.2/generation-used"):
            keys.consume(second)
        assert keys.to_bytes() == before


def test_openings_may_be_consumed_in_any_order() -> None:
    states = set()
    expected = [message_keys(3).advance(APPLICATION, each) for each in range(4)]
    for order in permutations(range(4)):
        keys = message_keys()
        openings = [keys.peek(3, APPLICATION, each) for each in range(4)]
        other = keys.peek(2, APPLICATION, 0)
        for each in order:
            keys.consume(openings[each])
        keys.consume(other)
        assert [opening.key for opening in openings] == expected
        states.add(keys.to_bytes())
    assert len(states) == 1


def test_jump_keeps_the_keys_it_passes() -> None:
    alice, bob = message_keys(0), message_keys(1)
    sent = [alice.advance(APPLICATION, generation) for generation in range(20)]
    assert [receive(bob, 0, generation) for generation in (19, 7, 0, 18)] == [sent[each] for each in (19, 7, 0, 18)]


def test_generation_far_ahead_is_refused_before_anything_is_derived(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = message_keys()
    receive(keys, 1, 0)
    before = keys.to_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(type(SUITE), "expand_with_label", lambda *_: pytest.fail("derived something"))
        for leaf, limit in ((1, GENERATION_SKIP_MAX + 1), (2, GENERATION_SKIP_MAX)):
            for generation in (limit + 1, 2**32 - 1):
                with refused("15.3/generation-too-far"):
                    keys.peek(leaf, APPLICATION, generation)
    assert keys.to_bytes() == before
    receive(keys, 1, GENERATION_SKIP_MAX + 1)
    receive(keys, 2, GENERATION_SKIP_MAX)


def test_leaf_outside_of_the_tree_is_refused() -> None:
    keys = message_keys()
    for leaf in (8, 2**32 - 1):
        with refused("6.3.2/unknown-leaf"):
            keys.peek(leaf, APPLICATION, 0)


def test_own_message_is_nobodys_fault_and_changes_nothing() -> None:
    keys = message_keys(0)
    before = keys.to_bytes()
    with pytest.raises(OwnMessageError):
        keys.peek(0, APPLICATION, 0)
    assert keys.to_bytes() == before


def test_opening_of_another_epoch_is_not_consumed() -> None:
    keys, other = message_keys(), MessageKeys(SUITE, b"\1" * 32, 8, 0)
    before = keys.to_bytes()
    with pytest.raises(LocalError):
        keys.consume(other.peek(1, APPLICATION, 0))
    assert keys.to_bytes() == before


def test_openings_of_two_leaves_made_at_once_leave_what_two_in_turn_leave() -> None:
    at_once, in_turn = message_keys(), message_keys()
    for opening in [at_once.peek(leaf, APPLICATION, 1) for leaf in (4, 5, 2)]:
        at_once.consume(opening)
    for leaf in (4, 5, 2):
        receive(in_turn, leaf, 1)
    assert at_once.to_bytes() == in_turn.to_bytes()


# -- limits -----------------------------------------------------------------------------------------


def test_ratchet_keeps_a_bounded_number_of_skipped_keys_and_drops_the_oldest() -> None:
    keys = message_keys()
    receive(keys, 1, SKIPPED_MAX)
    receive(keys, 1, SKIPPED_MAX + 3)
    for generation in (0, 1):
        with refused("15.3/generation-too-old"):
            keys.peek(1, APPLICATION, generation)
    receive(keys, 1, 2)
    with refused("9.2/generation-used"):
        keys.peek(1, APPLICATION, 2)
    receive(keys, 1, SKIPPED_MAX + 2)


def test_member_that_jumps_about_pays_with_its_own_keys() -> None:
    keys = message_keys(leaves=16)
    receive(keys, 1, 10)
    for leaf in range(2, 16):
        for ratchet in Ratchet:
            receive(keys, leaf, GENERATION_SKIP_MAX, ratchet)
    assert keys._kept_count == sum(len(chain.kept) for chain in keys._chains.values()) <= SKIPPED_TOTAL_MAX
    assert [receive(keys, 1, generation).generation for generation in range(10)] == list(range(10))
    assert len(keys.to_bytes()) < 50 * SKIPPED_TOTAL_MAX


# -- sending ----------------------------------------------------------------------------------------


def test_our_ratchet_goes_to_the_reserved_generation_and_never_back() -> None:
    keys = message_keys(3)
    fifth = keys.advance(APPLICATION, 5)
    assert fifth == receive(message_keys(0), 3, 5)
    before = keys.to_bytes()
    for generation in (5, 4, 0, -1, 5 + ADVANCE_MAX + 1, 2**32):
        with pytest.raises(LocalError):
            keys.advance(APPLICATION, generation)
    assert keys.to_bytes() == before
    assert keys.advance(APPLICATION, 6).generation == 6
    assert keys.advance(HANDSHAKE, 0).generation == 0


def test_restored_state_goes_on_where_the_ledger_says() -> None:
    keys = message_keys(3)
    stored = keys.to_bytes()
    used = [keys.advance(APPLICATION, generation) for generation in range(4)]
    restored = MessageKeys.from_bytes(stored)
    restored.mark_sent(APPLICATION, 3)
    assert restored.to_bytes() == keys.to_bytes()
    restored.mark_sent(APPLICATION, 2)
    assert restored.to_bytes() == keys.to_bytes()
    assert restored.advance(APPLICATION, 4) not in used


def test_without_a_leaf_nothing_is_sent() -> None:
    for send in (MessageKeys.advance, MessageKeys.mark_sent):
        with pytest.raises(LocalError):
            send(message_keys(None), APPLICATION, 0)
    with pytest.raises(LocalError):
        message_keys(8)


# -- one object, to bytes and back ------------------------------------------------------------------


def test_message_keys_are_not_copied() -> None:
    keys = message_keys()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(LocalError):
            duplicate(keys)


def test_wiped_keys_hold_nothing_and_do_nothing() -> None:
    keys = message_keys()
    receive(keys, 1, 2)
    opening = keys.peek(1, APPLICATION, 0)
    keys.wipe()
    assert keys.wiped
    assert keys._chains == {}
    for use in (
        lambda: keys.peek(1, APPLICATION, 0),
        lambda: keys.consume(opening),
        lambda: keys.advance(APPLICATION, 0),
        lambda: keys.mark_received(opening.key.position),
        keys.to_bytes,
    ):
        with pytest.raises(LocalError, match="wiped"):
            use()
    assert "wiped" in repr(keys)


def test_state_is_as_large_as_what_was_used() -> None:
    small, large = message_keys(leaves=2), message_keys(leaves=2**20)
    assert len(small.to_bytes()) == len(large.to_bytes()) < 60
    receive(large, 2**19, 0)
    assert len(large.to_bytes()) < 1000


@pytest.mark.parametrize("bad", [b"", b"\2\0\1", b"\1\0\0", b"\1\0\1\0\0\0\3\0\0\0"])
def test_bytes_that_are_no_message_keys_are_refused(bad: bytes) -> None:
    with pytest.raises(LocalError):
        MessageKeys.from_bytes(bad)


def test_stored_state_that_makes_no_sense_is_refused() -> None:
    keys = message_keys()
    receive(keys, 1, 2)
    stored = keys.to_bytes()
    assert MessageKeys.from_bytes(stored).to_bytes() == stored
    small = b"\0\0\0\2".join(stored.split(b"\0\0\0\x08", 1))
    with pytest.raises(LocalError):
        MessageKeys.from_bytes(small)
    for cut in range(len(stored)):
        with pytest.raises(LocalError):
            MessageKeys.from_bytes(stored[:cut])


def test_journal_of_positions_brings_an_old_state_up_to_date() -> None:
    keys = message_keys()
    receive(keys, 1, 2)
    stored = keys.to_bytes()
    journal = [receive(keys, *each).position for each in ((1, 0), (4, 7), (1, 3), (4, 2))]
    restored = MessageKeys.from_bytes(stored)
    for position in journal + journal:
        restored.mark_received(position)
    assert restored.to_bytes() == keys.to_bytes()


def test_journal_of_another_epoch_is_the_callers_fault() -> None:
    keys = message_keys()
    before = keys.to_bytes()
    for leaf, generation in ((9, 0), (0, 0), (1, GENERATION_SKIP_MAX + 1)):
        with pytest.raises(LocalError):
            keys.mark_received(MessageKey(leaf, APPLICATION, generation, b"", b"").position)
    assert keys.to_bytes() == before


def test_no_secret_is_shown() -> None:
    keys = message_keys()
    opening = keys.peek(1, APPLICATION, 3)
    shown = repr(keys) + repr(opening) + repr(opening.key) + repr(SecretTree(SUITE, 2, {1: SECRET}).split(0))
    for secret in (SECRET, opening.key.key, opening.key.nonce):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


def outcome(keys: MessageKeys, message: tuple[int, Ratchet, int]) -> MessageKey | str:
    """The key that was consumed, or the rule by which it was not."""
    leaf, ratchet, generation = message
    try:
        return receive(keys, leaf, generation, ratchet)
    except MlsError as error:
        return error.reason


DELIVERIES = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(tuple(Ratchet)), st.integers(0, 12), st.booleans()), max_size=50
)


@settings(max_examples=100, deadline=None)
@given(DELIVERIES)
def test_any_order_of_messages_opens_each_once_or_says_why_not(
    deliveries: list[tuple[int, Ratchet, int, bool]],
) -> None:
    """Against a model with limits so small that they are always reached; stored and restored anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GENERATION_SKIP_MAX", 5)
        patch.setattr(module, "SKIPPED_MAX", 4)
        patch.setattr(module, "SKIPPED_TOTAL_MAX", 8)
        senders = {leaf: message_keys(leaf, 4) for leaf in (1, 2, 3)}
        sent = {
            (leaf, ratchet, generation): senders[leaf].advance(ratchet, generation)
            for leaf in senders
            for ratchet in Ratchet
            for generation in range(13)
        }
        keys = message_keys(0, 4)
        used: set[tuple[int, Ratchet, int]] = set()
        furthest: dict[tuple[int, Ratchet], int] = {}
        for leaf, ratchet, generation, restore in deliveries:
            message = leaf, ratchet, generation
            before, following = keys.to_bytes(), furthest.get((leaf, ratchet), 0)
            result = outcome(keys, message)
            if generation > following + 5:
                assert result == "15.3/generation-too-far"
            elif message in used:
                assert result in ("9.2/generation-used", "15.3/generation-too-old")
            elif generation >= following or result != "15.3/generation-too-old":
                assert result == sent[message]
                used.add(message)
                furthest[leaf, ratchet] = max(following, generation + 1)
            assert (keys.to_bytes() == before) == isinstance(result, str)
            assert sum(len(chain.kept) for chain in keys._chains.values()) == keys._kept_count <= 8
            assert all(len(chain.kept) <= 4 for chain in keys._chains.values())
            if restore:
                keys = MessageKeys.from_bytes(keys.to_bytes())
