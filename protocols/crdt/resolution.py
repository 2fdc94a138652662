"""Which acts of authority are effective, where some revoke the authors of others that had not seen them.

A revocation defeats what its target wrote concurrently (strong removal: else whoever is removed writes beside it,
with an old date). An act needs its author's role, so it falls with the grants that it rests on. Both together may run
in a circle: two admins revoke each other, or one by a puppet that it hastily made an admin. No rule that looks at two
acts at a time settles those alike everywhere, so this is one over the whole set, which knows no order of arrival:

1. What follows from what is settled is settled, until nothing more follows. That has one outcome, whatever the order.
2. What is left depends on itself. Take a circle that depends on no other (a strongly connected component without a
   predecessor), and ask the owners. As much of it as an owner had seen last, before it had seen all, is its **view**.
   A revocation came too late for an act if some view has the act without it, and none has it without the act; then it
   does not defeat that act. If there are any, 1 again. (After many rounds the view is what an owner had seen first:
   two who revoke each other again and again would keep everybody busy.)
3. If owners have seen all of a circle at once, or nothing yet, or contradict each other, the revocations by those
   **nearest to the owners** are effective; if several are equally near, all of them are. Then 1 again.

Views make removals final: who is removed could else write at any later time, with an old date, that it revokes who
removed it, and bring down a year's work of an equal. Whatever comes after an owner knows the removal is in a circle
only as what the owner had not seen, and is the first to lose there; so acts that every owner has seen come out as if
nothing had come after (``compaction`` relies on that). Of owners alone, as their standing is never in question: any
other witness may be a puppet, or have been removed by who is accused, or may be revoked by the late act itself.

Nearness is in grants, and a puppet is farther than who made it, so nobody gains by making one. Until an owner knows of
its removal, a device can take along those of its equals who removed it, and nobody else; an owner, who cannot be
removed, lets back in whom it will. By clock or by hash instead, whoever writes last would choose the outcome.
"""

from collections.abc import Callable, Iterable
from typing import Final

from protocols.crdt.authority import GENESIS, Act, Authority, View, bits

ROUNDS_MAX: Final = 64
"""In which only what was seen last gives way. More than that takes 64 late acts, and an owner that is told of each by
itself; and then it still matters only where acts that owners knew in good time contradict each other."""

Views = Callable[[View, bool], Iterable[View]]
"""For each branch of an owner's, how much of a set of acts it had seen before it had seen all; or, if True, when it had
seen any."""


class Resolution:
    """Acts on their way to being settled.

    Args:
        candidates: those that may have an effect.
        settled: those of which it is known already, and ``effective``, which of them have one.
    """

    def __init__(
        self, authority: Authority, candidates: View, views: Views, settled: View = 0, effective: View = 0
    ) -> None:
        self._authority = authority
        self._views = views
        self.effective: View = GENESIS | effective
        self.contested: View = 0
        """The acts that were in circles: what owners know of these matters."""
        self._undecided: View = candidates & ~GENESIS & ~settled
        self._inert: View = ((1 << len(authority.acts)) - 1) & ~self._undecided & ~self.effective
        self._rounds: dict[int, int] = {}
        """By number of an act, in how many circles it was: of all in this its own count, as circles are in no order."""
        self._spared: dict[int, View] = {}
        """By number of an act, the revocations that do not defeat it, as they came too late."""
        agenda = self._undecided
        while self._undecided:
            self._settle(agenda)
            if self._undecided:
                circle = _circle(self._above(), self._undecided)
                self.contested |= circle
                agenda = self._spare(circle) or self._prefer_nearest(circle)

    def _settle(self, agenda: View) -> None:
        authority = self._authority
        while agenda:
            bit = agenda & -agenda
            agenda ^= bit
            act = authority.acts[bit.bit_length() - 1]
            verdict = authority.verdict(act, self.effective, self._inert, self._spared.get(act.number, 0))
            if verdict is None:
                continue
            self._undecided ^= bit
            if verdict:
                self.effective |= bit
            else:
                self._inert |= bit
            if act.target is not None:
                agenda |= authority.written.get(act.target, 0) & self._undecided

    def _above(self) -> dict[int, View]:
        """By number, the undecided acts on which an undecided act depends."""
        acts, spared = self._authority.acts, self._spared
        return {
            number: self._authority.depends_on(acts[number], spared.get(number, 0)) & self._undecided
            for number in bits(self._undecided)
        }

    def _spare(self, circle: View) -> View:
        """Let go of the revocations that came too late for others in a circle; returns these."""
        rounds = 1 + max(self._rounds.get(number, 0) for number in bits(circle))
        self._rounds.update(dict.fromkeys(bits(circle), rounds))
        views = [view for view in self._views(circle, rounds > ROUNDS_MAX) if view and view != circle]
        relieved: View = 0
        for number in bits(circle) if views else ():
            act = self._authority.acts[number]
            known, unknown = 0, 0
            for view in views:
                if view & act.mark:
                    unknown |= circle & ~view
                else:
                    known |= view
            spared = self._spared.get(number, 0)
            late = act.defeaters & unknown & ~known & ~spared
            if late:
                self._spared[number] = spared | late
                relieved |= act.mark
        return relieved

    def _prefer_nearest(self, circle: View) -> View:
        """Settle a circle by how near its acts are to the owners; returns what may follow from that."""
        authority, agenda = self._authority, 0
        for act in _nearest(authority, circle, ~self._inert, self.effective):
            self._undecided ^= act.mark
            self.effective |= act.mark
            assert act.target is not None
            agenda |= authority.written.get(act.target, 0)
        return agenda & self._undecided


def _nearest(authority: Authority, circle: View, alive: View, effective: View) -> list[Act]:
    """The revocations in a circle whose authors are nearest to the owners. There are some: causality has no circles."""
    revocations = [authority.acts[number] for number in bits(circle & authority.revocations)]
    depths = authority.depths([act.number for act in revocations], alive, effective)
    nearest = min(depths[act.number] for act in revocations)
    return [act for act in revocations if depths[act.number] == nearest]


def _circle(above: dict[int, View], undecided: View) -> View:
    """A strongly connected component of the undecided acts that depends on no other.

    From any act to all above it, that is, on which it depends; who among these depends on it in turn, is in its
    component. If some are left, they are above that and depend on nothing in it: on to one of them. All in masks, as
    two admins can write thousands of acts of which each depends on each of the other's.
    """
    rest = undecided
    while True:
        start = rest & -rest
        circle, component = _closure(above, start), start
        rest = circle & ~start
        grown = True
        while grown:
            grown = False
            for number in bits(rest):
                if above[number] & component:
                    component |= 1 << number
                    grown = True
            rest &= ~component
        if not rest:
            return component


def _closure(above: dict[int, View], start: View) -> View:
    """An act with all that are above it."""
    closure, fresh = start, start
    while fresh:
        reached = 0
        for number in bits(fresh):
            reached |= above[number]
        fresh = reached & ~closure
        closure |= reached
    return closure
