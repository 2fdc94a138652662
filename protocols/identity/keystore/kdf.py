"""Argon2id (RFC 9106): what makes a guess at a passphrase cost memory and time.

The parameters travel in the file, as yesterday's file must open with yesterday's. So whoever writes the file chooses
what its reader spends, and the bounds are checked before any memory is taken. They are checked where parameters
come from, ``Argon2Parameters``; the function itself takes what RFC 9106 allows, so that the RFC's vectors run
through it.

Of the two libraries at hand it is ``cryptography``'s function: libsodium's has one lane, no secret and no associated
data, and returns an immutable ``bytes``. This one fills a buffer that can be wiped.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocols.errors import LocalError
from protocols.identity.keystore.errors import KeystoreError

ALGORITHM_ARGON2ID: Final = 1
PARAMETERS_SIZE: Final = 10
"""Algorithm 1, memory 4, passes 4, lanes 1."""
SALT_SIZE: Final = 16
"""RFC 9106 §3.1 recommends it for passwords."""
KEY_SIZE: Final = 32

MEMORY_KIB_MIN: Final = 19 * 1024
"""OWASP's least."""
MEMORY_KIB_MAX: Final = 1024 * 1024
"""libsodium's "sensitive". More, and a file could take what a small machine has."""
PASSES_MAX: Final = 10
LANES_MAX: Final = 8

TARGET_NS_MIN: Final = 250_000_000
TARGET_NS_MAX: Final = 750_000_000
"""What an unlock may be calibrated to: once per start of a peer it is hardly noticed, a billion times it is."""


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """What a guess costs; the default is RFC 9106's second choice (§4), for where 2 GiB are too much."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        if fault := _out_of_bounds(self.memory_kib, self.passes, self.lanes):
            raise LocalError(fault)

    def __str__(self) -> str:
        return f"Argon2id with {self.memory_kib // 1024} MiB, passes: {self.passes}, lanes: {self.lanes}"

    def to_bytes(self) -> bytes:
        return (
            ALGORITHM_ARGON2ID.to_bytes(1, "big")
            + self.memory_kib.to_bytes(4, "big")
            + self.passes.to_bytes(4, "big")
            + self.lanes.to_bytes(1, "big")
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises:
        KeystoreError: ``bad_kdf``: another algorithm, or more or less than may be spent.
        """
        if len(data) != PARAMETERS_SIZE or data[0] != ALGORITHM_ARGON2ID:
            raise KeystoreError("bad_kdf", "its key derivation is not Argon2id")
        memory_kib, passes, lanes = int.from_bytes(data[1:5], "big"), int.from_bytes(data[5:9], "big"), data[9]
        if fault := _out_of_bounds(memory_kib, passes, lanes):
            raise KeystoreError("bad_kdf", f"its key derivation is out of bounds: {fault}")
        return cls(memory_kib, passes, lanes)


def _out_of_bounds(memory_kib: int, passes: int, lanes: int) -> str:
    if not MEMORY_KIB_MIN <= memory_kib <= MEMORY_KIB_MAX:
        return f"{memory_kib} KiB of memory, not {MEMORY_KIB_MIN} to {MEMORY_KIB_MAX}"
    if not 1 <= passes <= PASSES_MAX:
        return f"{passes} passes, not 1 to {PASSES_MAX}"
    if not 1 <= lanes <= LANES_MAX:
        return f"{lanes} lanes, not 1 to {LANES_MAX}"
    return ""


def argon2id(
    passphrase: bytes | bytearray,
    salt: bytes,
    memory_kib: int,
    passes: int,
    lanes: int,
    size: int = KEY_SIZE,
    secret: bytes = b"",
    associated_data: bytes = b"",
) -> bytearray:
    """RFC 9106 §3. The passphrase stays the caller's to wipe, and so does the result."""
    output = bytearray(size)
    function = Argon2id(
        salt=salt,
        length=size,
        iterations=passes,
        lanes=lanes,
        memory_cost=memory_kib,
        ad=associated_data or None,
        secret=secret or None,
    )
    try:
        function.derive_into(passphrase, output)  # type: ignore[arg-type]  # its stub has not heard of bytearrays
    except MemoryError:
        raise KeystoreError("no_memory", f"the key derivation needs {memory_kib // 1024} MiB of free memory") from None
    return output


def calibrate(target_ns: int, measure: Callable[[Argon2Parameters], int]) -> Argon2Parameters:
    """Parameters that take about ``target_ns`` here, and are never weaker than the default.

    Passes first, then memory: a pass costs nobody but who waits, memory may be short on the day. ``measure`` says
    how many nanoseconds an unlock takes.
    """
    if not TARGET_NS_MIN <= target_ns <= TARGET_NS_MAX:
        raise LocalError(f"an unlock is calibrated to {TARGET_NS_MIN} to {TARGET_NS_MAX} ns, not {target_ns}")
    found = Argon2Parameters()
    taken_ns = max(1, measure(found))
    passes = min(PASSES_MAX, found.passes * target_ns // taken_ns)
    if passes > found.passes:
        found = replace(found, passes=passes)
    while found.passes == PASSES_MAX and found.memory_kib * 2 <= MEMORY_KIB_MAX:
        taken_ns = max(1, measure(found))
        if taken_ns * 2 > target_ns:
            break
        found = replace(found, memory_kib=found.memory_kib * 2)
    return found


def wipe(*buffers: bytearray) -> None:
    """Overwrite in place. What Python copied on the way is beyond reach, and is let go of at once."""
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
