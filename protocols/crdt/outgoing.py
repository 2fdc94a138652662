"""Operations that somebody lacks, as units of bytes: bundles where that is most of a bundle, else one by one.

A bundle costs its receiver one signature, and each operation that travels alone one of its own and a path; so a few
operations too many are sent with a bundle, but never one that would have to wait for what was not asked for.

The order is that of causes before effects, not of arrival: a bundle of which parts arrived at different times stands
where the first of them is wanted, after all that any of them needs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from protocols.crdt.bundles import Seal, encode_bundle, encode_single
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.messages import UNITS_MAX
from protocols.crdt.proofs import bundle_of, path_to
from protocols.errors import LocalError

BATCH_SIZE: Final = 64 * 1024
"""Bytes of units in a message; one unit may be larger."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What fits in a message, and what is left."""

    units: tuple[bytes, ...]
    rest: tuple[Held, ...]
    """In the order in which they were wanted."""


def pack(history: History, wanted: Iterable[Held], size: int = BATCH_SIZE) -> Batch:
    """As much of what is wanted as ``size`` bytes hold, at least one unit; first that on which other things depend."""
    outgoing = _Outgoing(history, wanted)
    units: list[bytes] = []
    room = size
    for seal, group in outgoing.groups():
        unit = outgoing.unit(seal, group)
        if unit is not None:
            if units and (len(unit) > room or len(units) == UNITS_MAX):
                break
            units.append(unit)
            room -= len(unit)
        outgoing.done(group)
    return Batch(tuple(units), tuple(outgoing.wanted.values()))


class _Outgoing:
    """What is wanted and not sent yet, and what of it travels together."""

    def __init__(self, history: History, wanted: Iterable[Held]) -> None:
        self._history: Final = history
        self.wanted: Final = {each.id: each for each in wanted if each.id != history.channel}
        """Without the genesis: it is for no channel, so nobody could check it here, and whoever asks has it."""
        self._counts: Final = Counter(each.seal for each in self.wanted.values() if each.seal.count > 1)
        self._bundles: Final[dict[Seal, tuple[Held, ...] | None]] = {}

    def groups(self) -> Iterator[tuple[Seal, tuple[Held, ...]]]:
        """What travels together, causes first, and the seal that it travels under: an equivocator signs one operation
        in several bundles, so that need not be the one that each of them came with. Whoever takes a group says that it
        is ``done`` before the next.

        Honest bundles never wait for each other. Those of authors who plan it do, and then one is sent too early.
        """
        begun: set[bytes] = set()
        for first in list(self.wanted.values()):
            stack = [first]
            while stack:
                held = stack[-1]
                if held.id not in self.wanted:
                    stack.pop()
                    continue
                group = self._bundle(held) or (held,)
                begun.update(each.id for each in group)
                causes = [
                    self.wanted[cause]
                    for each in group
                    for cause in (each.operation.previous, *each.operation.dependencies)
                    if cause in self.wanted and cause not in begun
                ]
                if causes:
                    stack += causes
                else:
                    yield held.seal, group

    def done(self, group: tuple[Held, ...]) -> None:
        for each in group:
            self.wanted.pop(each.id, None)

    def unit(self, seal: Seal, group: tuple[Held, ...]) -> bytes | None:
        """The bytes; None if what is held does not prove the operation (the rest of its bundle was compacted away)."""
        if len(group) > 1 or seal.count == 1:
            return encode_bundle(seal, [each.operation for each in group])
        try:
            return encode_single(seal, group[0].operation, path_to(self._history, group[0]))
        except CrdtError:
            return None

    def _bundle(self, held: Held) -> tuple[Held, ...] | None:
        """All of its bundle, if it is better to send all of it."""
        seal = held.seal
        if 2 * self._counts[seal] < seal.count or seal.count == 1:
            return None
        if seal not in self._bundles:
            self._bundles[seal] = self._checked(seal, bundle_of(self._history, held))
        return self._bundles[seal]

    def _checked(self, seal: Seal, bundle: tuple[Held, ...] | None) -> tuple[Held, ...] | None:
        """A bundle that is here, not too large, and of which what nobody asked for needs nothing else."""
        if bundle is None:
            return None
        first = next(index for index, each in enumerate(bundle) if each.id in self.wanted)
        if any(each.id not in self.wanted and each.operation.dependencies for each in bundle[first:]):
            return None
        try:
            encode_bundle(seal, [each.operation for each in bundle])
        except LocalError:
            return None
        return bundle
