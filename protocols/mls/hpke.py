"""Hybrid public key encryption (RFC 9180): sealed to a public key, by anybody, for its holder alone.

Base and PSK mode, in one message or as a context with sequence numbers and exports. The authenticated modes
are left out: MLS signs instead, and no post-quantum KEM has them.

A commit seals hundreds of path secrets to as many keys under one info, so that is the unit here: a
``KeySchedule`` has hashed the info and built every label, and what is left for each key is the KEM, three
HMACs and the AEAD.

cryptography has an HPKE too. It draws its own entropy, which a repeatable run cannot have, and over X25519 it
is no faster: 77 us to seal where this takes 60, as it hashes the info for every key and wants objects for
keys that are bytes. On P-384 and P-521 it is, by a quarter: OpenSSL proves every private key that it is
given, but not one that it drew. Two ways to one message are not worth that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocols.crypto import (
    SHA256,
    SHA384,
    SHA512,
    AeadContext,
    Hash,
    aes_gcm,
    chacha20_poly1305,
    open_sealed,
)
from protocols.errors import LocalError
from protocols.mls.kem import Entropy, Kem, labeled_ikm, labeled_info

PSK_SIZE_MIN: Final = 32
"""RFC 9180 §9.5: a PSK has at least 32 bytes of entropy."""

_MODE_BASE: Final = b"\0"
_MODE_PSK: Final = b"\1"


@dataclass(frozen=True, slots=True)
class Kdf:
    """HKDF with its number in RFC 9180 §7.2."""

    id: int
    hash: Hash


@dataclass(frozen=True, slots=True)
class Aead:
    """An AEAD with its number in RFC 9180 §7.3."""

    id: int
    name: str
    key_size: int
    nonce_size: int
    new: Callable[[bytes], AeadContext]


def _no_aead(key: bytes) -> AeadContext:
    raise LocalError("an export-only HPKE neither seals nor opens")


HKDF_SHA256: Final = Kdf(0x0001, SHA256)
HKDF_SHA384: Final = Kdf(0x0002, SHA384)
HKDF_SHA512: Final = Kdf(0x0003, SHA512)

AES_128_GCM: Final = Aead(0x0001, "AES-128-GCM", 16, 12, aes_gcm)
AES_256_GCM: Final = Aead(0x0002, "AES-256-GCM", 32, 12, aes_gcm)
CHACHA20_POLY1305: Final = Aead(0x0003, "ChaCha20-Poly1305", 32, 12, chacha20_poly1305)
EXPORT_ONLY: Final = Aead(0xFFFF, "export-only", 0, 0, _no_aead)


class Hpke:
    """A KEM, a KDF and an AEAD."""

    def __init__(self, kem: Kem, kdf: Kdf, aead: Aead) -> None:
        self.kem: Final = kem
        self.kdf: Final = kdf
        self.aead: Final = aead
        self.suite_id: Final = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (kem.id, kdf.id, aead.id))
        self._info_ikm: Final = labeled_ikm(self.suite_id, b"info_hash")
        self._psk_id_ikm: Final = labeled_ikm(self.suite_id, b"psk_id_hash")
        self._no_psk_id_hash: Final = kdf.hash.hmac(b"", self._psk_id_ikm)

    def __repr__(self) -> str:
        return f"<HPKE {self.kem.name}, HKDF-{self.kdf.hash.name}, {self.aead.name}>"

    def key_schedule(self, info: bytes, psk: bytes = b"", psk_id: bytes = b"") -> "KeySchedule":
        """All that depends on ``info`` and not on the key: base mode, or PSK mode if there is a PSK.

        Raises:
            LocalError: only one of PSK and its id is given, or the PSK is too short.
        """
        if bool(psk) != bool(psk_id):
            raise LocalError("a PSK and its id come together (RFC 9180 §5.1)")
        if psk and len(psk) < PSK_SIZE_MIN:
            raise LocalError(f"a PSK of {len(psk)} bytes, less than {PSK_SIZE_MIN}")
        hmac = self.kdf.hash.hmac
        info_hash = hmac(b"", self._info_ikm + info)
        if not psk:
            return KeySchedule(self, _MODE_BASE + self._no_psk_id_hash + info_hash, psk)
        return KeySchedule(self, _MODE_PSK + hmac(b"", self._psk_id_ikm + psk_id) + info_hash, psk)

    def export(self, exporter_secret: bytes, exporter_context: bytes, size: int) -> bytes:
        """Context.Export (RFC 9180 §5.3)."""
        info = labeled_info(self.suite_id, b"sec", size) + exporter_context
        return self.kdf.hash.hkdf_expand(exporter_secret, info, size)


class KeySchedule:
    """One info and any number of keys, on the sender's side or the recipient's. Made by ``Hpke.key_schedule``."""

    __slots__ = (
        "_aead",
        "_exporter_info",
        "_hash",
        "_hpke",
        "_kem",
        "_key_info",
        "_key_size",
        "_nonce_info",
        "_nonce_size",
        "_secret_ikm",
    )

    def __init__(self, hpke: Hpke, context: bytes, psk: bytes) -> None:
        suite_id = hpke.suite_id
        self._hpke: Final = hpke
        self._kem: Final = hpke.kem
        self._hash: Final = hpke.kdf.hash
        self._aead: Final = hpke.aead.new
        self._key_size: Final = hpke.aead.key_size
        self._nonce_size: Final = hpke.aead.nonce_size
        # Keys, nonces and the exporter secret are no longer than the hash: one block each, of number 1.
        self._secret_ikm: Final = labeled_ikm(suite_id, b"secret") + psk
        self._key_info: Final = labeled_info(suite_id, b"key", self._key_size) + context + b"\1"
        self._nonce_info: Final = labeled_info(suite_id, b"base_nonce", self._nonce_size) + context + b"\1"
        self._exporter_info: Final = labeled_info(suite_id, b"exp", self._hash.digest_size) + context + b"\1"

    # -- in one message (RFC 9180 §6) -----------------------------------------------------------------------

    def seal(self, public: bytes, aad: bytes, plaintext: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """The encapsulation and the ciphertext.

        Raises:
            CryptoError: ``public`` is no key to which this KEM can encapsulate.
        """
        shared_secret, kem_output = self._kem.encap(public, entropy)
        key, nonce = self._key_and_nonce(shared_secret)
        return kem_output, self._aead(key).encrypt(nonce, plaintext, aad)

    def open(self, kem_output: bytes, private: bytes, public: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; ``public`` is the private key's own.

        Raises:
            CryptoError: the encapsulation is malformed, or this is not what was sealed to this key.
        """
        key, nonce = self._key_and_nonce(self._kem.decap(kem_output, private, public))
        return open_sealed(self._aead(key), nonce, aad, ciphertext)

    def send_export(self, public: bytes, exporter_context: bytes, size: int, entropy: Entropy) -> tuple[bytes, bytes]:
        """The encapsulation, and a secret that its recipient can export too."""
        shared_secret, kem_output = self._kem.encap(public, entropy)
        return kem_output, self._hpke.export(self._exporter_secret(shared_secret), exporter_context, size)

    def receive_export(
        self, kem_output: bytes, private: bytes, public: bytes, exporter_context: bytes, size: int
    ) -> bytes:
        shared_secret = self._kem.decap(kem_output, private, public)
        return self._hpke.export(self._exporter_secret(shared_secret), exporter_context, size)

    # -- as a context (RFC 9180 §5.1) -----------------------------------------------------------------------

    def setup_sender(self, public: bytes, entropy: Entropy) -> tuple[bytes, "SenderContext"]:
        shared_secret, kem_output = self._kem.encap(public, entropy)
        return kem_output, SenderContext(
            self._hpke, *self._key_and_nonce(shared_secret), self._exporter_secret(shared_secret)
        )

    def setup_recipient(self, kem_output: bytes, private: bytes, public: bytes) -> "RecipientContext":
        shared_secret = self._kem.decap(kem_output, private, public)
        return RecipientContext(self._hpke, *self._key_and_nonce(shared_secret), self._exporter_secret(shared_secret))

    def _key_and_nonce(self, shared_secret: bytes) -> tuple[bytes, bytes]:
        secret = self._hash.hmac(shared_secret, self._secret_ikm)
        key, nonce = self._hash.hmac_twice(secret, self._key_info, self._nonce_info)
        return key[: self._key_size], nonce[: self._nonce_size]

    def _exporter_secret(self, shared_secret: bytes) -> bytes:
        return self._hash.hmac(self._hash.hmac(shared_secret, self._secret_ikm), self._exporter_info)


