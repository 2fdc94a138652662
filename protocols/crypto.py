"""The primitives, with bytes at the door: keys and nonces go in and out as plain bytes.

Behind it are two libraries, each where it measured faster: libsodium for X25519 and Ed25519 (half of
OpenSSL's time when the key arrives as bytes, and its Ed25519 check is the strict one), OpenSSL for the
AEADs (a held context seals 100 bytes in a quarter of the time) and for X448 and Ed448. Hashes are ``hashlib``; HMAC
is composed from them by hand, as ``hmac.digest`` costs up to twice as much on inputs of this size.

Not here: key pairs as objects (state must go to bytes and back anyway), nonces drawn for the caller
(entropy is always an argument), and any choice of algorithm, which is the protocol's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError as _SodiumError

from protocols.errors import LocalError, ProtocolError

X25519_KEY_SIZE = 32
X448_KEY_SIZE = 56
ED25519_SEED_SIZE = 32
ED25519_PUBLIC_SIZE = 32
ED25519_SIGNATURE_SIZE = 64
ED448_SEED_SIZE = 57
ED448_PUBLIC_SIZE = 57
AEAD_TAG_SIZE = 16
XCHACHA_KEY_SIZE = 32
XCHACHA_NONCE_SIZE = 24


class CryptoError(ProtocolError):
    """Bytes from a peer that a primitive refuses: a bad point, a wrong length, a tag that does not verify."""


class Secret:
    """Bytes that print as their length only and compare in constant time; ``reveal`` is the one way out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"Secret({len(self._value)} bytes)"

    def __eq__(self, other: object) -> bool:
        return compare_digest(self._value, other._value) if isinstance(other, Secret) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a dict lookup would compare in variable time

    def __reduce__(self) -> str:
        raise LocalError("a Secret is not pickled: store reveal() where secrets may be stored")


# -- Diffie-Hellman ---------------------------------------------------------------------------------


def x25519_public(private: bytes) -> bytes:
    _require_size("X25519 private key", private, X25519_KEY_SIZE)
    public: bytes = crypto_scalarmult_base(private)
    return public


def x25519(private: bytes, public: bytes) -> bytes:
    """RFC 7748 §6.1, with its optional check: a point that forces the all-zero secret is refused."""
    _require_size("X25519 private key", private, X25519_KEY_SIZE)
    if len(public) != X25519_KEY_SIZE:
        raise CryptoError("bad_key_length", f"X25519 public key of {len(public)} bytes")
    try:
        shared: bytes = crypto_scalarmult(private, public)
    except _SodiumError:
        raise CryptoError("low_order_point", "X25519 public key has small order") from None
    return shared


def x448_public(private: bytes) -> bytes:
    _require_size("X448 private key", private, X448_KEY_SIZE)
    return X448PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x448(private: bytes, public: bytes) -> bytes:
    """RFC 7748 §6.2, with the same check as ``x25519``."""
    _require_size("X448 private key", private, X448_KEY_SIZE)
    if len(public) != X448_KEY_SIZE:
        raise CryptoError("bad_key_length", f"X448 public key of {len(public)} bytes")
    try:
        return X448PrivateKey.from_private_bytes(private).exchange(X448PublicKey.from_public_bytes(public))
    except ValueError:
        raise CryptoError("low_order_point", "X448 public key has small order") from None


# -- signatures -------------------------------------------------------------------------------------


def ed25519_public(seed: bytes) -> bytes:
    _require_size("Ed25519 seed", seed, ED25519_SEED_SIZE)
    public: bytes = crypto_sign_seed_keypair(seed)[0]
    return public


