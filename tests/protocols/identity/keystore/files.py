"""Keystores for tests: under the cheapest derivation there is, and deriving once for many of them."""

import random
from functools import cache
from typing import Final

from protocols.identity.keystore.content import CONTENT_ENTROPY_SIZE, Content
from protocols.identity.keystore.kdf import MEMORY_KIB_MIN, SALT_SIZE, Argon2Parameters
from protocols.identity.keystore.sealed import NONCE_SIZE, Unlocked

CHEAP: Final = Argon2Parameters(MEMORY_KIB_MIN, passes=1, lanes=1)
PASSPHRASE: Final = b"correct horse battery staple"
NETWORK: Final = b"spacepanda-test"
NOW: Final = 1_700_000_000_000_000_000
YEAR_NS: Final = 365 * 24 * 3600 * 10**9


def entropy(size: int, seed: object = 0) -> bytes:
    return random.Random(repr(seed)).randbytes(size)


@cache
def keys(passphrase: bytes = PASSPHRASE, salt_seed: object = 0, parameters: Argon2Parameters = CHEAP) -> Unlocked:
    """Shared: do not lock them."""
    return Unlocked.derive(passphrase, entropy(SALT_SIZE, ("salt", salt_seed)), parameters)


def content(seed: object = 0) -> Content:
    return Content.generate(entropy(CONTENT_ENTROPY_SIZE, ("content", seed)), NETWORK, NOW, NOW + YEAR_NS)


def nonce(seed: object = 0) -> bytes:
    return entropy(NONCE_SIZE, ("nonce", seed))
