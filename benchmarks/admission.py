"""Admission beside rate limiters and a circuit breaker that a Python user would pick instead.

Every contender answers "may this key come in now?" in one process and reads the clock itself, ours too.
Quotas are so slow and deep that nothing is refused (save where that is measured) and nothing expires:
each limiter holds all its keys. pyrate-limiter leaves the table of buckets to its user, and gets a plain
dict; it and pybreaker never forget a key. ``ratio`` is our time, or memory, over that of the peer that needs
least: below 1, ours is the smaller.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

from benchmarks.rows import OURS, Row, interleaved, main, row, skipped
from protocols.admission import Admission, AdmissionPolicy, Quota

KEYS = 100_000
ROUNDS = 5
ONE_KEY_CALLS = 20_000
BURST = 1_000_000  # units at once or in an hour

Check = Callable[[Any], object]  # of a key: may it come in?
Make = Callable[[], Check]  # a fresh limiter

peer_keys: Sequence[bytes] = [n.to_bytes(32) for n in range(KEYS)]
text_keys: Sequence[str] = [key.hex() for key in peer_keys]


def _request(burst: int = BURST) -> Check:
    door = Admission(AdmissionPolicy(requests=Quota(1, burst), peers_max=KEYS))
    return lambda key: door.admit_request(key, "ping", time.monotonic_ns())


def _idle_request() -> Check:
    """Buckets are full again before their keys come back: every call is a newcomer's, and sweeps."""
    door = Admission(AdmissionPolicy(requests=Quota(10_000_000, BURST), peers_max=KEYS))
    return lambda key: door.admit_request(key, "ping", time.monotonic_ns())


def _packet() -> Check:
    door = Admission(AdmissionPolicy(endpoint_bytes=Quota(4_000, 40_000_000), endpoints_max=KEYS))
    return lambda key: door.admit_packet(key, 1200, time.monotonic_ns())


def _guarded() -> Check:
    door = Admission(AdmissionPolicy(requests=Quota(1, BURST), peers_max=KEYS))

    def check(key: bytes) -> None:
        if door.admit_request(key, "ping", time.monotonic_ns()):
            door.record_success(key, time.monotonic_ns())

    return check


