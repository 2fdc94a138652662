"""From the user to everything that a device does, walked with the real things and broken at every link.

The handshake is Noise's, the record the DHT's, the key packages are MLS's: the chain is worth what it says about those.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha512
from typing import Final

import msgspec
import pytest

from protocols.contact import node_id
from protocols.identity import (
    ALL_PURPOSES,
    DeviceCertificate,
    DeviceIdentity,
    DeviceRequest,
    Domain,
    LeafCredential,
    NodeId,
    Purpose,
    Revocation,
    Roster,
    SigningKey,
    authenticate_leaf,
    certify,
    sign,
)
from protocols.identity.chain import who_is_at, who_is_node, who_owns, who_wrote
from protocols.kademlia.records import Record
from protocols.mls.client import KeyPackageBundle, new_key_package
from protocols.mls.credentials import BasicCredential, Credential
from protocols.mls.errors import MlsError
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import Capabilities
from protocols.mls.suite import SUITES, CipherSuite
from protocols.mls.validation import check_key_package
from protocols.noise.exchange import NOISE_NAME
from protocols.noise.handshake import HandshakeState, KeyPair
from tests.protocols.identity.people import BEGIN, END, STRANGER, USER, altered, certificate, key, refusal
from tests.protocols.mls.trees import FOREVER, counting_entropy

NETWORK: Final = b"a network"
NOW: Final = (BEGIN + END) // 2
OPERATIONS: Final = (b"a document", b"some operations")
SUITE_NUMBERS: Final = (1, 2)
"""Ed25519, and ECDSA over P-256: each is the other's 3 - n."""


def device_of(name: str) -> DeviceIdentity:
    return DeviceIdentity.generate(sha512(name.encode()).digest(), NETWORK)


DEVICE, OTHER = device_of("device"), device_of("another device")


@dataclass(frozen=True)
class Deeds:
    """What one device did, as others see it."""

    identity: DeviceIdentity
    node: NodeId
    static_public: bytes
    record: Record
    author: bytes
    bundle: bytes
    key_package: KeyPackage
    suite: CipherSuite


def key_package_of(credential: Credential, suite: CipherSuite, private: bytes, public: bytes) -> KeyPackageBundle:
    return new_key_package(
        suite,
        credential,
        signature_private=private,
        signature_public=public,
        capabilities=Capabilities(cipher_suites=(suite.id,)),
        lifetime=FOREVER,
        entropy=counting_entropy("key package"),
    )


def deeds(identity: DeviceIdentity, shown: DeviceCertificate, suite: CipherSuite) -> Deeds:
    private, public = suite.signature_key_pair(counting_entropy("leaf"))
    leaf = LeafCredential.sign(identity.signing, shown, suite.signature.id, public)
    return Deeds(
        identity,
        NodeId.of(identity.device_public),
        proven_static(identity),
        Record.sign(identity.signing, b"name", 1, b"value", 60),
        identity.device_public,
        sign(identity.signing, Domain.CRDT_BUNDLE, *OPERATIONS),
        key_package_of(BasicCredential(leaf.to_bytes()), suite, private, public).key_package,
        suite,
    )


def proven_static(identity: DeviceIdentity) -> bytes:
    """The static that a responder has seen proven, at the end of a handshake with this device."""

    def side(static: KeyPair, ephemeral: int, *, initiator: bool) -> HandshakeState:
        return HandshakeState(NOISE_NAME, initiator=initiator, static=static, ephemeral=bytes([ephemeral]) * 32)

    ours = side(KeyPair(identity.static_private, identity.static_public), 1, initiator=True)
    theirs = side(KeyPair(OTHER.static_private, OTHER.static_public), 2, initiator=False)
    theirs.read_message(ours.write_message())
    ours.read_message(theirs.write_message())
    assert theirs.read_message(ours.write_message(identity.certificate)) == identity.certificate
    static = theirs.split().remote_static
    assert static is not None
    return static


# -- the walk ---------------------------------------------------------------------------------------------


def ask_node(roster: Roster, done: Deeds, at: int) -> DeviceCertificate:
    return who_is_node(roster, done.node, done.identity.device_public, at)


def ask_session(roster: Roster, done: Deeds, at: int) -> DeviceCertificate:
    return who_is_at(roster, done.identity.certificate, done.static_public, NETWORK, at)


def ask_record(roster: Roster, done: Deeds, at: int) -> DeviceCertificate:
    return who_owns(roster, done.record, at)


def ask_bundle(roster: Roster, done: Deeds, at: int) -> DeviceCertificate:
    return who_wrote(roster, done.author, *OPERATIONS, signature=done.bundle, at=at)


def ask_leaf(roster: Roster, done: Deeds, at: int) -> DeviceCertificate:
    leaf = done.key_package.leaf_node
    assert isinstance(leaf.credential, BasicCredential)

    def roster_of(user: bytes) -> Roster | None:
        return roster if user == roster.user else None

    return authenticate_leaf(leaf.credential.identity, leaf.signature_key, done.suite.signature.id, roster_of, at)


