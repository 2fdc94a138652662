"""The definition of what counts, on sets of ids and nothing else, as slow as it is short; and a court to hold to it.

Written from the words of ``resolution`` and ``judgement``, without masks, lanes or anything incremental.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocols.crdt.changes import Accuse, Acknowledge, Genesis, Grant, Revoke, Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.evidence import check_accusation
from protocols.crdt.history import Held, History
from protocols.crdt.judgement import Judge
from protocols.crdt.operations import NOTHING, Operation
from tests.protocols.crdt.worlds import Written

FAR: Final = 10**6


class Outcome(NamedTuple):
    """What all replicas that hold a set have to agree on."""

    counts: dict[bytes, bool]
    roles: dict[bytes, Role]
    fenced: list[bytes]


class Court:
    """A history with a judge: what there is of a replica that decides."""

    def __init__(self, channel: bytes, written: Sequence[Written] = (), eager: bool = True) -> None:
        self.history: Final = History(channel)
        self.judge: Final = Judge(self.history)
        self._eager: Final = eager
        for each in written:
            self.take(each)
        self.judge.rejudge()

    def take(self, written: Written) -> Held:
        held = self.history.place(written.operation, written.seal, None)
        self.judge.admit(held)
        self.history.add(held)
        if self.judge.added(held) and self._eager:
            self.judge.rejudge()
        return held

    def refusal(self, written: Written) -> str | None:
        """Why it would not be taken, if so."""
        try:
            self.judge.admit(self.history.place(written.operation, written.seal, None))
        except CrdtError as error:
            return error.reason
        return None

    def counts(self, written: Written) -> bool:
        return self.history.operations[written.id].counts

    def outcome(self) -> Outcome:
        self.judge.rejudge()
        return Outcome(
            {held.id: held.counts for held in self.history}, dict(self.judge.members), sorted(self.judge.fenced)
        )


class Reference:
    """The outcome of a set of operations that were all admitted."""

    def __init__(self, channel: bytes, operations: Sequence[Operation]) -> None:
        self.operations: Final = {each.id: each for each in operations}
        self.past: Final[dict[bytes, set[bytes]]] = {}
        for each in operations:  # causes come before effects
            direct = {*each.dependencies, each.previous} - {NOTHING}
            self.past[each.id] = direct.union(*(self.past[other] for other in direct))
        self.channel: Final = channel
        genesis = self.operations[channel].change
        assert isinstance(genesis, Genesis)
        self.first_roles: Final = dict(genesis.roles)
        self.accused: Final = {
            each.id: check_accusation(channel, each.change.first, each.change.second)
            for each in operations
            if isinstance(each.change, Accuse)
        }
        self.fenced: Final = set(self.accused.values())
        self.late: dict[bytes, set[bytes]] = {each.id: set() for each in operations}
        """Of each act, the revocations that do not defeat it."""

    def outcome(self) -> Outcome:
        effective = self.effective()
        counts = {}
        for each in self.operations.values():
            if isinstance(each.change, Genesis | Grant | Revoke):
                counts[each.id] = each.id in effective
            elif not self.trusted(each):
                counts[each.id] = False
            else:
                needed = Role.READER if isinstance(each.change, Accuse | Acknowledge) else Role.MEMBER
                counts[each.id] = self.role(each.author, self.past[each.id] & effective) >= needed and not any(
                    other in effective for other in self.defeaters(each)
                )
        devices = {
            *self.first_roles,
            *(e.change.device for e in self.operations.values() if isinstance(e.change, Grant)),
        }
        roles = {device: Role(role) for device in devices if (role := self.role(device, effective))}
        return Outcome(counts, roles, sorted(self.fenced))

    def trusted(self, operation: Operation) -> bool:
        """Its author is unfenced, or it is vouched."""
        if operation.author not in self.fenced or operation.id == self.channel:
            return True
        return any(
            other.author not in self.fenced
            and not isinstance(other.change, Accuse)
            and operation.id in self.past[other.id]
            and not any(self.accused.get(each) == operation.author for each in self.past[other.id])
            for other in self.operations.values()
        )

    def role(self, device: bytes, view: set[bytes]) -> int:
        revocations = {each for each in view if self.removes(each, device)}
        roles = [0]
        for each in view:
            change = self.operations[each].change
            if each == self.channel and not revocations:
                roles.append(int(self.first_roles.get(device, 0)))
            elif isinstance(change, Grant) and change.device == device and revocations <= self.past[each]:
                roles.append(int(change.role))
        return max(roles)

    def removes(self, identifier: bytes, device: bytes) -> bool:
        change = self.operations[identifier].change
        return isinstance(change, Revoke) and change.device == device

    def defeaters(self, operation: Operation) -> set[bytes]:
        return {
            each
            for each in self.operations
            if self.removes(each, operation.author)
            and each != operation.id
            and each not in self.past[operation.id]
            and operation.id not in self.past[each]
            and each not in self.late[operation.id]
        }

    def effective(self) -> set[bytes]:
        acts = {each.id for each in self.operations.values() if isinstance(each.change, Grant | Revoke)}
        undecided = {each for each in acts if self.trusted(self.operations[each])}
        self.late = {each: set() for each in self.operations}
        effective = {self.channel}
        while undecided:
            settled = {}
            for each in undecided:
                best = self.verdict(each, effective, undecided, optimistic=True)
                worst = self.verdict(each, effective, undecided, optimistic=False)
                if best == worst:
                    settled[each] = best
            if not settled:
                for circle in self.circles(undecided):
                    if self.relieve(circle):
                        continue
                    revocations = [each for each in circle if isinstance(self.operations[each].change, Revoke)]
                    depths = {each: self.depth(each, effective | undecided, effective) for each in revocations}
                    for each in revocations:
                        if depths[each] == min(depths.values()):
                            settled[each] = True
            undecided -= set(settled)
            effective |= {each for each in settled if settled[each]}
        return effective

    def relieve(self, circle: set[bytes]) -> bool:
        """Let go of revocations that came too late for the owners."""
        views = self.views(circle)
        pairs = [
            (act, rival)
            for act in circle
            for rival in self.defeaters(self.operations[act]) & circle
            if any(act in view and rival not in view for view in views)
            and not any(rival in view and act not in view for view in views)
        ]
        for act, rival in pairs:
            self.late[act].add(rival)
        return bool(pairs)

    def views(self, circle: set[bytes]) -> list[set[bytes]]:
        views = []
        for owner in [device for device, role in self.first_roles.items() if role == Role.OWNER]:
            mine = [each for each in self.operations.values() if each.author == owner]
            for last in mine:
                if any(each.previous == last.id for each in mine):
                    continue
                branch = [each for each in mine if each.id == last.id or each.id in self.chain(last)]
                seen = [self.past[each.id] & circle for each in branch if self.trusted(each)]
                views.append(max((each for each in seen if each < circle), key=len, default=set()))
        return views

    def chain(self, operation: Operation) -> set[bytes]:
        ids = set()
        while operation.previous != NOTHING:
            ids.add(operation.previous)
            operation = self.operations[operation.previous]
        return ids

    def verdict(self, identifier: bytes, effective: set[bytes], undecided: set[bytes], optimistic: bool) -> bool:
        """With all doubts resolved for the act, or against it."""
        operation, past = self.operations[identifier], self.past[identifier]
        author = operation.author
        for_it, against_it = (effective | undecided, effective) if optimistic else (effective, effective | undecided)
        if self.defeaters(operation) & against_it:
            return False
        grants = {each for each in past & for_it if not self.removes(each, author)}
        revocations = {each for each in past & against_it if self.removes(each, author)}
        needed = Role.READER if self.removes(identifier, author) else Role.ADMIN
        return self.role(author, grants | revocations) >= needed

    def needs(self, identifier: bytes, undecided: set[bytes]) -> set[bytes]:
        """What its verdict can depend on."""
        operation = self.operations[identifier]
        in_past = set()
        for each in self.past[identifier]:
            change = self.operations[each].change
            if isinstance(change, Grant | Revoke) and change.device == operation.author:
                in_past.add(each)
        return (in_past | self.defeaters(operation)) & undecided

    def circles(self, undecided: set[bytes]) -> list[set[bytes]]:
        needs = {each: self.needs(each, undecided) for each in undecided}
        reach = {each: set(needs[each]) for each in undecided}
        for through in undecided:
            for each in undecided:
                if through in reach[each]:
                    reach[each] |= reach[through]
        components = {frozenset(b for b in undecided if b in reach[a] and a in reach[b]) for a in undecided}
        return [set(c) for c in components if c and all(needs[each] <= c for each in c)]

    def depth(self, identifier: bytes, alive: set[bytes], effective: set[bytes]) -> int:
        """Of its author when it acted."""
        operation, past = self.operations[identifier], self.past[identifier]
        if self.first_roles.get(operation.author) == Role.OWNER:
            return 0
        revocations = {each for each in past & effective if self.removes(each, operation.author)}
        depths = [FAR]
        for each in past & alive:
            change = self.operations[each].change
            if each == self.channel:
                if not revocations and self.first_roles.get(operation.author, 0) >= Role.ADMIN:
                    depths.append(1)
            elif isinstance(change, Grant) and (change.device, change.role) == (operation.author, Role.ADMIN):
                depths += [1 + self.depth(each, alive, effective)] if revocations <= self.past[each] else []
        return min(depths)
