"""Noise beside what it is made of and beside the other Python implementations.

The handshake is XX with both sides in one process. Its floor is the same primitives called by one function
with nothing around them, so the ratio to it is what our state machine costs. Each library gets its static
keys ready-made. All run in rounds, one after the other, as the machine's speed drifts; a figure is the
median over the rounds.

    python -m benchmarks.noise
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.blake2s import Blake2sHash
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState as DissononceCipher
from dissononce.processing.impl.handshakestate import HandshakeState as DissononceHandshake
from dissononce.processing.impl.symmetricstate import SymmetricState as DissononceSymmetric
from noise.backends.default.keypairs import KeyPair25519 as NoiseKeyPair
from noise.connection import NoiseConnection

from protocols.crypto import BLAKE2S, SHA256, Hash, chacha20_poly1305, x25519, x25519_public
from protocols.noise.handshake import HandshakeState, KeyPair, Transport

HANDSHAKE_ROUNDS = 60
HANDSHAKES_A_ROUND = 5
TRANSPORT_ROUNDS = 60
TRANSPORT_SIZES = {"100 B": 100, "1 KiB": 1024, "64 KiB": 65519}

Runs = Mapping[str, Callable[[], object]]


def run() -> Iterator[dict[str, Any]]:
    ends = [KeyPair(private, x25519_public(private)) for private in (os.urandom(32), os.urandom(32))]
    noise_keys = [NoiseKeyPair.from_private_bytes(end.private) for end in ends]
    dissononce_keys = [X25519DH().generate_keypair() for _ in ends]
    for hash in (BLAKE2S, SHA256):
        name = f"Noise_XX_25519_ChaChaPoly_{hash.name}"
        runs: Runs = {
            "spacepanda": partial(_handshake, name, *ends),
            "primitives alone": partial(_floor, hash, *ends),
            "noiseprotocol": partial(_noiseprotocol, name, *noise_keys),
            "dissononce": partial(_dissononce, hash, *dissononce_keys),
        }
        yield from _rows(f"{name}, both sides", runs, HANDSHAKE_ROUNDS, HANDSHAKES_A_ROUND)

    ours, theirs = _handshake(name, *ends)
    noise_ours, noise_theirs = _noiseprotocol(name, *noise_keys)
    (dis_send, _), (dis_receive, _) = _dissononce(hash, *dissononce_keys)
    context, nonce = chacha20_poly1305(os.urandom(32)), bytes(12)
    for label, size in TRANSPORT_SIZES.items():
        text = os.urandom(size)

        def primitives(text: bytes) -> bytes:
            return context.decrypt(nonce, context.encrypt(nonce, text, b""), b"")

        def spacepanda(text: bytes) -> bytes:
            return theirs.decrypt(ours.encrypt(text))

        def noiseprotocol(text: bytes) -> object:
            return noise_theirs.decrypt(noise_ours.encrypt(text))

        def dissononce(text: bytes) -> object:
            return dis_receive.decrypt_with_ad(b"", dis_send.encrypt_with_ad(b"", text))

        runs = {
            "spacepanda": partial(spacepanda, text),
            "primitives alone": partial(primitives, text),
            "noiseprotocol": partial(noiseprotocol, text),
            "dissononce": partial(dissononce, text),
        }
        yield from _rows(f"transport {label}, seal and open", runs, TRANSPORT_ROUNDS, 200 if size < 9999 else 20)


def _rows(case: str, runs: Runs, rounds: int, calls: int) -> Iterator[dict[str, Any]]:
    taken: dict[str, list[float]] = {who: [] for who in runs}
    for call in runs.values():
        call()
    for _ in range(rounds):
        for who, call in runs.items():
            start = time.perf_counter_ns()
            for _ in range(calls):
                call()
            taken[who].append((time.perf_counter_ns() - start) / calls / 1000)
    for who in runs:
        if who == "spacepanda":
            continue
        yield {
            "benchmark": "noise",
            "case": case,
            "median_us": round(statistics.median(taken["spacepanda"]), 2),
            "beside": who,
            "beside_median_us": round(statistics.median(taken[who]), 2),
            # Of each round, so that a slow stretch of the machine counts on both sides.
            "ratio": round(statistics.median(a / b for a, b in zip(taken["spacepanda"], taken[who], strict=True)), 3),
        }


def _handshake(name: str, initiator: KeyPair, responder: KeyPair) -> tuple[Transport, Transport]:
    a = HandshakeState(name, initiator=True, static=initiator, ephemeral=os.urandom(32))
    b = HandshakeState(name, initiator=False, static=responder, ephemeral=os.urandom(32))
    b.read_message(a.write_message())
    a.read_message(b.write_message())
    b.read_message(a.write_message())
    return a.split(), b.split()


def _floor(hash: Hash, initiator: KeyPair, responder: KeyPair) -> bytes:
    """The calls of an XX handshake, in number and in size; the values do not matter."""
    digest, hkdf, nonce = hash.digest, hash.hkdf_pair, bytes(12)
    key = output = b""
    for mine, other in ((initiator, responder), (responder, initiator)):
        private = os.urandom(32)
        x25519_public(private)
        h = digest(bytes(32))
        h = digest(h + other.public)  # -> e
        h = digest(h)  # its empty payload
        h = digest(h + other.public)  # <- e
        _, key = hkdf(h, x25519(private, other.public))  # ee
        context = chacha20_poly1305(key)
        sealed = context.encrypt(nonce, mine.public, h)  # s
        h = digest(h + sealed)
        _, key = hkdf(h, x25519(private, other.public))  # es
        context = chacha20_poly1305(key)
        h = digest(h + context.encrypt(nonce, b"", h))  # payload
        sealed = context.encrypt(nonce, mine.public, h)  # -> s
        h = digest(h + sealed)
        _, key = hkdf(h, x25519(mine.private, other.public))  # se
        context = chacha20_poly1305(key)
        h = digest(h + context.encrypt(nonce, b"", h))  # payload
        output, key = hkdf(h, b"")  # split
    return output


def _noiseprotocol(name: str, initiator: Any, responder: Any) -> tuple[Any, Any]:
    sides = []
    for ours, keys in ((True, initiator), (False, responder)):
        side = NoiseConnection.from_name(name.encode())
        (side.set_as_initiator if ours else side.set_as_responder)()
        side.noise_protocol.keypairs["s"] = keys
        side.start_handshake()
        sides.append(side)
    a, b = sides
    b.read_message(a.write_message())
    a.read_message(b.write_message())
    b.read_message(a.write_message())
    return a, b


def _dissononce(hash: Hash, initiator: Any, responder: Any) -> tuple[Any, Any]:
    sides = []
    for ours, keys in ((True, initiator), (False, responder)):
        symmetric = DissononceSymmetric(
            DissononceCipher(ChaChaPolyCipher()), Blake2sHash() if hash is BLAKE2S else SHA256Hash()
        )
        side = DissononceHandshake(symmetric, X25519DH())
        side.initialize(XXHandshakePattern(), ours, b"", s=keys)
        sides.append(side)
    a, b = sides
    first, second, third = bytearray(), bytearray(), bytearray()
    a.write_message(b"", first)
    b.read_message(bytes(first), bytearray())
    b.write_message(b"", second)
    a.read_message(bytes(second), bytearray())
    return a.write_message(b"", third), b.read_message(bytes(third), bytearray())


def main() -> None:
    for row in run():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
