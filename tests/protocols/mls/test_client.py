"""Key packages as a client makes and keeps them."""

from typing import Any

import pytest

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle, default_capabilities, lifetime_from, new_key_package
from protocols.mls.codec import decode
from protocols.mls.credentials import BasicCredential, Credential, CustomCredential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import GREASE, Extension, Extensions
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import Capabilities, Lifetime
from protocols.mls.suite import SUITES
from protocols.mls.validation import check_key_package
from tests.protocols.mls.kit import SUITE, client, refused
from tests.protocols.mls.trees import counting_entropy

ALICE = BasicCredential(b"alice")


def make(
    number: int = 1,
    *,
    capabilities: Capabilities | None = None,
    credential: Credential = ALICE,
    extensions: Extensions = (),
    leaf_extensions: Extensions = (),
    last_resort: bool = False,
) -> KeyPackageBundle:
    suite, entropy = SUITES[number], counting_entropy(number)
    signature = suite.signature_key_pair(entropy)
    return new_key_package(
        suite,
        credential,
        signature_private=signature.private,
        signature_public=signature.public,
        capabilities=capabilities or default_capabilities(entropy=entropy),
        lifetime=lifetime_from(1_000_000),
        extensions=extensions,
        leaf_extensions=leaf_extensions,
        last_resort=last_resort,
        entropy=entropy,
    )


@pytest.mark.parametrize("number", SUITES)
def test_key_package_is_sound_and_its_private_keys_fit(number: int) -> None:
    suite, bundle = SUITES[number], make(number)
    package = decode(KeyPackage.read, bundle.key_package.encode())
    check_key_package(package, suite=suite, now_s=1_000_000)
    assert suite.kem.public(bundle.init_private) == package.init_key
    assert suite.kem.public(bundle.encryption_private) == package.leaf_node.encryption_key
    assert suite.signature_public(bundle.signature_private) == package.leaf_node.signature_key


def test_equal_entropy_makes_equal_key_packages() -> None:
    assert make() == make()


def test_last_resort_is_marked_and_signed() -> None:
    bundle = make(last_resort=True)
    assert bundle.is_last_resort
    assert not make().is_last_resort
    check_key_package(bundle.key_package, suite=SUITE)


@pytest.mark.parametrize(
    "unlisted",
    [
        {"extensions": (Extension(0xF000, b""),)},
        {"extensions": (Extension(0x0A0A, b"grease"),)},
        {"leaf_extensions": (Extension(0xF000, b""),)},
        {"last_resort": True},
        {"credential": CustomCredential(0xF000, b"alice")},
    ],
)
def test_what_a_key_package_uses_its_capabilities_list(unlisted: dict[str, Any]) -> None:
    """§7.2, §10: nobody would take it."""
    make(**unlisted, capabilities=Capabilities((1,), (1,), (10, 0xF000, 0x0A0A), (), (1, 0xF000)))
    with pytest.raises(LocalError):
        make(**unlisted, capabilities=Capabilities((1,), (1,), (), (), (1,)))


def test_bundle_survives_storage() -> None:
    bundle = make(last_resort=True)
    stored = bundle.to_bytes()
    assert KeyPackageBundle.from_bytes(stored) == bundle
    with pytest.raises(LocalError):
        KeyPackageBundle.from_bytes(b"\2" + stored[1:])
    for size in range(len(stored)):
        with pytest.raises((MlsError, LocalError)):
            KeyPackageBundle.from_bytes(stored[:size])
    with refused("2.1/trailing-bytes"):
        KeyPackageBundle.from_bytes(stored + b"\0")


def test_bundle_shows_no_private_key() -> None:
    bundle = make()
    shown = repr(bundle) + str(bundle)
    for secret in (bundle.init_private, bundle.encryption_private, bundle.signature_private):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_lifetime_allows_for_slow_clocks_and_ends() -> None:
    assert lifetime_from(10_000_000, 60) == Lifetime(10_000_000 - 3600, 10_000_060)
    assert lifetime_from(0).not_before == 0


def test_capabilities_list_no_default_types_and_may_have_grease() -> None:
    plain = default_capabilities((1, 3))
    assert (plain.cipher_suites, plain.extensions, plain.proposals) == ((1, 3), (10,), (10,))
    for seed in range(30):
        greased = default_capabilities((1,), counting_entropy(seed))
        lists = (greased.cipher_suites, greased.extensions, greased.proposals, greased.credentials)
        assert all(len(GREASE.intersection(each)) == 1 for each in lists)
        assert greased.versions == (1,)
    assert len({default_capabilities(entropy=counting_entropy(seed)) for seed in range(200)}) <= len(GREASE)


def test_clients_of_the_kit_are_sound() -> None:
    check_key_package(client("alice").key_package, suite=SUITE)
    check_key_package(client("alice").altered_key_package(), suite=SUITE)
