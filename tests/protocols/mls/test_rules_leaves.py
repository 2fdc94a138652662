"""Each rule that stops a leaf, a key package or a path (RFC 9420 §5.3.1, §7, §10, §13.4).

They come in alice's commits, who is a member; their signatures, tags, hashes and ciphertexts are right. Bob refuses.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from protocols.mls import tree_changes
from protocols.mls.credentials import BasicCredential, Credential, CustomCredential, X509Credential
from protocols.mls.extensions import (
    Extension,
    Extensions,
    ExtensionType,
    RequiredCapabilities,
)
from protocols.mls.leaf_node import LeafNodeSource, Lifetime
from protocols.mls.policy import Policy
from protocols.mls.proposals import (
    Add,
    GroupContextExtensions,
    Update,
)
from protocols.mls.update_path import HpkeCiphertext, UpdatePath
from tests.protocols.mls.refusals import (
    NOW_S,
    PRIVATE_USE,
    SENDER,
    abilities,
    alike,
    committed,
    proposed,
    refuses_commit,
    room,
    updated,
)
from tests.protocols.mls.room import GROUP_ID, NOW_NS, Room, refuses

# -- §5, §7: leaves ---------------------------------------------------------------------------------

LEAF_RULES: list[tuple[str, Mapping[str, Any]]] = [
    ("7.2/unsupported-version", {"capabilities": abilities(SENDER, versions=(2,))}),
    ("7.2/unsupported-cipher-suite", {"capabilities": abilities(SENDER, cipher_suites=(2, 3))}),
    (
        "7.2/credential-type",
        {"credential": X509Credential((b"certificate",)), "capabilities": abilities(SENDER, credentials=(1,))},
    ),
    ("7.3/extension-support", {"extensions": (Extension(PRIVATE_USE, b""),)}),
    ("17.3/extension-place", {"extensions": (Extension(ExtensionType.EXTERNAL_SENDERS, b"\0"),)}),
    ("5.1/invalid-public-key", {"encryption_key": bytes(31)}),
]
"""What any leaf is refused for, whether it comes in an Add, an Update or a path."""
ANYBODY = Policy(may_succeed=lambda _old, _new: True)


@pytest.mark.parametrize(("rule", "changes"), LEAF_RULES)
def test_leaf_of_an_add_keeps_the_rules_for_leaves(rule: str, changes: Mapping[str, Any]) -> None:
    here = room()
    package = here.client("dave").altered_key_package(changes)
    refuses_commit(here, rule, committed(here, Add(package)))


@pytest.mark.parametrize(("rule", "changes"), LEAF_RULES[:-1])
def test_leaf_of_an_update_keeps_the_rules_for_leaves(rule: str, changes: Mapping[str, Any]) -> None:
    """But the last: alice could encrypt no path to what is no key."""
    here = room(policy=ANYBODY)
    update = proposed(here, Update(updated(here, "carol", **changes)), here.leaf("carol"))
    refuses_commit(here, rule, committed(here, update))


@pytest.mark.parametrize(("rule", "changes"), LEAF_RULES)
def test_leaf_of_a_path_keeps_the_rules_for_leaves(rule: str, changes: Mapping[str, Any]) -> None:
    here = room(policy=ANYBODY)
    refuses_commit(here, rule, committed(here, leaf=changes))


def test_credential_that_the_authentication_service_refuses_is_refused() -> None:
    here = room(authenticate=lambda credential, _: credential != BasicCredential(b"dave"))
    refuses_commit(here, "5.3.1/credential", committed(here, Add(here.key_package("dave"))))


@pytest.mark.parametrize("by_update", [True, False])
def test_member_does_not_go_on_as_somebody_else(by_update: bool) -> None:
    here = room()
    other: dict[str, Credential] = {"credential": BasicCredential(b"somebody else")}
    update = proposed(here, Update(updated(here, "carol", **other)), here.leaf("carol"))
    forged = committed(here, update) if by_update else committed(here, leaf=other)
    refuses_commit(here, "5.3.1/successor", forged)


def test_lifetime_longer_than_the_application_accepts_is_refused() -> None:
    here = Room.of("alice", "carol")
    here.services = msgspec.structs.replace(here.services, policy=Policy(lifetime_max_s=1000))
    here.commit("alice", Add(here.key_package("bob")))
    long = here.client("dave").altered_key_package({"lifetime": Lifetime(NOW_S - 500, NOW_S + 501)})
    refuses_commit(here, "7.2/lifetime-too-long", committed(here, Add(long)))


@pytest.mark.parametrize("lifetime", [Lifetime(0, NOW_S - 1), Lifetime(NOW_S + 1, 2**64 - 1)])
def test_key_package_outside_of_its_lifetime_is_not_committed(lifetime: Lifetime) -> None:
    """By others' commits it comes in, unless the group holds those against its clock too: clocks differ."""
    here = Room.of("alice", "carol")
    old = here.client("dave").altered_key_package({"lifetime": lifetime})
    with refuses(here["alice"], "7.3/lifetime"):
        here.make("alice", Add(old))
    here.services = msgspec.structs.replace(here.services, check_lifetimes=True)
    here.commit("alice", Add(here.key_package("bob")))
    forged = committed(here, Add(old))
    refuses_commit(here, "7.3/lifetime", forged)


