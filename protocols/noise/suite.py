"""A Noise protocol by its name: pattern, Diffie-Hellman, cipher and hash, compiled for both roles (§8).

All that a handshake can know before it starts is worked out here, once per name: which keys it needs, what
its tokens mean seen from one side, and how many bytes each message adds to its payload, so that a message
of an impossible length is refused before any work is done for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from protocols import crypto
from protocols.crypto import AEAD_TAG_SIZE, Hash
from protocols.noise.errors import NoiseError
from protocols.noise.patterns import DH_TOKENS, PSK_TOKEN, Pattern, Tokens, pattern
from protocols.noise.symmetric import AES_GCM, CHACHA_POLY, Cipher

NAME_SIZE_MAX = 255  # §8: "must be 255 bytes or less"
PROTOCOLS_CACHED_MAX = 256  # as PATTERNS_CACHED_MAX: the name may be a peer's choice
PSK_SIZE = 32


@dataclass(frozen=True, slots=True)
class DH:
    name: str
    size: int
    public: Callable[[bytes], bytes]
    exchange: Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Step:
    """One message from one side: DH tokens name the local key first ("es": our ephemeral, their static)."""

    writing: bool
    tokens: Tokens
    overhead: int
    psks_used: int  # by the steps before


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole handshake from one side. ``pre`` is in the order of hashing: (ours, "e" or "s")."""

    pre: tuple[tuple[bool, str], ...]
    steps: tuple[Step, ...]
    needs_static: bool
    needs_ephemeral: bool
    needs_remote_static: bool
    needs_remote_ephemeral: bool


@dataclass(frozen=True, slots=True)
class Protocol:
    name: str
    pattern: Pattern
    dh: DH
    cipher: Cipher
    hash: Hash
    initial_hash: bytes
    initiator: Plan
    responder: Plan


_DHS = {
    "25519": DH("25519", crypto.X25519_KEY_SIZE, crypto.x25519_public, crypto.x25519),
    "448": DH("448", crypto.X448_KEY_SIZE, crypto.x448_public, crypto.x448),
}
_CIPHERS = {cipher.name: cipher for cipher in (CHACHA_POLY, AES_GCM)}
_HASHES = {hash.name: hash for hash in (crypto.SHA256, crypto.SHA512, crypto.BLAKE2S, crypto.BLAKE2B)}


@lru_cache(maxsize=PROTOCOLS_CACHED_MAX)
def protocol(name: str) -> Protocol:
    """The protocol of a full name such as ``Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s``."""
    parts = name.split("_")
    if len(parts) != 5 or parts[0] != "Noise" or not name.isascii() or len(name) > NAME_SIZE_MAX:
        raise NoiseError("malformed_name", repr(name[:NAME_SIZE_MAX]))
    shape = pattern(parts[1])
    dh, cipher, hash = _DHS.get(parts[2]), _CIPHERS.get(parts[3]), _HASHES.get(parts[4])
    if dh is None or cipher is None or hash is None:
        raise NoiseError("unknown_algorithm", repr(name))
    encoded = name.encode()
    # §5.2 InitializeSymmetric: a short name is padded, a long one hashed.
    short = len(encoded) <= hash.digest_size
    initial_hash = encoded.ljust(hash.digest_size, b"\0") if short else hash.digest(encoded)
    plans = (_plan(shape, dh, initiator) for initiator in (True, False))
    return Protocol(name, shape, dh, cipher, hash, initial_hash, *plans)


def _plan(shape: Pattern, dh: DH, initiator: bool) -> Plan:
    ours, theirs = shape.initiator_pre, shape.responder_pre
    pre = [(initiator, token) for token in ours] + [(not initiator, token) for token in theirs]
    if not initiator:
        ours, theirs = theirs, ours
    steps = []
    psks_used = 0
    has_psk = shape.psk_count > 0  # §9.2: then every "e" mixes a key too, also in a pre-message
    keyed = has_psk and "e" in ours + theirs
    sent = list(ours)
    for number, tokens in enumerate(shape.messages):
        writing = initiator == (number % 2 == 0)
        overhead = 0
        for token in tokens:
            if token == "e":
                overhead += dh.size
                keyed = keyed or has_psk
            elif token == "s":
                overhead += dh.size + (AEAD_TAG_SIZE if keyed else 0)
            else:
                keyed = True
        if writing:
            sent += tokens
        turned = tuple(token if initiator or token not in DH_TOKENS else token[::-1] for token in tokens)
        steps.append(Step(writing, turned, overhead + (AEAD_TAG_SIZE if keyed else 0), psks_used))
        psks_used += tokens.count(PSK_TOKEN)
    return Plan(tuple(pre), tuple(steps), "s" in sent, "e" in sent, "s" in theirs, "e" in theirs)
