"""Groups whose members are devices with real chains, and leaves whose chain is broken at each link."""

from collections.abc import Callable
from typing import Final

import pytest

from actors.leaf_authentication import DEVICES, device_of, leaf_authenticator, same_device
from protocols.identity import (
    DeviceCertificate,
    LeafCredential,
    Purpose,
    Revocation,
    Roster,
    SigningKey,
)
from protocols.mls.client import KeyPackageBundle, default_capabilities, new_key_package
from protocols.mls.credentials import BasicCredential, Credential, CustomCredential
from protocols.mls.external import external_message, make_external_commit
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit
from protocols.mls.outcomes import OwnCommit
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Services
from protocols.mls.staging import Checks
from protocols.mls.suite import SUITES, CipherSuite
from tests.protocols.identity.people import BEGIN, END, STRANGER, USER, altered, certificate, key
from tests.protocols.mls.kit import refused
from tests.protocols.mls.trees import FOREVER, counting_entropy

NOW: Final = (BEGIN + END) // 2
NOW_NS: Final = 1_700_000_000 * 10**9
ADA, BOB, CYD = key("ada's device"), key("bob's device"), key("cyd's device")


class World:
    """What a member knows of users, and its clock."""

    def __init__(self, suite: CipherSuite = SUITES[1]) -> None:
        self.suite = suite
        self.now = NOW
        self.rosters = {USER.public: Roster(USER.public)}
        self.authenticate = leaf_authenticator(suite, self.rosters.get, lambda: self.now)
        self.services = Services(authenticate=self.authenticate, policy=DEVICES)

    @property
    def checks(self) -> Checks:
        return Checks(authenticate=self.authenticate, policy=DEVICES)

    def bundle(
        self,
        device: SigningKey,
        shown: DeviceCertificate | None = None,
        *,
        leaf: str = "leaf",
        make: Callable[[LeafCredential], Credential] = lambda leaf: BasicCredential(leaf.to_bytes()),
        scheme: int | None = None,
        signer: SigningKey | None = None,
    ) -> KeyPackageBundle:
        entropy = counting_entropy(f"{device.public.hex()} {leaf}")
        private, public = self.suite.signature_key_pair(entropy)
        signer = signer or device
        scheme = self.suite.signature.id if scheme is None else scheme
        credential = LeafCredential.sign(signer, certificate(signer), scheme, public)
        return new_key_package(
            self.suite,
            make(altered(credential, certificate=shown or certificate(device))),
            signature_private=private,
            signature_public=public,
            capabilities=default_capabilities((self.suite.id,)),
            lifetime=FOREVER,
            entropy=entropy,
        )

    def founded(self, device: SigningKey = ADA, services: Services | None = None) -> Group:
        return Group.create(
            self.bundle(device),
            b"kitchen",
            entropy=counting_entropy("founder"),
            now_ns=NOW_NS,
            services=services or self.services,
        )

    def joined(self, own: OwnCommit, bundle: KeyPackageBundle) -> Group:
        [sealed] = own.commit.welcomes
        joined = stage_welcome(sealed.welcome, [bundle], checks=self.checks)
        return Group.join(joined, now_ns=NOW_NS, services=self.services, ledger=SendLedger())


ENTROPY: Final = counting_entropy("commits")


def commit(group: Group, *proposals: Add) -> OwnCommit:
    own = group.commit(proposals, entropy=ENTROPY, now_ns=NOW_NS)
    group.adopt(own.commit, now_ns=NOW_NS)
    return own


def follow(group: Group, message: bytes) -> None:
    found = group.receive(message).content
    assert isinstance(found, VerifiedCommit)
    group.adopt(group.stage(found, now_ns=NOW_NS).commit, now_ns=NOW_NS)


@pytest.mark.parametrize("number", [1, 2])
def test_devices_found_a_group_and_join_and_follow_each_other(number: int) -> None:
    world = World(SUITES[number])
    ada = world.founded()
    bobs = world.bundle(BOB)
    bob = world.joined(commit(ada, Add(bobs.key_package)), bobs)
    follow(bob, commit(ada, Add(world.bundle(CYD).key_package)).message)
    assert ada.current.authenticator == bob.current.authenticator


def forged(device: SigningKey) -> DeviceCertificate:
    return altered(certificate(device), signature=bytes(64))


