from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.conformance import FileResult, run_files, wycheproof
from cluster.conformance.wycheproof import ACCEPTABLE, Verdict
from protocols.crypto import SHA512, aes_gcm, ed448_public, ed448_sign, ed25519_public, ed25519_sign, x448, x448_public
from tests.cluster.conformance.documents import flipped, run
from tests.vectors import vector_path, vectors

FILES = {
    "chacha20_poly1305": ("AeadTest", 325),
    "ed25519": ("EddsaVerify", 151),
    "hkdf_sha256": ("HkdfTest", 86),
    "x25519": ("XdhComp", 518),
    "xchacha20_poly1305": ("AeadTest", 315),
}

SEED = bytes(range(32))
WRONG_NONCE_SIZES = 9
"""Cases of either AEAD file that have to be refused for it."""

_Published = dict[str, Any]


def published(name: str) -> Any:
    return vectors(f"wycheproof/{name}_test.json")


def cases_of(document: Any) -> Iterator[_Published]:
    for group in document["testGroups"]:
        yield from group["tests"]


def judged(document: Any, result: str) -> Any:
    """All acceptable cases made decided ones."""
    for test in cases_of(document):
        if test["result"] == "acceptable":
            test["result"] = result
    return document


def is_refused(test: _Published) -> bool:
    return any(ACCEPTABLE[flag][0] is Verdict.REFUSED for flag in test["flags"] if flag in ACCEPTABLE)


def numbers(result: FileResult) -> list[int]:
    return [int(failure.case.split(":")[0]) for failure in result.failed]


# -- the published files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_case_of_a_published_file_passes(name: str) -> None:
    [result] = run_files([vector_path(f"wycheproof/{name}_test.json")])
    kind, total = FILES[name]
    assert (result.kind, result.passed, result.failed, result.unsupported) == (f"Wycheproof {kind}", total, (), ())


def test_every_acceptable_case_has_the_verdict_of_the_table(tmp_path: Path) -> None:
    """Called valid, exactly those fail that the table refuses; called invalid, exactly the others."""
    acceptable = [test for test in cases_of(published("x25519")) if test["result"] == "acceptable"]
    refused = [test["tcId"] for test in acceptable if is_refused(test)]
    computed = [test["tcId"] for test in acceptable if not is_refused(test)]
    assert (len(refused), len(computed)) == (31, 223)
    assert numbers(run(tmp_path, judged(published("x25519"), "valid"))) == refused
    assert numbers(run(tmp_path, judged(published("x25519"), "invalid"))) == computed


def test_every_decision_is_met_by_a_published_case_and_says_why() -> None:
    met = {flag for test in cases_of(published("x25519")) if test["result"] == "acceptable" for flag in test["flags"]}
    assert ACCEPTABLE.keys() <= met
    assert all(why for _, why in ACCEPTABLE.values())


# -- a broken expectation fails ---------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_no_case_passes_when_all_results_are_exchanged(tmp_path: Path, name: str) -> None:
    document = published(name)
    for test in cases_of(document):
        refused = test["result"] == "invalid" or (test["result"] == "acceptable" and is_refused(test))
        test["result"] = "valid" if refused else "invalid"
    result = run(tmp_path, document)
    assert len(result.failed) == result.total == FILES[name][1]


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_any_field_of_a_valid_case_fails(tmp_path: Path, name: str) -> None:
    fields = (
        "msg",
        "sig",
        "private",
        "public",
        "shared",
        "key",
        "iv",
        "aad",
        "ct",
        "tag",
        "ikm",
        "salt",
        "info",
        "okm",
    )
    document = published(name)
    changed = 0
    for group in document["testGroups"]:
        valid = [test for test in group["tests"] if test["result"] == "valid"][:1]
        group["tests"] = [
            {**test, field: flipped(test[field])} for test in valid for field in fields if test.get(field)
        ]
        changed += len(group["tests"])
    result = run(tmp_path, document)
    assert len(result.failed) == result.total == changed > 2


