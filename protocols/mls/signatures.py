"""Signatures of a cipher suite (RFC 9420 §5.1.2): all deterministic, keys and signatures as bytes.

A private key is a seed (EdDSA) or a big-endian scalar (ECDSA); an ECDSA public key is an uncompressed point
and an ECDSA signature is DER. Signing takes the public key too, as the private one is never without it.
Verifying answers false to anything that is no signature, however malformed.

Anybody can turn an ECDSA signature (r, s) into a second one of the same message, (r, n - s). MLS hashes signatures
into references and transcripts, so that the twin of a message is another message to it: accepted instead of the
first one, if it comes first. Ours have the smaller s; others' are not refused for the larger one, as RFC 9420 asks
for neither. Whoever has to know whether a *signer* said two things compares ``signers_share``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple

from protocols.crypto import (
    ED448_PUBLIC_SIZE,
    ED448_SEED_SIZE,
    ED25519_PUBLIC_SIZE,
    ED25519_SEED_SIZE,
    CryptoError,
    ed448_public,
    ed448_sign,
    ed448_verify,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
)
from protocols.errors import LocalError
from protocols.mls.curves import P256, P384, P521, Curve
from protocols.mls.kem import Entropy, drawn


class SignatureKeyPair(NamedTuple):
    """The halves belong together; the private one is not shown."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"SignatureKeyPair(public={self.public.hex()})"


class SignatureScheme(ABC):
    """One scheme; ``id`` is its number in the TLS SignatureScheme registry."""

    def __init__(self, number: int, name: str, private_size: int, public_size: int) -> None:
        self.id: Final = number
        self.name: Final = name
        self.private_size: Final = private_size
        self.public_size: Final = public_size

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @abstractmethod
    def key_pair(self, entropy: Entropy) -> SignatureKeyPair: ...

    @abstractmethod
    def public(self, private: bytes) -> bytes: ...

    @abstractmethod
    def check_public(self, public: bytes) -> None:
        """Refuse, with ``CryptoError``, what cannot be a public key."""

    @abstractmethod
    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes: ...

    @abstractmethod
    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool: ...

    @abstractmethod
    def signers_share(self, signature: bytes) -> bytes:
        """The part that only the signer could choose, of a signature that verified."""


class EdDsa(SignatureScheme):
    """RFC 8032. Whether a key is a point is left to verifying, which a leaf's key must pass anyway: to decode
    it twice would add a half to the time of a join.
    """

    def __init__(
        self,
        number: int,
        name: str,
        seed_size: int,
        public_size: int,
        public: Callable[[bytes], bytes],
        sign: Callable[[bytes, bytes, bytes], bytes],
        verify: Callable[[bytes, bytes, bytes], bool],
    ) -> None:
        super().__init__(number, name, seed_size, public_size)
        self._public: Final = public
        self._sign: Final = sign
        self._verify: Final = verify

    def key_pair(self, entropy: Entropy) -> SignatureKeyPair:
        seed = drawn(entropy, self.private_size)
        return SignatureKeyPair(seed, self._public(seed))

    def public(self, private: bytes) -> bytes:
        return self._public(private)

    def check_public(self, public: bytes) -> None:
        if len(public) != self.public_size:
            raise CryptoError("bad_key_length", f"{self.name} public key of {len(public)} bytes")

    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes:
        return self._sign(private, public, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return self._verify(public, message, signature)

    def signers_share(self, signature: bytes) -> bytes:
        """All of it: R is hashed into the equation, and S is only taken below the order (RFC 8032 §8.4)."""
        return signature


class EcDsa(SignatureScheme):
    """FIPS 186-5 over a NIST curve, with the hash of its size and the nonces of RFC 6979."""

    def __init__(self, number: int, name: str, curve: Curve) -> None:
        super().__init__(number, name, curve.private_size, curve.public_size)
        self._curve: Final = curve

    def key_pair(self, entropy: Entropy) -> SignatureKeyPair:
        """By testing candidates (FIPS 186-5 §A.2.2); a second one is drawn once in 2^32 times, or never."""
        private = self._curve.sample_private(lambda _: drawn(entropy, self.private_size))
        return SignatureKeyPair(private, self._curve.public(private))

    def public(self, private: bytes) -> bytes:
        return self._curve.public(private)

    def check_public(self, public: bytes) -> None:
        self._curve.check_public(public)

    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes:
        return self._curve.sign(private, public, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return self._curve.verify(public, message, signature)

    def signers_share(self, signature: bytes) -> bytes:
        """r, which the twin has too. The nonce that makes it is derived from the message."""
        return self._curve.signature_r(signature)


def _sign_ed448(seed: bytes, public: bytes, message: bytes) -> bytes:
    if len(public) != ED448_PUBLIC_SIZE:
        raise LocalError(f"Ed448 public key of {len(public)} bytes, not {ED448_PUBLIC_SIZE}")
    return ed448_sign(seed, message)


ED25519: Final = EdDsa(
    0x0807, "Ed25519", ED25519_SEED_SIZE, ED25519_PUBLIC_SIZE, ed25519_public, ed25519_sign, ed25519_verify
)
ED448: Final = EdDsa(0x0808, "Ed448", ED448_SEED_SIZE, ED448_PUBLIC_SIZE, ed448_public, _sign_ed448, ed448_verify)
ECDSA_P256: Final = EcDsa(0x0403, "ECDSA P-256", P256)
ECDSA_P384: Final = EcDsa(0x0503, "ECDSA P-384", P384)
ECDSA_P521: Final = EcDsa(0x0603, "ECDSA P-521", P521)