class Context:
    """What both sides have after the setup: the exporter (RFC 9180 §5.3)."""

    def __init__(self, hpke: Hpke, key: bytes, base_nonce: bytes, exporter_secret: bytes) -> None:
        self._hpke: Final = hpke
        self._aead: Final = hpke.aead.new(key) if hpke.aead.key_size else None
        self._nonce_size: Final = hpke.aead.nonce_size
        self._base_nonce: Final = int.from_bytes(base_nonce, "big")
        self._exporter_secret: Final = exporter_secret
        self._sequence = 0

    def export(self, exporter_context: bytes, size: int) -> bytes:
        return self._hpke.export(self._exporter_secret, exporter_context, size)

    def _ready(self) -> tuple[AeadContext, bytes]:
        """The AEAD and the nonce of the next message (RFC 9180 §5.2)."""
        if self._aead is None:
            raise LocalError("an export-only HPKE neither seals nor opens")
        if self._sequence + 1 >= 1 << 8 * self._nonce_size:
            raise LocalError("every nonce of this HPKE context is used up")
        return self._aead, (self._base_nonce ^ self._sequence).to_bytes(self._nonce_size, "big")


class SenderContext(Context):
    """Seals one message after the other, each under a nonce of its own."""

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        aead, nonce = self._ready()
        ciphertext = aead.encrypt(nonce, plaintext, aad)
        self._sequence += 1
        return ciphertext


class RecipientContext(Context):
    """Opens the messages in the order in which they were sealed."""

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Raises:
        CryptoError: this is not the next message; the context still waits for it.
        """
        aead, nonce = self._ready()
        plaintext = open_sealed(aead, nonce, aad, ciphertext)
        self._sequence += 1
        return plaintext
