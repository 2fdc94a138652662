"""What RFCs published about the primitives. Wycheproof's files are run by ``cluster.conformance``."""

import pytest

from protocols.crypto import (
    SHA256,
    SHA384,
    SHA512,
    Hash,
    chacha20_poly1305,
    ed448_public,
    ed448_sign,
    ed448_verify,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    open_sealed,
    x448,
    x25519,
    xchacha20_poly1305_open,
    xchacha20_poly1305_seal,
)
from tests.vectors import packaged_blocks, packaged_path

octets = bytes.fromhex


def text_or_octets(value: str) -> bytes:
    """As BoringSSL writes them: text in quotes, or hex."""
    return value.strip('"').encode() if value.startswith('"') else octets(value)


def test_ed25519_signs_and_verifies_as_its_authors_do() -> None:
    """Their 1024 cases, of messages of 0 to 1023 bytes."""
    lines = packaged_path("asymmetric/Ed25519/sign.input").read_text(encoding="ascii").splitlines()
    assert len(lines) == 1024
    for line in lines:
        keys, public, message, signed = (octets(part) for part in line.split(":")[:4])
        seed, signature = keys[:32], signed[:64]
        assert ed25519_public(seed) == public
        assert ed25519_sign(seed, public, message) == signature
        assert ed25519_verify(public, message, signature)
        assert not ed25519_verify(public, message + b"\0", signature)


def test_ed448_agrees_with_rfc_8032() -> None:
    """§7.4, but for the case with a context, which nothing here has."""
    cases = [case for case in packaged_blocks("asymmetric/Ed448/rfc8032.txt") if "CONTEXT" not in case]
    assert len(cases) == 8
    for case in cases:
        seed, public, message, signature = (octets(case[k]) for k in ("SECRET", "PUBLIC", "MESSAGE", "SIGNATURE"))
        assert ed448_public(seed) == public
        assert ed448_sign(seed, message) == signature
        assert ed448_verify(public, message, signature)
        assert not ed448_verify(public, message + b"\0", signature)


def test_x25519_and_x448_agree_with_rfc_7748() -> None:
    for name, function in (("X25519", x25519), ("X448", x448)):
        for case in packaged_blocks(f"asymmetric/{name}/rfc7748.txt"):
            scalar, u, output = (octets(case[key]) for key in ("INPUT_SCALAR", "INPUT_U", "OUTPUT_U"))
            assert function(scalar, u) == output


def test_a_thousand_rounds_of_x25519_end_where_rfc_7748_says() -> None:
    """§5.2, where each round's point is the scalar of the round before."""
    scalar = u = b"\x09".ljust(32, b"\0")
    for _ in range(1000):
        scalar, u = x25519(scalar, u), scalar
    assert scalar == octets("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")


@pytest.mark.parametrize("name", ["KDF/rfc-5869-HKDF-SHA256.txt", "KDF/hkdf-generated.txt"])
def test_hkdf_agrees_with_rfc_5869(name: str) -> None:
    for case in packaged_blocks(name):
        assert case["Hash"] == "SHA-256"
        extracted = SHA256.hkdf_extract(octets(case["salt"]), octets(case["IKM"]))
        assert extracted == octets(case.get("PRK", extracted.hex()))
        assert SHA256.hkdf_expand(extracted, octets(case["info"]), int(case["L"])) == octets(case["OKM"])


@pytest.mark.parametrize("hash", [SHA256, SHA384, SHA512], ids=lambda hash: hash.name)
def test_hmac_agrees_with_rfc_4231(hash: Hash) -> None:
    """Keys of 20 bytes, and one that is longer than a block."""
    cases = list(packaged_blocks(f"HMAC/rfc-4231-{hash.name.lower()}.txt"))
    assert len(cases) == 6
    for case in cases:
        assert hash.hmac(octets(case["Key"]), octets(case["Msg"])) == octets(case["MD"])


def test_chacha20_poly1305_agrees_with_rfc_8439_and_boringssl() -> None:
    for case in packaged_blocks("ciphers/ChaCha20Poly1305/boringssl.txt"):
        key, nonce, text, ad, sealed, tag = (text_or_octets(case[k]) for k in ("KEY", "NONCE", "IN", "AD", "CT", "TAG"))
        context = chacha20_poly1305(key)
        assert context.encrypt(nonce, text, ad) == sealed + tag
        assert open_sealed(context, nonce, ad, sealed + tag) == text


def test_xchacha20_poly1305_agrees_with_its_draft() -> None:
    """draft-irtf-cfrg-xchacha-03 §A.3.1."""
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    ad = octets("50515253c0c1c2c3c4c5c6c7")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = octets(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216"
        "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13"
        "b52ec0875924c1c7987947deafd8780acf49"
    )
    assert xchacha20_poly1305_seal(key, nonce, ad, text) == sealed
    assert xchacha20_poly1305_open(key, nonce, ad, sealed) == text
