"""A cipher suite (RFC 9420 §5.1): every primitive of the protocol behind one number, each under a label.

No two uses of a key share an input, because every input begins with a label of its own, "MLS 1.0 " and a
name (§5.1.2, §5.1.3, §8). Callers give the name; the prefix is added here and nowhere else. Expansion is the
hottest path of the whole protocol (a message takes six), so what a label and a size become is remembered.

The rows above 7 are hybrids of ML-KEM-768 and X25519, against those who record now and decrypt later. IANA
has given none a number. Two implementations took some (0x004E is another suite in each, so it is not here);
the working group's draft has none yet, so its suites stand under numbers for private use (§17.1). What
``protocols.mls.kem`` says of X-Wing separates the draft's from the others.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocols.crypto import AeadContext, CryptoError, Hash
from protocols.errors import LocalError
from protocols.mls.codec import opaque, uint16, uint32
from protocols.mls.errors import MlsError
from protocols.mls.hpke import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    HKDF_SHA256,
    HKDF_SHA384,
    HKDF_SHA512,
    Hpke,
    KeySchedule,
)
from protocols.mls.kem import (
    DHKEM_P256,
    DHKEM_P384,
    DHKEM_P521,
    DHKEM_X448,
    DHKEM_X25519,
    MLKEM768_X25519,
    XWING,
    Entropy,
    Kem,
)
from protocols.mls.signatures import (
    ECDSA_P256,
    ECDSA_P384,
    ECDSA_P521,
    ED448,
    ED25519,
    SignatureKeyPair,
    SignatureScheme,
)

__all__ = ["SUITES", "CipherSuite", "Encryptor", "Entropy", "SignatureKeyPair", "cipher_suite"]

LABELS_MAX: Final = 512
"""Labels remembered: RFC 9420 has some forty, in three sizes; applications add theirs by the exporter."""

_VERSION: Final = b"MLS 1.0 "
_KEY_PACKAGE_REFERENCE: Final = opaque(b"MLS 1.0 KeyPackage Reference")
_PROPOSAL_REFERENCE: Final = opaque(b"MLS 1.0 Proposal Reference")


@lru_cache(maxsize=LABELS_MAX)
def _label(name: bytes) -> bytes:
    return opaque(_VERSION + name)


@lru_cache(maxsize=LABELS_MAX)
def _kdf_label(name: bytes, size: int) -> bytes:
    """KDFLabel (§8) up to its context."""
    if not 0 <= size <= 0xFFFF:
        raise LocalError(f"{size} bytes cannot be expanded: KDFLabel counts to 65,535")
    return uint16(size) + opaque(_VERSION + name)


class Encryptor:
    """EncryptWithLabel (§5.1.3) to any number of keys under one label and context."""

    __slots__ = ("_schedule",)

    def __init__(self, schedule: KeySchedule) -> None:
        self._schedule: Final = schedule

    def seal(self, public: bytes, plaintext: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """KEM output and ciphertext.

        Raises:
            MlsError: ``5.1/invalid-public-key``.
        """
        try:
            return self._schedule.seal(public, b"", plaintext, entropy)
        except CryptoError as error:
            raise MlsError("5.1/invalid-public-key", str(error)) from None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CipherSuite:
    """One row of §17.1. Private keys, public keys and signatures are bytes, as the RFC serialises them."""

    id: int
    name: str
    hpke: Hpke
    hash_function: Hash
    signature: SignatureScheme

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def kem(self) -> Kem:
        return self.hpke.kem

    @property
    def hash_size(self) -> int:
        """KDF.Nh."""
        return self.hash_function.digest_size

    @property
    def key_size(self) -> int:
        """AEAD.Nk."""
        return self.hpke.aead.key_size

    @property
    def nonce_size(self) -> int:
        """AEAD.Nn."""
        return self.hpke.aead.nonce_size

    @property
    def deterministic(self) -> bool:
        """Whether equal entropy makes equal messages: what is not has no place in virtual time."""
        return self.hpke.kem.deterministic

    # -- hash, MAC, KDF, AEAD (§5.1) ------------------------------------------------------------------------

    def hash(self, data: bytes) -> bytes:
        return self.hash_function.digest(data)

    def mac(self, key: bytes, data: bytes) -> bytes:
        """HMAC; compare what it returns in constant time."""
        return self.hash_function.hmac(key, data)

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        return self.hash_function.hmac(salt, ikm)

    def expand(self, prk: bytes, info: bytes, size: int) -> bytes:
        return self.hash_function.hkdf_expand(prk, info, size)

    def aead(self, key: bytes) -> AeadContext:
        """A key made ready; open with ``protocols.crypto.open_sealed``."""
        if len(key) != self.hpke.aead.key_size:
            raise LocalError(f"AEAD key of {len(key)} bytes, not {self.hpke.aead.key_size}")
        return self.hpke.aead.new(key)

    # -- derivation (§8, §9.1) ------------------------------------------------------------------------------

    def expand_with_label(self, secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
        """ExpandWithLabel (§8)."""
        hash_function = self.hash_function
        if size <= hash_function.digest_size:
            return hash_function.hmac(secret, _kdf_label(label, size) + opaque(context) + b"\1")[:size]
        return hash_function.hkdf_expand(secret, _kdf_label(label, size) + opaque(context), size)

    def derive_secret(self, secret: bytes, label: bytes) -> bytes:
        """DeriveSecret (§8)."""
        hash_function = self.hash_function
        return hash_function.hmac(secret, _kdf_label(label, hash_function.digest_size) + b"\0\1")

    def derive_tree_secret(self, secret: bytes, label: bytes, generation: int, size: int) -> bytes:
        """DeriveTreeSecret (§9)."""
        return self.expand_with_label(secret, label, uint32(generation), size)

    # -- references (§5.2) ----------------------------------------------------------------------------------

    def ref_hash(self, label: bytes, value: bytes) -> bytes:
        """RefHash; its labels are whole, with "MLS 1.0 " already in them."""
        return self.hash_function.digest(opaque(label) + opaque(value))

    def key_package_ref(self, encoded: bytes) -> bytes:
        """KeyPackageRef, of an encoded KeyPackage."""
        return self.hash_function.digest(_KEY_PACKAGE_REFERENCE + opaque(encoded))

    def proposal_ref(self, encoded: bytes) -> bytes:
        """ProposalRef, of an encoded AuthenticatedContent."""
        return self.hash_function.digest(_PROPOSAL_REFERENCE + opaque(encoded))

    # -- signatures (§5.1.2) --------------------------------------------------------------------------------

    def signature_key_pair(self, entropy: Entropy) -> SignatureKeyPair:
        return self.signature.key_pair(entropy)

    def signature_public(self, private: bytes) -> bytes:
        return self.signature.public(private)

    def check_signature_public(self, public: bytes) -> None:
        """Raises:
        MlsError: ``5.1/invalid-public-key``.
        """
        try:
            self.signature.check_public(public)
        except CryptoError as error:
            raise MlsError("5.1/invalid-public-key", str(error)) from None

    def sign_with_label(self, private: bytes, public: bytes, label: bytes, content: bytes) -> bytes:
        """SignWithLabel; ``public`` is the private key's own."""
        return self.signature.sign(private, public, _label(label) + opaque(content))

    def verify_with_label(self, public: bytes, label: bytes, content: bytes, signature: bytes) -> bool:
        """VerifyWithLabel: false for whatever is no signature of ``content`` by ``public``."""
        return self.signature.verify(public, _label(label) + opaque(content), signature)

    # -- public key encryption (§5.1.3) ---------------------------------------------------------------------

    def check_public(self, public: bytes) -> None:
        """Refuse an HPKE key to which nothing can be encrypted.

        Raises:
            MlsError: ``5.1/invalid-public-key``.
        """
        try:
            self.hpke.kem.check_public(public)
        except CryptoError as error:
            raise MlsError("5.1/invalid-public-key", str(error)) from None

    def encryptor(self, label: bytes, context: bytes) -> Encryptor:
        return Encryptor(self.hpke.key_schedule(_label(label) + opaque(context)))

    def encrypt_with_label(
        self, public: bytes, label: bytes, context: bytes, plaintext: bytes, entropy: Entropy
    ) -> tuple[bytes, bytes]:
        """EncryptWithLabel: KEM output and ciphertext.

        Raises:
            MlsError: ``5.1/invalid-public-key``.
        """
        return self.encryptor(label, context).seal(public, plaintext, entropy)

    def decrypt_with_label(
        self, private: bytes, public: bytes, label: bytes, context: bytes, kem_output: bytes, ciphertext: bytes
    ) -> bytes:
        """DecryptWithLabel; ``public`` is the private key's own.

        Raises:
            MlsError: ``5.1.3/decrypt``.
        """
        schedule = self.hpke.key_schedule(_label(label) + opaque(context))
        try:
            return schedule.open(kem_output, private, public, b"", ciphertext)
        except CryptoError as error:
            raise MlsError("5.1.3/decrypt", str(error)) from None


