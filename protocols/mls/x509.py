"""X.509 credentials (RFC 9420 §5.3): does the chain lead from the leaf's signature key to somebody trusted?

The verifier of ``cryptography`` would be the first choice, but it is made for the web and takes neither Ed25519
nor Ed448, the keys of four of the seven cipher suites. So the chain is walked here, by RFC 5280 §6.1 as far as one
without policies and constrained names needs it: each certificate issued and signed by the next, the last by a
trusted one, all valid at the time and for the purpose, issuers allowed to issue. A constraint that is not understood
refuses the chain.

RFC 5280 §6.1 asks nothing of a trust anchor but its name and key. But whoever writes into a root that it has ended,
or may only have one level below, means it, and a member's certificate that is pinned makes no member a CA: so an
issuer is held to what it says of itself, trusted or not (RFC 5937 allows it). Only its own signature is not looked at.

Not here: revocation, and which name in a certificate means which client. Both are the application's.
"""

from collections.abc import Collection, Sequence
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocols.errors import LocalError
from protocols.mls.credentials import Authenticate, Credential, X509Credential

E = TypeVar("E", bound=x509.ExtensionType)

CHAIN_SIZE_MAX: Final = 8
"""Certificates of one credential. Public hierarchies have three; each costs a signature check."""

IM_URI: Final = "1.3.6.1.5.5.7.3.40"
"""``id-kp-imUri`` of RFC 9734: the purpose of certificates for MLS and the like."""

_UNDERSTOOD: Final = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)
_BROKEN_HASHES: Final = ("md5", "sha1")

_MALFORMED: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,  # where warnings are errors
)
"""What parsing somebody's certificate may raise."""


def certificate_authenticator(
    roots: Sequence[bytes], now_s: int, purposes: Collection[str] = (IM_URI,)
) -> Authenticate:
    """An authentication service that trusts these certificates (DER) and whom they vouch for, at this time.

    A certificate with an ExtendedKeyUsage has to have one of ``purposes``, or anyExtendedKeyUsage, in it (RFC 5280
    §4.2.1.12, RFC 9734); its issuers, if they have one, too.

    Credentials of other types are not authentic. Members who ask at different times disagree about a certificate
    that ends in between, and so about a commit: where nobody else orders them, ask with a time that all agree on.

    Raises:
        LocalError: a root is no certificate.
    """
    try:
        trusted = {each: _parsed(each) for each in roots}
    except _MALFORMED as error:
        raise LocalError(f"a root is no certificate: {error}") from None
    wanted = frozenset((*purposes, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string))

    def authenticate(credential: Credential, signature_key: bytes) -> bool:
        if not isinstance(credential, X509Credential):
            return False
        try:
            return _is_authentic(credential.certificates, signature_key, trusted, now_s, wanted)
        except _MALFORMED:
            return False

    return authenticate


def same_subject(old: Credential, new: Credential) -> bool:
    """A successor for renewed certificates: another chain, with the same names in its first certificate.

    Certificates without any name are nobody's, and so not the same body's.
    """
    if not isinstance(old, X509Credential) or not isinstance(new, X509Credential):
        return old == new
    try:
        names = _names(old)
        return names is not None and names == _names(new)
    except _MALFORMED:
        return False


def _names(credential: X509Credential) -> tuple[bytes, bytes] | None:
    certificate = _parsed(credential.certificates[0] if credential.certificates else b"")
    subject, others = certificate.subject, _extension(certificate, x509.SubjectAlternativeName)
    if not (list(subject) or (others and list(others))):
        return None
    return subject.public_bytes(), others.public_bytes() if others else b""


def _parsed(der: bytes) -> x509.Certificate:
    """A serial number that is not positive (RFC 5280 §4.1.2.2) makes ``cryptography`` warn, or raise the warning:
    whether a member is authentic must not depend on how an interpreter takes warnings.
    """
    certificate = x509.load_der_x509_certificate(der)
    if certificate.serial_number <= 0:
        raise ValueError("a serial number that is not positive")
    return certificate


def _is_authentic(
    chain: Sequence[bytes],
    signature_key: bytes,
    trusted: dict[bytes, x509.Certificate],
    now_s: int,
    purposes: Collection[str],
) -> bool:
    if not 1 <= len(chain) <= CHAIN_SIZE_MAX:
        return False
    certificates = [_parsed(each) for each in chain]
    if _public_key(certificates[0]) != signature_key or not _may_sign(certificates[0]):
        return False

    def may_stand(certificate: x509.Certificate, depth: int) -> bool:
        return _is_sound(certificate, now_s, purposes) and (depth == 0 or _may_issue(certificate, depth - 1))

    for depth, (der, certificate) in enumerate(zip(chain, certificates, strict=True)):
        if not may_stand(certificate, depth):
            return False
        if der in trusted:
            return True  # its signature on the one before was checked there, and it needs nobody's
        if not _is_well_signed(certificate):
            return False
        if depth + 1 < len(chain):
            certificate.verify_directly_issued_by(certificates[depth + 1])
    return any(_issued(certificates[-1], root) and may_stand(root, len(chain)) for root in trusted.values())


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    if certificate.issuer != root.subject:
        return False
    try:
        certificate.verify_directly_issued_by(root)
    except _MALFORMED:
        return False
    return True


def _is_well_signed(certificate: x509.Certificate) -> bool:
    digest = certificate.signature_hash_algorithm
    return digest is None or digest.name not in _BROKEN_HASHES


def _is_sound(certificate: x509.Certificate, now_s: int, purposes: Collection[str]) -> bool:
    """RFC 5280 §6.1.3, for a purpose, and nothing critical that is not understood (§4.2)."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not int(begins.timestamp()) <= now_s <= int(ends.timestamp()):
        return False
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and not any(each.dotted_string in purposes for each in usage):
        return False
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.NameConstraints | x509.PolicyConstraints):
            return False
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            return False
    return True


def _may_issue(certificate: x509.Certificate, below: int) -> bool:
    """RFC 5280 §6.1.4: a CA, for a chain with so many others ``below`` it before the first certificate."""
    constraints, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        return False
    if constraints.path_length is not None and below > constraints.path_length:
        return False
    return usage is None or usage.key_cert_sign


def _may_sign(certificate: x509.Certificate) -> bool:
    """RFC 5280 §4.2.1.3."""
    usage = _extension(certificate, x509.KeyUsage)
    return usage is None or usage.digital_signature


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """Parsing refused a certificate with two of one kind (RFC 5280 §4.2)."""
    return next((each.value for each in certificate.extensions if isinstance(each.value, kind)), None)


def _public_key(certificate: x509.Certificate) -> bytes | None:
    """As MLS writes it (§5.1.1); None for keys that no cipher suite has."""
    key = certificate.public_key()
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return None
