"""Key encapsulation: a fresh secret, and a message from which only the holder of a key learns it.

RFC 9180 §4 builds it on Diffie-Hellman. The ephemeral key comes from ``entropy`` by way of ``derive_key_pair``,
as in the RFC's test vectors: the same entropy makes the same encapsulation, and a run can be repeated.

The two hybrids join ML-KEM-768 with X25519 so that breaking one is not enough. OpenSSL's ML-KEM draws its
own randomness and cannot be told what to draw, so they are not ``deterministic``: a caller in virtual time
refuses them by that. They are one construction, X-Wing, and differ in how a key pair is derived:

- ``XWING``: draft-connolly-cfrg-xwing-kem-10, SHAKE-256 of the input. What ts-mls and OpenMLS 0.9 do.
- ``MLKEM768_X25519``: draft-ietf-hpke-pq-05 §4, which took over X-Wing with its number but labels the input.

In MLS every member derives the key pairs of the ratchet tree for itself, so the two do not understand each
other, though each opens what the other sealed.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from protocols.crypto import (
    SHA256,
    SHA384,
    SHA512,
    X448_KEY_SIZE,
    X25519_KEY_SIZE,
    CryptoError,
    Hash,
    x448,
    x448_public,
    x25519,
    x25519_public,
)
from protocols.errors import LocalError
from protocols.mls.curves import P256, P384, P521, Curve

Entropy = Callable[[int], bytes]
"""So many fresh, secret, uniform bytes; the caller's, as nothing here draws its own."""

VERSION: Final = b"HPKE-v1"


def drawn(entropy: Entropy, size: int) -> bytes:
    """Some entropy, if it is all there: with less, a key would be anybody's guess.

    Raises:
        LocalError: the source ran dry.
    """
    data = entropy(size)
    if len(data) != size:
        raise LocalError(f"{len(data)} bytes of entropy, not {size}")
    return data


def labeled_ikm(suite_id: bytes, label: bytes) -> bytes:
    """What stands before the input of LabeledExtract (RFC 9180 §4)."""
    return VERSION + suite_id + label


def labeled_info(suite_id: bytes, label: bytes, size: int) -> bytes:
    """What stands before the info of LabeledExpand (RFC 9180 §4)."""
    return size.to_bytes(2, "big") + VERSION + suite_id + label


