"""Lives of groups, told to whichever implementations take part.

A story names its members; the cast decides what each of them is. After every Commit all members are compared: epoch
authenticator, an exported secret, tree hash, transcript hash, roster, extensions. What differs is named by the member
who stands apart from the one who committed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

import pytest

from tests.interop.member import (
    Add,
    Committed,
    Extensions,
    ExternalPsk,
    GroupContextExtensions,
    Member,
    Proposal,
    ReInit,
    Remove,
    ResumptionPsk,
    Update,
)

Cast = Callable[[str], Member]
"""A fresh client of this name, of the story's cipher suite."""


class Story(Protocol):
    """Told with a cast, its cipher suite, and whether handshake messages are PublicMessages."""

    __name__: str

    def __call__(self, cast: Cast, suite: int, public: bool) -> None: ...


GROUP: Final = b"a group in a story"
REQUIRED_CAPABILITIES: Final = 3
BASIC_ONLY: Final = bytes.fromhex("0000020001")
"""RequiredCapabilities (section 11.1): no extension, no proposal type, the basic credential."""


class Room:
    """The members of one group, and a wire that reaches all of them at once."""

    def __init__(self, cast: Cast, public: bool) -> None:
        self._cast = cast
        self._public = public
        self.members: dict[str, Member] = {}
        self.absent: list[str] = []
        """Who is in the tree and could not join."""

    def found(self, name: str, extensions: Extensions = ()) -> Member:
        founder = self.newcomer(name)
        founder.create_group(GROUP, extensions)
        self.members[name] = founder
        return founder

    def newcomer(self, name: str) -> Member:
        return self._cast(name)

    def add(self, author: str, *names: str, with_tree: bool = True) -> None:
        """``author`` adds newcomers, who join from one Welcome."""
        newcomers = {name: self.newcomer(name) for name in names}
        adds = [Add(each.key_package()) for each in newcomers.values()]
        self.commit(author, *adds, newcomers=newcomers, with_tree=with_tree)

    def remove(self, author: str, name: str) -> None:
        removed = self.members[name].own_index()
        leaving = self.members.pop(name)
        committed = self.commit(author, Remove(removed))
        assert leaving.process(committed.commit).removed

    def propose(self, author: str, proposal: Proposal) -> None:
        self.relay(author, self.members[author].propose(proposal, public=self._public), "proposal")

    def commit(
        self, author: str, *proposals: Proposal, newcomers: dict[str, Member] | None = None, with_tree: bool = True
    ) -> Committed:
        """A Commit that everybody reads, and the Welcome that the newcomers join with."""
        committed = self.members[author].commit(*proposals, public=self._public, with_tree=with_tree)
        self.relay(author, committed.commit, "commit")
        tree = b"" if with_tree else self.members[author].ratchet_tree()
        for name, newcomer in (newcomers or {}).items():
            assert committed.welcome is not None
            self.enter(name, newcomer, committed.welcome, tree)
        self.agree(author)
        return committed

    def enter(self, name: str, newcomer: Member, welcome: bytes, tree: bytes) -> None:
        newcomer.join(welcome, tree)
        self.members[name] = newcomer

    def relay(self, author: str, message: bytes, kind: str) -> None:
        for name, member in self.members.items():
            if name != author:
                assert member.process(message).kind == kind, f"{kind} of {author} at {name}"

    def agree(self, author: str) -> None:
        views = {name: (member.status(), _exported(member)) for name, member in self.members.items()}
        for name, view in views.items():
            assert view == views[author], f"{name} is not where {author} is"
        status, _ = views[author]
        assert sorted(status.members.values()) == sorted(name.encode() for name in (*self.members, *self.absent))

    def talk(self) -> None:
        """Everybody says two things, and everybody else hears the second before the first."""
        for author, member in self.members.items():
            first, second = (f"{author} says {ordinal}".encode() for ordinal in ("one", "two"))
            sent = {data: member.encrypt(data, authenticated_data=b"in the clear") for data in (first, second)}
            for data in (second, first):
                self.hear(author, data, sent[data])

    def hear(self, author: str, data: bytes, message: bytes) -> None:
        for name, member in self.members.items():
            if name != author:
                received = member.process(message)
                assert (received.kind, received.data) == ("application", data), f"{author} to {name}"


def _exported(member: Member) -> bytes:
    return member.export("interop", b"of this epoch", 32)


def membership(cast: Cast, suite: int, public: bool) -> None:
    """Members are added with the tree in the Welcome or beside it, re-key by empty Commits, leave, are replaced."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob")
    room.talk()
    room.add("bob", "carol", with_tree=False)
    for author in ("carol", "bob", "alice"):
        room.commit(author)
    room.talk()
    room.remove("carol", "bob")
    room.add("alice", "dave", "erin")
    assert room.members["dave"].own_index() == 1
    for author in ("erin", "dave", "carol"):
        room.commit(author)
    room.remove("dave", "alice")
    room.talk()


def by_reference(cast: Cast, suite: int, public: bool) -> None:
    """An Update, an Add and a Remove, each of another member, are committed by a fourth; both who re-keyed go on."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob", "carol", "dave")
    room.propose("bob", Update())
    room.commit("alice")
    room.talk()

    erin, dave = room.newcomer("erin"), room.members["dave"]
    room.propose("alice", Update())
    room.propose("carol", Add(erin.key_package()))
    room.propose("carol", Remove(dave.own_index()))
    del room.members["dave"]
    room.commit("bob", newcomers={"erin": erin})
    room.commit("erin")
    room.commit("alice")
    room.talk()


