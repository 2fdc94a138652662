"""The table of suites, and that every use of a key has an input of its own.

The published ``crypto-basics`` are run by ``tests/cluster/conformance/test_mls_crypto.py``.
"""

import hashlib
import hmac
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import open_sealed
from protocols.errors import LocalError
from protocols.mls.errors import MlsError
from protocols.mls.suite import SUITES, CipherSuite, cipher_suite

SIZES = {  # Nh, Nk, Nn; Npk and Nsk of the KEM; public and private signature key (RFC 9180 §7, RFC 9420 §5.1.2)
    1: (32, 16, 12, 32, 32, 32, 32),
    2: (32, 16, 12, 65, 32, 65, 32),
    3: (32, 32, 12, 32, 32, 32, 32),
    4: (64, 32, 12, 56, 56, 57, 57),
    5: (64, 32, 12, 133, 66, 133, 66),
    6: (64, 32, 12, 56, 56, 57, 57),
    7: (48, 32, 12, 97, 48, 97, 48),
    0x004D: (32, 32, 12, 1216, 32, 32, 32),
    0x0053: (64, 32, 12, 1216, 32, 32, 32),
    0x0054: (64, 32, 12, 1216, 32, 32, 32),
    0xF001: (32, 16, 12, 1216, 32, 32, 32),
    0xF002: (48, 32, 12, 1216, 32, 32, 32),
}

every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=repr)


def entropy(size: int) -> bytes:
    return b"\x17" * size


def hpke_key_pair(suite: CipherSuite) -> tuple[bytes, bytes]:
    return suite.kem.derive_key_pair(b"\x05" * suite.kem.private_size)


def test_every_row_has_the_sizes_of_its_algorithms() -> None:
    assert list(SUITES) == list(SIZES)
    for number, suite in SUITES.items():
        kem, signature = suite.kem, suite.signature
        sizes = (suite.hash_size, suite.key_size, suite.nonce_size, kem.public_size, kem.private_size)
        assert (*sizes, signature.public_size, signature.private_size) == SIZES[number]
        assert cipher_suite(number) is suite
        assert suite.id == number
        assert suite.hpke.kdf.hash is suite.hash_function


@every_suite
def test_name_says_which_algorithms(suite: CipherSuite) -> None:
    _, _, kem, aead, digest, signature = suite.name.split("_")
    assert suite.hash_function.name == digest
    assert suite.hpke.aead.name.replace("-", "").upper().startswith(aead.replace("GCM", ""))
    assert suite.signature.name.replace("-", "").endswith(signature)
    if suite.deterministic:
        assert kem.removeprefix("DHKEM") in suite.kem.name.replace("-", "")


def test_only_the_hybrids_are_not_deterministic() -> None:
    assert [number for number, suite in SUITES.items() if not suite.deterministic] == [
        0x004D,
        0x0053,
        0x0054,
        0xF001,
        0xF002,
    ]


@pytest.mark.parametrize("number", [0, 8, 0x0A0A, 0xFFFF])
def test_suite_that_is_not_ours_is_refused(number: int) -> None:
    with pytest.raises(MlsError) as caught:
        cipher_suite(number)
    assert caught.value.reason == "5.1/unsupported-cipher-suite"


# -- derivation ---------------------------------------------------------------------------------------------


