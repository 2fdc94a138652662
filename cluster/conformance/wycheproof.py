"""Wycheproof's attacks on primitives, run against ``protocols.crypto``: EddsaVerify, XdhComp, AeadTest, HkdfTest.

A ``valid`` case has to come out both ways (what is opened, and what we seal or sign ourselves); an ``invalid`` one has
to be refused by an error of ours. Of ``acceptable`` ones Wycheproof says only that implementations differ. To take
either answer would let ours change without anybody noticing, so ``ACCEPTABLE`` says for each flag what it is and
why: a case that comes out otherwise fails, as does one with no flag that is decided.

A file of a curve, hash, key or tag size that ``protocols.crypto`` lacks is unsupported.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, TypeVar

from cluster.conformance.registry import Kind, MismatchError, UnsupportedError, expect_equal, register
from cluster.conformance.shapes import octets
from protocols.crypto import (
    AEAD_TAG_SIZE,
    SHA256,
    SHA384,
    SHA512,
    AeadContext,
    CryptoError,
    aes_gcm,
    chacha20_poly1305,
    ed448_public,
    ed448_sign,
    ed448_verify,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    open_sealed,
    x448,
    x448_public,
    x25519,
    x25519_public,
    xchacha20_poly1305_open,
    xchacha20_poly1305_seal,
)
from protocols.errors import LocalError, SpacePandaError

_T = TypeVar("_T")


class Verdict(Enum):
    """What becomes of an ``acceptable`` case."""

    COMPUTED = "computed as published"
    REFUSED = "refused"


ACCEPTABLE: Final[Mapping[str, tuple[Verdict, str]]] = {
    "ZeroSharedSecret": (Verdict.REFUSED, "RFC 7748 §6: the check for an all-zero secret is optional, and made"),
    "LowOrderPublic": (Verdict.REFUSED, "its secret is the same for every private key, so all zeros: the same check"),
    "SmallPublicKey": (Verdict.REFUSED, "u of 0, 1 or their like, which are of low order"),
    "NonCanonicalPublic": (Verdict.COMPUTED, "RFC 7748 §5: u is accepted modulo p, its highest bit ignored"),
    "Twist": (Verdict.COMPUTED, "RFC 7748 §5: u may be of a point on the twist, which is as strong"),
}
"""The decisions, by flag. One refusal among a case's flags refuses it. Flags that only describe are not here."""


@dataclass(frozen=True, slots=True)
class _Case:
    algorithm: str
    group: dict[str, Any]
    test: dict[str, Any]

    def octets(self, *fields: str) -> list[bytes]:
        return [octets(self.test[field]) for field in fields]

    def refusal(self) -> str | None:
        """Why it must be refused; None if it must pass."""
        flags = self.test["flags"]
        match self.test["result"]:
            case "valid":
                return None
            case "invalid":
                return f"invalid: {', '.join(flags)}"
            case "acceptable":
                decided = [ACCEPTABLE[flag] for flag in flags if flag in ACCEPTABLE]
                if not decided:
                    raise MismatchError(f"acceptable, and nothing is decided about {', '.join(flags) or 'no flag'}")
                return next((why for verdict, why in decided if verdict is Verdict.REFUSED), None)
            case other:
                raise ValueError(f"result {other!r}")


def _expect(
    case: _Case, what: str, compute: Callable[[], bytes], published: bytes, refused: type[SpacePandaError]
) -> None:
    """``compute`` yields what was published, or is refused by an error of that type: whichever has to be."""
    refusal = case.refusal()
    try:
        ours = compute()
    except refused as error:
        if refusal is None:
            raise MismatchError(f"{what}: refused ({error})") from None
        return
    if refusal is not None:
        raise MismatchError(f"{what}: accepted, to be refused ({refusal})")
    expect_equal(what, ours, published)


def _choice(what: str, table: Mapping[str, _T], name: str) -> _T:
    if name not in table:
        raise UnsupportedError(f"{what} {name}")
    return table[name]


# -- signatures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scheme:
    public: Callable[[bytes], bytes]
    sign: Callable[[bytes, bytes, bytes], bytes]
    verify: Callable[[bytes, bytes, bytes], bool]


_SCHEMES: Final = {
    "edwards25519": _Scheme(ed25519_public, ed25519_sign, ed25519_verify),
    "edwards448": _Scheme(ed448_public, lambda seed, _, message: ed448_sign(seed, message), ed448_verify),
}


def _run_eddsa(case: _Case) -> None:
    key = case.group.get("publicKey") or case.group["key"]
    scheme = _choice("curve", _SCHEMES, key["curve"])
    public, (message, signature) = octets(key["pk"]), case.octets("msg", "sig")
    refusal = case.refusal()
    if scheme.verify(public, message, signature) != (refusal is None):
        raise MismatchError("a valid signature does not verify" if refusal is None else f"verifies ({refusal})")
    if "sk" in key:  # which version 0 of the files had
        seed = octets(key["sk"])
        expect_equal("public key", scheme.public(seed), public)
        if refusal is None:
            expect_equal("signature", scheme.sign(seed, public, message), signature)