_X25519_AES: Final = Hpke(DHKEM_X25519, HKDF_SHA256, AES_128_GCM)
_X25519_CHACHA: Final = Hpke(DHKEM_X25519, HKDF_SHA256, CHACHA20_POLY1305)
_X448_AES: Final = Hpke(DHKEM_X448, HKDF_SHA512, AES_256_GCM)
_X448_CHACHA: Final = Hpke(DHKEM_X448, HKDF_SHA512, CHACHA20_POLY1305)
_P256: Final = Hpke(DHKEM_P256, HKDF_SHA256, AES_128_GCM)
_P384: Final = Hpke(DHKEM_P384, HKDF_SHA384, AES_256_GCM)
_P521: Final = Hpke(DHKEM_P521, HKDF_SHA512, AES_256_GCM)
_XWING_256: Final = Hpke(XWING, HKDF_SHA256, CHACHA20_POLY1305)
_XWING_AES: Final = Hpke(XWING, HKDF_SHA512, AES_256_GCM)
_XWING_CHACHA: Final = Hpke(XWING, HKDF_SHA512, CHACHA20_POLY1305)
_HYBRID_128: Final = Hpke(MLKEM768_X25519, HKDF_SHA256, AES_128_GCM)
_HYBRID_256: Final = Hpke(MLKEM768_X25519, HKDF_SHA384, AES_256_GCM)


