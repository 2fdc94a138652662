"""Noise beside what it is made of and beside the other Python implementations.

The handshake is XX with both sides in one process. Its floor is the same primitives called by one function
with nothing around them, so the ratio to it is what our state machine costs. Each library gets its static
keys ready-made. ``ratio`` is our time over that of the primitives: at best 1, and 1.5 is the bound.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.rows import OURS, Row, interleaved, main, package, row, skipped, time_us
from protocols.crypto import BLAKE2S, SHA256, Hash, chacha20_poly1305, x25519, x25519_public
from protocols.noise.handshake import HandshakeState, KeyPair, Transport

ROUNDS = 60
HANDSHAKES_A_ROUND = 5
TRANSPORT_SIZES = {"100 B": 100, "1 KiB": 1024, "64 KiB": 65519}
FLOOR = "primitives"


def run(quick: bool) -> Iterator[Row]:
    """Handshakes with two hashes, then transport at three sizes."""
    rounds = 1 if quick else ROUNDS
    ends = [KeyPair(private, x25519_public(private)) for private in (os.urandom(32), os.urandom(32))]
    peers: list[tuple[str, Callable[[Hash], Callable[[], tuple[Any, Any]]]]] = []
    for name, module, prepare in (
        ("noiseprotocol", "noise", _noiseprotocol),
        ("dissononce", "dissononce", _dissononce),
    ):
        if isinstance(missing := package(module), str):
            yield skipped("noise", "all", name, missing)
        else:
            peers.append((name, prepare(ends)))
    for hash in (BLAKE2S, SHA256):
        name = _name(hash)
        works: dict[str, Callable[[], object]] = {
            OURS: partial(_handshake, name, *ends),
            FLOOR: partial(_floor, hash, *ends),
        }
        for who, make in peers:
            works[who] = make(hash)
        yield row("noise", f"{name}, both sides", "us", _measure(works, rounds, HANDSHAKES_A_ROUND))

    ours, theirs = _handshake(_name(SHA256), *ends)
    pairs = [(who, *make(SHA256)()) for who, make in peers]
    context, nonce = chacha20_poly1305(os.urandom(32)), bytes(12)
    for label, size in TRANSPORT_SIZES.items():
        text = os.urandom(size)

        def primitives(text: bytes) -> bytes:
            return context.decrypt(nonce, context.encrypt(nonce, text, b""), b"")

        def spacepanda(text: bytes) -> bytes:
            return theirs.decrypt(ours.encrypt(text))

        works = {OURS: partial(spacepanda, text), FLOOR: partial(primitives, text)}
        works |= {who: partial(_transport[who], sender, receiver, text) for who, sender, receiver in pairs}
        calls = 200 if size < 9_999 else 20
        yield row("noise", f"transport {label}, seal and open", "us", _measure(works, rounds, calls))


def _name(hash: Hash) -> str:
    return f"Noise_XX_25519_ChaChaPoly_{hash.name}"


def _measure(works: dict[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, list[float]]:
    for work in works.values():
        work()
    return interleaved({who: partial(time_us, work, calls) for who, work in works.items()}, rounds)


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


Handshake = Callable[[], tuple[Any, Any]]


def _noiseprotocol(ends: list[KeyPair]) -> Callable[[Hash], Handshake]:
    connection = import_module("noise.connection").NoiseConnection
    keypair = import_module("noise.backends.default.keypairs").KeyPair25519
    statics = [keypair.from_private_bytes(end.private) for end in ends]

    def handshake(name: str) -> tuple[Any, Any]:
        sides = []
        for ours, static in zip((True, False), statics, strict=True):
            side = connection.from_name(name.encode())
            (side.set_as_initiator if ours else side.set_as_responder)()
            side.noise_protocol.keypairs["s"] = static
            side.start_handshake()
            sides.append(side)
        a, b = sides
        b.read_message(a.write_message())
        a.read_message(b.write_message())
        b.read_message(a.write_message())
        return a, b

    return lambda hash: partial(handshake, _name(hash))


def _dissononce(ends: list[KeyPair]) -> Callable[[Hash], Handshake]:
    processing = "dissononce.processing"
    x25519_dh = import_module("dissononce.dh.x25519.x25519").X25519DH
    cipher = import_module("dissononce.cipher.chachapoly").ChaChaPolyCipher
    hashes = {
        BLAKE2S: import_module("dissononce.hash.blake2s").Blake2sHash,
        SHA256: import_module("dissononce.hash.sha256").SHA256Hash,
    }
    pattern = import_module(f"{processing}.handshakepatterns.interactive.XX").XXHandshakePattern
    cipher_state = import_module(f"{processing}.impl.cipherstate").CipherState
    handshake_state = import_module(f"{processing}.impl.handshakestate").HandshakeState
    symmetric_state = import_module(f"{processing}.impl.symmetricstate").SymmetricState
    statics = [x25519_dh().generate_keypair() for _ in ends]

    def handshake(hash: Hash) -> tuple[Any, Any]:
        sides = []
        for ours, static in zip((True, False), statics, strict=True):
            side = handshake_state(symmetric_state(cipher_state(cipher()), hashes[hash]()), x25519_dh())
            side.initialize(pattern(), ours, b"", s=static)
            sides.append(side)
        a, b = sides
        first, second, third = bytearray(), bytearray(), bytearray()
        a.write_message(b"", first)
        b.read_message(bytes(first), bytearray())
        b.write_message(b"", second)
        a.read_message(bytes(second), bytearray())
        (sender, _), (receiver, _) = a.write_message(b"", third), b.read_message(bytes(third), bytearray())
        return sender, receiver

    return lambda hash: partial(handshake, hash)


def _by_noiseprotocol(sender: Any, receiver: Any, text: bytes) -> object:
    return receiver.decrypt(sender.encrypt(text))


def _by_dissononce(sender: Any, receiver: Any, text: bytes) -> object:
    return receiver.decrypt_with_ad(b"", sender.encrypt_with_ad(b"", text))


_transport: dict[str, Callable[[Any, Any, bytes], object]] = {
    "noiseprotocol": _by_noiseprotocol,
    "dissononce": _by_dissononce,
}


if __name__ == "__main__":
    main(run)
