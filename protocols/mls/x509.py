"""X.509 credentials (RFC 9420 §5.3): does the chain lead from the leaf's signature key to somebody trusted?

The verifier of ``cryptography`` would be the first choice, but it is made for the web and takes neither Ed25519
nor Ed448, the keys of four of the seven cipher suites. So the chain is walked here, by RFC 5280 §6.1 as far as one
without policies and constrained names needs it: each certificate issued and signed by the next, the last by a
trusted one, all valid at the time, issuers allowed to issue. A constraint that is not understood refuses the
chain.

Not here: revocation, and which name in a certificate means which client. Both are the application's.
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.mls.credentials import Authenticate, Credential, X509Credential

CHAIN_SIZE_MAX: Final = 8
"""Certificates of one credential. Public hierarchies have three; each costs a signature check."""

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
)
"""What parsing somebody's certificate may raise."""


def certificate_authenticator(roots: Sequence[bytes], now_s: int) -> Authenticate:
    """An authentication service that trusts these certificates (DER) and whom they vouch for, at this time.

    Credentials of other types are not authentic. Members who ask at different times disagree about a certificate
    that ends in between, and so about a commit: where nobody else orders them, ask with a time that all agree on.
    """
    trusted = {each: x509.load_der_x509_certificate(each) for each in roots}

    def authenticate(credential: Credential, signature_key: bytes) -> bool:
        if not isinstance(credential, X509Credential):
            return False
        try:
            return _is_authentic(credential.certificates, signature_key, trusted, now_s)
        except _MALFORMED:
            return False

    return authenticate


def same_subject(old: Credential, new: Credential) -> bool:
    """A successor for renewed certificates: another chain, with the same names in its first certificate."""
    if not isinstance(old, X509Credential) or not isinstance(new, X509Credential):
        return old == new
    try:
        return _names(old) == _names(new)
    except _MALFORMED:
        return False


def _names(credential: X509Credential) -> tuple[bytes, bytes]:
    certificate = x509.load_der_x509_certificate(credential.certificates[0] if credential.certificates else b"")
    names = [each.value for each in certificate.extensions if isinstance(each.value, x509.SubjectAlternativeName)]
    return certificate.subject.public_bytes(), names[0].public_bytes() if names else b""


def _is_authentic(
    chain: Sequence[bytes], signature_key: bytes, trusted: dict[bytes, x509.Certificate], now_s: int
) -> bool:
    if not 1 <= len(chain) <= CHAIN_SIZE_MAX:
        return False
    certificates = [x509.load_der_x509_certificate(each) for each in chain]
    if _public_key(certificates[0]) != signature_key or not _may_sign(certificates[0]):
        return False
    for depth, (der, certificate) in enumerate(zip(chain, certificates, strict=True)):
        if depth and der in trusted:
            return True  # its signature on the one before was checked there, and it needs nobody's
        if not _is_sound(certificate, now_s) or (depth and not _may_issue(certificate, depth - 1)):
            return False
        if depth + 1 < len(chain):
            certificate.verify_directly_issued_by(certificates[depth + 1])
    return chain[-1] in trusted or any(_issued(certificates[-1], root) for root in trusted.values())


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    if certificate.issuer != root.subject:
        return False
    try:
        certificate.verify_directly_issued_by(root)
    except _MALFORMED:
        return False
    return True


def _is_sound(certificate: x509.Certificate, now_s: int) -> bool:
    """RFC 5280 §6.1.3, and nothing critical that is not understood (§4.2)."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not int(begins.timestamp()) <= now_s <= int(ends.timestamp()):
        return False
    digest = certificate.signature_hash_algorithm
    if digest is not None and digest.name in _BROKEN_HASHES:
        return False
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.NameConstraints | x509.PolicyConstraints):
            return False
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            return False
    return True


def _may_issue(certificate: x509.Certificate, below: int) -> bool:
    """RFC 5280 §6.1.4: a CA, for a chain with so many others ``below`` it before the first certificate."""
    usage = constraints = None
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            constraints = extension.value
        elif isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
    if constraints is None or not constraints.ca:
        return False
    if constraints.path_length is not None and below > constraints.path_length:
        return False
    return usage is None or usage.key_cert_sign


def _may_sign(certificate: x509.Certificate) -> bool:
    """RFC 5280 §4.2.1.3."""
    usages = [each.value for each in certificate.extensions if isinstance(each.value, x509.KeyUsage)]
    return all(each.digital_signature for each in usages)


def _public_key(certificate: x509.Certificate) -> bytes | None:
    """As MLS writes it (§5.1.1); None for keys that no cipher suite has."""
    key = certificate.public_key()
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return None