def _rows(*rows: tuple[int, str, Hpke, SignatureScheme]) -> dict[int, CipherSuite]:
    return {number: CipherSuite(number, name, hpke, hpke.kdf.hash, signature) for number, name, hpke, signature in rows}


SUITES: Final[dict[int, CipherSuite]] = _rows(
    # RFC 9420 §17.1
    (0x0001, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", _X25519_AES, ED25519),
    (0x0002, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", _P256, ECDSA_P256),
    (0x0003, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", _X25519_CHACHA, ED25519),
    (0x0004, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", _X448_AES, ED448),
    (0x0005, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", _P521, ECDSA_P521),
    (0x0006, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", _X448_CHACHA, ED448),
    (0x0007, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", _P384, ECDSA_P384),
    # OpenMLS 0.9
    (0x004D, "MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519", _XWING_256, ED25519),
    # ts-mls 1.6
    (0x0053, "MLS_256_XWING_AES256GCM_SHA512_Ed25519", _XWING_AES, ED25519),
    (0x0054, "MLS_256_XWING_CHACHA20POLY1305_SHA512_Ed25519", _XWING_CHACHA, ED25519),
    # draft-ietf-mls-pq-ciphersuites-06 §3.1, its "TBD1" and "TBD2"
    (0xF001, "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519", _HYBRID_128, ED25519),
    (0xF002, "MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519", _HYBRID_256, ED25519),
)


def cipher_suite(number: int) -> CipherSuite:
    """Raises:
    MlsError: ``5.1/unsupported-cipher-suite``.
    """
    suite = SUITES.get(number)
    if suite is None:
        raise MlsError("5.1/unsupported-cipher-suite", f"cipher suite {number:#06x}")
    return suite