def _limits(strategy: str, burst: int = BURST) -> Check:
    limits = import_module("limits")
    limiter = getattr(import_module("limits.strategies"), strategy)(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerHour(burst)
    return lambda key: limiter.hit(item, key)


def _pyrate(burst: int = BURST) -> Check:
    pyrate = import_module("pyrate_limiter")
    rates = [pyrate.Rate(burst, pyrate.Duration.HOUR)]
    buckets: dict[bytes, Any] = {}

    def check(key: bytes) -> object:
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = pyrate.StateBucket(rates, pyrate.GCRA())
        return bucket.put(pyrate.RateItem(key, time.monotonic_ns() // 1_000_000))

    return check


def _pybreaker() -> Check:
    pybreaker = import_module("pybreaker")
    breakers: dict[bytes, Any] = {}

    def nothing() -> None:
        pass

    def check(key: bytes) -> None:
        breaker = breakers.get(key)
        if breaker is None:
            breaker = breakers[key] = pybreaker.CircuitBreaker(fail_max=10, reset_timeout=30)
        breaker.call(nothing)

    return check


def _refusing(make: Callable[[int], Check], key: object) -> Check:
    check = make(1)
    check(key)
    return check


Contender = tuple[Make, Sequence[Any]]
PLAIN: Contender = (_request, peer_keys)
LIMITERS: dict[str, Contender] = {
    "limits, fixed window": (lambda: _limits("FixedWindowRateLimiter"), text_keys),
    "limits, sliding window counter": (lambda: _limits("SlidingWindowCounterRateLimiter"), text_keys),
    "pyrate-limiter, GCRA": (_pyrate, peer_keys),
}


def run(quick: bool) -> Iterator[Row]:
    """One key, many keys, refusals, the circuit breaker, memory."""
    rounds, keys = (1, 100) if quick else (ROUNDS, KEYS)
    ours = {OURS: PLAIN}
    yield from _one_key("request, one key", ours | LIMITERS, rounds, keys)
    refusing: dict[str, Contender] = {
        OURS: (lambda: _refusing(_request, peer_keys[0]), peer_keys),
        "limits, fixed window": (
            lambda: _refusing(lambda burst: _limits("FixedWindowRateLimiter", burst), text_keys[0]),
            text_keys,
        ),
        "pyrate-limiter, GCRA": (lambda: _refusing(_pyrate, peer_keys[0]), peer_keys),
    }
    yield from _one_key("request refused, one key", refusing, rounds, keys)
    yield from _many_keys("request", ours | LIMITERS, rounds, keys)
    yield from _many_keys("request, idle", {OURS: (_idle_request, peer_keys)}, rounds, keys)
    yield from _many_keys("packet", {OURS: (_packet, range(2**32, 2**32 + KEYS))}, rounds, keys)
    # Ours charges the rate limit as well.
    guarded: dict[str, Contender] = {OURS: (_guarded, peer_keys), "pybreaker": (_pybreaker, peer_keys)}
    yield from _one_key("guarded empty call, closed, one key", guarded, rounds, keys)
    yield from _memory(ours | LIMITERS | {"pybreaker": (_pybreaker, peer_keys)}, keys)


def _present(case: str, contenders: dict[str, Contender]) -> Iterator[Row]:
    """A row for each contender that is not installed, which is then left out."""
    for who, (make, _) in list(contenders.items()):
        try:
            make()
        except ImportError as error:
            del contenders[who]
            yield skipped("admission", case, who, error)


def _one_key(case: str, contenders: dict[str, Contender], rounds: int, calls: int) -> Iterator[Row]:
    yield from _present(case, contenders)
    measures = {
        who: partial(_time_us, make(), [keys[0]] * min(calls, ONE_KEY_CALLS))
        for who, (make, keys) in contenders.items()
    }
    yield _row(case, "us", interleaved(measures, rounds))


def _many_keys(case: str, contenders: dict[str, Contender], rounds: int, count: int) -> Iterator[Row]:
    yield from _present(case, contenders)
    first: dict[str, list[float]] = {who: [] for who in contenders}
    again: dict[str, list[float]] = {who: [] for who in contenders}
    for _ in range(rounds):
        for who, (make, keys) in contenders.items():
            check = make()
            first[who].append(_time_us(check, keys[:count]))
            again[who].append(_time_us(check, keys[:count]))
    yield _row(f"{case}, {count} keys, first time", "us", first)
    yield _row(f"{case}, {count} keys, again", "us", again)


def _memory(contenders: dict[str, Contender], count: int) -> Iterator[Row]:
    """Of the limiter: the keys themselves are there before."""
    case = f"memory a key, {count} keys"
    yield from _present(case, contenders)
    sizes: dict[str, list[float]] = {}
    for who, (make, keys) in contenders.items():
        gc.collect()
        tracemalloc.start()
        check = make()
        for key in keys[:count]:
            check(key)
        sizes[who] = [tracemalloc.get_traced_memory()[0] / count]
        tracemalloc.stop()
    yield _row(case, "bytes", sizes)


def _row(case: str, unit: str, figures: dict[str, list[float]]) -> Row:
    """Beside the peer that needs least."""
    peers = {who: median(taken) for who, taken in figures.items() if who != OURS}
    return row("admission", case, unit, figures, beside=min(peers, key=lambda who: peers[who]) if peers else None)


def _time_us(check: Check, keys: Sequence[Any]) -> float:
    gc.collect()
    start = time.perf_counter_ns()
    for key in keys:
        check(key)
    return (time.perf_counter_ns() - start) / len(keys) / 1000


if __name__ == "__main__":
    main(run)