def late_message(cast: Cast, suite: int, public: bool) -> None:
    """What was said in an epoch is heard after the next two have begun."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob")
    late = {name: member.encrypt(b"late") for name, member in room.members.items()}
    room.commit("bob")
    room.commit("alice")
    for author, message in late.items():
        room.hear(author, b"late", message)


def external_join(cast: Cast, suite: int, public: bool) -> None:
    """Newcomers add themselves, the tree in the GroupInfo or beside it; one that lost its keys comes back."""
    room = Room(cast, public)
    room.found("alice")
    for host, name, with_tree in (("alice", "bob", True), ("bob", "carol", False), ("carol", "dave", True)):
        join_alone(room, host, name, room.newcomer(name), with_tree)
    room.remove("alice", "bob")
    join_alone(room, "dave", "erin", room.newcomer("erin"), with_tree=True)
    assert room.members["erin"].own_index() == 1
    room.commit("carol")
    join_alone(room, "alice", "dave", room.members.pop("dave"), with_tree=True, resync=True)
    room.commit("erin")
    room.talk()


def join_alone(room: Room, host: str, name: str, newcomer: Member, with_tree: bool, resync: bool = False) -> None:
    group_info = room.members[host].group_info(with_tree)
    tree = b"" if with_tree else room.members[host].ratchet_tree()
    commit = newcomer.external_commit(group_info, tree, resync)
    room.relay(name, commit, "commit")
    room.members[name] = newcomer
    room.agree(name)
    room.hear(name, b"here I am", newcomer.encrypt(b"here I am"))


def request_to_join(cast: Cast, suite: int, public: bool) -> None:
    """A newcomer proposes its own Add from outside; a member commits to it."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob")
    carol = room.newcomer("carol")
    room.relay("carol", carol.propose_to_join(room.members["alice"].group_info()), "proposal")
    room.commit("bob", newcomers={"carol": carol})
    room.talk()


def psks(cast: Cast, suite: int, public: bool) -> None:
    """A secret agreed elsewhere, and one of an epoch long past, enter the key schedule; a newcomer knows the first."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob")
    epoch = room.members["alice"].status().epoch
    room.commit("bob")
    carol = room.newcomer("carol")
    for member in (*room.members.values(), carol):
        member.store_psk(b"from elsewhere", b"known to three")
    room.commit("bob", ExternalPsk(b"from elsewhere"), ResumptionPsk(epoch))
    room.propose("alice", ExternalPsk(b"from elsewhere"))
    room.commit("bob", Add(carol.key_package()), newcomers={"carol": carol})
    room.talk()


def group_context(cast: Cast, suite: int, public: bool) -> None:
    """The group's extensions are set when it is founded, and replaced, by a member whose Commit of that has a path."""
    room = Room(cast, public)
    room.found("alice", [(REQUIRED_CAPABILITIES, BASIC_ONLY)])
    room.add("alice", "bob", "carol")
    assert room.members["bob"].status().extensions == ((REQUIRED_CAPABILITIES, BASIC_ONLY),)
    able = [name for name, member in room.members.items() if member.changes_context_by_path]
    author = able[0] if able else "alice"
    room.commit(author, GroupContextExtensions([(REQUIRED_CAPABILITIES, bytes(3))]))
    assert room.members["carol"].status().extensions == ((REQUIRED_CAPABILITIES, bytes(3)),)
    room.commit("bob")
    room.talk()


def reinitialisation(cast: Cast, suite: int, public: bool) -> None:
    """The group is frozen, and goes on under another name in another cipher suite."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob", "carol")
    other = suite % 3 + 1
    room.commit("bob", ReInit(b"the next group", other))
    _succeed(room, "alice", "reinit", other)


def branching(cast: Cast, suite: int, public: bool) -> None:
    """Two of three found a subgroup that only who shared the first group can enter."""
    room = Room(cast, public)
    room.found("alice")
    room.add("alice", "bob", "carol")
    del room.members["alice"]
    _succeed(room, "bob", "branch", suite)


def _succeed(room: Room, author: str, usage: Literal["reinit", "branch"], suite: int) -> None:
    others = {name: member for name, member in room.members.items() if name != author}
    key_packages = [member.key_package(suite) for member in others.values()]
    founder = room.members[author]
    welcome = founder.succeed(usage, b"the next group", key_packages, suite)
    for member in others.values():
        member.join(welcome, founder.ratchet_tree(), resume=True)
    assert founder.status().epoch == 1
    room.agree(author)
    room.commit(next(iter(others)))
    room.talk()


def tellings(suites: Sequence[int], turn: int = 0) -> list[Any]:
    """Story, suite and wire format, as pytest's parameters: in these suites once, and all the rest in the campaign.

    ``turn``: which stories are told in public; another cast takes the other turn.
    """
    once = [(story, suite, (i + turn) % 2 == 1) for suite in suites for i, story in enumerate(STORIES)]
    every = [(story, suite, public) for story in STORIES for suite in SUITES for public in (False, True)]
    more = [each for each in every if each not in once]
    return [_telling(*each) for each in once] + [_telling(*each, marks=[pytest.mark.campaign]) for each in more]


def _telling(story: Story, suite: int, public: bool, marks: Sequence[pytest.MarkDecorator] = ()) -> Any:
    name = f"{story.__name__}-{suite}-{'public' if public else 'private'}"
    return pytest.param(story, suite, public, id=name, marks=marks)


SUITES: Final = (1, 2, 3, 4, 5, 6, 7, 0x53, 0x54)
"""Those of RFC 9420, and ts-mls's two of X-Wing with Ed25519."""

STORIES: Final[tuple[Story, ...]] = (
    membership,
    by_reference,
    late_message,
    external_join,
    request_to_join,
    psks,
    group_context,
    reinitialisation,
    branching,
)
