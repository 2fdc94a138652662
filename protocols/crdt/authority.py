"""Who may do what, by a set of operations about authority.

Such sets are masks: every ``Genesis``, ``Grant``, ``Revoke`` and ``Accuse`` that is held has a number, and
``Held.known`` says which of them an operation had seen. A grant gives its device a role; it stands in a set as long as
every revocation of the device in that set had been seen by who granted, so a grant never undoes what its author did
not know. The highest role that stands is the device's.

That is all, as long as nobody contradicts anybody. Which acts are *effective* where two exclude each other is decided
by ``resolution`` for the whole set. Admission cannot wait for the whole set, and must not refuse what an honest replica
wrote because the past of an operation tells less than its author knew. So it gives the author every doubt: a
revocation that itself may have been revoked, or rests on something that may have been, is no reason to refuse; what
then has no standing after all is held, and does not count.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from protocols.crdt.changes import Accuse, Acknowledge, Change, Genesis, Grant, Revoke, Role
from protocols.crdt.history import Held

View: TypeAlias = int
"""A set of acts, as a mask of their numbers."""

GENESIS: Final[View] = 1
"""The genesis has number 0, and is in the past of everything."""
FAR: Final = 2**31
"""The depth of who has no standing."""

NEEDED: Final[dict[type[Change], Role]] = {
    Genesis: Role.OWNER,
    Grant: Role.ADMIN,
    Revoke: Role.ADMIN,
    Accuse: Role.READER,
    Acknowledge: Role.READER,
}
"""The role that a change demands of its author; all others change the document, which members may."""


def role_needed(change: Change, author: bytes) -> Role:
    """Whoever has a role may give it up."""
    if isinstance(change, Revoke) and change.device == author:
        return Role.READER
    return NEEDED.get(type(change), Role.MEMBER)


def bits(view: View) -> Iterator[int]:
    """The numbers in a mask, from the lowest."""
    while view:
        bit = view & -view
        yield bit.bit_length() - 1
        view ^= bit


class Act:
    """An operation about authority."""

    __slots__ = ("author", "defeaters", "held", "known", "mark", "needed", "number", "revokes", "target")

    def __init__(self, held: Held, number: int, defeaters: View) -> None:
        change, author = held.operation.change, held.operation.author
        self.held: Final = held
        self.author: Final = author
        self.number: Final = number
        self.known: Final = held.known
        self.mark: Final = held.mark
        self.needed: Final = int(role_needed(change, author))
        self.revokes: Final = isinstance(change, Revoke)
        self.target: Final = change.device if isinstance(change, Grant | Revoke) else None
        """Whose role it changes."""
        self.defeaters = defeaters
        """The revocations of its author that are concurrent with it."""


class Given(NamedTuple):
    """A role that an act gives to a device."""

    act: int
    mark: View
    known: View
    """What the act had seen: it outlives these revocations only."""
    role: int


class Authority:
    """The acts that are held, found by author and by target."""

    def __init__(self) -> None:
        self.acts: Final[list[Act]] = []
        """By number."""
        self.grants: Final[dict[bytes, list[Given]]] = {}
        """By the device that has the role from them."""
        self.granted: Final[dict[bytes, View]] = {}
        self.revoked: Final[dict[bytes, View]] = {}
        """Revocations, by the device that they remove."""
        self.written: Final[dict[bytes, View]] = {}
        """By author."""
        self.proofs: Final[dict[bytes, View]] = {}
        """Accusations, by equivocator. They prove what they say, so they need no standing."""
        self.revocations: View = 0
        self.accusations: View = 0
        self.owners: Final[dict[bytes, None]] = {}
        self._doubts: tuple[View, View] = (0, 0)

    def add(self, held: Held, accused: bytes | None = None) -> Act:
        """Take in an act in the order of numbers, that is, none that an act before had seen."""
        author, number, mark = held.operation.author, len(self.acts), held.mark
        act = Act(held, number, self.revoked.get(author, 0) & ~held.known)
        self.acts.append(act)
        change = held.operation.change
        if isinstance(change, Genesis):
            for device, role in change.roles:
                self._give(device, Given(number, mark, 0, int(role)))
                if role == Role.OWNER:
                    self.owners[device] = None
        elif isinstance(change, Grant):
            self._give(change.device, Given(number, mark, held.known, int(change.role)))
        elif isinstance(change, Revoke):
            for other in bits(self.written.get(change.device, 0) & ~held.known):
                self.acts[other].defeaters |= mark
            self.revoked[change.device] = self.revoked.get(change.device, 0) | mark
            self.revocations |= mark
        if accused is not None:
            self.proofs[accused] = self.proofs.get(accused, 0) | mark
            self.accusations |= mark
        self.written[author] = self.written.get(author, 0) | mark
        return act

    def _give(self, device: bytes, given: Given) -> None:
        self.grants.setdefault(device, []).append(given)
        self.granted[device] = self.granted.get(device, 0) | given.mark

    # -- roles --------------------------------------------------------------------------------------------

    def role(self, device: bytes, view: View) -> int:
        """The highest role that stands in this set; 0 for none."""
        revoked, best = self.revoked.get(device, 0) & view, 0
        for given in self.grants.get(device, ()):
            if given.role > best and given.mark & view and not revoked & ~given.known:
                best = given.role
        return best

    def standing(self, device: bytes, view: View) -> list[Given]:
        """The grants on which ``role`` rests."""
        role, revoked = self.role(device, view), self.revoked.get(device, 0) & view
        return [
            given
            for given in self.grants.get(device, ())
            if given.role == role and given.mark & view and not revoked & ~given.known
        ]

    def admissible_role(self, device: bytes, known: View) -> int:
        """The highest role that it may have had, for all that an operation which knows these acts can tell."""
        role, revoked = self.role(device, known), self.revoked.get(device, 0) & known
        return self.role(device, known & ~(revoked & self._doubtful(known))) if revoked else role

    def _doubtful(self, known: View) -> View:
        """Which of these acts may have no effect, for a reason that is among them: their author equivocated, or was
        revoked concurrently, or has no grant that is beyond doubt."""
        if self._doubts[0] == known:
            return self._doubts[1]
        doubtful = 0
        for number in bits(known & ~GENESIS):
            act = self.acts[number]
            if self.proofs.get(act.author, 0) & known:
                doubtful |= act.mark
                continue
            revoked, seen = self.revoked.get(act.author, 0) & act.known, act.known & ~doubtful
            if act.defeaters & known or not any(
                given.role >= act.needed and given.mark & seen and not revoked & ~given.known
                for given in self.grants.get(act.author, ())
            ):
                doubtful |= act.mark
        self._doubts = known, doubtful
        return doubtful

    # -- effect -------------------------------------------------------------------------------------------

    def verdict(self, act: Act, effective: View, inert: View, spared: View = 0) -> bool | None:
        """Whether an act is effective, given some that are and some that are not; None if that depends on others.

        It is if no effective revocation of its author is concurrent with it, but for those that ``spared`` says, and
        its author's role stands in what it had seen.
        """
        defeaters = act.defeaters & ~spared
        if defeaters & effective:
            return False
        revoked = self.revoked.get(act.author, 0) & act.known
        may = False
        for given in self.grants.get(act.author, ()):
            if given.role < act.needed or not given.mark & act.known or given.mark & inert:
                continue
            unseen = revoked & ~given.known
            if unseen & effective:
                continue
            may = True
            if given.mark & effective and not (unseen | defeaters) & ~inert:
                return True
        return None if may else False

    def depends_on(self, act: Act, spared: View = 0) -> View:
        """The acts that its verdict can depend on."""
        in_past = (self.granted.get(act.author, 0) | self.revoked.get(act.author, 0)) & act.known
        return (act.defeaters & ~spared) | in_past

    def depths(self, numbers: Iterable[int], alive: View, effective: View) -> dict[int, int]:
        """How many grants the author of each of these acts was from an owner when it acted: the shortest way by grants
        that are alive, and that no effective revocation which it had seen cut. Of what they rest on, too."""
        rests: dict[int, list[int]] = {}
        agenda = list(numbers)
        while agenda:
            number = agenda.pop()
            if number not in rests:
                rests[number] = self._rests_on(self.acts[number], alive, effective)
                agenda += rests[number]
        depths: dict[int, int] = {}
        for number in sorted(rests):  # what an act rests on came before it
            is_owner = self.acts[number].author in self.owners
            depths[number] = 0 if is_owner else 1 + min([depths[each] for each in rests[number]], default=FAR)
        return depths

    def _rests_on(self, act: Act, alive: View, effective: View) -> list[int]:
        if act.author in self.owners:
            return []
        revoked = self.revoked.get(act.author, 0) & act.known & effective
        return [
            given.act
            for given in self.grants.get(act.author, ())
            if given.role >= act.needed and given.mark & act.known & alive and not revoked & ~given.known
        ]

    def depth(self, device: bytes, effective: View) -> int | None:
        """How many grants a device is from an owner; None if it has no role."""
        if device in self.owners:
            return 0
        standing = self.standing(device, effective)
        if not standing:
            return None
        depths = self.depths([given.act for given in standing], effective, effective)
        return 1 + min(depths[given.act] for given in standing)