def test_key_package_that_breaks_a_rule_is_not_so_much_as_proposed() -> None:
    """Its lifetime is asked for if the time is said: who sends it must (§7.3)."""
    here = room()
    past = here.client("dave").altered_key_package({"lifetime": Lifetime(0, NOW_S - 1)})
    with refuses(here["alice"], "7.3/lifetime"):
        here["alice"].propose(Add(past), entropy=here.entropy, now_ns=NOW_NS)
    here["alice"].propose(Add(past), entropy=here.entropy)
    twin = here.client("eve").altered_key_package(init_key=here.client("eve").leaf.encryption_key)
    with refuses(here["alice"], "10.1/init-key"):
        here["alice"].propose(Add(twin), entropy=here.entropy)


def test_leaf_that_its_owner_did_not_sign_is_refused() -> None:
    here = room()
    refuses_commit(here, "7.3/leaf-signature", committed(here, leaf_signer=here.client("carol")))


def test_leaf_of_an_update_signed_for_another_place_is_refused() -> None:
    here = room()
    carol = here.client("carol")
    elsewhere = carol.resigned(carol.update(1), 1, GROUP_ID)
    update = proposed(here, Update(elsewhere), here.leaf("carol"))
    refuses_commit(here, "7.3/leaf-signature", committed(here, update))


@pytest.mark.parametrize(
    "source",
    [
        {"source": LeafNodeSource.UPDATE, "parent_hash": None},
        {"source": LeafNodeSource.KEY_PACKAGE, "parent_hash": None, "lifetime": Lifetime(0, 2**64 - 1)},
    ],
)
def test_leaf_of_a_path_says_that_it_is_one(source: Mapping[str, Any]) -> None:
    here = room()
    refuses_commit(here, "7.3/leaf-source", committed(here, leaf=source))


def test_leaf_of_an_add_or_an_update_says_that_it_is_one() -> None:
    here = room()
    changes = {"source": LeafNodeSource.COMMIT, "parent_hash": b""}
    package = here.client("dave").altered_key_package({**changes, "lifetime": None})
    refuses_commit(here, "7.3/leaf-source", committed(here, Add(package)))
    update = proposed(here, Update(updated(here, "carol", **changes)), here.leaf("carol"))
    refuses_commit(here, "7.3/leaf-source", committed(here, update))


def test_leaf_without_the_capabilities_that_the_group_requires_is_refused() -> None:
    here = room(RequiredCapabilities(proposal_types=(10,)).extension())
    package = here.client("dave").altered_key_package({"capabilities": abilities(SENDER, proposals=())})
    refuses_commit(here, "7.3/required-capabilities", committed(here, Add(package)))


def test_capabilities_that_the_same_commit_begins_to_require_are_required() -> None:
    here = room()
    required = RequiredCapabilities(proposal_types=(10,)).extension()
    package = here.client("dave").altered_key_package({"capabilities": abilities(SENDER, proposals=())})
    refuses_commit(
        here, "7.3/required-capabilities", committed(here, Add(package), GroupContextExtensions((required,)))
    )


@pytest.mark.parametrize("with_path", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {
            "credential": CustomCredential(PRIVATE_USE, b"dave"),
            "capabilities": abilities(SENDER, credentials=(1, 2, PRIVATE_USE)),
        },
        {"credential": X509Credential((b"certificate",)), "capabilities": abilities(SENDER, credentials=(2,))},
    ],
)
def test_newcomer_and_members_support_the_credentials_of_each_other(
    changes: Mapping[str, Any], with_path: bool
) -> None:
    here = room()
    package = here.client("dave").altered_key_package(changes)
    refuses_commit(here, "7.3/credential-support", committed(here, Add(package), with_path=with_path))


