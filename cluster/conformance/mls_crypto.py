"""The cryptography under MLS: ``crypto-basics`` of the MLS working group."""

from typing import Any

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, numbered, octets, suite_of
from protocols.mls.signatures import EdDsa
from protocols.mls.suite import CipherSuite

_Case = dict[str, Any]


def _run_crypto_basics(case: _Case) -> None:
    suite = suite_of(case)
    _run_hashes(suite, case)
    _run_signature(suite, case["sign_with_label"])
    _run_encryption(suite, case["encrypt_with_label"])


def _run_hashes(suite: CipherSuite, case: _Case) -> None:
    ref = case["ref_hash"]
    expect_equal("RefHash", suite.ref_hash(ref["label"].encode(), octets(ref["value"])), octets(ref["out"]))
    expand = case["expand_with_label"]
    ours = suite.expand_with_label(
        octets(expand["secret"]), expand["label"].encode(), octets(expand["context"]), expand["length"]
    )
    expect_equal("ExpandWithLabel", ours, octets(expand["out"]))
    derive = case["derive_secret"]
    ours = suite.derive_secret(octets(derive["secret"]), derive["label"].encode())
    expect_equal("DeriveSecret", ours, octets(derive["out"]))
    tree = case["derive_tree_secret"]
    ours = suite.derive_tree_secret(octets(tree["secret"]), tree["label"].encode(), tree["generation"], tree["length"])
    expect_equal("DeriveTreeSecret", ours, octets(tree["out"]))


def _run_signature(suite: CipherSuite, case: _Case) -> None:
    private, public, content, published = (octets(case[key]) for key in ("priv", "pub", "content", "signature"))
    label = case["label"].encode()
    expect_equal("signature public key", suite.signature_public(private), public)
    if not suite.verify_with_label(public, label, content, published):
        raise MismatchError("the published signature does not verify")
    ours = suite.sign_with_label(private, public, label, content)
    if isinstance(suite.signature, EdDsa):
        expect_equal("SignWithLabel", ours, published)
    elif not suite.verify_with_label(public, label, content, ours):
        raise MismatchError("our own signature does not verify")


def _run_encryption(suite: CipherSuite, case: _Case) -> None:
    private, public, context, plaintext = (octets(case[key]) for key in ("priv", "pub", "context", "plaintext"))
    label = case["label"].encode()
    expect_equal("HPKE public key", suite.kem.public(private), public)
    published = octets(case["kem_output"]), octets(case["ciphertext"])
    ours = suite.encrypt_with_label(public, label, context, plaintext, lambda size: bytes(range(size)))
    for sealed in (published, ours):
        opened = suite.decrypt_with_label(private, public, label, context, *sealed)
        expect_equal("DecryptWithLabel", opened, plaintext)


_FIELDS = "ref_hash", "expand_with_label", "encrypt_with_label"

register(Kind("MLS crypto-basics", cases_with(*_FIELDS), numbered, _run_crypto_basics))
