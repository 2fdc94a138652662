"""Which operations are taken in, and which of them count.

Two questions, and only the first can be answered at once. **Admission** asks what follows from an operation and its
past; the answer is the same everywhere for ever, so what is refused is never held, nor what depends on it.
**Judgement** asks what follows from the whole set, and its answer changes as the set grows: that somebody equivocated,
or had been revoked, may arrive after what it wrote. Operations that do not count stay held and readable, and have no
effect.

Equivocators are **fenced** by proof (``Accuse``), whoever brings it. Of their operations those count that are
**vouched**: in the past of an operation of somebody unfenced who did not know the proof. What honest devices had built
on stays so, whatever arrives; what the equivocator kept back is worth nothing once the proof is known to those it shows
it to. Whose past has both branches of a fork must have a proof too, or one operation would vouch for both. Only
accusations may have seen what they like, and vouch for nothing in return: so there is always a way to bring the proof.

Revocations reach back as far as who revokes had not seen: an admin who has said nothing for a year can make the year's
work of a member not count. Admins are trusted with that, and acknowledgements (a stable frontier) end it.
A fenced device and an unfenced accomplice are together what an unfenced device is, until somebody revokes the first:
proof protects from those who lie alone. A fork has a quota for each branch, since a quota is of a chain.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Self

from protocols.crdt.authority import GENESIS, NEEDED, Act, Authority, View, bits, role_needed
from protocols.crdt.changes import Accuse, Genesis, Grant, Revoke, Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.evidence import accusation, check_accusation
from protocols.crdt.history import Held, History
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING
from protocols.crdt.resolution import Resolution

AUTHORITY_MAX: Final = 4096
"""Operations about authority in the past of another: what decides over them stays fast, and masks stay small."""
OWNERS_AUTHORITY: Final = 1024
"""How many of these are left to the owners, or an admin who writes too many could not be removed any more."""
ACCUSATIONS_MAX: Final = 64
"""That one device writes, unless it is an owner's. Keys cost nothing, so whoever likes to can make equivocators and
accuse them; but nobody may write any more who cannot accuse those that are known."""


class Judge:
    """The rules about authority and equivocation, for one history."""

    def __init__(self, history: History) -> None:
        self.authority: Final = Authority()
        self._history: Final = history
        self._effective: View = GENESIS
        self._contested: View = 0
        """Acts of which it matters who of the owners knows them."""
        self._vouched: Final[dict[bytes, dict[int, int]]] = {}
        """Of each fenced device, by lane, how many operations are vouched."""
        self._affected: Final[dict[bytes, None]] = {}
        """Whose operations have to be judged again,"""
        self._vouched_now: Final[list[Held]] = []
        """single ones of others,"""
        self._unresolved = False
        """and whether the acts have to be, first."""
        self._inert = 0
        """How many operations do not count."""
        self._front: dict[bytes, Held] | None = {}
        self._is_front_clean = True
        """Else it may have some that others in it see, as what does not count was passed by, and took nothing out."""
        self._members: dict[bytes, Role] | None = None
        self._viewed: tuple[bytes, View, int] = b"", 0, 0
        """The device whose role was asked for last, in which view, and the answer: neighbours mostly have the same."""
        self._accused: tuple[bytes, bytes] = (b"", b"")
        self._admitted: Held | None = None
        self._role = 0
        """What was admitted last, and what its author's role may be."""
        self._follows = False
        """Whether all of its past is the operation added last and that one's past, with no act between: then nothing
        is new but itself."""
        self._last: Held | None = None
        self._last_id = b""
        self._settled: Mapping[bytes, bool] = {}
        """Of operations of which only the place is known: whether they were vouched. No more is asked of them."""
        self._evidence: Final[dict[bytes, Accuse]] = {}
        """Against whom, in accusations that could not be taken in."""
        self._decided: tuple[View, View] = 0, 0
        """The acts among them, and which of these have an effect."""

    @classmethod
    def resumed(cls, history: History, settled: Mapping[bytes, bool]) -> Self:
        """For a history that begins with settled operations, among which are all about authority. Which of these have
        an effect cannot be worked out again, as that may rest on what owners had seen of them one after the other."""
        judge = cls(history)
        judge._settled = settled
        acts, effective = 0, 0
        for held in history.authority:
            judge.added(held)
            if not isinstance(held.operation.change, Accuse):
                acts |= held.mark
                effective |= held.mark if held.counts else 0
        judge._decided = acts, effective
        judge._unresolved = True
        judge.rejudge()
        judge._front = None
        return judge

    # -- admission ----------------------------------------------------------------------------------------

    def admit(self, held: Held) -> None:
        """Check an operation that ``History.place`` has placed, by nothing but itself and its past.

        Raises:
            CrdtError: ``unauthorised``, ``revoked``, ``fenced``, ``fenced_dependency``, ``unproven_fork``,
                ``not_revocable``, ``already_accused``, ``bad_evidence`` or ``too_much_authority``.
        """
        operation = held.operation
        change = operation.change
        self._follows = operation.previous == self._last_id and not operation.dependencies and not held.mark
        if self._follows and NEEDED.get(type(change), Role.MEMBER) <= self._role:
            self._admitted = held
            return
        author, known, needed = operation.author, held.known, role_needed(change, operation.author)
        if isinstance(change, Genesis):
            return
        if self._is_fenced(author, known):
            raise CrdtError("fenced", f"{author.hex()[:16]} knows the proof that it equivocated")
        role = self.authority.admissible_role(author, known)
        if role < needed:
            if not role and self.authority.role(author, known & ~self.authority.revocations):
                raise CrdtError("revoked", f"{author.hex()[:16]} knows that it is revoked")
            raise CrdtError("unauthorised", f"a {type(change).__name__} takes the role of {needed.name}")
        if held.mark:
            self._check_act(held)
        if not isinstance(change, Accuse):
            self._check_past(held)
        self._admitted, self._role, self._last_id = held, role, b""

    def _is_fenced(self, device: bytes, known: View) -> bool:
        return self.authority.proofs.get(device, 0) & known != 0

    def _check_past(self, held: Held) -> None:
        """What may vouch takes in nothing of whom it knows to be an equivocator, but by way of others who did before;
        and no fork that nobody has proved to it."""
        history, known = self._history, held.known
        if not held.operation.dependencies:
            previous = history.operations.get(held.operation.previous)
            if previous is not None and not previous.mark:
                return  # it knows no more than that one, of which this was asked
        if self.authority.proofs:
            for identifier in held.operation.dependencies:
                author = history.operations[identifier].operation.author
                if self._is_fenced(author, known):
                    raise CrdtError("fenced_dependency", f"it is known that {author.hex()[:16]} equivocated")
        for suspect in history.forks:
            if not self._is_fenced(suspect, known) and self._sees_fork(held, suspect):
                raise CrdtError("unproven_fork", f"both branches of {suspect.hex()[:16]}, and no proof of that")
        if held.lane == len(history.lanes) and self._sees_fork(held, held.operation.author):
            raise CrdtError("unproven_fork", "it depends on what it contradicts")

    def _check_act(self, held: Held) -> None:
        """The rules for operations about authority."""
        authority, known = self.authority, held.known
        change, author = held.operation.change, held.operation.author
        room = self._room(author)
        if known.bit_count() >= room:
            raise CrdtError("too_much_authority", f"{known.bit_count()} grants and revocations; the limit is {room}")
        if isinstance(change, Grant) and change.role >= Role.OWNER:
            raise CrdtError("unauthorised", "owners are made by the genesis only")
        if isinstance(change, Revoke) and change.device in authority.owners:
            raise CrdtError("not_revocable", "owners cannot be revoked")
        if not isinstance(change, Accuse):
            return
        accusations = authority.accusations & authority.written.get(author, 0) & known
        if accusations.bit_count() >= ACCUSATIONS_MAX and author not in authority.owners:
            raise CrdtError("too_much_authority", f"a device makes at most {ACCUSATIONS_MAX} accusations")
        accused = check_accusation(self._history.channel, change.first, change.second)
        if self._is_fenced(accused, accusations):
            raise CrdtError("already_accused", f"{author.hex()[:16]} has accused {accused.hex()[:16]} before")
        self._accused = held.id, accused

    def _room(self, author: bytes) -> int:
        """How many operations about authority the next one of this author may have in its past, less one."""
        return AUTHORITY_MAX - (0 if author in self.authority.owners else OWNERS_AUTHORITY)

    def _sees_fork(self, held: Held, suspect: bytes) -> bool:
        """Whether two operations of one author on one back-link are in the past of another, or one is itself that."""
        history, operation = self._history, held.operation
        taken: dict[bytes, None] = {}
        if suspect == operation.author and held.lane == len(history.lanes):
            taken[operation.previous] = None
            previous = history.operations.get(operation.previous)
            if previous is not None and self._continues(held, previous.lane, operation.sequence):
                return True
        for number in history.seen_lanes(held, suspect):
            lane = history.lanes[number]
            if held.sees(lane.operations[0]):
                back_link = lane.operations[0].operation.previous
                if back_link in taken or (back_link != NOTHING and self._continues(held, lane.parent, lane.first)):
                    return True
                taken[back_link] = None
        return False

    def _continues(self, held: Held, lane: int, sequence: int) -> bool:
        """Whether it sees where a lane went on at a fork."""
        rival = self._history.at(lane, sequence)
        return rival is not None and rival.lane == lane and held.sees(rival)

    # -- judgement ----------------------------------------------------------------------------------------

    def added(self, held: Held) -> bool:
        """Take in what was admitted and is held now, and set its ``counts``; whether that of operations before it
        may have changed, and ``rejudge`` has something to do. Several may be taken in before that."""
        authority, operation, last, front = self.authority, held.operation, self._last, self._front
        is_fenced = operation.author in authority.proofs
        follows = self._follows and self._admitted is held
        if follows and last is not None and not is_fenced and not self._unresolved:
            held.counts = last.counts
            if front is not None and last.counts:
                front.pop(last.id, None)
                front[held.id] = held
            self._inert += not last.counts
        else:
            self._judge_new(held)
        self._last, self._last_id = (None, b"") if held.mark or self._admitted is not held else (held, held.id)
        return bool(self._affected or self._vouched_now) or self._unresolved

    def _judge_new(self, held: Held) -> None:
        authority, operation = self.authority, held.operation
        if held.mark:
            self._added_act(held)
        if held.known & self._contested and operation.author in authority.owners:
            previous = self._history.operations.get(operation.previous)
            if held.known & self._contested & ~(previous.known if previous else 0):
                self._unresolved = True
        if authority.revocations or authority.proofs:
            self._vouch(held)
            if self._unresolved:
                self._affected[operation.author] = None
            held.counts = self._judge(held)
        if not held.counts:
            self._inert += 1
        elif self._front is not None and operation.author not in authority.proofs:
            _advance(self._front, held)
            self._is_front_clean = False

    def _added_act(self, held: Held) -> None:
        authority, change = self.authority, held.operation.change
        if isinstance(change, Accuse):
            identifier, accused = self._accused
            if identifier != held.id:  # others were checked since
                accused = check_accusation(self._history.channel, change.first, change.second)
            if accused not in authority.proofs:
                self._evidence.pop(accused, None)
                self._vouched[accused] = {}
                if accused in self._history.lanes_of:
                    self._affected[accused] = None
                    self._unresolved = True
                    self._front = None
            authority.add(held, accused)
            return
        act = authority.add(held)
        self._members = None
        if act.revokes and self._has_concurrent(act):
            self._unresolved = True
        elif (
            not self._unresolved
            and act.author not in authority.proofs
            and authority.verdict(act, self._effective, ~self._effective)
        ):
            self._effective |= act.mark

    def _has_concurrent(self, act: Act) -> bool:
        """Whether anything of its target is held that a new revocation had not seen."""
        history = self._history
        lanes = history.lanes_of.get(act.target or b"", ())
        return not all(act.held.sees(history.lanes[lane].operations[-1]) for lane in lanes)

    def _vouch(self, held: Held) -> None:
        """Note which operations of fenced devices were in its past before it knew."""
        authority, known = self.authority, held.known
        if held.operation.author in authority.proofs or isinstance(held.operation.change, Accuse):
            return
        for device, proofs in authority.proofs.items():
            fresh = () if proofs & known else self._vouch_for(device, held)
            if fresh and (device in authority.written or device in authority.owners):
                self._affected[device] = None
                self._unresolved = True
            else:  # not all that it wrote: an accomplice may vouch for much, one by one
                self._vouched_now.extend(fresh)

    def _vouch_for(self, device: bytes, held: Held) -> list[Held]:
        """What it vouches for of a device, and nobody did before."""
        vouched, fresh = self._vouched[device], []
        for number in self._history.seen_lanes(held, device):
            operations = self._history.lanes[number].operations
            count = before = vouched.get(number, 0)
            while count < len(operations) and held.sees(operations[count]):
                count += 1
            if count > before:
                vouched[number] = count
                fresh += operations[before:count]
        return fresh

    def _revouch(self) -> None:
        """Work out anew who vouches for what, as somebody was fenced who may have vouched."""
        authority, history = self.authority, self._history
        for device, proofs in authority.proofs.items():
            if device not in history.lanes_of:
                continue
            before, self._vouched[device] = self._vouched[device], {}
            for lane in history.lanes:
                if lane.author in authority.proofs:
                    continue
                voucher = _last_voucher(lane.operations, proofs)
                if voucher is not None:
                    self._vouch_for(device, voucher)
            if self._vouched[device] != before:
                self._affected[device] = None

    def is_vouched(self, held: Held) -> bool:
        """Whether an operation counts as far as equivocation goes."""
        return held.operation.author not in self.authority.proofs or self._is_vouched(held)

    def unvouched(self, device: bytes) -> int:
        """How many operations of a fenced device nobody vouches for; 0 for all others."""
        if device not in self.authority.proofs:
            return 0
        vouched, lanes = self._vouched[device], self._history.lanes
        return sum(
            len(lanes[number].operations) - vouched.get(number, 0) for number in self._history.lanes_of.get(device, ())
        )

    def is_effective(self, held: Held) -> bool:
        """Whether a grant or a revocation has effect, by all others."""
        return self._effective & held.mark != 0

    def _is_vouched(self, held: Held) -> bool:
        if held.id in self._settled:
            return self._settled[held.id]
        count = self._vouched[held.operation.author].get(held.lane, 0)
        return held.sequence - self._history.lanes[held.lane].first < count

    def _judge(self, held: Held) -> bool:
        """Whether an operation counts, by the acts that are effective."""
        if held.id in self._settled:
            return held.counts
        authority, author, mark = self.authority, held.operation.author, held.mark
        if mark and not mark & authority.accusations:
            return self._effective & mark != 0
        if author in authority.proofs and not self._is_vouched(held):
            return False
        view = held.known & self._effective
        if self._viewed[:2] != (author, view):
            self._viewed = author, view, authority.role(author, view)
        if self._viewed[2] < role_needed(held.operation.change, author):
            return False
        unseen = authority.revoked.get(author, 0) & self._effective & ~held.known
        return not unseen or all(authority.acts[number].held.sees(held) for number in bits(unseen))

    def rejudge(self) -> list[Held]:
        """Bring ``counts`` up to date everywhere; the operations of which it changed, in order of arrival."""
        if self._unresolved:
            self._resolve()
        affected = [self._vouched_now]
        for device in self._affected:
            affected += [self._history.lanes[number].operations for number in self._history.lanes_of.get(device, ())]
        flipped: list[Held] = []
        for held in chain.from_iterable(affected):
            counts = self._judge(held)
            if counts != held.counts:
                held.counts = counts
                self._inert += -1 if counts else 1
                flipped.append(held)
        self._vouched_now.clear()
        self._affected.clear()
        if flipped:
            self._front = None
            flipped.sort(key=attrgetter("order"))
        return flipped

    def _resolve(self) -> None:
        authority = self.authority
        self._revouch()
        candidates: View = 0
        for act in authority.acts:
            if act.mark & authority.accusations:
                continue
            if act.author not in authority.proofs or self._is_vouched(act.held):
                candidates |= act.mark
        resolution = Resolution(authority, candidates, self._views, *self._decided)
        effective, self._contested = resolution.effective, resolution.contested
        for number in bits(effective ^ self._effective):
            act = authority.acts[number]
            self._affected[act.author] = None
            if act.target is not None:
                self._affected[act.target] = None
        self._effective, self._members, self._unresolved = effective, None, False

    def _views(self, acts: View, first: bool) -> Iterator[View]:
        """For each branch of an owner's, how much of some acts it had seen before it had seen all; or, ``first``, when
        it had seen any."""
        history = self._history
        for owner in self.authority.owners:
            for lane in history.lanes_of.get(owner, ()):
                end = self._trusted_until(lane)
                low, high = 0, end
                while low < high:  # knowledge only grows
                    middle = (low + high + 1) // 2
                    held = history.at(lane, middle)
                    if held is not None and (held.known & acts if first else held.known & acts == acts):
                        high = middle - 1
                    else:
                        low = middle
                seen = history.at(lane, min(low + first, end))
                yield 0 if seen is None else seen.known & acts

    def _trusted_until(self, number: int) -> int:
        """How far the chain counts that a lane ends, as far as equivocation goes."""
        lanes, end = self._history.lanes, self._history.lanes[number].operations[-1].sequence
        vouched = self._vouched.get(lanes[number].author)
        if vouched is None:
            return end
        while number >= 0:
            lane = lanes[number]
            end = min(end, lane.first + vouched.get(number, 0) - 1)
            if end >= lane.first:
                return end
            number = lane.parent
        return 0

    # -- asked --------------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[bytes, Role]:
        """Who has which role now; a fenced device may still have one."""
        if self._members is None:
            roles = {device: self.authority.role(device, self._effective) for device in self.authority.grants}
            self._members = {device: Role(role) for device, role in roles.items() if role}
        return MappingProxyType(self._members)

    def role(self, device: bytes) -> Role | None:
        """Its role now."""
        return self.members.get(device)

    def depth(self, device: bytes) -> int | None:
        """How many grants it is from an owner; None if it has no role."""
        return self.authority.depth(device, self._effective)

    def standing(self, device: bytes) -> tuple[bytes, ...]:
        """The operations that give it its role: what its first operation has to depend on."""
        given = self.authority.standing(device, self._effective)
        return tuple(sorted(self.authority.acts[each.act].held.id for each in given))

    def grants_of(self, device: bytes) -> tuple[Held, ...]:
        """All that give it a role now, whichever: what it writes counts by one of them."""
        acts, effective = self.authority.acts, self._effective
        revoked = self.authority.revoked.get(device, 0) & effective
        return tuple(
            acts[given.act].held
            for given in self.authority.grants.get(device, ())
            if given.mark & effective and not revoked & ~given.known
        )

    def learn(self, change: Accuse) -> None:
        """Keep an accusation that could not be taken in, as what it had seen is not all here. It proves what it says
        all the same, and fences wherever it was taken in; so it is due to be brought again."""
        try:
            accused = check_accusation(self._history.channel, change.first, change.second)
        except CrdtError:
            return
        is_news = accused in self.authority.grants and accused not in self.authority.proofs
        if is_news and len(self._evidence) < ACCUSATIONS_MAX:
            self._evidence[accused] = change

    @property
    def fenced_members(self) -> tuple[bytes, ...]:
        """Proven equivocators who have a role or had one. Of strangers not all replicas know, nor need to."""
        return tuple(device for device in self.authority.proofs if device in self.authority.grants)

    @property
    def fenced(self) -> Mapping[bytes, tuple[Held, ...]]:
        """Proven equivocators, with the proofs."""
        acts = self.authority.acts
        return {
            device: tuple(acts[number].held for number in bits(proofs))
            for device, proofs in self.authority.proofs.items()
        }

    @property
    def front(self) -> tuple[bytes, ...]:
        """What the next operation depends on: the last ones of those that count, but for fenced devices' own. Those
        come first that know most of authority, for who cannot name them all."""
        return tuple(held.id for held in self._front_operations())

    @property
    def accusations_due(self) -> tuple[bytes, ...]:
        """Equivocators of whom the last operations that count have no proof together. When it is brought, more may be
        due, as who is fenced then may have brought it of others."""
        return self._unproven(self._front_operations()) if self._suspects() else ()

    def accusations_by(self, device: bytes) -> tuple[bytes, ...]:
        """Which ones a device has to bring at once before it writes anything else: those of whom the past of its next
        operation would have no proof. That of itself, after which it is heard no more, comes last and alone."""
        if not self._suspects():
            return ()
        tips, authority = self._history.tips(device)[:1], self.authority
        seen = [held for held in self._front_operations() if held not in tips][:DEPENDENCIES_MAX]
        due = self._unproven([*tips, *seen])
        due = tuple(each for each in due if each != device) or due
        room = self._room(device) - len(authority.acts)
        if device not in authority.owners:
            made = (authority.accusations & authority.written.get(device, 0)).bit_count()
            room = min(room, ACCUSATIONS_MAX - made)
        return due[: max(room, 1)]

    def _suspects(self) -> dict[bytes, None]:
        """Who is known to equivocate, if it ever had a role: else nothing could be taken in. Keys cost nothing, and
        whoever is fenced may have accused many."""
        return dict.fromkeys((*self._history.forks, *self.fenced_members, *self._evidence))

    def _unproven(self, seen: Iterable[Held]) -> tuple[bytes, ...]:
        known = 0
        for held in seen:
            known |= held.knows()
        return tuple(device for device in self._suspects() if not self._is_fenced(device, known))

    def accusation_of(self, device: bytes) -> Accuse:
        """Of one who is due: by both branches if they are here, or by what another accusation has shown."""
        fork = self._history.forks.get(device)
        if fork is not None:
            return accusation(self._history, fork.first, fork.second)
        if device in self._evidence:
            return self._evidence[device]
        change = self.fenced[device][0].operation.change
        assert isinstance(change, Accuse)
        return change

    def _front_operations(self) -> list[Held]:
        if self._front is None:
            self._front, self._is_front_clean = {}, False
            for held in self._history:
                if held.counts and held.operation.author not in self.authority.proofs:
                    _advance(self._front, held)
        front = list(self._front.values())
        if not self._is_front_clean and (self._inert or self.authority.proofs):
            front = [held for held in front if not any(other is not held and other.sees(held) for other in front)]
            self._front, self._is_front_clean = {held.id: held for held in front}, True
        return sorted(front, key=lambda held: (-(held.known | held.mark).bit_count(), held.id))


def _last_voucher(operations: list[Held], proofs: View) -> Held | None:
    """The last operation of a lane that knows none of these proofs and is no accusation: it has seen what all others
    of that kind have, as knowledge only grows."""
    count = bisect_left(operations, True, key=lambda held: held.known & proofs != 0)
    while count and isinstance(operations[count - 1].operation.change, Accuse):
        count -= 1
    return operations[count - 1] if count else None


def _advance(front: dict[bytes, Held], held: Held) -> None:
    """Put an operation in the place of those that it names."""
    front.pop(held.operation.previous, None)
    for identifier in held.operation.dependencies:
        front.pop(identifier, None)
    front[held.id] = held
