"""Leaves, key packages and extensions of groups."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from protocols.mls.codec import opaque
from protocols.mls.credentials import BasicCredential, Credential, CustomCredential, X509Credential
from protocols.mls.extensions import (
    Extension,
    Extensions,
    ExtensionType,
    ExternalSender,
    RequiredCapabilities,
    external_senders_extension,
)
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from protocols.mls.policy import Policy
from protocols.mls.suite import SUITES, CipherSuite
from protocols.mls.support import Support, leaf_support
from protocols.mls.validation import (
    check_group_context_extensions,
    check_key_package,
    check_leaf_node,
    check_members,
    forgeries,
    leaf_signature,
)
from tests.protocols.mls.kit import GROUP_ID, SUITE, client, group, group_of, refused

ALICE = client("alice")
CUSTOM = Extension(0xF001, b"")
"""An extension type for private use (§17.3)."""
ABLE = Capabilities(cipher_suites=(1,), extensions=(0xF001,), proposals=(0xF001,), credentials=(1, 2))


def check(
    leaf: LeafNode,
    source: LeafNodeSource = LeafNodeSource.UPDATE,
    index: int = 3,
    extensions: Extensions = (),
    support: Support | None = None,
    **more: Any,
) -> None:
    check_leaf_node(
        leaf,
        suite=SUITE,
        source=source,
        group_id=GROUP_ID,
        leaf_index=index,
        extensions=extensions,
        support=support,
        **more,
    )


def check_package(key_package: KeyPackage, suite: CipherSuite = SUITE, **more: Any) -> None:
    check_key_package(key_package, suite=suite, **more)


# -- leaves (§7.3) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 8))
def test_sound_leaves_and_key_packages_of_every_suite_pass(number: int) -> None:
    bob = client("bob", SUITES[number])
    check_package(bob.key_package, SUITES[number], support=leaf_support(bob.leaf), now_s=0)
    check_leaf_node(
        bob.update(3),
        suite=SUITES[number],
        source=LeafNodeSource.UPDATE,
        group_id=GROUP_ID,
        leaf_index=3,
        extensions=(),
        support=leaf_support(bob.leaf),
    )


def test_forged_leaf_is_refused() -> None:
    leaf = msgspec.structs.replace(ALICE.update(3), encryption_key=ALICE.encryption_key())
    with refused("7.3/leaf-signature"):
        check(leaf)
    check(leaf, signature=False)


def test_leaf_signed_for_another_place_or_group_is_refused() -> None:
    with refused("7.3/leaf-signature"):
        check(ALICE.update(2))
    with refused("7.3/leaf-signature"):
        check(ALICE.resigned(ALICE.update(3), 3, b"another group"))


def test_leaf_index_zero_is_an_index() -> None:
    check(ALICE.update(0), index=0)
    with refused("7.3/leaf-signature"):
        check(ALICE.update(1), index=0)


@pytest.mark.parametrize("wanted", list(LeafNodeSource))
def test_leaf_of_another_source_is_refused(wanted: LeafNodeSource) -> None:
    leaves = {
        LeafNodeSource.KEY_PACKAGE: ALICE.leaf,
        LeafNodeSource.UPDATE: ALICE.update(3),
        LeafNodeSource.COMMIT: ALICE.path_leaf(3),
    }
    for source, leaf in leaves.items():
        if source == wanted:
            check(leaf, wanted)
        else:
            with refused("7.3/leaf-source"):
                check(leaf, wanted)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"versions": (2,)}, "7.2/unsupported-version"),
        ({"cipher_suites": (2, 3)}, "7.2/unsupported-cipher-suite"),
        ({"credentials": (2,)}, "7.2/credential-type"),
    ],
)
def test_capabilities_cover_the_group_and_the_own_credential(change: dict[str, Any], rule: str) -> None:
    capabilities = msgspec.structs.replace(ABLE, **change)
    with refused(rule):
        check(ALICE.update(3, capabilities=capabilities))
    with refused(rule):
        check_package(ALICE.altered_key_package(leaf={"capabilities": capabilities}))


@pytest.mark.parametrize(
    "required",
    [
        RequiredCapabilities(extension_types=(0xF002,)),
        RequiredCapabilities(proposal_types=(0xF002,)),
        RequiredCapabilities(credential_types=(3,)),
    ],
)
def test_required_capabilities_are_listed(required: RequiredCapabilities) -> None:
    with refused("7.3/required-capabilities"):
        check(ALICE.update(3, capabilities=ABLE), extensions=(required.extension(),))


def test_default_types_are_supported_unlisted_and_credential_types_are_not() -> None:
    defaults = RequiredCapabilities((1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7), (1,))
    check(ALICE.update(3), extensions=(defaults.extension(),))
    with refused("7.3/required-capabilities"):
        check(ALICE.update(3), extensions=(RequiredCapabilities(credential_types=(1, 2)).extension(),))


def test_default_types_that_are_listed_are_ignored() -> None:
    listing = Capabilities(cipher_suites=(1,), extensions=(1, 2, 3, 4, 5), proposals=(1, 2, 3, 4, 5, 6, 7))
    check(ALICE.update(3, capabilities=listing))


def test_unknown_values_in_capabilities_are_ignored() -> None:
    check(ALICE.update(3, capabilities=Capabilities((1, 9), (0x0A0A, 1), (0x1A1A,), (0x2A2A,), (1, 0x3A3A))))


def test_own_extensions_are_supported() -> None:
    with refused("7.3/extension-support"):
        check(ALICE.update(3, extensions=(CUSTOM,)))
    check(ALICE.update(3, extensions=(CUSTOM,), capabilities=ABLE))
    check(ALICE.update(3, extensions=(Extension(ExtensionType.APPLICATION_ID, b"app"),)))


def test_extensions_of_groups_are_not_those_of_leaves() -> None:
    for kind in (ExtensionType.RATCHET_TREE, ExtensionType.REQUIRED_CAPABILITIES, ExtensionType.EXTERNAL_PUB):
        with refused("17.3/extension-place"):
            check(ALICE.update(3, extensions=(Extension(kind, b""),)))


def test_context_extensions_are_supported_by_whoever_is_added() -> None:
    with refused("13.4/context-extension-support"):
        check_package(ALICE.key_package, extensions=(CUSTOM,))
    check_package(ALICE.altered_key_package(leaf={"capabilities": ABLE}), extensions=(CUSTOM,))


@pytest.mark.parametrize("source", [LeafNodeSource.UPDATE, LeafNodeSource.COMMIT])
def test_context_extensions_are_supported_by_updated_leaves(source: LeafNodeSource) -> None:
    make = ALICE.update if source == LeafNodeSource.UPDATE else ALICE.path_leaf
    with refused("erratum-8745/extension-support"):
        check(make(3), source, extensions=(CUSTOM,))
    check(make(3, capabilities=ABLE), source, extensions=(CUSTOM,))


def test_lifetime_counts_when_the_time_is_given() -> None:
    package = ALICE.altered_key_package(leaf={"lifetime": Lifetime(100, 200)})
    for now_s in (100, 200):
        check_package(package, now_s=now_s)
    check_package(package)
    for now_s in (99, 201):
        with refused("7.3/lifetime"):
            check_package(package, now_s=now_s)


def test_lifetime_is_as_short_as_the_application_wants() -> None:
    check_package(ALICE.altered_key_package(leaf={"lifetime": Lifetime(100, 200)}), policy=Policy(lifetime_max_s=100))
    with refused("7.2/lifetime-too-long"):
        check_package(ALICE.key_package, policy=Policy(lifetime_max_s=100))


def test_credential_type_suits_all_members_and_theirs_suit_it() -> None:
    basic_only = leaf_support(ALICE.leaf)
    chain = X509Credential((b"certificate",))
    with refused("7.3/credential-support"):
        check(ALICE.update(3, credential=chain, capabilities=ABLE), support=basic_only)
    certified = leaf_support(client("carol", credential=chain, capabilities=ABLE).leaf)
    with refused("7.3/credential-support"):
        check(ALICE.update(3), support=certified)
    check(ALICE.update(3, capabilities=ABLE), support=certified)


def test_authentication_service_is_asked_about_credential_and_key() -> None:
    asked: list[tuple[Credential, bytes]] = []

    def authenticate(credential: Credential, key: bytes) -> bool:
        asked.append((credential, key))
        return credential == BasicCredential(b"alice")

    check(ALICE.update(3), authenticate=authenticate)
    assert asked == [(BasicCredential(b"alice"), ALICE.signature.public)]
    with refused("5.3.1/credential"):
        check(ALICE.update(3, credential=BasicCredential(b"mallory")), authenticate=authenticate)


def test_encryption_key_is_one() -> None:
    with refused("5.1/invalid-public-key"):
        check(ALICE.update(3, encryption_key=b"short"))
    bob = client("bob", SUITES[2])
    with refused("5.1/invalid-public-key"):
        check_package(bob.altered_key_package(leaf={"encryption_key": b"\4" + bytes(64)}), SUITES[2])


# -- key packages (§10.1) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"version": 2}, "10.1/version"),
        ({"cipher_suite": 3}, "10.1/cipher-suite"),
        ({"init_key": ALICE.leaf.encryption_key}, "10.1/init-key"),
        ({"init_key": b"short"}, "5.1/invalid-public-key"),
        ({"extensions": (Extension(ExtensionType.RATCHET_TREE, b""),)}, "17.3/extension-place"),
        ({"extensions": (Extension(10, b"data"),)}, "extensions-draft/last-resort-data"),
    ],
)
def test_key_package_is_of_the_group_and_its_own(changes: dict[str, Any], rule: str) -> None:
    with refused(rule):
        check_package(ALICE.altered_key_package(**changes))


def test_key_package_and_its_leaf_are_both_signed() -> None:
    forged = msgspec.structs.replace(ALICE.key_package, init_key=ALICE.encryption_key())
    with refused("10.1/key-package-signature"):
        check_package(forged)
    leaf = msgspec.structs.replace(ALICE.leaf, encryption_key=ALICE.encryption_key())
    with refused("7.3/leaf-signature"):
        check_package(msgspec.structs.replace(ALICE.key_package, leaf_node=leaf))


def test_leaf_of_a_key_package_is_made_for_it() -> None:
    with refused("7.3/leaf-source"):
        check_package(msgspec.structs.replace(ALICE.key_package, leaf_node=ALICE.update(0)))


def test_extensions_of_key_packages_are_listed_and_else_ignored() -> None:
    """§10; GREASE is not worth a refusal."""
    listed = client("alice", capabilities=Capabilities(cipher_suites=(1,), extensions=(CUSTOM.extension_type,)))
    for name, extensions in ((listed, (CUSTOM,)), (ALICE, (Extension(0x0A0A, b"grease"),))):
        check_package(name.altered_key_package(extensions=extensions))
    for extension in (CUSTOM, Extension(ExtensionType.LAST_RESORT_KEY_PACKAGE, b"")):
        with refused("10/extension-support"):
            check_package(ALICE.altered_key_package(extensions=(extension,)))


def test_many_extensions_and_long_capabilities_take_no_quadratic_time() -> None:
    """Looked up in a list it would be twenty minutes."""
    types = tuple(range(100, 65_000))
    able = Capabilities(cipher_suites=(1,), extensions=(0,) * 500_000 + types)
    extensions = tuple(Extension(each, b"") for each in types)
    package = client("alice").altered_key_package(
        {"capabilities": able, "extensions": extensions}, extensions=extensions
    )
    required = RequiredCapabilities(extension_types=types).extension()
    check_key_package(package, suite=SUITE, extensions=(required, *extensions))


# -- groups -----------------------------------------------------------------------------------------


def test_context_extensions_stand_where_they_may() -> None:
    for kind in (ExtensionType.APPLICATION_ID, ExtensionType.RATCHET_TREE, ExtensionType.LAST_RESORT_KEY_PACKAGE):
        with refused("17.3/extension-place"):
            check_group_context_extensions((Extension(kind, b""),), None, suite=SUITE)


def test_every_member_supports_what_the_context_has_and_requires() -> None:
    some = group_of(client("able", capabilities=ABLE), client("plain")).tree.support
    with refused("13.4/context-extension-support"):
        check_group_context_extensions((CUSTOM,), some, suite=SUITE)
    for required in (
        RequiredCapabilities((0xF001,)),
        RequiredCapabilities((), (0xF001,)),
        RequiredCapabilities((), (), (2,)),
    ):
        with refused("12.1.7/required-capabilities"):
            check_group_context_extensions((required.extension(),), some, suite=SUITE)
    every = group(2, capabilities=ABLE).tree.support
    required = RequiredCapabilities((0xF001,), (0xF001,), (1, 2))
    check_group_context_extensions((CUSTOM, required.extension()), every, suite=SUITE)


def test_malformed_data_of_known_extensions_is_refused() -> None:
    with refused("2.1/trailing-bytes"):
        check_group_context_extensions(
            (Extension(ExtensionType.REQUIRED_CAPABILITIES, RequiredCapabilities().encode() + b"\0"),),
            None,
            suite=SUITE,
        )
    with refused("2.1/truncated"):
        check_group_context_extensions(
            (Extension(ExtensionType.EXTERNAL_SENDERS, opaque(b"\5key")),), None, suite=SUITE
        )


def test_external_senders_have_keys_and_are_who_they_say() -> None:
    bad = external_senders_extension([ExternalSender(b"key", BasicCredential(b"server"))])
    with refused("5.1/invalid-public-key"):
        check_group_context_extensions((bad,), None, suite=SUITE)
    good = external_senders_extension([ExternalSender(ALICE.signature.public, BasicCredential(b"server"))])
    with refused("5.3.1/credential"):
        check_group_context_extensions((good,), None, suite=SUITE, authenticate=lambda *_: False)
    check_group_context_extensions((good,), None, suite=SUITE)


def test_members_of_a_shown_tree_are_all_checked() -> None:
    sound = group(5)
    check_members(sound.tree, sound.context)
    bad = client("odd", capabilities=Capabilities(cipher_suites=(2,)))
    odd = group_of(*sound.clients, bad)
    with refused("7.2/unsupported-cipher-suite"):
        check_members(odd.tree, odd.context)


def test_members_of_a_shown_tree_support_each_other() -> None:
    certified = client(
        "certified",
        credential=CustomCredential(9, b""),
        capabilities=Capabilities(cipher_suites=(1,), credentials=(1, 9)),
    )
    mixed = group_of(client("plain"), certified)
    with refused("7.3/credential-support"):
        check_members(mixed.tree, mixed.context)


def test_members_of_a_shown_tree_meet_its_context() -> None:
    sound = group(3, extensions=(CUSTOM,))
    with refused("13.4/context-extension-support"):
        check_members(sound.tree, sound.context)
    sound = group(3, extensions=(RequiredCapabilities((), (), (2,)).extension(),))
    with refused("7.3/required-capabilities"):
        check_members(sound.tree, sound.context)


def test_forgeries_are_found_in_whatever_chunk_they_are() -> None:
    claims = [leaf_signature(ALICE.leaf, b"", 0)] * 200
    wrong = [0, 63, 64, 199]
    for position in wrong:
        claims[position] = msgspec.structs.replace(claims[position], signature=bytes(64))

    def backwards(work: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]:
        return [work(each) for each in reversed(list(items))][::-1]

    assert list(forgeries(SUITE, claims)) == wrong
    assert list(forgeries(SUITE, claims, backwards)) == wrong
