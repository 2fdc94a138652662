"""The causally stable frontier: what lies in the past of everything that may still come.

An operation is stable when every active member has acknowledged it, by writing anything at all that has it in its past:
members go on from what they wrote, so whatever they write later has it in its past too (Baquero, Almeida & Shoker 2017,
§5). Behind that frontier nothing can become concurrent any more, and state that exists only to order concurrent
operations may go.

Whoever is removed, by a revocation or a proof, acknowledges nothing more and is not waited for. What it still sends
without having seen its removal has no effect, provided that nobody can vouch for it: so the removal itself has to be
acknowledged first. Until it is, nothing is stable here, and who has a frontier of before keeps it.

A member that falls silent holds the frontier up. That is for an admin to end: a removal is an operation and so is
judged alike by all, whereas "not heard of for a week" is another set of members at each replica.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from protocols.crdt.changes import Acknowledge, Grant
from protocols.crdt.clock import time_ns
from protocols.crdt.history import Held, History, Past, covers, join, meet

SILENT_NS_MAX: Final = 14 * 24 * 3600 * 10**9
"""Two weeks: a holiday. Whoever is removed after longer loses nothing that is held anywhere, and is let in again."""


def stable_past(
    history: History,
    active: Iterable[bytes],
    removals: Sequence[Held],
    given: Mapping[bytes, Sequence[Held]] = MappingProxyType({}),
) -> Past:
    """What every active member has acknowledged, which is what all its branches have in their pasts.

    Args:
        active: devices that have a role and are not fenced.
        given: the grants by which they have it, as far as known. Who was let in late, or again, can write nothing that
            counts without one of these in its past.
        removals: effective revocations, and a proof against each of the fenced. While one of them is not
            acknowledged, nothing is stable.
    """
    pasts = []
    for device in active:
        tips, grants = history.tips(device), given.get(device, ())
        if not tips and not grants:
            return ()
        seen = meet([each.past() for each in grants]) if grants else ()
        pasts += [join([each.past(), seen]) for each in tips] or [seen]
    stable = meet(pasts) if pasts else ()
    return stable if all(covers(stable, each) for each in removals) else ()


def silent(history: History, active: Iterable[bytes], now_ns: int, after_ns: int = SILENT_NS_MAX) -> tuple[bytes, ...]:
    """The active members that have said nothing for so long, by the clocks of what they wrote last.

    Who was let in counts as heard of then, whether by a grant or with the channel.
    """
    heard: dict[bytes, int] = {}
    for held in history.authority:
        change = held.operation.change
        if isinstance(change, Grant):
            heard[change.device] = max(held.operation.clock, heard.get(change.device, 0))
    began = history.operations[history.channel].operation.clock
    gone = []
    for device in active:
        clocks = [each.operation.clock for each in history.tips(device)]
        if time_ns(max(*clocks, heard.get(device, 0), began)) + after_ns < now_ns:
            gone.append(device)
    return tuple(gone)


def holding_up(
    history: History, active: Iterable[bytes], now_ns: int, after_ns: int = SILENT_NS_MAX
) -> tuple[bytes, ...]:
    """Of those, the ones that have not acknowledged something for so long: where nothing is said, nobody is silent."""
    given: dict[bytes, list[Past]] = {}
    for held in history.authority:
        if isinstance(held.operation.change, Grant):
            given.setdefault(held.operation.change.device, []).append(held.past())
    began = history.past_of((history.channel,))
    late = []
    for device in silent(history, active, now_ns, after_ns):
        seen = join([began, *given.get(device, ()), *(each.past() for each in history.tips(device))])
        if any(
            time_ns(held.operation.clock) + after_ns < now_ns
            for held in history.after(seen)
            if held.counts and held.operation.author != device and not isinstance(held.operation.change, Acknowledge)
        ):
            late.append(device)
    return tuple(late)
