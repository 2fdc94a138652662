"""Certificate chains, good and not."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from protocols.errors import LocalError
from protocols.mls.credentials import BasicCredential, X509Credential
from protocols.mls.leaf_node import Capabilities
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add, Update
from protocols.mls.suite import SUITES
from protocols.mls.x509 import CHAIN_SIZE_MAX, IM_URI, certificate_authenticator, same_subject
from tests.protocols.mls.kit import client, group_of, refused, sent, value

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())


class Holder:
    """A name with a key, and the certificate that somebody gave it."""

    def __init__(self, name: str | None, key: Any, issuer: "Holder | None" = None, **options: Any) -> None:
        self.name = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = key
        self.issuer = issuer or self
        self.certificate = self._certificate(**options)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def _certificate(
        self,
        *,
        ca: bool | None = None,
        path_length: int | None = None,
        usage: str | None = None,
        begins: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=1),
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.issuer.name)
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(NOW + begins)
            .not_valid_after(NOW + ends)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        if usage is not None:
            usages = dict.fromkeys(_USAGES, False) | {usage: True}
            builder = builder.add_extension(x509.KeyUsage(**usages), critical=True)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        signing = self.issuer.key
        digest: SHA256 | None = SHA256()
        if isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
            digest = None
        return builder.sign(signing, digest)


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def key(seed: int) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


ROOT = Holder("root", key(1), ca=True)
MIDDLE = Holder("middle", key(2), ROOT, ca=True, path_length=0, usage="key_cert_sign")
ALICE = Holder("alice", key(3), MIDDLE, usage="digital_signature")
ALICE_KEY = ALICE.key.public_key().public_bytes_raw()
trusts = certificate_authenticator([ROOT.der], NOW_S)


def chain(*holders: Holder) -> X509Credential:
    return X509Credential(tuple(each.der for each in holders))


def test_chain_to_a_trusted_root_is_authentic_for_its_key() -> None:
    assert trusts(chain(ALICE, MIDDLE), ALICE_KEY)
    assert trusts(chain(ALICE, MIDDLE, ROOT), ALICE_KEY)
    assert not trusts(chain(ALICE, MIDDLE), MIDDLE.key.public_key().public_bytes_raw())


def test_chain_that_ends_elsewhere_is_not() -> None:
    impostor = Holder("root", key(9), ca=True)
    below = Holder("alice", key(3), impostor)
    assert not trusts(chain(below), ALICE_KEY)
    assert not trusts(chain(below, impostor), ALICE_KEY)
    assert not certificate_authenticator([], NOW_S)(chain(ALICE, MIDDLE, ROOT), ALICE_KEY)
    assert not trusts(chain(ALICE), ALICE_KEY)
    assert not trusts(chain(ALICE, ROOT), ALICE_KEY)
    assert not trusts(chain(ALICE, MIDDLE, MIDDLE), ALICE_KEY)


@pytest.mark.parametrize("seconds", [-86401, 86401])
def test_chain_counts_while_all_of_it_is_valid(seconds: int) -> None:
    assert not certificate_authenticator([ROOT.der], NOW_S + seconds)(chain(ALICE, MIDDLE), ALICE_KEY)
    short = Holder("middle", key(2), ROOT, ca=True, ends=timedelta(hours=-1))
    assert not trusts(chain(Holder("alice", key(3), short), short), ALICE_KEY)


@pytest.mark.parametrize("options", [{}, {"ca": False}, {"ca": True, "usage": "digital_signature"}])
def test_issuers_are_allowed_to_issue(options: dict[str, Any]) -> None:
    middle = Holder("middle", key(2), ROOT, **options)
    assert not trusts(chain(Holder("alice", key(3), middle), middle), ALICE_KEY)


def test_path_length_is_kept() -> None:
    lower = Holder("lower", key(4), MIDDLE, ca=True)
    assert not trusts(chain(Holder("alice", key(3), lower), lower, MIDDLE), ALICE_KEY)


def below(root: Holder, *middles: Holder) -> X509Credential:
    """Alice's chain, without the root."""
    return chain(Holder("alice", key(3), middles[0] if middles else root), *middles)


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ca": False},
        {"ca": True, "usage": "digital_signature"},
        {"ca": True, "ends": timedelta(hours=-1)},
        {"ca": True, "begins": timedelta(hours=1)},
        {"ca": True, "extra": [(x509.NameConstraints([x509.DNSName("example.org")], None), True)]},
        {"ca": True, "extra": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)]},
    ],
)
def test_trusted_issuer_is_held_to_what_it_says_of_itself(options: dict[str, Any], shown: bool) -> None:
    root = Holder("root", key(1), **options)
    trusts = certificate_authenticator([root.der], NOW_S)
    credential = below(root)
    assert not trusts(
        X509Credential((*credential.certificates, root.der) if shown else credential.certificates), ALICE_KEY
    )


