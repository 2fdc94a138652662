"""What cryptography costs a peer's virtual core: ``operation → (ns per call, ns per unit)``.

``free`` is an infinitely fast machine, which most simulators silently assume. ``laptop`` has the figures of
one core of a 2020s laptop running OpenSSL and libsodium. A table, never a stopwatch: a run must not depend
on the machine that computes it.
"""

from collections.abc import Mapping
from typing import Final

Costs = Mapping[str, tuple[int, int]]

LAPTOP: Final[Costs] = {
    "x25519": (0, 36_000),
    "ed25519_sign": (0, 22_000),
    "ed25519_verify": (0, 60_000),
    "aead": (1_100, 1),
    "hash": (500, 2),
    "argon2id": (0, 700_000),
}
"""Units: calls; for ``aead`` and ``hash``, bytes; for ``argon2id``, MiB times passes, whose lanes this one core fills
one after the other."""

TABLES: Final[Mapping[str, Costs | None]] = {"free": None, "laptop": LAPTOP}