LINKS: Final[dict[Purpose, list[Callable[[Roster, Deeds, int], DeviceCertificate]]]] = {
    Purpose.DHT: [ask_node, ask_record],
    Purpose.SESSION: [ask_session],
    Purpose.CRDT: [ask_bundle],
    Purpose.MLS: [ask_leaf],
}
EVERY_LINK: Final = [ask for asks in LINKS.values() for ask in asks]


def issued(purposes: tuple[Purpose, ...] = ALL_PURPOSES, user: SigningKey = USER) -> DeviceCertificate:
    return certificate(DEVICE.signing, user, purposes=purposes)


def roster(*more: DeviceCertificate | Revocation, user: SigningKey = USER) -> Roster:
    made = Roster(user.public)
    for statement in more:
        made.add(statement)
    return made


@pytest.fixture(params=SUITE_NUMBERS, ids=lambda number: SUITES[number].signature.name)
def done(request: pytest.FixtureRequest) -> Deeds:
    return deeds(DEVICE, issued(), SUITES[request.param])


def test_everything_a_device_does_leads_to_its_user(done: Deeds) -> None:
    known = roster(issued())
    for ask in EVERY_LINK:
        assert ask(known, done, NOW) == issued()
    assert int(done.node) == node_id(done.author)
    assert done.static_public == DEVICE.static_public


def test_mls_asks_the_chain_for_a_key_package(done: Deeds) -> None:
    """The authentication service (RFC 9420 §5.3.1) is this chain."""

    def check(known: Roster) -> None:
        def authenticate(credential: Credential, signature_key: bytes) -> bool:
            leaf = replace(done, key_package=with_leaf(done.key_package, credential, signature_key))
            return ask_leaf(known, leaf, NOW).device == DEVICE.device_public

        check_key_package(done.key_package, suite=done.suite, authenticate=authenticate)

    check(roster(issued()))
    assert refusal(check, roster(issued(), Revocation.sign(USER, DEVICE.device_public, NOW))) == "revoked"


def with_leaf(key_package: KeyPackage, credential: Credential, signature_key: bytes) -> KeyPackage:
    leaf = msgspec.structs.replace(key_package.leaf_node, credential=credential, signature_key=signature_key)
    return msgspec.structs.replace(key_package, leaf_node=leaf)


# -- broken between user and device: every arrow of the device falls --------------------------------------


@pytest.mark.parametrize("ask", EVERY_LINK)
@pytest.mark.parametrize(
    ("known", "at", "reason"),
    [
        (lambda: roster(issued()), BEGIN - 1, "not_yet_valid"),
        (lambda: roster(issued()), END, "expired"),
        (lambda: roster(issued(), Revocation.sign(USER, DEVICE.device_public, NOW)), NOW, "revoked"),
        (
            lambda: roster(issued(), certificate(key("new"), not_before=NOW, replaces=DEVICE.device_public)),
            NOW,
            "rotated",
        ),
    ],
)
def test_a_device_out_of_standing_does_nothing_for_its_user(
    ask: Callable[[Roster, Deeds, int], DeviceCertificate],
    known: Callable[[], Roster],
    at: int,
    reason: str,
    done: Deeds,
) -> None:
    assert refusal(ask, known(), done, at) == reason
    if reason in ("revoked", "rotated"):
        assert ask(known(), done, at - 1) == issued(), "what was had before stays good"


@pytest.mark.parametrize("purpose", Purpose)
def test_a_device_does_only_what_it_was_certified_for(purpose: Purpose) -> None:
    shown = issued(tuple(each for each in Purpose if each != purpose))
    done = deeds(DEVICE, shown, SUITES[1])
    for of, asks in LINKS.items():
        for ask in asks:
            if of == purpose:
                assert refusal(ask, roster(shown), done, NOW) == "wrong_purpose"
            else:
                assert ask(roster(shown), done, NOW) == shown


def test_a_device_of_another_user_is_not_this_users(done: Deeds) -> None:
    theirs = roster(user=STRANGER)
    for ask in EVERY_LINK:
        reason = "unknown_user" if ask is ask_leaf else "unknown_device"
        assert refusal(ask, theirs, done, NOW) == reason


def test_a_certificate_that_the_user_did_not_sign_gets_nowhere() -> None:
    request = DeviceRequest.sign(DEVICE.signing, USER.public, ALL_PURPOSES)
    forged = altered(issued(), signature=bytes(64))
    assert refusal(roster, forged) == "bad_certificate"
    assert refusal(roster, issued(user=STRANGER)) == "wrong_user"
    assert refusal(roster, altered(issued(), consent=bytes(64))) == "bad_certificate"
    assert refusal(altered(request, signature=bytes(64)).verify) == "bad_request"
    # A leaf brings its certificate along, so there it is seen in the leaf.
    assert refusal(ask_leaf, roster(), deeds(DEVICE, forged, SUITES[1]), NOW) == "bad_certificate"


