"""How many hops a lookup should take: what the measured ones stand beside.

A node keeps k contacts for every subtree of the identifier space that it is not in itself, a sample of the
peers there. A hop goes from a node to the contact nearest to the target: of ``n`` peers in the target's
subtree, the nearest of ``k`` drawn at random. With ``U`` the least of k uniform numbers, E[-ln U] is the
harmonic number H_k, so a hop divides what is left by about e^H_k, and a lookup takes about ln(N)/H_k hops (Cai and
Devroye, "A probabilistic analysis of Kademlia networks", 2013).

That is the growth, but a small network needs the ends as well, so the chain is followed rank by rank:
a record is at the k peers nearest to its key, so a lookup ends when it reaches one of them; the subtree of the
peer of rank ``r`` holds on average ``r ln 2`` peers nearer than the next power of two; and from the
second hop on, the lookup hears of the contacts of ``alpha`` peers. It assumes full tables of live peers: churn,
loss and half-filled buckets only add.
"""

from functools import cache
from math import comb, exp, lgamma, log
from typing import Final

STEPS_PER_BIT: Final = 8
"""Subtree sizes are followed on a grid of an eighth of a bit; finer grids change the second decimal."""

NEAR: Final = log(2)
"""The mean of 2^d / D for a distance D that is uniform between 2^d and 2^(d+1)."""


def expected_hops(peers: int, k: int, alpha: int = 1) -> float:
    """The mean number of hops to the first holder, from a peer whose id differs from the key in the first bit.

    The askers of the ``put_get`` workload are such peers: half of all peers are in the subtree of the key.

    Args:
        peers: how many are up.
        k: contacts in a bucket, and holders of a record.
        alpha: how many peers a lookup asks at a time.
    """
    return _hops(peers / 2, k, alpha, first=True)


def _hops(subtree: float, k: int, alpha: int, *, first: bool) -> float:
    """Hops that are left when the next contact comes from a subtree of that many peers."""
    if subtree <= k:
        return 1.0
    position = log(subtree / k, 2) * STEPS_PER_BIT
    below = int(position)
    return _on_grid(below, k, alpha, first) + (position - below) * (
        _on_grid(below + 1, k, alpha, first) - _on_grid(below, k, alpha, first)
    )


@cache
def _on_grid(step: int, k: int, alpha: int, first: bool) -> float:
    """``_hops`` of a subtree of ``k * 2**(step / STEPS_PER_BIT)`` peers."""
    subtree = round(k * 2 ** (step / STEPS_PER_BIT))
    sample = k if first else k * alpha
    if sample >= subtree - k:
        return 1.0
    # The grid of ranks between holders and the far end; on each piece, the chance that the best of the sample is there.
    hops = 1.0
    rank, beyond = k, _none_within(k, subtree, sample)
    piece = 1
    while rank < subtree and beyond > 1e-6:
        further = min(subtree, max(rank + 1, round(k * 2 ** (piece / STEPS_PER_BIT))))
        rest = _none_within(further, subtree, sample)
        hops += (beyond - rest) * _hops(min((rank + further) / 2 * NEAR, subtree * 0.9), k, alpha, first=False)
        rank, beyond, piece = further, rest, piece + 1
    return hops


def _none_within(rank: int, peers: int, sample: int) -> float:
    """The chance that of ``sample`` out of ``peers`` none is among the ``rank`` nearest."""
    if sample > peers - rank:
        return 0.0
    if peers < 1_000:
        return comb(peers - rank, sample) / comb(peers, sample)
    logarithm = (
        lgamma(peers - rank + 1) - lgamma(peers - rank - sample + 1) - lgamma(peers + 1) + lgamma(peers - sample + 1)
    )
    return exp(logarithm)