def test_credential_type_that_is_grease_is_supported_by_nobody_who_lists_it() -> None:
    able = {"capabilities": abilities(SENDER, credentials=(1, 0x1A1A))}
    here = alike(able)
    package = here.client("dave").altered_key_package({"credential": CustomCredential(0x1A1A, b"dave"), **able})
    refuses_commit(here, "13.5/grease-credential-type", committed(here, Add(package)))


@pytest.mark.parametrize("by_update", [True, False])
def test_replaced_leaf_has_a_new_encryption_key(by_update: bool) -> None:
    here = room()
    who = here["carol" if by_update else "alice"].current
    same = {"encryption_key": who.own_leaf_node.encryption_key}
    if by_update:
        forged = committed(here, proposed(here, Update(updated(here, "carol", **same)), who.own_leaf))
    else:
        forged = committed(here, leaf=same)
    refuses_commit(here, "7.3/unchanged-encryption-key", forged)


def test_two_members_do_not_have_one_signature_key() -> None:
    here = room()
    carol, bob = here.client("carol"), here.client("bob")
    leaf = bob.update(2, signature_key=bob.signature.public, credential=carol.leaf.credential)
    update = proposed(here, Update(bob.resigned(leaf, 2, GROUP_ID)), here.leaf("carol"))
    refuses_commit(here, "7.3/duplicate-signature-key", committed(here, update))


@pytest.mark.parametrize("place", ["add", "update", "path", "parent"])
def test_no_key_is_in_the_tree_twice(place: str) -> None:
    here = room()
    here.fill()
    taken = {"encryption_key": here["bob"].current.own_leaf_node.encryption_key}
    if place == "add":
        forged = committed(here, Add(here.client("dave").altered_key_package(taken)))
    elif place == "update":
        forged = committed(here, proposed(here, Update(updated(here, "carol", **taken)), here.leaf("carol")))
    elif place == "path":
        forged = committed(here, leaf=taken)
    else:

        def with_taken(path: UpdatePath) -> UpdatePath:
            first, *others = path.nodes
            return msgspec.structs.replace(path, nodes=(msgspec.structs.replace(first, **taken), *others))

        forged = committed(here, path=with_taken)
    refuses_commit(here, "7.3/duplicate-encryption-key", forged)


# -- §7.5 - §7.9: paths -----------------------------------------------------------------------------


def test_path_secret_of_other_keys_than_those_sent_is_refused() -> None:
    here = room()
    forged = committed(here, path_secrets=lambda secrets: tuple(bytes(len(each)) for each in secrets))
    refuses_commit(here, "7.5/path-secret-mismatch", forged)


def test_path_secret_that_does_not_open_is_refused_by_whom_it_is_for() -> None:
    """The others cannot see it: carol is above the same node, and has a ciphertext of her own."""
    here = room()

    def spoilt(path: UpdatePath) -> UpdatePath:
        first, *others = path.nodes
        mine, *rest = first.encrypted_path_secret
        nodes = (
            msgspec.structs.replace(first, encrypted_path_secret=(HpkeCiphertext(mine.kem_output, bytes(48)), *rest)),
            *others,
        )
        return msgspec.structs.replace(path, nodes=nodes)

    forged = committed(here, path=spoilt)
    refuses_commit(here, "5.1.3/decrypt", forged)
    assert here.stage("carol", forged.message)


@pytest.mark.parametrize("shorter", [True, False])
def test_path_has_the_length_of_the_filtered_direct_path(shorter: bool) -> None:
    here = room()

    def cut(path: UpdatePath) -> UpdatePath:
        return msgspec.structs.replace(path, nodes=path.nodes[:-1] if shorter else path.nodes + path.nodes[-1:])

    refuses_commit(here, "7.6/path-length", committed(here, path=cut))


@pytest.mark.parametrize("fewer", [True, False])
def test_path_has_one_ciphertext_for_each_node_of_a_resolution(fewer: bool) -> None:
    here = room()

    def cut(path: UpdatePath) -> UpdatePath:
        *others, last = path.nodes
        sealed = last.encrypted_path_secret
        last = msgspec.structs.replace(last, encrypted_path_secret=sealed[1:] if fewer else sealed + sealed[:1])
        return msgspec.structs.replace(path, nodes=(*others, last))

    refuses_commit(here, "7.6/ciphertext-count", committed(here, path=cut))


