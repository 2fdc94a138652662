"""A group that lives at random: what no story foresaw, repeatable by its seed.

Members come and go in all the ways there are, and the tree gets the holes, unmerged leaves and shrinkings that a
story of four members never has. After every Commit all are compared, as in the stories.

ts-mls 1.6 refuses to join a tree in which two parents above an unmerged leaf list different unmerged leaves. Section
7.9.2 only wants the leaf itself in both lists: the upper one has leaves that the lower one is not above. Whoever is
kept out so is removed again, or stays out. And it knows that it was removed by its leaf being blank, so not when the
same Commit adds somebody there (section 12.3).
"""

import itertools
from random import Random
from typing import Final

from tests.interop.member import Add, Member, Refused, Remove, Update
from tests.interop.stories import Cast, Room, join_alone

MEMBERS_MAX: Final = 9
"""Enough for a tree of five levels; the time of a step grows with the square."""

UNMERGED: Final = "must list leaf node in its unmerged_leaves"
"""What ts-mls says of the trees that it wrongly refuses."""

REPLACED: Final = "No overlap between provided private keys and update path"
"""What it says of a Commit that gives its leaf to another."""


class Crowd(Room):
    """A room in which some may not get in."""

    def enter(self, name: str, newcomer: Member, welcome: bytes, tree: bytes) -> None:
        try:
            super().enter(name, newcomer, welcome, tree)
        except Refused as refused:
            if UNMERGED not in str(refused):
                raise
            self.absent.append(name)


class Walk:
    """One life of one group."""

    def __init__(self, cast: Cast, seed: int) -> None:
        self._random: Final = Random(seed)
        self._room: Final = Crowd(cast, public=self._random.random() < 0.5)
        self._names: Final = (f"member {number}" for number in itertools.count())
        self._room.found(next(self._names))
        self._room.add("member 0", next(self._names))

    def step(self) -> None:
        size = len(self._room.members)
        steps = [self.rekey, self.propose_and_commit, self.resync, self.say_late]
        if size < MEMBERS_MAX:
            steps += [self.add, self.add, self.join_alone]
        if size > 2:
            steps += [self.remove, self.remove]
        self._random.choice(steps)()
        while self._room.absent:
            name = self._room.absent.pop()
            self._room.commit(self._somebody(), Remove(self._leaf(name)))

    def finish(self) -> None:
        for name in list(self._room.members):
            self._room.commit(name)
        self._room.talk()

    def rekey(self) -> None:
        self._room.commit(self._somebody())

    def add(self) -> None:
        count = self._random.randint(1, min(3, MEMBERS_MAX - len(self._room.members)))
        names = list(itertools.islice(self._names, count))
        self._room.add(self._somebody(), *names, with_tree=self._random.random() < 0.5)

    def remove(self) -> None:
        author, gone = self._random.sample(list(self._room.members), 2)
        self._room.remove(author, gone)

    def propose_and_commit(self) -> None:
        """Some propose; another commits to all of it. No leaf is meant twice, as a list may not."""
        room = self._room
        committer, *others = self._shuffled()
        newcomers: dict[str, Member] = {}
        removed: list[Member] = []
        for author in others[:3]:
            wish = self._random.choice(("update", "add", "remove"))
            targets = [name for name in others[3:] if name in room.members]
            if wish == "add" and len(room.members) + len(newcomers) < MEMBERS_MAX:
                name = next(self._names)
                newcomers[name] = room.newcomer(name)
                room.propose(author, Add(newcomers[name].key_package()))
            elif wish == "remove" and len(targets) > len(removed):
                target = room.members[targets[len(removed)]]
                room.propose(author, Remove(target.own_index()))
                removed.append(target)
            else:
                room.propose(author, Update())
        for name in [name for name, member in room.members.items() if member in removed]:
            del room.members[name]
        committed = room.commit(committer, newcomers=newcomers)
        for gone in removed:
            try:
                assert gone.process(committed.commit).removed
            except Refused as refused:
                if REPLACED not in str(refused) or not newcomers:
                    raise

    def join_alone(self) -> None:
        name = next(self._names)
        self._from_outside(self._somebody(), name, self._room.newcomer(name), resync=False)

    def resync(self) -> None:
        host, name = self._random.sample(list(self._room.members), 2)
        self._from_outside(host, name, self._room.members.pop(name), resync=True)

    def _from_outside(self, host: str, name: str, member: Member, resync: bool) -> None:
        try:
            join_alone(self._room, host, name, member, self._random.random() < 0.5, resync)
        except Refused as refused:
            if UNMERGED not in str(refused):
                raise
            if resync:
                self._room.members[name] = member

    def say_late(self) -> None:
        """Something is said in one epoch and heard in the next."""
        author = self._somebody()
        message = self._room.members[author].encrypt(b"late")
        self._room.commit(self._somebody())
        self._room.hear(author, b"late", message)

    def _somebody(self) -> str:
        return self._random.choice(list(self._room.members))

    def _shuffled(self) -> list[str]:
        return self._random.sample(list(self._room.members), len(self._room.members))

    def _leaf(self, name: str) -> int:
        members = next(iter(self._room.members.values())).status().members
        return next(index for index, identity in members.items() if identity == name.encode())


def wander(cast: Cast, seed: int, steps: int) -> None:
    walk = Walk(cast, seed)
    for _ in range(steps):
        walk.step()
    walk.finish()
