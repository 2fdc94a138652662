"""The symmetric half of Noise (§5.1, §5.2): a key with its counter, and the chain that mixes keys.

``Cipher`` is the AEAD in Noise's nonce format, without state, for who keeps keys and counters elsewhere:
a datagram session seals with explicit counters (§11.4) and holds its AEAD contexts in a bounded cache.
``CipherState`` adds the counter of an ordered stream. ``SymmetricState`` chains them through a handshake.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag

from protocols.crypto import AEAD_TAG_SIZE, AeadContext, Hash, aes_gcm, chacha20_poly1305
from protocols.errors import LocalError
from protocols.noise.errors import NoiseError

MESSAGE_SIZE_MAX = 65535  # §3: so that a length fits two bytes
PLAINTEXT_SIZE_MAX = MESSAGE_SIZE_MAX - AEAD_TAG_SIZE
CIPHER_KEY_SIZE = 32
NONCE_RESERVED = 2**64 - 1  # §5.1: never sent; REKEY uses it (§4.2)


@dataclass(frozen=True, slots=True)
class Cipher:
    """§4.2 and §12.3, §12.4: ``pack_nonce`` puts a counter of 64 bits behind 32 zero bits."""

    name: str
    context: Callable[[bytes], AeadContext]
    pack_nonce: Callable[[int], bytes]

    def seal(self, context: AeadContext, nonce: int, ad: bytes, plaintext: bytes) -> bytes:
        if not 0 <= nonce < NONCE_RESERVED:
            raise NoiseError("nonce_exhausted", str(nonce))
        if len(plaintext) > PLAINTEXT_SIZE_MAX:
            raise LocalError(f"{len(plaintext)} bytes do not fit a Noise message: {PLAINTEXT_SIZE_MAX} do")
        return context.encrypt(self.pack_nonce(nonce), plaintext, ad)

    def open(self, context: AeadContext, nonce: int, ad: bytes, ciphertext: bytes) -> bytes:
        if not 0 <= nonce < NONCE_RESERVED:
            raise NoiseError("nonce_exhausted", str(nonce))
        if not AEAD_TAG_SIZE <= len(ciphertext) <= MESSAGE_SIZE_MAX:
            reason = "message_too_short" if len(ciphertext) < AEAD_TAG_SIZE else "message_too_long"
            raise NoiseError(reason, f"{len(ciphertext)} bytes")
        try:
            return context.decrypt(self.pack_nonce(nonce), ciphertext, ad)
        except InvalidTag:
            raise NoiseError("decrypt_failed", f"{len(ciphertext)} bytes do not authenticate") from None

    def rekey(self, key: bytes) -> bytes:
        """REKEY(k), the default of §4.2. The caller erases the old key."""
        sealed = self.context(key).encrypt(self.pack_nonce(NONCE_RESERVED), bytes(CIPHER_KEY_SIZE), b"")
        return sealed[:CIPHER_KEY_SIZE]


CHACHA_POLY = Cipher("ChaChaPoly", chacha20_poly1305, Struct("<4xQ").pack)
AES_GCM = Cipher("AESGCM", aes_gcm, Struct(">4xQ").pack)


class CipherState:
    """A key that has a counter. A message that does not authenticate leaves the counter alone (§5.1)."""

    __slots__ = ("_context", "cipher", "key", "nonce")

    def __init__(self, cipher: Cipher, key: bytes, nonce: int = 0) -> None:
        self.cipher = cipher
        self.key = key
        self.nonce = nonce
        # Made when first needed: most keys of a handshake are replaced unused.
        self._context: AeadContext | None = None

    def copy(self) -> "CipherState":
        twin = CipherState(self.cipher, self.key, self.nonce)
        twin._context = self._context
        return twin

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        context = self._context
        if context is None:
            context = self._context = self.cipher.context(self.key)
        ciphertext = self.cipher.seal(context, self.nonce, ad, plaintext)
        self.nonce += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        context = self._context
        if context is None:
            context = self._context = self.cipher.context(self.key)
        plaintext = self.cipher.open(context, self.nonce, ad, ciphertext)
        self.nonce += 1
        return plaintext

    def rekey(self) -> None:
        """§11.3: both sides do it at the same agreed point; the counter goes on."""
        self.key = self.cipher.rekey(self.key)
        self._context = None


class SymmetricState:
    """§5.2: the chaining key, the transcript hash, and the current cipher once a key has been mixed in."""

    __slots__ = ("chaining_key", "cipher", "cipher_state", "hash", "transcript_hash")

    def __init__(
        self,
        cipher: Cipher,
        hash: Hash,
        chaining_key: bytes,
        transcript_hash: bytes,
        cipher_state: CipherState | None = None,
    ) -> None:
        self.cipher = cipher
        self.hash = hash
        self.chaining_key = chaining_key
        self.transcript_hash = transcript_hash
        self.cipher_state = cipher_state

    def copy(self) -> "SymmetricState":
        cipher_state = self.cipher_state.copy() if self.cipher_state is not None else None
        return SymmetricState(self.cipher, self.hash, self.chaining_key, self.transcript_hash, cipher_state)

    def mix_key(self, input_key: bytes) -> None:
        self.chaining_key, key = self.hash.hkdf_pair(self.chaining_key, input_key)
        self.cipher_state = CipherState(self.cipher, key[:CIPHER_KEY_SIZE])

    def mix_hash(self, data: bytes) -> None:
        self.transcript_hash = self.hash.new(self.transcript_hash + data).digest()

    def mix_key_and_hash(self, input_key: bytes) -> None:
        self.chaining_key, data, key = self.hash.hkdf_triple(self.chaining_key, input_key)
        self.mix_hash(data)
        self.cipher_state = CipherState(self.cipher, key[:CIPHER_KEY_SIZE])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        cipher_state = self.cipher_state
        transcript_hash = self.transcript_hash
        ciphertext = plaintext
        if cipher_state is not None:
            ciphertext = cipher_state.encrypt_with_ad(transcript_hash, plaintext)
        self.transcript_hash = self.hash.new(transcript_hash + ciphertext).digest()
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        cipher_state = self.cipher_state
        transcript_hash = self.transcript_hash
        plaintext = ciphertext
        if cipher_state is not None:
            plaintext = cipher_state.decrypt_with_ad(transcript_hash, ciphertext)
        self.transcript_hash = self.hash.new(transcript_hash + ciphertext).digest()
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Initiator to responder first. The caller erases this object."""
        first, second = self.hash.hkdf_pair(self.chaining_key, b"")
        return (
            CipherState(self.cipher, first[:CIPHER_KEY_SIZE]),
            CipherState(self.cipher, second[:CIPHER_KEY_SIZE]),
        )