# -- broken between device and deed: that arrow falls, with a reason of its own ------------------------------


def test_a_node_is_where_its_key_puts_it(done: Deeds) -> None:
    elsewhere = replace(done, node=NodeId.of(OTHER.device_public))
    assert refusal(ask_node, roster(issued()), elsewhere, NOW) == "wrong_node"


def test_a_session_is_the_devices_whose_static_was_proven(done: Deeds) -> None:
    known = roster(issued())
    assert refusal(ask_session, known, replace(done, static_public=OTHER.static_public), NOW) == "bad_static"
    for certified in (
        certify(DEVICE.signing, DEVICE.static_public, b"another network"),
        certify(DEVICE.signing, DEVICE.static_public, NETWORK, Purpose.MLS),
        DEVICE.device_public + OTHER.certificate[32:],
    ):
        liar = replace(done, identity=replace(DEVICE, certificate=certified))
        assert refusal(ask_session, known, liar, NOW) == "bad_static"
    short = replace(done, identity=replace(DEVICE, certificate=DEVICE.certificate[1:]))
    assert refusal(ask_session, known, short, NOW) == "bad_static_length"
    # Another device's certificate for this device's static: it is that one's session, which is not the user's.
    other = replace(done, identity=replace(DEVICE, certificate=certify(OTHER.signing, DEVICE.static_public, NETWORK)))
    assert refusal(ask_session, known, other, NOW) == "unknown_device"


def test_a_record_is_its_owners(done: Deeds) -> None:
    known = roster(issued())
    assert refusal(ask_record, known, replace(done, record=altered(done.record, value=b"x")), NOW) == "bad_signature"
    stolen = altered(Record.sign(OTHER.signing, b"name", 1, b"value", 60), owner=DEVICE.device_public)
    assert refusal(ask_record, known, replace(done, record=stolen), NOW) == "bad_signature"
    own = Record.sign(OTHER.signing, b"name", 1, b"value", 60)
    assert refusal(ask_record, known, replace(done, record=own), NOW) == "unknown_device"


def test_operations_are_their_authors(done: Deeds) -> None:
    known = roster(issued())
    for forged in (
        sign(OTHER.signing, Domain.CRDT_BUNDLE, *OPERATIONS),
        sign(DEVICE.signing, Domain.RECORD, *OPERATIONS),
        sign(DEVICE.signing, Domain.CRDT_BUNDLE, b"another document", OPERATIONS[1]),
    ):
        assert refusal(ask_bundle, known, replace(done, bundle=forged), NOW) == "bad_bundle"
    other = replace(done, author=OTHER.device_public, bundle=sign(OTHER.signing, Domain.CRDT_BUNDLE, *OPERATIONS))
    assert refusal(ask_bundle, known, other, NOW) == "unknown_device"


def test_a_leaf_is_the_devices_that_certified_its_key(done: Deeds) -> None:
    known, leaf = roster(issued()), done.key_package.leaf_node
    other_key = done.suite.signature_key_pair(counting_entropy("another leaf"))[1]
    moved = replace(done, key_package=with_leaf(done.key_package, leaf.credential, other_key))
    assert refusal(ask_leaf, known, moved, NOW) == "bad_leaf"
    by_another = LeafCredential.sign(OTHER.signing, certificate(OTHER.signing), done.suite.signature.id, other_key)
    relabelled = BasicCredential(altered(by_another, certificate=issued()).to_bytes())
    assert (
        refusal(ask_leaf, known, replace(done, key_package=with_leaf(done.key_package, relabelled, other_key)), NOW)
        == "bad_leaf"
    )
    elsewhere = replace(done, suite=SUITES[3 - done.suite.id])
    assert refusal(ask_leaf, known, elsewhere, NOW) == "wrong_scheme"
    nobody = with_leaf(done.key_package, BasicCredential(b"ada"), leaf.signature_key)
    assert refusal(ask_leaf, known, replace(done, key_package=nobody), NOW) == "malformed"


def test_a_key_that_did_not_sign_its_leaf_node_is_not_in_a_group(done: Deeds) -> None:
    """The last arrow's way back: a credential for somebody else's key, which the leaf node is not signed with."""
    leaf = done.key_package.leaf_node
    stolen = LeafCredential.sign(OTHER.signing, certificate(OTHER.signing), done.suite.signature.id, leaf.signature_key)
    forged = with_leaf(done.key_package, BasicCredential(stolen.to_bytes()), leaf.signature_key)
    assert ask_leaf(roster(), replace(done, key_package=forged), NOW) == certificate(OTHER.signing)
    with pytest.raises(MlsError) as caught:
        check_key_package(forged, suite=done.suite)
    assert caught.value.reason == "7.3/leaf-signature"