def test_member_added_with_a_path_gets_no_ciphertext_in_it() -> None:
    here = room()

    def generous(path: UpdatePath) -> UpdatePath:
        *others, last = path.nodes
        sealed = last.encrypted_path_secret
        last = msgspec.structs.replace(last, encrypted_path_secret=sealed + sealed[:1])
        return msgspec.structs.replace(path, nodes=(*others, last))

    refuses_commit(here, "7.6/ciphertext-count", committed(here, Add(here.key_package("dave")), path=generous))


def test_group_larger_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = room()
    forged = committed(here, *(Add(here.key_package(name)) for name in ("dave", "eve")))
    monkeypatch.setattr(tree_changes, "LEAF_COUNT_MAX", 4)
    refuses_commit(here, "7.7/too-many-leaves", forged)


@pytest.mark.parametrize("parent_hash", [b"", bytes(32)])
def test_leaf_of_a_path_has_the_parent_hash_of_the_path(parent_hash: bytes) -> None:
    here = room()
    refuses_commit(here, "7.9/leaf-parent-hash", committed(here, leaf={"parent_hash": parent_hash}))


# -- §10: key packages ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2])
def test_key_package_of_another_version_is_refused(version: int) -> None:
    here = room()
    refuses_commit(here, "10.1/version", committed(here, Add(here.client("dave").altered_key_package(version=version))))


def test_key_package_of_another_cipher_suite_is_refused() -> None:
    here = room()
    package = here.client("dave").altered_key_package(cipher_suite=3)
    refuses_commit(here, "10.1/cipher-suite", committed(here, Add(package)))


def test_init_key_is_not_the_leafs_encryption_key() -> None:
    here = room()
    package = here.client("dave").altered_key_package(init_key=here.client("dave").leaf.encryption_key)
    refuses_commit(here, "10.1/init-key", committed(here, Add(package)))


def test_init_key_is_a_key() -> None:
    here = room()
    refuses_commit(
        here,
        "5.1/invalid-public-key",
        committed(here, Add(here.client("dave").altered_key_package(init_key=bytes(31)))),
    )


def test_key_package_signed_by_another_is_refused() -> None:
    here = room()
    package = here.key_package("dave")
    forged = msgspec.structs.replace(package, signature=here.key_package("eve").signature)
    refuses_commit(here, "10.1/key-package-signature", committed(here, Add(forged)))


def test_mark_of_the_last_resort_has_no_data() -> None:
    here = room()
    mark = Extension(ExtensionType.LAST_RESORT_KEY_PACKAGE, b"last")
    package = here.client("dave").altered_key_package(extensions=(mark,))
    refuses_commit(here, "extensions-draft/last-resort-data", committed(here, Add(package)))


def test_extension_of_a_key_package_is_one_that_its_owner_lists() -> None:
    here = room()
    package = here.client("dave").altered_key_package(extensions=(Extension(PRIVATE_USE, b""),))
    refuses_commit(here, "10/extension-support", committed(here, Add(package)))


def test_extension_of_a_leaf_does_not_stand_in_a_key_package() -> None:
    here = room()
    package = here.client("dave").altered_key_package(extensions=(Extension(ExtensionType.APPLICATION_ID, b"app"),))
    refuses_commit(here, "17.3/extension-place", committed(here, Add(package)))


# -- §13.4 and erratum 8745: what a group's extensions ask of a leaf --------------------------------


def extended() -> tuple[Room, Extensions]:
    """A group whose members all support an extension that it uses."""
    extensions = (Extension(PRIVATE_USE, b"on"),)
    return alike({"capabilities": abilities(SENDER, extensions=(10, PRIVATE_USE))}, extensions), extensions


def test_newcomer_supports_what_the_group_uses() -> None:
    here, _ = extended()
    refuses_commit(here, "13.4/context-extension-support", committed(here, Add(here.key_package("dave"))))


def test_newcomer_supports_what_the_group_begins_to_use() -> None:
    here, extensions = extended()
    forged = committed(here, Add(here.key_package("dave")), GroupContextExtensions(extensions))
    refuses_commit(here, "13.4/context-extension-support", forged)


@pytest.mark.parametrize("by_update", [True, False])
def test_member_goes_on_supporting_what_the_group_uses(by_update: bool) -> None:
    here, _ = extended()
    less = {"capabilities": abilities(SENDER, extensions=(10,))}
    if by_update:
        update = proposed(here, Update(updated(here, "carol", **less)), here.leaf("carol"))
        refuses_commit(here, "erratum-8745/extension-support", committed(here, update))
    else:
        refuses_commit(here, "erratum-8745/extension-support", committed(here, leaf=less))
