"""There is one way to sign, and nothing signed so is taken for anything else.

The edge cases of Ed25519 itself are in ``test_crypto_ed25519``; here it is pinned that they are refused at this door.
"""

import ast
import pickle
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.identity import Domain, SigningKey, sign, verify
from protocols.transcript import MAGIC, transcript
from tests.architecture import files
from tests.edwards25519 import (
    BASE,
    ORDER,
    PRIME,
    Point,
    add,
    challenge,
    encode,
    encode_scalar,
    multiply,
    torsion,
)
from tests.protocols.identity.people import DEVICE, SECOND, STRANGER, USER

ROOT: Final = Path(__file__).resolve().parents[3]

fields = st.lists(st.binary(max_size=12), max_size=4)


# -- the statement ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(fields, fields, st.sampled_from(Domain), st.sampled_from(Domain))
def test_a_signature_verifies_for_its_statement_and_no_other(
    first: list[bytes], second: list[bytes], domain: Domain, other: Domain
) -> None:
    signature = sign(USER, domain, *first)
    assert verify(USER.public, domain, *first, signature=signature)
    assert verify(USER.public, other, *second, signature=signature) == ((domain, first) == (other, second))
    assert not verify(STRANGER.public, domain, *first, signature=signature)


def test_fields_are_framed() -> None:
    for one, other in combinations([(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"", b"abc"), (b"abc", b"")], 2):
        assert not verify(USER.public, Domain.RECORD, *other, signature=sign(USER, Domain.RECORD, *one))


def test_domains_are_different_statements_and_versioned() -> None:
    assert len({str(each) for each in Domain}) == len(Domain)
    for domain in Domain:
        assert domain.startswith("spacepanda/")
        assert domain.rpartition("/")[2].isdecimal()


def test_no_statement_begins_as_one_of_mls_does() -> None:
    """RFC 9420 §5.1.2: ``SignContent`` begins with the length of its label, and the label with "MLS 1.0 "."""
    statement = transcript(Domain.MLS_LEAF)
    assert statement.startswith(MAGIC)
    assert statement[1:9] != b"MLS 1.0 "
    assert statement[2:10] != b"MLS 1.0 "
    assert statement[4:12] != b"MLS 1.0 "


def test_wrong_lengths_are_false_and_no_exception() -> None:
    signature = sign(USER, Domain.RECORD)
    for public, sized in ((USER.public[1:], signature), (USER.public, signature[1:]), (b"", b""), (USER.public, b"")):
        assert not verify(public, Domain.RECORD, signature=sized)


# -- the edge cases, at this door -----------------------------------------------------------------------

SMALL = torsion(8)
PRIVATE, NONCE = 0x5EED, 0x0DD5


def made(public: bytes, r: bytes, private: int, nonce: int, field: bytes) -> bytes:
    """The signature that satisfies the equation without cofactor, up to points of small order."""
    h = challenge(r, public, transcript(Domain.RECORD, field))
    return r + encode_scalar((nonce + h * private) % ORDER)


def verdicts(public: Point | bytes, r: Point | bytes, private: int, nonce: int) -> list[bool]:
    """Of 64 fields: one in eight satisfies the equation whatever small-order parts A and R have, if any does."""
    key = public if isinstance(public, bytes) else encode(public)
    first = r if isinstance(r, bytes) else encode(r)
    numbered = [n.to_bytes(1) for n in range(64)]
    return [verify(key, Domain.RECORD, each, signature=made(key, first, private, nonce, each)) for each in numbered]


def test_a_signature_made_by_hand_verifies() -> None:
    assert all(verdicts(multiply(PRIVATE, BASE), multiply(NONCE, BASE), PRIVATE, NONCE))


def test_a_key_of_small_order_signs_nothing() -> None:
    for multiple in range(8):
        assert not any(verdicts(multiply(multiple, SMALL), multiply(NONCE, BASE), 0, NONCE))


def test_a_key_that_is_not_canonical_signs_nothing() -> None:
    for y in range(19):
        assert not any(verdicts(encode_scalar(y + PRIME), multiply(NONCE, BASE), 0, NONCE))


def test_an_r_of_small_order_or_not_canonical_is_refused() -> None:
    key = multiply(PRIVATE, BASE)
    assert not any(verdicts(key, multiply(0, SMALL), PRIVATE, 0))
    assert not any(verdicts(key, encode_scalar(1 + PRIME), PRIVATE, 0))