def expand_by_the_book(suite: CipherSuite, secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """§8 and RFC 5869 §2.3 with the standard library, for vectors shorter than 64 bytes."""
    full = b"MLS 1.0 " + label
    info = size.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((len(context),)) + context
    block, output = b"", b""
    for number in range(1, 6):
        block = hmac.digest(secret, block + info + bytes((number,)), suite.hash_function.name.lower())
        output += block
    return output[:size]


@every_suite
@settings(max_examples=20)
@given(label=st.binary(max_size=50), context=st.binary(max_size=63), size=st.integers(0, 160), secret=st.binary())
def test_expansion_is_that_of_the_rfc(
    suite: CipherSuite, label: bytes, context: bytes, size: int, secret: bytes
) -> None:
    expected = expand_by_the_book(suite, secret, label, context, size)
    assert suite.expand_with_label(secret, label, context, size) == expected
    assert suite.derive_secret(secret, label) == expand_by_the_book(suite, secret, label, b"", suite.hash_size)
    generation = b"\0\1\2\3"
    tree = expand_by_the_book(suite, secret, label, generation, 16)
    assert suite.derive_tree_secret(secret, label, 0x00010203, 16) == tree


@every_suite
def test_context_of_any_length_is_told_apart_from_its_label(suite: CipherSuite) -> None:
    secret = bytes(suite.hash_size)
    inputs = [(b"a", b"bc"), (b"ab", b"c"), (b"abc", b""), (b"", b"abc"), (b"a", bytes(64)), (b"a", bytes(20_000))]
    outputs = [suite.expand_with_label(secret, label, context, 32) for label, context in inputs]
    assert all(one != other for one, other in combinations(outputs, 2))


@every_suite
def test_expansion_beyond_what_hkdf_yields_is_our_callers_fault(suite: CipherSuite) -> None:
    for size in (-1, 255 * suite.hash_size + 1, 0x10000):
        with pytest.raises(LocalError):
            suite.expand_with_label(b"secret", b"label", b"", size)
    with pytest.raises(LocalError):
        suite.expand(b"secret", b"label", 255 * suite.hash_size + 1)


@every_suite
def test_mac_extract_and_hash_are_those_of_the_standard_library(suite: CipherSuite) -> None:
    name = suite.hash_function.name.lower()
    for key in (b"", b"key", bytes(200)):
        assert suite.mac(key, b"data") == suite.extract(key, b"data") == hmac.digest(key, b"data", name)
    assert suite.hash(b"data") == hashlib.new(name, b"data").digest()


@every_suite
def test_aead_takes_a_key_of_its_size_only(suite: CipherSuite) -> None:
    context = suite.aead(bytes(suite.key_size))
    nonce = bytes(suite.nonce_size)
    assert open_sealed(context, nonce, b"aad", context.encrypt(nonce, b"data", b"aad")) == b"data"
    for size in (0, 16, 32):
        if size != suite.key_size:
            with pytest.raises(LocalError):
                suite.aead(bytes(size))


# -- references, signatures ---------------------------------------------------------------------------------


@every_suite
def test_reference_is_a_hash_under_the_label_of_its_kind(suite: CipherSuite) -> None:
    assert suite.key_package_ref(b"encoded") == suite.ref_hash(b"MLS 1.0 KeyPackage Reference", b"encoded")
    assert suite.proposal_ref(b"encoded") == suite.ref_hash(b"MLS 1.0 Proposal Reference", b"encoded")
    label, value = b"MLS 1.0 Proposal Reference", b"\x07encoded"
    assert suite.proposal_ref(b"encoded") == suite.hash(bytes((len(label),)) + label + value)


@every_suite
def test_signature_is_bound_to_its_label(suite: CipherSuite) -> None:
    private, public = suite.signature_key_pair(entropy)
    suite.check_signature_public(public)
    assert suite.signature_public(private) == public
    signature = suite.sign_with_label(private, public, b"LeafNodeTBS", b"content")
    assert suite.verify_with_label(public, b"LeafNodeTBS", b"content", signature)
    assert not suite.verify_with_label(public, b"KeyPackageTBS", b"content", signature)
    assert not suite.verify_with_label(public, b"LeafNodeTBScontent", b"", signature)
    assert suite.signature.verify(public, b"\x13MLS 1.0 LeafNodeTBS\x07content", signature)


@every_suite
def test_bad_public_keys_break_their_rule(suite: CipherSuite) -> None:
    for bad in (b"", b"\0", bytes(suite.kem.public_size)):
        for call in (suite.check_public, lambda key: suite.encrypt_with_label(key, b"l", b"c", b"p", entropy)):
            with pytest.raises(MlsError) as caught:
                call(bad)
            assert caught.value.reason == "5.1/invalid-public-key"
    with pytest.raises(MlsError) as caught:
        suite.check_signature_public(b"short")
    assert caught.value.reason == "5.1/invalid-public-key"


# -- public key encryption ----------------------------------------------------------------------------------


@every_suite
def test_encryption_is_bound_to_its_label_and_context(suite: CipherSuite) -> None:
    private, public = hpke_key_pair(suite)
    suite.check_public(public)
    sealed = suite.encrypt_with_label(public, b"Welcome", b"context", b"plaintext", entropy)
    assert suite.decrypt_with_label(private, public, b"Welcome", b"context", *sealed) == b"plaintext"
    for label, context in ((b"UpdatePathNode", b"context"), (b"Welcome", b"another"), (b"Welcomecontext", b"")):
        with pytest.raises(MlsError) as caught:
            suite.decrypt_with_label(private, public, label, context, *sealed)
        assert caught.value.reason == "5.1.3/decrypt"
    schedule = suite.hpke.key_schedule(b"\x0fMLS 1.0 Welcome\x07context")
    assert schedule.open(sealed[0], private, public, b"", sealed[1]) == b"plaintext"


@every_suite
def test_undecryptable_bytes_break_their_rule_and_show_nothing(suite: CipherSuite) -> None:
    private, public = hpke_key_pair(suite)
    kem_output, ciphertext = suite.encrypt_with_label(public, b"Welcome", b"", b"plaintext", entropy)
    for bad in ((b"", ciphertext), (kem_output[:-1], ciphertext), (kem_output, b""), (kem_output, ciphertext[1:])):
        with pytest.raises(MlsError) as caught:
            suite.decrypt_with_label(private, public, b"Welcome", b"", *bad)
        assert caught.value.reason == "5.1.3/decrypt"
        assert private.hex() not in str(caught.value)


@every_suite
def test_encryptor_does_for_many_keys_what_encrypt_with_label_does_for_one(suite: CipherSuite) -> None:
    private, public = hpke_key_pair(suite)
    encryptor = suite.encryptor(b"UpdatePathNode", b"context")
    sealed = encryptor.seal(public, b"path secret", entropy)
    assert suite.decrypt_with_label(private, public, b"UpdatePathNode", b"context", *sealed) == b"path secret"
    once = suite.encrypt_with_label(public, b"UpdatePathNode", b"context", b"path secret", entropy)
    assert (once == sealed) == suite.deterministic
