"""The NIST curves, with bytes at the door: P-256, P-384 and P-521 for ECDH and for ECDSA.

RFC 9420 serialises their public keys as uncompressed points and their private keys as big-endian scalars
(§5.1.1, §5.1.2). OpenSSL wants key objects and proves on making one that its halves belong together; that
takes as long as the operation itself. Given the public key, it need not be computed too, which on P-384
saves a third of the whole: so what uses a private key asks for both halves, and a pair that does not
belong together is found out.

Not done: keeping the objects. A private scalar would then live in a cache beyond its epoch.
"""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.crypto import CryptoError
from protocols.errors import LocalError

_UNCOMPRESSED: Final = b"\x04"


class Curve:
    """One curve in short Weierstrass form, of prime order: every point but infinity is a good public key."""

    def __init__(self, name: str, curve: ec.EllipticCurve, digest: HashAlgorithm) -> None:
        self.name: Final = name
        self.private_size: Final = (curve.key_size + 7) // 8
        self.public_size: Final = 1 + 2 * self.private_size
        self.shared_size: Final = self.private_size
        self.order: Final = curve.group_order
        self._excess_bits: Final = 8 * self.private_size - curve.key_size
        self._curve: Final = curve
        self._ecdsa: Final = ec.ECDSA(digest, deterministic_signing=True)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def sample_private(self, candidate: Callable[[int], bytes]) -> bytes:
        """The first of the candidates 0, 1, 2, ... that is a scalar, its excess bits cleared (RFC 9180 §7.1.3).

        Raises:
            LocalError: 256 candidates were none; with real entropy that happens once in 2^8000 times.
        """
        for number in range(256):
            drawn = candidate(number)
            if len(drawn) != self.private_size:
                raise LocalError(f"{len(drawn)} bytes for a private key of {self.name}, not {self.private_size}")
            scalar = int.from_bytes(drawn, "big") & ((1 << self._curve.key_size) - 1)
            if 0 < scalar < self.order:
                return scalar.to_bytes(self.private_size, "big")
        raise LocalError(f"no private key of {self.name} in 256 draws: this is no entropy")

    def public(self, private: bytes) -> bytes:
        return self._encoded(self._derived(private))

    def check_public(self, public: bytes) -> None:
        """Raises:
        CryptoError: no uncompressed point of this curve.
        """
        self._public_key(public)

    def exchange(self, private: bytes, public: bytes, their_public: bytes) -> bytes:
        """The x-coordinate of the shared point (SEC 1 §3.3.1); ``public`` belongs to ``private``."""
        return self._private_key(private, public).exchange(ec.ECDH(), self._public_key(their_public))

    def exchange_once(self, private: bytes, their_public: bytes) -> tuple[bytes, bytes]:
        """The public key of an ephemeral private one, and the exchange, with one key object for both."""
        theirs, ours = self._public_key(their_public), self._derived(private)
        return self._encoded(ours), ours.exchange(ec.ECDH(), theirs)

    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes:
        """ECDSA with the nonce of RFC 6979, in DER; of the two signatures that differ in the sign of s, the one with
        the smaller s.
        """
        signature = self._private_key(private, public).sign(message, self._ecdsa)
        r, s = decode_dss_signature(signature)
        return signature if 2 * s < self.order else encode_dss_signature(r, self.order - s)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """False for anything but a signature by this key, whatever the bytes are."""
        try:
            self._public_key(public).verify(signature, message, self._ecdsa)
        except (CryptoError, InvalidSignature, ValueError):
            return False
        return True

    def signature_r(self, signature: bytes) -> bytes:
        """Raises:
        CryptoError: no signature in DER, of any curve.
        """
        try:
            r, _ = decode_dss_signature(signature)
            return r.to_bytes(self.private_size, "big")
        except (ValueError, OverflowError):
            raise CryptoError("bad_signature", f"{len(signature)} bytes are no signature over {self.name}") from None

    def _scalar(self, private: bytes) -> int:
        if len(private) != self.private_size:
            raise LocalError(f"private key of {self.name} of {len(private)} bytes, not {self.private_size}")
        return int.from_bytes(private, "big")

    def _derived(self, private: bytes) -> ec.EllipticCurvePrivateKey:
        try:
            return ec.derive_private_key(self._scalar(private), self._curve)
        except ValueError:
            raise LocalError(f"no private key of {self.name}: the scalar is 0 or not below the order") from None

    def _encoded(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def _private_key(self, private: bytes, public: bytes) -> ec.EllipticCurvePrivateKey:
        if len(public) != self.public_size:
            raise LocalError(f"our public key of {self.name} of {len(public)} bytes, not {self.public_size}")
        middle = 1 + self.private_size
        x, y = int.from_bytes(public[1:middle], "big"), int.from_bytes(public[middle:], "big")
        try:
            point = ec.EllipticCurvePublicNumbers(x, y, self._curve)
            return ec.EllipticCurvePrivateNumbers(self._scalar(private), point).private_key()
        except ValueError:
            raise LocalError(f"private and public key of {self.name} do not belong together") from None

    def _public_key(self, public: bytes) -> ec.EllipticCurvePublicKey:
        if len(public) != self.public_size:
            raise CryptoError("bad_key_length", f"{self.name} public key of {len(public)} bytes")
        if public[:1] != _UNCOMPRESSED:
            raise CryptoError("bad_point", f"{self.name} public key of form {public[0]}, not an uncompressed point")
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(self._curve, public)
        except ValueError:
            raise CryptoError("bad_point", f"{self.name} public key is no point of the curve") from None


P256: Final = Curve("P-256", ec.SECP256R1(), SHA256())
P384: Final = Curve("P-384", ec.SECP384R1(), SHA384())
P521: Final = Curve("P-521", ec.SECP521R1(), SHA512())