def ed25519_sign(seed: bytes, public: bytes, message: bytes) -> bytes:
    """Sign; ``public`` must be the seed's own key, held beside it, as deriving it costs as much as signing.

    With another public key the signature would leak the private scalar, so the two are never separated:
    see ``identity`` for the pair. Sign only what ``protocols.transcript`` built.
    """
    _require_size("Ed25519 seed", seed, ED25519_SEED_SIZE)
    _require_size("Ed25519 public key", public, ED25519_PUBLIC_SIZE)
    signed: bytes = crypto_sign(message, seed + public)
    return signed[:ED25519_SIGNATURE_SIZE]


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Strict: a key or an R of small order or not canonical, S >= L and wrong lengths are false, never an exception.

    The equation is the one without cofactor. A libsodium whose equation has it would make replicas disagree, so the
    tests say what is accepted of each kind of signature that libraries differ about.
    """
    if len(public) != ED25519_PUBLIC_SIZE or len(signature) != ED25519_SIGNATURE_SIZE:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except _SodiumError:
        return False
    return True


def x25519_public_of_ed25519(public: bytes) -> bytes:
    """The same point on the Montgomery curve (RFC 7748 §4.1): for sealing to who is known by a signing key alone.

    Raises:
        CryptoError: ``bad_key_length``, or ``bad_point``: not a point, or outside the base point's group.
    """
    if len(public) != ED25519_PUBLIC_SIZE:
        raise CryptoError("bad_key_length", f"Ed25519 public key of {len(public)} bytes")
    try:
        converted: bytes = crypto_sign_ed25519_pk_to_curve25519(public)
    except (_SodiumError, RuntimeError):
        raise CryptoError("bad_point", "an Ed25519 public key that no private one has") from None
    return converted


def x25519_private_of_ed25519(seed: bytes, public: bytes) -> bytes:
    """The scalar that belongs to ``x25519_public_of_ed25519`` (RFC 8032 §5.1.5, steps 1 and 2)."""
    _require_size("Ed25519 seed", seed, ED25519_SEED_SIZE)
    _require_size("Ed25519 public key", public, ED25519_PUBLIC_SIZE)
    private: bytes = crypto_sign_ed25519_sk_to_curve25519(seed + public)
    return private


_ED448_PRIME = 2**448 - 2**224 - 1
_ED448_SMALL_ORDER_Y = (0, 1, _ED448_PRIME - 1, _ED448_PRIME, _ED448_PRIME + 1)
"""The y of the points whose order divides the cofactor 4, as RFC 8032 §5.2.2 encodes them and modulo p."""


def ed448_public(seed: bytes) -> bytes:
    _require_size("Ed448 seed", seed, ED448_SEED_SIZE)
    return Ed448PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed448_sign(seed: bytes, message: bytes) -> bytes:
    """OpenSSL derives the public key anew, so none is asked for."""
    _require_size("Ed448 seed", seed, ED448_SEED_SIZE)
    return Ed448PrivateKey.from_private_bytes(seed).sign(message)


def ed448_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """As strict as ``ed25519_verify``: OpenSSL takes keys of small order, for which anybody can sign."""
    if ed448_small_order(public):
        return False
    try:
        Ed448PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def ed448_small_order(public: bytes) -> bool:
    """Whether a public key is one that everybody can sign for."""
    return int.from_bytes(public[:56], "little") in _ED448_SMALL_ORDER_Y


# -- hashes, HMAC, HKDF -----------------------------------------------------------------------------

_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True)
class Hash:
    """One hash function and what is built on it; ``new`` is its hashlib constructor."""

    name: str
    digest_size: int
    block_size: int
    new: Callable[[bytes], Any]

    def digest(self, data: bytes) -> bytes:
        digest: bytes = self.new(data).digest()
        return digest

    def hmac(self, key: bytes, data: bytes) -> bytes:
        """RFC 2104."""
        new = self.new
        if len(key) > self.block_size:
            key = new(key).digest()
        key = key.ljust(self.block_size, b"\0")
        mac: bytes = new(key.translate(_OUTER_PAD) + new(key.translate(_INNER_PAD) + data).digest()).digest()
        return mac

    def hmac_twice(self, key: bytes, first: bytes, second: bytes) -> tuple[bytes, bytes]:
        """Two MACs under one key, for the price of one and a half."""
        new = self.new
        if len(key) > self.block_size:
            key = new(key).digest()
        key = key.ljust(self.block_size, b"\0")
        inner, outer = key.translate(_INNER_PAD), key.translate(_OUTER_PAD)
        return new(outer + new(inner + first).digest()).digest(), new(outer + new(inner + second).digest()).digest()

    def hkdf_pair(self, chaining_key: bytes, input_key: bytes) -> tuple[bytes, bytes]:
        """Noise §4.3 with two outputs: RFC 5869 extract and expand with an empty info."""
        new = self.new
        temp_key = self.hmac(chaining_key, input_key).ljust(self.block_size, b"\0")
        inner, outer = temp_key.translate(_INNER_PAD), temp_key.translate(_OUTER_PAD)
        first: bytes = new(outer + new(inner + b"\1").digest()).digest()
        second: bytes = new(outer + new(inner + first + b"\2").digest()).digest()
        return first, second

    def hkdf_triple(self, chaining_key: bytes, input_key: bytes) -> tuple[bytes, bytes, bytes]:
        """Noise §4.3 with three outputs."""
        size = self.digest_size
        output = self.hkdf_expand(self.hmac(chaining_key, input_key), b"", 3 * size)
        return output[:size], output[size : 2 * size], output[2 * size :]

    def hkdf_extract(self, salt: bytes, input_key: bytes) -> bytes:
        """RFC 5869 §2.2. An empty salt and one of zeros pad to the same HMAC key, as the RFC wants."""
        return self.hmac(salt, input_key)

    def hkdf_expand(self, pseudorandom_key: bytes, info: bytes, size: int) -> bytes:
        """RFC 5869 §2.3."""
        if not 0 <= size <= 255 * self.digest_size:
            raise LocalError(f"HKDF-{self.name} yields at most {255 * self.digest_size} bytes, not {size}")
        if size <= self.digest_size:
            return self.hmac(pseudorandom_key, info + b"\1")[:size]
        block, output = b"", b""
        for counter in range(1, -(-size // self.digest_size) + 1):
            block = self.hmac(pseudorandom_key, block + info + bytes([counter]))
            output += block
        return output[:size]


SHA256 = Hash("SHA256", 32, 64, hashlib.sha256)
SHA384 = Hash("SHA384", 48, 128, hashlib.sha384)
SHA512 = Hash("SHA512", 64, 128, hashlib.sha512)
BLAKE2S = Hash("BLAKE2s", 32, 64, hashlib.blake2s)
BLAKE2B = Hash("BLAKE2b", 64, 128, hashlib.blake2b)


# -- AEAD -------------------------------------------------------------------------------------------


class AeadContext(Protocol):
    """A key made ready. ``decrypt`` raises ``InvalidTag``: call ``open_sealed`` instead, which types it."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def chacha20_poly1305(key: bytes) -> AeadContext:
    """RFC 8439; a context costs as much as a short message, so what seals often should keep it."""
    _require_size("ChaCha20-Poly1305 key", key, 32)
    return ChaCha20Poly1305(key)


