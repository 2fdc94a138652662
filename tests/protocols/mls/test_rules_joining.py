"""Each rule that keeps somebody out (RFC 9420 §7.1, §7.7, §7.9.2, §12.4.3.1, §12.4.3.3).

The Welcome is from alice, who lies about the group in one point, and signs that.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from protocols.mls import tree_encoding
from protocols.mls.client import default_capabilities
from protocols.mls.codec import opaque
from protocols.mls.credentials import CustomCredential
from protocols.mls.extensions import Extension
from protocols.mls.external import make_external_commit
from protocols.mls.joining import open_welcome, stage_welcome
from protocols.mls.psk import ExternalPsk
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.welcome import GroupInfo, GroupSecrets
from tests.protocols.mls.forgery import (
    Node,
    forge_welcome,
)
from tests.protocols.mls.kit import Client, refused
from tests.protocols.mls.refusals import refuses_welcome
from tests.protocols.mls.room import GROUP_ID, Room


def room() -> Room:
    """Alice, who has a parent with bob; carol, beside whom dave will be; and a key at the root."""
    return Room.of("alice", "bob", "carol")


def filled() -> Room:
    """Seven members at 8 leaves, so that two parents are above the free place that have keys, and one has none."""
    here = Room.of("alice", "bob", "carol", "eve", "frank", "grace", "heidi")
    here.fill()
    return here


def invited(here: Room, **alterations: Any) -> tuple[Any, Client]:
    dave = here.client("dave")
    return forge_welcome(here["alice"], dave, **alterations), dave


def test_sound_welcome_is_staged() -> None:
    """What the tests here alter one thing of."""
    here = room()
    welcome, dave = invited(here, nodes=lambda nodes: nodes, info=lambda info: info)
    assert stage_welcome(welcome, [dave.bundle]).epoch.own_leaf == 3


# -- the Welcome ------------------------------------------------------------------------------------


def test_welcome_of_an_unknown_cipher_suite_is_refused() -> None:
    welcome, dave = invited(room(), welcome=lambda each: msgspec.structs.replace(each, cipher_suite=0x0F0F))
    refuses_welcome("5.1/unsupported-cipher-suite", welcome, dave)


def test_welcome_for_somebody_else_is_refused() -> None:
    here = room()
    welcome, _ = invited(here)
    refuses_welcome("12.4.3.1/not-for-us", welcome, here.client("eve"))


def test_secrets_sealed_to_another_key_are_refused() -> None:
    welcome, dave = invited(room())
    stranger = msgspec.structs.replace(dave.bundle, init_private=dave.bundle.encryption_private)
    with refused("5.1.3/decrypt"):
        stage_welcome(welcome, [stranger])


def test_group_secrets_with_more_behind_them_are_refused() -> None:
    class Longer(GroupSecrets, frozen=True):
        def encode(self) -> bytes:
            return super().encode() + b"\0"

    def longer(secrets: GroupSecrets) -> GroupSecrets:
        return Longer(secrets.joiner_secret, secrets.path_secret, secrets.psks)

    welcome, dave = invited(room(), group_secrets=longer)
    refuses_welcome("2.1/trailing-bytes", welcome, dave)


def test_joiner_secret_that_does_not_open_the_group_info_is_refused() -> None:
    welcome, dave = invited(
        room(), group_secrets=lambda secrets: msgspec.structs.replace(secrets, joiner_secret=bytes(32))
    )
    refuses_welcome("12.4.3.1/group-info", welcome, dave)


@pytest.mark.parametrize("changes", [{"cipher_suite": 3}, {"version": 2}])
def test_group_of_another_version_or_suite_than_our_key_package_is_refused(changes: Mapping[str, int]) -> None:
    welcome, dave = invited(room(), context=changes)
    refuses_welcome("12.4.3.1/version-or-suite", welcome, dave)
    with refused("12.4.3.1/version-or-suite"):
        open_welcome(welcome, [dave.bundle])


def _altered_info(**changes: Any) -> Callable[[GroupInfo], GroupInfo]:
    return lambda info: msgspec.structs.replace(info, **changes)


def test_group_info_without_a_tree_is_refused_if_none_came_otherwise() -> None:
    welcome, dave = invited(room(), info=_altered_info(extensions=()))
    refuses_welcome("12.4.3.1/no-tree", welcome, dave)


@pytest.mark.parametrize("signer", [6, 8, 2**32 - 1])
def test_group_info_signed_by_nobody_is_refused(signer: int) -> None:
    here = Room.of("alice", "bob", "carol", "eve", "frank")
    refuses_welcome("12.4.3.1/signer", *invited(here, info=_altered_info(signer=signer)))


def test_group_info_in_the_name_of_another_is_refused() -> None:
    refuses_welcome("12.4.3.1/signature", *invited(room(), info=_altered_info(signer=1)))


def test_tree_that_the_context_does_not_hash_is_refused() -> None:
    refuses_welcome("12.4.3.1/tree-hash", *invited(room(), context={"tree_hash": bytes(32)}))


def test_tree_given_beside_the_welcome_is_held_against_it() -> None:
    here = room()
    welcome, dave = invited(here, info=_altered_info(extensions=()))
    refuses_welcome("12.4.3.1/tree-hash", welcome, dave, ratchet_tree=here["alice"].current.tree)


def test_confirmation_tag_of_another_epoch_is_refused() -> None:
    refuses_welcome("12.4.3.1/confirmation-tag", *invited(room(), info=_altered_info(confirmation_tag=bytes(32))))


def test_welcome_names_no_psk_twice_and_none_with_another_nonce() -> None:
    here = room()
    psk = ExternalPsk(b"psk", bytes(32))
    welcome, dave = invited(here, psks=(psk, psk), known={psk: b"shared"})
    refuses_welcome("12.2/duplicate-psk", welcome, dave, psks=lambda _: b"shared")
    short = ExternalPsk(b"psk", bytes(16))
    welcome, dave = invited(here, psks=(short,), known={short: b"shared"})
    refuses_welcome("12.1.4/psk-nonce-size", welcome, dave, psks=lambda _: b"shared")


def test_welcome_with_a_psk_that_we_do_not_have_is_refused() -> None:
    psk = ExternalPsk(b"psk", bytes(32))
    welcome, dave = invited(room(), psks=(psk,), known={psk: b"shared"})
    refuses_welcome("8.4/unknown-psk", welcome, dave)


def test_group_in_which_we_are_is_not_joined_again() -> None:
    here = room()
    welcome, dave = invited(here)
    refuses_welcome("12.4.3/group-id", welcome, dave, groups=[b"elsewhere", GROUP_ID])
    with refused("12.4.3/group-id"):
        info = here["alice"].current.group_info()
        make_external_commit(info, dave.bundle, entropy=here.entropy, groups=[GROUP_ID])


# -- the path secret in it --------------------------------------------------------------------------


def test_path_secret_that_derives_other_keys_is_refused() -> None:
    welcome, dave = invited(
        room(), group_secrets=lambda secrets: msgspec.structs.replace(secrets, path_secret=bytes(32))
    )
    refuses_welcome("12.4.3.1/path-secret-mismatch", welcome, dave)


def test_path_secret_of_our_own_path_is_none() -> None:
    """Whoever has our signature key can sign a group info in our name; we made no path."""
    here = room()
    welcome, dave = invited(here, info=_altered_info(signer=3), info_signer=here.client("dave"))
    refuses_welcome("12.4.3.1/path-secret-mismatch", welcome, dave)


def test_path_secret_that_is_kept_from_us_is_missed() -> None:
    """The tree says that dave knows the key of the root."""
    welcome, dave = invited(room(), group_secrets=lambda secrets: msgspec.structs.replace(secrets, path_secret=None))
    refuses_welcome("12.4.3.1/path-secret-missing", welcome, dave)


# -- the tree: its encoding -------------------------------------------------------------------------


def _tree(nodes: bytes) -> Callable[[bytes], bytes]:
    return lambda _: opaque(nodes)


def _without_length(data: bytes) -> bytes:
    return data[1:] if data[0] < 64 else data[2:] if data[0] < 128 else data[4:]


def test_tree_of_an_even_number_of_nodes_is_refused() -> None:
    welcome, dave = invited(room(), encoded=lambda data: opaque(_without_length(data) + b"\0"))
    refuses_welcome("12.4.3.3/node-count", welcome, dave)


def test_tree_with_a_blank_at_its_end_is_refused() -> None:
    welcome, dave = invited(room(), encoded=lambda data: opaque(_without_length(data) + b"\0\0"))
    refuses_welcome("12.4.3.3/trailing-blank", welcome, dave)


def test_tree_without_nodes_is_refused() -> None:
    refuses_welcome("12.4.3.3/node-count", *invited(room(), encoded=_tree(b"")))


def test_node_of_an_unknown_type_is_refused() -> None:
    welcome, dave = invited(room(), encoded=lambda data: opaque(b"\1\3" + _without_length(data)[2:]))
    refuses_welcome("12.4.3.3/unknown-node-type", welcome, dave)


def test_presence_of_a_node_is_said_by_0_or_1() -> None:
    welcome, dave = invited(room(), encoded=lambda data: opaque(b"\2" + _without_length(data)[1:]))
    refuses_welcome("2.1.1/invalid-presence", welcome, dave)


def test_leaf_where_a_parent_belongs_is_refused() -> None:
    leaf = Room().client("alice").leaf.encode()
    refuses_welcome("12.4.3.3/node-type", *invited(room(), encoded=_tree((b"\1\1" + leaf) * 3)))


def test_parent_where_a_leaf_belongs_is_refused() -> None:
    parent = ParentNode(bytes(32), b"").encode()
    refuses_welcome("12.4.3.3/node-type", *invited(room(), encoded=_tree(b"\1\2" + parent)))


def test_tree_larger_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    welcome, dave = invited(room())
    monkeypatch.setattr(tree_encoding, "LEAF_COUNT_MAX", 3)
    refuses_welcome("7.7/too-many-leaves", welcome, dave)


def _root(unmerged: tuple[int, ...]) -> Callable[[bytes], bytes]:
    """The tree, in which the unmerged leaves of the root are said to be others."""

    def alter(data: bytes) -> bytes:
        parent = RatchetTree.decode(Room().suite, data).parent(3)  # type: ignore[arg-type]
        assert parent is not None
        other = msgspec.structs.replace(parent, unmerged_leaves=unmerged)
        return opaque(_without_length(data).replace(parent.encode(), other.encode()))

    return alter


@pytest.mark.parametrize("unmerged", [(3, 2), (3, 3)])
def test_unmerged_leaves_are_in_order_and_once(unmerged: tuple[int, ...]) -> None:
    refuses_welcome("7.1/unmerged-leaves-order", *invited(room(), encoded=_root(unmerged)))


@pytest.mark.parametrize("unmerged", [(4,), (0, 2**32 - 1)])
def test_unmerged_leaves_are_below_their_parent(unmerged: tuple[int, ...]) -> None:
    refuses_welcome("7.1/unmerged-leaf-outside", *invited(room(), encoded=_root(unmerged)))


# -- the tree: what it says -------------------------------------------------------------------------


def _replaced(at: int, **changes: Any) -> Callable[[list[Node]], list[Node]]:
    def alter(nodes: list[Node]) -> list[Node]:
        node = nodes[at]
        assert node is not None
        return [*nodes[:at], msgspec.structs.replace(node, **changes), *nodes[at + 1 :]]

    return alter


@pytest.mark.parametrize("node", [3, 5, 9, 11])
def test_parent_with_a_key_that_nobody_below_vouches_for_is_refused(node: int) -> None:
    """Whoever put it there could read what is encrypted to it without a leaf of his own."""
    here = filled()
    planted = here.client("mallory").encryption_key()
    refuses_welcome("7.9.2/parent-hash", *invited(here, nodes=_replaced(node, encryption_key=planted), with_path=False))


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32])
def test_parent_with_what_is_no_key_is_refused(key: bytes) -> None:
    """Or every path past it would fail."""
    alter = _replaced(5, encryption_key=key)
    refuses_welcome("5.1/invalid-public-key", *invited(filled(), nodes=alter, with_path=False))


def test_parent_that_keeps_silent_about_a_new_member_is_refused() -> None:
    """Dave would be told that he knows its key."""

    def alter(nodes: list[Node]) -> list[Node]:
        return _replaced(7, unmerged_leaves=())(_replaced(11, unmerged_leaves=())(nodes))

    refuses_welcome("7.9.2/parent-hash", *invited(filled(), nodes=alter, with_path=False))


def test_unmerged_leaf_is_one_of_every_parent_between() -> None:
    alter = _replaced(11, unmerged_leaves=())
    refuses_welcome("12.4.3.1/unmerged-leaf-skipped", *invited(filled(), nodes=alter, with_path=False))


def test_unmerged_leaf_is_a_member() -> None:
    """Leaf 6 is blank; dave is at 5."""
    here = Room.of("alice", "bob", "carol", "eve", "frank")
    alter = _replaced(7, unmerged_leaves=(5, 6))
    refuses_welcome("12.4.3.1/unmerged-leaf-blank", *invited(here, nodes=alter, with_path=False))


def test_welcome_to_a_tree_without_us_is_refused() -> None:
    def alter(nodes: list[Node]) -> list[Node]:
        return _replaced(3, unmerged_leaves=())(nodes[:5])

    refuses_welcome("12.4.3.1/own-leaf", *invited(room(), nodes=alter, with_path=False))


def test_welcome_to_a_tree_with_an_older_leaf_of_ours_is_refused() -> None:
    here = room()
    dave = here.client("dave")
    older = dave.altered_key_package({"encryption_key": dave.encryption_key()}).leaf_node
    refuses_welcome("12.4.3.1/own-leaf", *invited(here, nodes=lambda nodes: [*nodes[:6], older], with_path=False))


def test_leaf_that_its_owner_did_not_sign_is_refused_in_a_tree() -> None:
    alter = _replaced(6, signature=bytes(64))
    refuses_welcome("7.3/leaf-signature", *invited(room(), nodes=alter, with_path=False))


@pytest.mark.parametrize(
    ("rule", "field"),
    [("7.3/duplicate-encryption-key", "encryption_key"), ("7.3/duplicate-signature-key", "signature_key")],
)
def test_members_of_a_tree_do_not_share_a_key(rule: str, field: str) -> None:
    here = room()
    taken = {field: getattr(here.client("bob").leaf, field)}
    refuses_welcome(rule, *invited(here, nodes=_replaced(6, **taken), with_path=False))


def test_members_of_a_tree_support_the_credentials_of_each_other() -> None:
    """Dave's own says that he supports what only he has; what the others have suits all."""
    here = room()
    able = msgspec.structs.replace(here.client("dave").leaf.capabilities, credentials=(1, 2, 0xF00D))
    strange = _replaced(6, credential=CustomCredential(0xF00D, b"dave"), capabilities=able)
    refuses_welcome("7.3/credential-support", *invited(here, nodes=strange, with_path=False))


@pytest.mark.parametrize("rule", ["13.4/context-extension-support", "erratum-8745/extension-support"])
def test_members_of_a_tree_support_what_the_group_uses(rule: str) -> None:
    """Alice committed; with her support bob is the first who has none, and his leaf is that of his key package."""
    here = room()
    able = default_capabilities((1,))
    able = msgspec.structs.replace(able, extensions=(*able.extensions, 0xF00D))
    leaf = {"capabilities": able} if rule.startswith("13.4") else {}
    refuses_welcome(rule, *invited(here, context={"extensions": (Extension(0xF00D, b""),)}, leaf=leaf))


def test_group_with_an_extension_that_is_grease_is_not_joined() -> None:
    grease = {"extensions": (Extension(0x1A1A, b""),)}
    refuses_welcome("13.5/grease-context-extension", *invited(room(), context=grease))