# -- Diffie-Hellman ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Curve:
    agree: Callable[[bytes, bytes], bytes]
    public: Callable[[bytes], bytes]
    base: bytes


_CURVES: Final = {
    "curve25519": _Curve(x25519, x25519_public, b"\x09".ljust(32, b"\0")),
    "curve448": _Curve(x448, x448_public, b"\x05".ljust(56, b"\0")),
}


def _run_xdh(case: _Case) -> None:
    curve = _choice("curve", _CURVES, case.group["curve"])
    private, public, shared = case.octets("private", "public", "shared")
    _expect(case, "shared secret", partial(curve.agree, private, public), shared, CryptoError)
    expect_equal("public key", curve.public(private), curve.agree(private, curve.base))


# -- AEAD -------------------------------------------------------------------------------------------

_Transform = Callable[[bytes, bytes, bytes, bytes], bytes]
"""Of key, nonce, associated data and text."""


@dataclass(frozen=True, slots=True)
class _Aead:
    key_sizes: tuple[int, ...]
    nonce_size: int
    seal: _Transform
    open: _Transform


def _held(context: Callable[[bytes], AeadContext], *key_sizes: int) -> _Aead:
    """An AEAD whose keys are made ready."""
    return _Aead(
        key_sizes,
        12,
        lambda key, nonce, data, text: context(key).encrypt(nonce, text, data),
        lambda key, nonce, data, sealed: open_sealed(context(key), nonce, data, sealed),
    )


_AEADS: Final = {
    "CHACHA20-POLY1305": _held(chacha20_poly1305, 32),
    "XCHACHA20-POLY1305": _Aead((32,), 24, xchacha20_poly1305_seal, xchacha20_poly1305_open),
    "AES-GCM": _held(aes_gcm, 16, 32),
}


def _run_aead(case: _Case) -> None:
    aead = _choice("AEAD", _AEADS, case.algorithm)
    key, nonce, data, text, ciphertext, tag = case.octets("key", "iv", "aad", "msg", "ct", "tag")
    if len(key) not in aead.key_sizes or case.group["tagSize"] != 8 * AEAD_TAG_SIZE:
        raise UnsupportedError(f"{case.algorithm} with a key of {len(key)} bytes, tags of {case.group['tagSize']} bits")
    wrong_nonce = "InvalidNonceSize" in case.test["flags"]
    if len(nonce) != aead.nonce_size and not wrong_nonce:
        raise UnsupportedError(f"{case.algorithm} with a nonce of {len(nonce)} bytes")
    sealed = (ciphertext + tag).ljust(AEAD_TAG_SIZE, b"\0")  # none is published where no nonce fits
    _expect(case, "opened", partial(aead.open, key, nonce, data, sealed), text, CryptoError)
    if case.refusal() is None:
        expect_equal("sealed", aead.seal(key, nonce, data, text), sealed)
    elif wrong_nonce:
        _expect_unsealed(partial(aead.seal, key, nonce, data, text))


def _expect_unsealed(seal: Callable[[], bytes]) -> None:
    """A nonce of the wrong size is our own bug: the library's error stops the run as well as ours."""
    try:
        seal()
    except (LocalError, ValueError):
        return
    raise MismatchError("sealed under a nonce of the wrong size")


# -- HKDF -------------------------------------------------------------------------------------------

_HASHES: Final = {"HKDF-SHA-256": SHA256, "HKDF-SHA-384": SHA384, "HKDF-SHA-512": SHA512}


def _run_hkdf(case: _Case) -> None:
    hash = _choice("hash", _HASHES, case.algorithm)
    input_key, salt, info, published = case.octets("ikm", "salt", "info", "okm")
    extracted = hash.hkdf_extract(salt, input_key)
    _expect(case, "output", partial(hash.hkdf_expand, extracted, info, case.test["size"]), published, LocalError)


# -- the files --------------------------------------------------------------------------------------


def _is_of(type_name: str) -> Callable[[Any], bool]:
    def matches(document: Any) -> bool:
        match document:
            case {"algorithm": str(), "testGroups": [{"type": found, "tests": [*_]}, *_]}:
                return bool(found == type_name)
        return False

    return matches


def _cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, group in enumerate(document["testGroups"]):
        match group:
            case {"tests": [*tests]}:
                for test in tests:
                    yield _name(test), _Case(document["algorithm"], group, test)
            case _:
                yield f"group {number}", group


def _name(test: Any) -> str:
    return f"{test.get('tcId')}: {test.get('comment')}" if isinstance(test, dict) else "not an object"


for _type, _run in (
    ("EddsaVerify", _run_eddsa),
    ("XdhComp", _run_xdh),
    ("AeadTest", _run_aead),
    ("HkdfTest", _run_hkdf),
):
    register(Kind(f"Wycheproof {_type}", _is_of(_type), _cases, _run))