def aes_gcm(key: bytes) -> AeadContext:
    """AES-128-GCM or AES-256-GCM, by the length of the key."""
    if len(key) not in (16, 32):
        raise LocalError(f"AES-GCM key of {len(key)} bytes, not 16 or 32")
    return AESGCM(key)


def open_sealed(context: AeadContext, nonce: bytes, associated_data: bytes, ciphertext: bytes) -> bytes:
    """Raises:
    CryptoError: ``decrypt_failed``; also for a nonce of another length, and for less than a tag.
    """
    try:
        return context.decrypt(nonce, ciphertext, associated_data)
    except (InvalidTag, ValueError):
        raise CryptoError("decrypt_failed", f"{len(ciphertext)} bytes do not authenticate") from None


def xchacha20_poly1305_seal(key: bytes, nonce: bytes, associated_data: bytes, plaintext: bytes) -> bytes:
    """draft-irtf-cfrg-xchacha: a nonce of 24 bytes may be drawn at random as often as anybody likes."""
    _require_size("XChaCha20-Poly1305 key", key, XCHACHA_KEY_SIZE)
    _require_size("XChaCha20-Poly1305 nonce", nonce, XCHACHA_NONCE_SIZE)
    sealed: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated_data, nonce, key)
    return sealed


def xchacha20_poly1305_open(key: bytes, nonce: bytes, associated_data: bytes, ciphertext: bytes) -> bytes:
    """Raises:
    CryptoError: ``decrypt_failed``; also for a nonce of another length, and for less than a tag.
    """
    _require_size("XChaCha20-Poly1305 key", key, XCHACHA_KEY_SIZE)
    if len(nonce) == XCHACHA_NONCE_SIZE and len(ciphertext) >= AEAD_TAG_SIZE:
        try:
            opened: bytes = crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated_data, nonce, key)
        except _SodiumError:
            pass
        else:
            return opened
    raise CryptoError("decrypt_failed", f"{len(ciphertext)} bytes do not authenticate")


def _require_size(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise LocalError(f"{what} of {len(value)} bytes, not {size}")