class Kem(ABC):
    """One KEM with its sizes: Nsk, Npk, Nenc and Nsecret of RFC 9180. Keys are bytes as it serialises them.

    A bad key or encapsulation of a peer's raises ``CryptoError``.
    """

    deterministic = True
    """Whether equal entropy makes equal encapsulations."""

    def __init__(
        self, number: int, name: str, private_size: int, public_size: int, kem_output_size: int, secret_size: int
    ) -> None:
        self.id: Final = number
        self.name: Final = name
        self.private_size: Final = private_size
        self.public_size: Final = public_size
        self.kem_output_size: Final = kem_output_size
        self.secret_size: Final = secret_size

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @abstractmethod
    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Private and public key from input that has a private key's worth of entropy (RFC 9180 §7.1.3)."""

    @abstractmethod
    def public(self, private: bytes) -> bytes: ...

    @abstractmethod
    def check_public(self, public: bytes) -> None:
        """Refuse a key to which nothing can be encapsulated (RFC 9180 §7.1.4)."""

    @abstractmethod
    def encap(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """A shared secret, and the encapsulation that carries it to the holder of ``public``."""

    @abstractmethod
    def decap(self, kem_output: bytes, private: bytes, public: bytes) -> bytes:
        """The shared secret; ``public`` is the private key's own."""

    def draw_ikm(self, entropy: Entropy) -> bytes:
        return drawn(entropy, self.private_size)


# -- Diffie-Hellman (RFC 9180 §4.1) -------------------------------------------------------------------------


class DhKem(Kem):
    """DHKEM over one group; the subclasses say which."""

    def __init__(self, number: int, name: str, private_size: int, public_size: int, digest: Hash) -> None:
        super().__init__(number, name, private_size, public_size, public_size, digest.digest_size)
        suite_id = b"KEM" + number.to_bytes(2, "big")
        self._hash: Final = digest
        self._key_pair_ikm: Final = labeled_ikm(suite_id, b"dkp_prk")
        self._shared_ikm: Final = labeled_ikm(suite_id, b"eae_prk")
        self._shared_info: Final = labeled_info(suite_id, b"shared_secret", self.secret_size)
        self._suite_id: Final = suite_id

    @abstractmethod
    def exchange(self, private: bytes, public: bytes, their_public: bytes) -> bytes:
        """DH; ``public`` is the private key's own."""

    @abstractmethod
    def _private_from(self, prk: bytes) -> bytes:
        """A private key from a pseudorandom one."""

    def exchange_once(self, private: bytes, their_public: bytes) -> tuple[bytes, bytes]:
        """The private key's public key, and DH with it, of a key that is used for nothing else."""
        public = self.public(private)
        return public, self.exchange(private, public, their_public)

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        private = self._derived_private(ikm)
        return private, self.public(private)

    def encap(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        kem_output, dh = self.exchange_once(self._derived_private(self.draw_ikm(entropy)), public)
        return self._extract_and_expand(dh, kem_output + public), kem_output

    def decap(self, kem_output: bytes, private: bytes, public: bytes) -> bytes:
        return self._extract_and_expand(self.exchange(private, public, kem_output), kem_output + public)

    def _derived_private(self, ikm: bytes) -> bytes:
        return self._private_from(self._hash.hmac(b"", self._key_pair_ikm + ikm))

    def _extract_and_expand(self, dh: bytes, kem_context: bytes) -> bytes:
        prk = self._hash.hmac(b"", self._shared_ikm + dh)
        # Nsecret is the hash's own size, so the expansion has one block.
        return self._hash.hmac(prk, self._shared_info + kem_context + b"\1")


class MontgomeryKem(DhKem):
    """X25519 or X448, where every string of the right length works as a key."""

    def __init__(
        self,
        number: int,
        name: str,
        size: int,
        digest: Hash,
        public: Callable[[bytes], bytes],
        exchange: Callable[[bytes, bytes], bytes],
        prime: int,
        small_order: tuple[int, ...],
    ) -> None:
        super().__init__(number, name, size, size, digest)
        self._public: Final = public
        self._exchange: Final = exchange
        self._private_info: Final = labeled_info(self._suite_id, b"sk", size) + b"\1"
        self._prime: Final = prime
        self._small_order: Final = small_order

    def public(self, private: bytes) -> bytes:
        return self._public(private)

    def exchange(self, private: bytes, public: bytes, their_public: bytes) -> bytes:
        return self._exchange(private, their_public)

    def check_public(self, public: bytes) -> None:
        """Beside the length: the one encoding of a coordinate, and no point of small order.

        RFC 7748 §5 has the top bit of X25519 ignored and coordinates reduced. As keys of a group that would give
        one key several names, and "no two nodes have one key" compares names. Nobody computes such a key. A member
        with a point of small order would have every commit of the others fail.
        """
        if len(public) != self.public_size:
            raise CryptoError("bad_key_length", f"{self.name} public key of {len(public)} bytes")
        coordinate = int.from_bytes(public, "little")
        if coordinate >= self._prime:
            raise CryptoError("bad_key", f"{self.name} public key is not reduced")
        if coordinate in self._small_order:
            raise CryptoError("low_order_point", f"{self.name} public key has small order")

    def _private_from(self, prk: bytes) -> bytes:
        return self._hash.hmac(prk, self._private_info)[: self.private_size]


class WeierstrassKem(DhKem):
    """P-256, P-384 or P-521."""

    def __init__(self, number: int, name: str, curve: Curve, digest: Hash) -> None:
        super().__init__(number, name, curve.private_size, curve.public_size, digest)
        self._curve: Final = curve
        self._candidate_info: Final = labeled_info(self._suite_id, b"candidate", curve.private_size)

    def public(self, private: bytes) -> bytes:
        return self._curve.public(private)

    def exchange(self, private: bytes, public: bytes, their_public: bytes) -> bytes:
        return self._curve.exchange(private, public, their_public)

    def exchange_once(self, private: bytes, their_public: bytes) -> tuple[bytes, bytes]:
        return self._curve.exchange_once(private, their_public)

    def check_public(self, public: bytes) -> None:
        self._curve.check_public(public)

    def _private_from(self, prk: bytes) -> bytes:
        return self._curve.sample_private(
            lambda number: self._hash.hkdf_expand(prk, self._candidate_info + bytes((number,)), self.private_size)
        )


_P25519: Final = 2**255 - 19
_P448: Final = 2**448 - 2**224 - 1

# RFC 7748 §7 and the points of small order on both curves and their twists: order 1, 2 and 4 have
# u = 0, 1 and -1; Curve25519 has two of order 8.
_SMALL_ORDER_25519: Final = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    _P25519 - 1,
)
_SMALL_ORDER_448: Final = (0, 1, _P448 - 1)

DHKEM_P256: Final = WeierstrassKem(0x0010, "DHKEM(P-256, HKDF-SHA256)", P256, SHA256)
DHKEM_P384: Final = WeierstrassKem(0x0011, "DHKEM(P-384, HKDF-SHA384)", P384, SHA384)
DHKEM_P521: Final = WeierstrassKem(0x0012, "DHKEM(P-521, HKDF-SHA512)", P521, SHA512)
DHKEM_X25519: Final = MontgomeryKem(
    0x0020, "DHKEM(X25519, HKDF-SHA256)", X25519_KEY_SIZE, SHA256, x25519_public, x25519, _P25519, _SMALL_ORDER_25519
)
DHKEM_X448: Final = MontgomeryKem(
    0x0021, "DHKEM(X448, HKDF-SHA512)", X448_KEY_SIZE, SHA512, x448_public, x448, _P448, _SMALL_ORDER_448
)


# -- ML-KEM-768 with X25519 ---------------------------------------------------------------------------------

_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_CIPHERTEXT_SIZE: Final = 1088
_MLKEM_SEED_SIZE: Final = 64
_XWING_LABEL: Final = b"\\.//^\\"


class XWing(Kem):
    """ML-KEM-768 and X25519 in one (draft-connolly-cfrg-xwing-kem-10 §5). The private key is its 32-byte seed.

    Stricter than the draft in one thing: an X25519 part of small order is refused, as everywhere here.
    """

    deterministic = False

    def __init__(self, name: str, seed_from: Callable[[bytes], bytes]) -> None:
        super().__init__(
            0x647A,
            name,
            private_size=32,
            public_size=_MLKEM_PUBLIC_SIZE + X25519_KEY_SIZE,
            kem_output_size=_MLKEM_CIPHERTEXT_SIZE + X25519_KEY_SIZE,
            secret_size=32,
        )
        self._seed_from: Final = seed_from

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        private = self._seed_from(ikm)
        return private, self.public(private)

    def public(self, private: bytes) -> bytes:
        mlkem, x = self._expanded(private)
        return mlkem.public_key().public_bytes_raw() + x25519_public(x)

    def check_public(self, public: bytes) -> None:
        self._mlkem_public(public)
        DHKEM_X25519.check_public(public[_MLKEM_PUBLIC_SIZE:])

    def encap(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """Only the X25519 half comes from ``entropy``; the other is OpenSSL's own."""
        mlkem, their_x = self._mlkem_public(public), public[_MLKEM_PUBLIC_SIZE:]
        ephemeral = self.draw_ikm(entropy)
        ephemeral_public = x25519_public(ephemeral)
        x_secret = x25519(ephemeral, their_x)
        mlkem_secret, mlkem_ciphertext = mlkem.encapsulate()
        return _combine(mlkem_secret, x_secret, ephemeral_public, their_x), mlkem_ciphertext + ephemeral_public

    def decap(self, kem_output: bytes, private: bytes, public: bytes) -> bytes:
        """An ML-KEM ciphertext made for another key yields a secret that nobody has (FIPS 203 §6.3)."""
        if len(kem_output) != self.kem_output_size:
            raise CryptoError("bad_encapsulation_length", f"{self.name} encapsulation of {len(kem_output)} bytes")
        mlkem, x = self._expanded(private)
        their_x = kem_output[_MLKEM_CIPHERTEXT_SIZE:]
        mlkem_secret = mlkem.decapsulate(kem_output[:_MLKEM_CIPHERTEXT_SIZE])
        return _combine(mlkem_secret, x25519(x, their_x), their_x, public[_MLKEM_PUBLIC_SIZE:])

    def _expanded(self, private: bytes) -> tuple[MLKEM768PrivateKey, bytes]:
        if len(private) != self.private_size:
            raise LocalError(f"{self.name} private key of {len(private)} bytes, not {self.private_size}")
        expanded = hashlib.shake_256(private).digest(_MLKEM_SEED_SIZE + X25519_KEY_SIZE)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_SIZE]), expanded[_MLKEM_SEED_SIZE:]

    def _mlkem_public(self, public: bytes) -> MLKEM768PublicKey:
        if len(public) != self.public_size:
            raise CryptoError("bad_key_length", f"{self.name} public key of {len(public)} bytes")
        try:
            return MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_SIZE])
        except ValueError:
            raise CryptoError("bad_key", f"{self.name} public key has a coefficient out of range") from None


def _combine(mlkem_secret: bytes, x_secret: bytes, x_ephemeral: bytes, x_public: bytes) -> bytes:
    return hashlib.sha3_256(mlkem_secret + x_secret + x_ephemeral + x_public + _XWING_LABEL).digest()


def _unlabeled_seed(ikm: bytes) -> bytes:
    return hashlib.shake_256(ikm).digest(32)


def _labeled_seed(ikm: bytes) -> bytes:
    """LabeledDerive of draft-ietf-hpke-hpke with SHAKE-256, as "KEM" 0x647A, with an empty context."""
    label = b"DeriveKeyPair"
    labeled = ikm + VERSION + b"KEM\x64\x7a" + len(label).to_bytes(2, "big") + label + (32).to_bytes(2, "big")
    return hashlib.shake_256(labeled).digest(32)


XWING: Final = XWing("X-Wing", _unlabeled_seed)
MLKEM768_X25519: Final = XWing("MLKEM768-X25519", _labeled_seed)
