"""Certificate chains, good and not."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from protocols.mls.credentials import BasicCredential, X509Credential
from protocols.mls.leaf_node import Capabilities
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add, Update
from protocols.mls.suite import SUITES
from protocols.mls.x509 import CHAIN_SIZE_MAX, certificate_authenticator, same_subject
from tests.protocols.mls.kit import client, group_of, refused, sent, value

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())


class Holder:
    """A name with a key, and the certificate that somebody gave it."""

    def __init__(self, name: str, key: Any, issuer: "Holder | None" = None, **options: Any) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
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