def test_valid_case_that_cannot_be_sealed_to_the_same_bytes_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening alone would not notice."""
    ours = wycheproof._AEADS["XCHACHA20-POLY1305"]
    monkeypatch.setitem(wycheproof._AEADS, "XCHACHA20-POLY1305", replace(ours, seal=lambda *_: bytes(16)))
    document = published("xchacha20_poly1305")
    valid = sum(test["result"] == "valid" for test in cases_of(document))
    result = run(tmp_path, document)
    assert len(result.failed) == valid + WRONG_NONCE_SIZES
    assert "wrong size" in result.failed[-1].reason


def test_acceptable_case_that_no_flag_decides_fails(tmp_path: Path) -> None:
    document = published("x25519")
    test = next(test for test in cases_of(document) if test["result"] == "acceptable")
    for flags in ([], ["SpecialPublicKey", "New"]):
        test["flags"] = flags
        [failure] = run(tmp_path, document).failed
        assert "nothing is decided" in failure.reason


# -- other files of these shapes --------------------------------------------------------------------


def one(algorithm: str, type_name: str, group: dict[str, Any], **test: str | int) -> dict[str, Any]:
    """A document of one valid case."""
    case: _Published = {"tcId": 1, "comment": "", "flags": [], "result": "valid", **test}
    return {"algorithm": algorithm, "testGroups": [{"type": type_name, **group, "tests": [case]}]}


def eddsa(curve: str, public: bytes, signature: bytes, seed: bytes | None = None) -> dict[str, Any]:
    key = {"curve": curve, "pk": public.hex()} | ({} if seed is None else {"sk": seed.hex()})
    return one("EDDSA", "EddsaVerify", {"publicKey": key}, msg="61", sig=signature.hex())


def aead(algorithm: str, key: bytes, nonce_size: int = 12, tag_size: int = 16, result: str = "valid") -> dict[str, Any]:
    """One of AES-GCM, whatever it is called."""
    sealed = aes_gcm(bytes(16)).encrypt(bytes(12), b"a", b"b") if len(key) != 32 else bytes(17)
    return one(
        algorithm,
        "AeadTest",
        {"keySize": 8 * len(key), "ivSize": 8 * nonce_size, "tagSize": 8 * tag_size},
        key=key.hex(),
        iv=bytes(nonce_size).hex(),
        aad=b"b".hex(),
        msg=b"a".hex(),
        ct=sealed[:1].hex(),
        tag=sealed[1 : 1 + tag_size].hex(),
        result=result,
    )


def hkdf(algorithm: str) -> dict[str, Any]:
    okm = SHA512.hkdf_expand(SHA512.hkdf_extract(b"s", b"k"), b"i", 99)
    return one(algorithm, "HkdfTest", {}, ikm=b"k".hex(), salt=b"s".hex(), info=b"i".hex(), size=99, okm=okm.hex())


def xdh(curve: str) -> dict[str, Any]:
    private, public = bytes(range(56)), x448_public(bytes(range(1, 57)))
    shared = x448(private, public).hex()
    return one("XDH", "XdhComp", {"curve": curve}, private=private.hex(), public=public.hex(), shared=shared)


def test_other_algorithms_that_we_have_are_run(tmp_path: Path) -> None:
    signed_448 = eddsa("edwards448", ed448_public(bytes(57)), ed448_sign(bytes(57), b"a"), bytes(57))
    for document in (signed_448, aead("AES-GCM", bytes(16)), hkdf("HKDF-SHA-512"), xdh("curve448")):
        result = run(tmp_path, document)
        assert (result.passed, result.failed, result.unsupported) == (1, (), ())


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (eddsa("edwards999", b"", b""), "curve edwards999"),
        (xdh("secp256r1"), "curve secp256r1"),
        (hkdf("HKDF-SHA-1"), "hash HKDF-SHA-1"),
        (aead("AES-SIV-CMAC", bytes(16)), "AEAD AES-SIV-CMAC"),
        (aead("AES-GCM", bytes(24)), "a key of 24 bytes"),
        (aead("AES-GCM", bytes(16), tag_size=12), "tags of 96 bits"),
        (aead("AES-GCM", bytes(16), nonce_size=16), "a nonce of 16 bytes"),
        (aead("AES-GCM", bytes(16), nonce_size=16, result="invalid"), "a nonce of 16 bytes"),
    ],
)
def test_what_we_do_not_have_is_unsupported_not_passed(tmp_path: Path, document: Any, reason: str) -> None:
    result = run(tmp_path, document)
    assert (result.passed, result.failed) == (0, ())
    assert reason in result.unsupported[0].reason


def test_private_key_of_a_signature_case_is_signed_with(tmp_path: Path) -> None:
    """As version 0 of the files has them."""
    public = ed25519_public(SEED)
    signature = ed25519_sign(SEED, public, b"a")
    assert run(tmp_path, eddsa("edwards25519", public, signature, SEED)).passed == 1
    old = eddsa("edwards25519", public, signature, SEED)
    group = old["testGroups"][0]
    group["key"] = group.pop("publicKey")
    assert run(tmp_path, old).passed == 1
    group["key"]["sk"] = bytes(32).hex()
    assert "public key" in run(tmp_path, old).failed[0].reason


def test_malformed_groups_and_cases_fail_with_a_name(tmp_path: Path) -> None:
    document = published("hkdf_sha256")
    good = document["testGroups"][0]["tests"][0]
    cases = [good, "no case", {**good, "result": "perhaps"}, {**good, "ikm": "zz"}, {"tcId": 7}]
    document["testGroups"] = [{"type": "HkdfTest", "tests": cases}, {"type": "HkdfTest"}, 3]
    result = run(tmp_path, document)
    names = [failure.case for failure in result.failed]
    assert (result.passed, names) == (
        1,
        ["not an object", f"1: {good['comment']}", f"1: {good['comment']}", "7: None", "group 1", "group 2"],
    )
    assert all(failure.reason.startswith("malformed case") for failure in result.failed)
