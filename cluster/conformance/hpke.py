"""HPKE's own test vectors, in the shape that RFC 9180 published and draft-ietf-hpke-pq took over.

What asks for the authenticated modes or a KDF of one stage is unsupported: MLS has no use for either. A KEM that
draws its own randomness is run on the recipient's side only.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.conformance.registry import Kind, UnsupportedError, expect_equal, register
from cluster.conformance.shapes import octets
from protocols.mls.hpke import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    EXPORT_ONLY,
    HKDF_SHA256,
    HKDF_SHA384,
    HKDF_SHA512,
    Hpke,
)
from protocols.mls.kem import DHKEM_P256, DHKEM_P384, DHKEM_P521, DHKEM_X448, DHKEM_X25519, MLKEM768_X25519

_Case = dict[str, Any]

_KEMS = {kem.id: kem for kem in (DHKEM_P256, DHKEM_P384, DHKEM_P521, DHKEM_X25519, DHKEM_X448, MLKEM768_X25519)}
_KDFS = {kdf.id: kdf for kdf in (HKDF_SHA256, HKDF_SHA384, HKDF_SHA512)}
_AEADS = {aead.id: aead for aead in (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, EXPORT_ONLY)}
_MODES = ("base", "PSK", "authenticated", "authenticated PSK")


def _is_hpke(document: Any) -> bool:
    match document:
        case [{"mode": int(), "kem_id": int(), "kdf_id": int(), "aead_id": int(), "encryptions": [*_]}, *_]:
            return True
    return False


def _hpke_cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, case in enumerate(document):
        yield f"{number}: {_hpke_name(case) if isinstance(case, dict) else 'not an object'}", case


def _hpke_name(case: _Case) -> str:
    mode = case.get("mode")
    numbers = (case.get(key) for key in ("kem_id", "kdf_id", "aead_id"))
    name = _MODES[mode] if isinstance(mode, int) and 0 <= mode < len(_MODES) else f"mode {mode}"
    return " ".join((name, *(f"{number:#06x}" if isinstance(number, int) else str(number) for number in numbers)))


def _run_hpke(case: _Case) -> None:
    if case["mode"] not in (0, 1):
        raise UnsupportedError("MLS has no use for the authenticated modes")
    hpke = Hpke(
        _choice("KEM", _KEMS, case["kem_id"]),
        _choice("KDF", _KDFS, case["kdf_id"]),
        _choice("AEAD", _AEADS, case["aead_id"]),
    )
    kem = hpke.kem
    private, public = kem.derive_key_pair(octets(case["ikmR"]))
    expect_equal("recipient's private key", private, octets(case["skRm"]))
    expect_equal("recipient's public key", public, octets(case["pkRm"]))
    kem_output = octets(case["enc"])
    expect_equal("shared secret", kem.decap(kem_output, private, public), octets(case["shared_secret"]))

    schedule = hpke.key_schedule(octets(case["info"]), octets(case.get("psk", "")), octets(case.get("psk_id", "")))
    recipient = schedule.setup_recipient(kem_output, private, public)
    sender = None
    if kem.deterministic:
        ours, sender = schedule.setup_sender(public, _fixed(octets(case["ikmE"])))
        expect_equal("encapsulation", ours, kem_output)
    for number, message in enumerate(case["encryptions"]):
        aad, plaintext, ciphertext = (octets(message[key]) for key in ("aad", "pt", "ct"))
        if sender is not None:
            expect_equal(f"ciphertext {number}", sender.seal(aad, plaintext), ciphertext)
        expect_equal(f"plaintext {number}", recipient.open(aad, ciphertext), plaintext)
    for number, export in enumerate(case["exports"]):
        context, size, published = octets(export["exporter_context"]), export["L"], octets(export["exported_value"])
        expect_equal(f"export {number}", recipient.export(context, size), published)
        if sender is not None:
            expect_equal(f"sender's export {number}", sender.export(context, size), published)


def _fixed(drawn: bytes) -> Callable[[int], bytes]:
    return lambda _: drawn


def _choice(what: str, table: Mapping[int, Any], number: int) -> Any:
    if number not in table:
        raise UnsupportedError(f"{what} {number:#06x}")
    return table[number]


register(Kind("HPKE", _is_hpke, _hpke_cases, _run_hpke))
