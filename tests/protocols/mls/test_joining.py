"""Welcomes as an adversary alters them; ``test_rules_joining`` breaks each rule behind the encryption."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from protocols.mls.committing import Welcomes
from protocols.mls.errors import MlsError
from protocols.mls.joining import believed_tree, stage_welcome
from protocols.mls.message import encode_message, parse
from protocols.mls.proposals import Add, PreSharedKey, Remove
from protocols.mls.psk import ExternalPsk
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.staging import NO_CHECKS, SealedWelcome
from protocols.mls.suite import SUITES
from protocols.mls.welcome import Welcome
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, fresh


def invited(room: Room, *names: str, **options: Any) -> tuple[SealedWelcome, ...]:
    """The Welcomes of a commit by Ada that adds these and that she adopts."""
    own = room.make("ada", *(Add(room.key_package(name)) for name in names), **options)
    room["ada"].adopt(own.commit, now_ns=NOW_NS)
    return own.commit.welcomes


@pytest.mark.parametrize("suite", [1, 2, 3])
def test_welcome_with_any_byte_changed_or_missing_is_refused(suite: int) -> None:
    """Without the tree it is small; every byte of it is either encrypted, or names a key package, suite or length."""
    room = Room.of("ada", "bob", suite=SUITES[suite])
    [sealed] = invited(room, "eve", tree_in_welcome=False)
    tree = room["ada"].current.tree
    data = encode_message(sealed.welcome)
    bundle = room.client("eve").bundle

    def join(altered: bytes) -> None:
        welcome = parse(altered)
        assert isinstance(welcome, Welcome), welcome
        stage_welcome(welcome, [bundle], ratchet_tree=tree)

    join(data)
    for at in range(4, len(data)):
        with pytest.raises(MlsError):
            join(data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :])
        with pytest.raises(MlsError):
            join(data[:at])
    with pytest.raises(MlsError):
        join(data + b"\0")


def test_field_of_another_welcome_does_not_fit() -> None:
    """Two joiners, each with a Welcome of its own, of two rival commits."""
    room = Room.of("ada", "bob", "cyd")
    dan, eve = room.client("dan"), room.client("eve")
    adds = [Add(dan.key_package), Add(eve.key_package)]
    one = room.make("ada", *adds, welcomes=Welcomes.ONE_EACH).commit.welcomes[0].welcome
    other = room.make("bob", *adds, welcomes=Welcomes.ONE_EACH).commit.welcomes[0].welcome
    altered = msgspec.structs.replace
    stage_welcome(one, [dan.bundle])
    with refused("12.4.3.1/not-for-us"):
        stage_welcome(one, [eve.bundle, fresh(dan)])
    with refused("5.1.3/decrypt"):  # the secrets are bound to the group info that they open
        stage_welcome(altered(one, encrypted_group_info=other.encrypted_group_info), [dan.bundle])
    with refused("5.1.3/decrypt"):
        stage_welcome(altered(one, secrets=other.secrets), [dan.bundle])
    for suite, rule in ((2, "12.4.3.1/not-for-us"), (0x0A0A, "5.1/unsupported-cipher-suite")):
        with refused(rule):
            stage_welcome(altered(one, cipher_suite=suite), [dan.bundle])
    [entry] = one.secrets
    stolen = altered(entry, new_member=room.suite.key_package_ref(eve.key_package.encode()))
    with refused("5.1.3/decrypt"):
        stage_welcome(altered(one, secrets=(stolen,)), [eve.bundle])


def test_our_key_package_is_found_among_many_and_the_right_bundle_among_ours() -> None:
    room = Room.of("ada")
    names = [f"n{number}" for number in range(8)]
    [sealed] = invited(room, *names)
    bundles = [fresh(room.client("n5")), room.client("n5").bundle, fresh(room.client("n5"))]
    assert len(sealed.welcome.secrets) == 8
    staged = stage_welcome(sealed.welcome, bundles)
    assert staged.epoch.authenticator == room["ada"].current.authenticator
    assert staged.epoch.own_leaf == 6


def test_join_is_staged_and_can_be_looked_at_before_anything_depends_on_it() -> None:
    room = Room.of("ada", "bob")
    [sealed] = invited(room, "eve")
    staged = room.staged_join("eve", sealed.welcome)
    assert staged.signer == room.leaf("ada")
    assert [leaf for leaf, _ in staged.epoch.tree.members()] == [0, 1, 2]
    assert staged.epoch.export(b"x", b"", 16) == room["ada"].current.export(b"x", b"", 16)
    assert staged.extensions == ()


def test_tree_of_another_epoch_is_not_the_welcomes() -> None:
    room = Room.of("ada", "bob", "cyd")
    [sealed] = invited(room, "eve", tree_in_welcome=False)
    with refused("12.4.3.1/no-tree"):
        room.staged_join("eve", sealed.welcome)
    with refused("12.4.3.1/tree-hash"):
        stage_welcome(sealed.welcome, [room.client("eve").bundle], ratchet_tree=room["bob"].current.tree)
    encoded = room["ada"].current.tree.encode()
    tree = RatchetTree.decode(room.suite, encoded)
    assert stage_welcome(sealed.welcome, [room.client("eve").bundle], ratchet_tree=tree).epoch.own_leaf == 3


def test_psks_of_the_commit_are_needed_to_join() -> None:
    room = Room.of("ada", "bob")
    psk = PreSharedKey(ExternalPsk(b"shared", bytes(32)))
    own = room.make("ada", psk, Add(room.key_package("eve")))
    welcome = own.commit.welcomes[0].welcome
    with refused("8.4/unknown-psk"):
        stage_welcome(welcome, [room.client("eve").bundle])
    with refused("12.4.3.1/group-info"):
        stage_welcome(welcome, [room.client("eve").bundle], psks=lambda _: b"another")
    assert room.staged_join("eve", welcome).psks == (psk.psk,)


def test_welcome_of_a_commit_without_a_path_brings_no_path_secret() -> None:
    """Nor does the joiner need one: it is unmerged wherever a parent has a key."""
    room = Room.of("ada", "bob", "cyd")
    room.fill()
    room.commit("ada", Add(room.key_package("eve")), with_path=False)
    assert room["eve"].current.private.parents == {}
    room.commit("bob")
    room.commit("eve")


def test_joiner_of_a_filled_tree_has_the_keys_on_its_way_up() -> None:
    room = Room.of("ada", "bob", "cyd", "dan", "eve")
    room.fill()
    room.commit("cyd", Remove(room.leaf("bob")))
    room.commit("dan", Add(room.key_package("gus")))
    for group in room.groups.values():
        group.current.private.check(group.current.tree)
    room.fill()


def test_group_info_of_a_group_is_believed_by_whoever_can_check_it() -> None:
    room = Room.of("ada", "bob")
    group_info = room["bob"].current.group_info()
    tree = believed_tree(group_info, room.suite, None, NO_CHECKS)
    assert tree.tree_hash == room["ada"].current.tree.tree_hash
    with refused("12.4.3.1/signature"):
        believed_tree(msgspec.structs.replace(group_info, signer=0), room.suite, None, NO_CHECKS)


def test_member_who_is_added_again_joins_as_a_new_one() -> None:
    """With the same signature key and another key package; its old group is of no use to it."""
    room = Room.of("ada", "bob")
    old = room["bob"]
    room.commit("ada", Remove(room.leaf("bob")))
    room.clients["bob"] = replace(room.clients["bob"], bundle=fresh(room.clients["bob"]))
    room.commit("ada", Add(room.key_package("bob")))
    with pytest.raises(MlsError):
        old.receive(room.say("ada"))
    assert room["bob"].receive(room.say("ada")).content is not None