@pytest.mark.parametrize("shown", [False, True])
def test_path_length_of_a_trusted_root_is_kept(shown: bool) -> None:
    root = Holder("root", key(1), ca=True, path_length=0)
    more = (root,) if shown else ()
    trusts = certificate_authenticator([root.der], NOW_S)
    assert trusts(chain(Holder("alice", key(3), root), *more), ALICE_KEY)
    middle = Holder("middle", key(2), root, ca=True)
    assert not trusts(chain(Holder("alice", key(3), middle), middle, *more), ALICE_KEY)


def test_certificate_that_is_trusted_itself_needs_nobody_and_vouches_for_nobody() -> None:
    pinned = certificate_authenticator([ALICE.der], NOW_S)
    assert pinned(chain(ALICE), ALICE_KEY)
    assert pinned(chain(ALICE, MIDDLE), ALICE_KEY)
    bob = Holder("bob", key(5), ALICE)
    assert not pinned(chain(bob), bob.key.public_key().public_bytes_raw())
    assert not pinned(chain(bob, ALICE), bob.key.public_key().public_bytes_raw())


@pytest.mark.parametrize(
    ("purpose", "good"),
    [
        (ExtendedKeyUsageOID.SERVER_AUTH, False),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, True),
        (ObjectIdentifier(IM_URI), True),
    ],
)
@pytest.mark.parametrize("critical", [False, True])
def test_certificate_for_a_purpose_is_for_ours(purpose: ObjectIdentifier, good: bool, critical: bool) -> None:
    extra = [(x509.ExtendedKeyUsage([purpose]), critical)]
    assert trusts(chain(Holder("alice", key(3), ROOT, extra=extra)), ALICE_KEY) == good
    middle = Holder("middle", key(2), ROOT, ca=True, extra=extra)
    assert trusts(below(ROOT, middle), ALICE_KEY) == good
    others = certificate_authenticator([ROOT.der], NOW_S, [ExtendedKeyUsageOID.SERVER_AUTH.dotted_string])
    assert others(chain(Holder("alice", key(3), ROOT, extra=extra)), ALICE_KEY) == (purpose.dotted_string != IM_URI)


@pytest.mark.parametrize("warnings_are", ["error", "ignore"])
def test_serial_number_that_is_not_positive_is_malformed(warnings_are: Literal["error", "ignore"]) -> None:
    """``cryptography`` warns of it, however the interpreter takes warnings."""
    at = ALICE.der.index(b"\x02\x01\x07\x30") + 2
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        for serial in (b"\xf9", b"\0"):
            bent = ALICE.der[:at] + serial + ALICE.der[at + 1 :]
            assert not trusts(X509Credential((bent, MIDDLE.der)), ALICE_KEY)
            assert not same_subject(X509Credential((bent,)), X509Credential((bent,)))
            with pytest.raises(LocalError):
                certificate_authenticator([bent], NOW_S)


def test_first_certificate_is_for_signing() -> None:
    assert trusts(chain(Holder("alice", key(3), ROOT)), ALICE_KEY)
    assert not trusts(chain(Holder("alice", key(3), ROOT, usage="key_agreement")), ALICE_KEY)


def test_constraints_that_are_not_understood_refuse_the_chain() -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\5\0")
    assert trusts(chain(Holder("alice", key(3), ROOT, extra=[(unknown, False)])), ALICE_KEY)
    assert not trusts(chain(Holder("alice", key(3), ROOT, extra=[(unknown, True)])), ALICE_KEY)
    names = x509.NameConstraints([x509.DNSName("example.org")], None)
    middle = Holder("middle", key(2), ROOT, ca=True, extra=[(names, False)])
    assert not trusts(chain(Holder("alice", key(3), middle), middle), ALICE_KEY)