ONLY_DHT: Final = certificate(CYD, purposes=(Purpose.DHT,))
BROKEN: Final[dict[str, Callable[[World], KeyPackageBundle]]] = {
    "the user did not certify the device": lambda world: world.bundle(CYD, forged(CYD)),
    "the device did not consent": lambda world: world.bundle(CYD, altered(certificate(CYD), consent=bytes(64))),
    "nobody knows the user": lambda world: world.bundle(CYD, certificate(CYD, STRANGER)),
    "the device is not for MLS": lambda world: world.bundle(CYD, ONLY_DHT),
    "its time is over": lambda world: world.bundle(CYD, certificate(CYD, not_after=NOW)),
    "its time has not come": lambda world: world.bundle(CYD, certificate(CYD, not_before=NOW + 1)),
    "another device certified the leaf": lambda world: world.bundle(CYD, signer=BOB),
    "the leaf is certified for another scheme": lambda world: world.bundle(CYD, scheme=0x0403),
    "the leaf is not certified": lambda world: world.bundle(
        CYD, make=lambda leaf: BasicCredential(altered(leaf, signature=bytes(64)).to_bytes())
    ),
    "it is a bare name": lambda world: world.bundle(CYD, make=lambda _: BasicCredential(b"cyd")),
    "it is a credential with more behind it": lambda world: world.bundle(
        CYD, make=lambda leaf: BasicCredential(leaf.to_bytes() + b"\0")
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_leaf_with_a_broken_chain_is_neither_added_nor_followed_nor_joined(
    broken: Callable[[World], KeyPackageBundle],
) -> None:
    world = World()
    add = Add(broken(world).key_package)
    with refused("5.3.1/credential"):
        commit(world.founded(), add)
    # Ada does not ask, and adds it all the same: who is there does not follow, and who is invited does not come.
    ada = world.founded(services=Services())
    bobs = world.bundle(BOB)
    bob = world.joined(commit(ada, Add(bobs.key_package)), bobs)
    guest = world.bundle(key("guest"))
    own = commit(ada, add, Add(guest.key_package))
    before = bob.current.authenticator
    with refused("5.3.1/credential"):
        follow(bob, own.message)
    assert bob.current.authenticator == before
    with refused("5.3.1/credential"):
        world.joined(own, guest)


def test_a_credential_of_another_type_is_nobodys() -> None:
    world = World()
    assert not world.authenticate(CustomCredential(0xF00D, b""), bytes(32))
    assert not same_device(CustomCredential(0xF00D, b""), CustomCredential(0xF00D, b""))
    assert device_of(CustomCredential(0xF00D, b"")) == CustomCredential(0xF00D, b"").encode()


def test_a_revoked_device_commits_in_vain() -> None:
    world = World()
    ada = world.founded()
    bobs = world.bundle(BOB)
    bob = world.joined(commit(ada, Add(bobs.key_package)), bobs)
    world.rosters[USER.public].add(Revocation.sign(USER, ADA.public, NOW))
    world.now = NOW - 1  # by Ada's clock it is not revoked yet
    own = commit(ada)
    world.now = NOW
    with refused("5.3.1/credential"):
        follow(bob, own.message)


def test_a_device_is_in_a_group_once() -> None:
    world = World()
    ada = world.founded()
    with refused("12.2/already-member"):
        commit(ada, Add(world.bundle(ADA, leaf="another").key_package))


def test_from_outside_a_device_replaces_its_own_leaf_and_nobody_elses() -> None:
    world = World()
    ada = world.founded()
    bobs = world.bundle(BOB)
    world.joined(commit(ada, Add(bobs.key_package)), bobs)
    careless = Checks(authenticate=lambda *_: True, policy=Policy(may_succeed=lambda *_: True))
    heir, stranger = key("bob's new device"), key("bob's device of another user")
    world.rosters[STRANGER.public] = Roster(STRANGER.public)

    def replaced_by(bundle: KeyPackageBundle) -> int:
        made = make_external_commit(
            ada.current.group_info(),
            bundle,
            entropy=counting_entropy("from outside"),
            replaces=LeafIndex(1),
            checks=careless,
        )
        member = Group.from_bytes(ada.to_bytes(), SendLedger(), services=world.services)
        follow(member, encode_message(external_message(made)))
        return member.current.number

    for other in (
        world.bundle(CYD),
        world.bundle(heir),
        world.bundle(BOB, certificate(BOB, STRANGER)),
        world.bundle(stranger, certificate(stranger, STRANGER, replaces=BOB.public)),
    ):
        with refused("12.2/external-commit-remove-other"):
            replaced_by(other)
    with refused("5.3.1/credential"):
        replaced_by(world.bundle(heir, altered(certificate(heir), replaces=BOB.public)))
    for own in (
        world.bundle(BOB, leaf="another"),
        world.bundle(BOB, certificate(BOB, version=1), leaf="renewed"),
        world.bundle(heir, certificate(heir, replaces=BOB.public)),
    ):
        assert replaced_by(own) == ada.current.number + 1


def test_what_a_device_of_this_name_is_does_not_depend_on_its_leaf() -> None:
    world = World()
    first, second = (world.bundle(BOB, leaf=leaf).key_package.leaf_node.credential for leaf in ("one", "two"))
    assert first != second
    assert same_device(first, second)
    assert device_of(first) == device_of(second) == BOB.public