def test_an_s_that_is_not_reduced_is_refused() -> None:
    signature = sign(USER, Domain.RECORD, b"field")
    s = int.from_bytes(signature[32:], "little")
    for multiple in range(1, 8):
        second = signature[:32] + encode_scalar(s + multiple * ORDER)
        assert not verify(USER.public, Domain.RECORD, b"field", signature=second)


def test_points_of_mixed_order_are_held_to_the_equation_without_cofactor() -> None:
    """With the cofactor all of these would verify. That no two replicas differ is what counts."""
    key, r = multiply(PRIVATE, BASE), multiply(NONCE, BASE)
    assert not any(verdicts(key, add(r, SMALL), PRIVATE, NONCE))
    mixed = verdicts(add(key, SMALL), r, PRIVATE, NONCE)
    h = [challenge(encode(r), encode(add(key, SMALL)), transcript(Domain.RECORD, n.to_bytes(1))) for n in range(64)]
    assert mixed == [each % 8 == 0 for each in h]
    assert any(mixed)


# -- the key --------------------------------------------------------------------------------------------


def test_a_key_shows_nothing_of_its_seed() -> None:
    assert repr(USER) == f"SigningKey({USER.public.hex()[:16]})"
    with pytest.raises(LocalError):
        pickle.dumps(USER)
    with pytest.raises(AttributeError):
        USER.__dict__  # noqa: B018


def test_keys_are_equal_when_their_seeds_are() -> None:
    assert SigningKey(USER.seed) == USER
    assert SigningKey(USER.seed, USER.public) == USER
    assert USER != STRANGER
    assert USER.public != USER
    assert len(dict.fromkeys([USER, SigningKey(USER.seed), DEVICE, SECOND])) == 3


def test_a_seed_of_another_size_is_the_callers_fault() -> None:
    for size in (0, 31, 33, 64):
        with pytest.raises(LocalError):
            SigningKey(bytes(size))


# -- nobody else signs ----------------------------------------------------------------------------------

PRIMITIVES: Final = ("ed25519_sign", "ed25519_verify", "ed448_sign", "ed448_verify")
OF_LIBRARIES: Final = (
    "crypto_sign",
    "crypto_sign_open",
    "crypto_sign_detached",
    "Ed25519PrivateKey",
    "Ed25519PublicKey",
)

SIGNERS: Final = {
    "protocols/identity/signing.py": "the one way",
    "protocols/mls/signatures.py": "RFC 9420 §5.1.2 has a construction of its own",
    "protocols/mls/x509.py": "RFC 5280 chains, which OpenSSL checks",
    "cluster/conformance/wycheproof.py": "runs published vectors, whose messages are nobody's statements",
}


def names_in(module: Path) -> dict[str, int]:
    """Every name that a module imports or uses, and the line."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                found |= {each.name.rpartition(".")[2]: node.lineno for each in names}
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.setdefault(name, node.lineno)
            case _:
                pass
    return found


def test_no_other_module_signs_or_verifies() -> None:
    found = {
        f"{module}:{line} {name}"
        for module in files(ROOT, ("protocols", "actors", "cluster"))
        for name, line in names_in(module).items()
        if name in (*PRIMITIVES, *OF_LIBRARIES) and str(module) not in (*SIGNERS, "protocols/crypto.py")
    }
    assert found == set()


def test_what_is_allowed_to_sign_does() -> None:
    for module in SIGNERS:
        assert any(name in names_in(Path(module)) for name in (*PRIMITIVES, *OF_LIBRARIES)), (
            f"{module} needs no permission any more"
        )


def test_a_domain_is_signed_for_in_one_place() -> None:
    """A second use of one is how a signature comes to mean two things. A liar in ``cluster`` signs what it likes."""
    places: dict[str, list[str]] = {}
    for module in files(ROOT, ("protocols", "actors")):
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id="sign") | ast.Attribute(attr="sign"),
                    args=[_, ast.Attribute(value=ast.Name(id="Domain"), attr=domain), *_],
                ):
                    places.setdefault(domain, []).append(str(module))
                case _:
                    pass
    assert all(len(set(modules)) == 1 for modules in places.values()), places
    assert {"DEVICE", "DEVICE_REQUEST", "REVOCATION", "STATIC", "MLS_LEAF", "PSEUDONYM", "RECORD"} <= set(places)