@pytest.mark.parametrize("number", [2, 4, 5, 7])
def test_keys_of_other_suites_are_read_as_mls_writes_them(number: int) -> None:
    suite = SUITES[number]
    made: dict[int, Any] = {
        2: ec.derive_private_key(5, ec.SECP256R1()),
        4: ed448.Ed448PrivateKey.from_private_bytes(bytes(57)),
        5: ec.derive_private_key(5, ec.SECP521R1()),
        7: ec.derive_private_key(5, ec.SECP384R1()),
    }
    private = bytes(57) if number == 4 else (5).to_bytes(suite.signature.private_size, "big")
    assert trusts(chain(Holder("alice", made[number], ROOT)), suite.signature_public(private))


def test_keys_that_no_suite_has_are_not_authentic() -> None:
    holder = Holder("alice", rsa.generate_private_key(65537, 2048), ROOT)
    assert not trusts(chain(holder), b"")


def test_malformed_and_long_chains_and_other_types_are_not_authentic() -> None:
    assert not trusts(X509Credential(()), ALICE_KEY)
    assert not trusts(X509Credential((b"",)), ALICE_KEY)
    assert not trusts(X509Credential((ALICE.der, b"certificate")), ALICE_KEY)
    assert not trusts(X509Credential((ALICE.der + b"\0", MIDDLE.der)), ALICE_KEY)
    assert not trusts(X509Credential((ALICE.der, MIDDLE.der) + (ROOT.der,) * CHAIN_SIZE_MAX), ALICE_KEY)
    assert not trusts(BasicCredential(b"alice"), ALICE_KEY)
    for at in range(0, len(ALICE.der), 7):
        bent = ALICE.der[:at] + bytes([ALICE.der[at] ^ 1]) + ALICE.der[at + 1 :]
        assert not trusts(X509Credential((bent, MIDDLE.der)), ALICE_KEY)


def test_renewed_certificate_succeeds_for_the_same_names() -> None:
    renewed = Holder("alice", key(8), ROOT)
    assert same_subject(chain(ALICE, MIDDLE), chain(renewed))
    assert not same_subject(chain(ALICE), chain(Holder("bob", key(3), MIDDLE)))
    other = [(x509.SubjectAlternativeName([x509.DNSName("bob.example.org")]), False)]
    assert not same_subject(chain(ALICE), chain(Holder("alice", key(3), MIDDLE, extra=other)))
    assert not same_subject(chain(ALICE), X509Credential(()))
    assert not same_subject(chain(ALICE), BasicCredential(b"alice"))


def test_nameless_certificates_are_not_the_same_persons() -> None:
    one, other = Holder(None, key(3), ROOT), Holder(None, key(8), ROOT)
    assert not same_subject(chain(one), chain(other))
    named = [(x509.SubjectAlternativeName([x509.DNSName("alice.example.org")]), True)]
    one, other = Holder(None, key(3), ROOT, extra=named), Holder(None, key(8), ROOT, extra=named)
    assert same_subject(chain(one), chain(other))


def test_group_admits_certified_clients_only() -> None:
    able = Capabilities(cipher_suites=(1,), credentials=(1, 2))
    members = [client(f"member {number}", capabilities=able) for number in range(2)]
    holder = Holder("dave", ed25519.Ed25519PrivateKey.from_private_bytes(client("dave").signature.private), ROOT)
    dave = client("dave", credential=chain(holder), capabilities=able)
    mallory = client("mallory", credential=chain(holder), capabilities=able)
    kitchen = group_of(*members)
    kitchen.check(value(Add(dave.key_package)), authenticate=trusts)
    with refused("5.3.1/credential"):
        kitchen.check(value(Add(mallory.key_package)), authenticate=trusts)
    with_dave = group_of(*members, dave)
    renewal = sent(Update(dave.update(2, credential=chain(holder, ROOT))), 2)
    with refused("5.3.1/successor"):
        with_dave.check(renewal, authenticate=trusts)
    with_dave.check(renewal, authenticate=trusts, policy=Policy(may_succeed=same_subject))
