"""People with a group each, a journal each, and a store each that can lose its power at any write.

A ``Person`` is what an actor will be: it takes a step, hands the writes on, and does what is released. What it has
done, others know, so that outlives it: what it sent is in ``World.sent``, what it acknowledged in ``acknowledged``,
what its application took in ``read``. The rest is gone with a crash, and comes back from the store.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar
from unittest.mock import patch

import msgspec

from actors.group_mail import Entered, Heard, Invite, Post, Proven, Seen, Taken, group_stream, ledger_stream
from actors.journaled_group import JournaledGroup
from protocols.crypto import Secret
from protocols.journal import Batch, Journal, JournalKeys, Store, Stream
from protocols.journal.messages import Append, Durable, Forget, Recovered, Settle, Snapshot, Write
from protocols.messages import Message
from protocols.mls.errors import MlsError
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Add, Proposal
from protocols.mls.protection import seal_plaintext
from protocols.mls.records import STATES, GroupState
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention
from protocols.mls.staging import MissingProposalsError, StagedCommit
from protocols.mls.suite import Entropy
from tests.protocols.journal.memory import MemoryStore, Place
from tests.protocols.mls.kit import Client
from tests.protocols.mls.peers import durable_part
from tests.protocols.mls.room import GROUP_ID, NOW_NS, SERVICES, person
from tests.protocols.mls.trees import counting_entropy

RETENTION = Retention(epochs=2)
STREAMS = group_stream(GROUP_ID), ledger_stream(GROUP_ID)

T = TypeVar("T")


class PowerCutError(Exception):
    """The person has forgotten everything that is not in the store."""


@dataclass
class Cut:
    """When the power goes: at the write of this number, counted from now."""

    at: int
    late: bool
    """That write is done, and nobody learns of it."""


@dataclass
class Person:
    client: Client
    world: "World"
    entropy: Entropy
    store: Store
    cut: Cut | None = None
    writes: int = 0
    crashes: int = 0
    held: JournaledGroup | None = None
    acknowledged: set[int] = field(default_factory=set)
    read: dict[int, Heard] = field(default_factory=dict)
    entered: list[bytes] = field(default_factory=list)
    proofs: list[bytes] = field(default_factory=list)
    last: GroupState | None = None
    """The state after the last turn that ended,"""
    dying: GroupState | None = None
    """and that in which the power went,"""
    dying_whole: GroupState | None = None
    was_late: bool = False
    """once it was written."""
    settled: set[int] = field(default_factory=set)
    confirmed: bool = False
    """So keys of ours were skipped, whenever they are: their ratchets need not be where they were."""

    @property
    def name(self) -> str:
        return self.client.name

    @property
    def group(self) -> JournaledGroup:
        assert self.held is not None
        return self.held

    @property
    def state(self) -> GroupState:
        return durable_part(self.group._group)

    # -- the journal ----------------------------------------------------------------------------------

    def open(self) -> tuple[Recovered, Recovered]:
        """As after a start of the peer."""
        self.store = self.world.opened(self.name, self.store)
        self.journal = Journal.open(JournalKeys(Secret(b"root key of " + self.name.encode().rjust(20))), self.store)
        self.streams: dict[bytes, Stream] = {}
        recovered = []
        for name in STREAMS:
            self.streams[name], found = self.journal.open_stream(name)
            recovered.append(Recovered(name, found.snapshot, found.records, found.clean))
        return recovered[0], recovered[1]

    @property
    def rows(self) -> dict[Place, bytes]:
        """What a store in memory holds."""
        assert isinstance(self.store, MemoryStore)
        return self.store.stored

    @rows.setter
    def rows(self, rows: dict[Place, bytes]) -> None:
        self.store = MemoryStore(rows)

    def turn(self, step: Callable[[JournaledGroup], T]) -> T:
        answer = step(self.group)
        self.pump()
        return answer

    def pump(self) -> None:
        """What a turn writes is one batch."""
        writes = self.group.writes()
        for write in writes:
            stream = self.streams[write.stream]
            match write:
                case Append():
                    stream.append(write.entries, NOW_NS)
                case Snapshot():
                    stream.snapshot(write.state, erase=write.erase)
                case Settle():
                    stream.settle()
                case Forget():
                    self.journal.remove_stream(write.stream)
        if self.world.checkpoints:
            self.held = JournaledGroup.from_bytes(self.group.to_bytes(), services=SERVICES, retention=RETENTION)
        if writes:
            self.flush()
        acknowledge(self.group, *writes)
        self.act()
        self.last = self.state

    def flush(self) -> None:
        batch = self.journal.flush(self.entropy)
        going = self.cut is not None and self.cut.at == self.writes
        if not going or (self.cut is not None and self.cut.late):
            self.write(batch)
        self.writes += 1
        if going:
            # What is to come back, byte for byte but for our own ratchets, if this step is the last that is there.
            self.dying_whole = whole_state(self.group._group)
            self.dying, self.was_late = self.state, self.cut is not None and self.cut.late
            self.cut, self.held = None, None
            self.crashes += 1
            raise PowerCutError

    def recover(self) -> bool:
        """Whether there is a group."""
        self.held = JournaledGroup.recover(*self.open(), services=SERVICES, retention=RETENTION)
        if self.held is not None:
            self.act()
            self.last = self.state
        return self.held is not None

    def close(self) -> None:
        """In order."""
        self.write(self.journal.close(self.entropy))
        self.held = None

    def write(self, batch: Batch | None) -> None:
        if batch is not None:
            self.store.write(batch, NOW_NS)

    # -- what others see ------------------------------------------------------------------------------

    def act(self) -> None:
        for effect in self.group.released():
            self.do(effect)

    def do(self, effect: Message) -> None:
        match effect:
            case Post(message=message):
                self.world.send(self.name, message)
            case Invite():
                self.world.invitations.append(effect)
            case Heard(number):
                assert self.read.setdefault(number, effect) == effect
            case Taken(receipt):
                self.acknowledged.add(int(receipt))
            case Entered(epoch):
                self.entered.append(epoch)
            case Proven(_, evidence):
                self.proofs.append(evidence)


@dataclass
class World:
    people: dict[str, Person] = field(default_factory=dict)
    opened: Callable[[str, Store | None], Store] = lambda _, store: store or MemoryStore()
    """Somebody's store, in place of what was open."""
    sent: dict[bytes, str] = field(default_factory=dict)
    """Every message that left its author, once."""
    texts: dict[bytes, bytes] = field(default_factory=dict)
    """What was said in a message, whether or not it left."""
    entropy: Entropy = field(default_factory=lambda: counting_entropy("world"))
    invitations: list[Invite] = field(default_factory=list)
    checkpoints: bool = False
    """Whether a group goes to bytes and comes back whenever something was written."""
    under: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """The key and nonce that a message was sealed under, whether or not it left."""
    used: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    """And of those that left, the other way about."""

    def person(self, name: str) -> Person:
        if name not in self.people:
            entropy = counting_entropy(f"journal of {name}")
            self.people[name] = Person(person(name), self, entropy, self.opened(name, None))
            self.people[name].open()
        return self.people[name]

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    def sealed(self, *arguments: msgspec.Struct) -> msgspec.Struct:
        """In place of ``seal_plaintext``."""
        message = seal_plaintext(*arguments)  # type: ignore[arg-type]
        key = arguments[2]
        self.under[encode_message(message)] = key.key, key.nonce  # type: ignore[attr-defined]
        return message

    def send(self, name: str, message: bytes) -> None:
        self.sent.setdefault(message, name)
        if message in self.under:
            assert self.used.setdefault(self.under[message], message) == message, "a key and nonce sealed two messages"

    # -- steps, which are taken again if the power went before they were done -------------------------

    def do(self, name: str, step: Callable[[JournaledGroup], object]) -> None:
        """A step of one record."""
        someone = self.people[name]
        before = someone.state
        try:
            someone.turn(step)
        except PowerCutError:
            self.restart(name)
            if someone.state == before:
                self.do(name, step)

    def restart(self, name: str) -> None:
        """After a crash; others tell how far they saw it."""
        someone = self.people[name]
        last, dying = someone.last, someone.dying
        assert someone.recover()
        assert someone.state == (dying if someone.was_late else last)
        if someone.was_late and not someone.confirmed:
            assert whole_state(someone.group._group) == someone.dying_whole
        kept = {each.number for each in someone.group.mail}
        assert all(number in kept or number in someone.settled for number in someone.read)
        if not someone.group.confirmed:
            self.confirm(name)

    def confirm(self, name: str) -> None:
        someone = self.people[name]
        someone.confirmed = True
        seen: list[Seen] = []
        for other in self.people.values():
            leaf = None if other is someone or other.held is None else self.leaf(name, other.name)
            seen += () if leaf is None else other.group.seen_of(leaf)
        try:
            someone.turn(lambda group: group.confirm(seen))
        except PowerCutError:
            assert someone.recover()
            self.confirm(name)

    def leaf(self, name: str, seen_by: str) -> LeafIndex | None:
        """Where somebody sits, in the epoch of somebody else."""
        credential, members = (
            self.people[name].client.leaf.credential,
            self.people[seen_by].group.current.tree.members(),
        )
        return next((leaf for leaf, node in members if node.credential == credential), None)

    def create(self, name: str) -> None:
        someone = self.person(name)

        def begin() -> None:
            group = Group.create(
                someone.client.bundle,
                GROUP_ID,
                entropy=someone.client.entropy,
                now_ns=NOW_NS,
                services=SERVICES,
                retention=RETENTION,
            )
            someone.held = JournaledGroup.begin(group)
            someone.pump()

        self.until_there(name, begin)

    def join(self, name: str) -> None:
        """By the newest invitation for somebody of this name."""
        someone = self.person(name)
        invite = self.invitations[-1]

        def begin() -> None:
            for _, welcome in invite.sealed():
                joined = stage_welcome(welcome, [someone.client.bundle], psks=SERVICES.psks)
                ledger = SendLedger()
                group = Group.join(joined, now_ns=NOW_NS, ledger=ledger, services=SERVICES, retention=RETENTION)
                someone.held = JournaledGroup.begin(group)
            someone.pump()

        self.until_there(name, begin)

    def until_there(self, name: str, begin: Callable[[], None]) -> None:
        someone = self.person(name)
        try:
            begin()
        except PowerCutError:
            if someone.recover():
                self.confirm(name)
            else:
                # It was never anywhere: what the ledger's stream has is not of this group.
                begin()

    def say(self, name: str, data: bytes) -> None:
        self.do(name, lambda group: self.speak(group, data))

    def speak(self, group: JournaledGroup, data: bytes) -> None:
        group.send(data, entropy=self.entropy, despite_proposals=True)
        post = group.mail[-1]
        assert isinstance(post, Post)
        self.texts[post.message] = data

    def settle(self, name: str) -> None:
        """All mail was taken."""
        someone = self.people[name]
        numbers = [each.number for each in someone.group.mail]
        someone.settled.update(numbers)
        self.do(name, lambda group: group.settle(*numbers))

    def commit(self, name: str, *proposals: Proposal, adopt: bool = True, public: bool = False) -> StagedCommit:
        someone = self.people[name]
        parent = someone.group.current.authenticator

        def step(group: JournaledGroup) -> None:
            group.commit(proposals, entropy=someone.client.entropy, now_ns=NOW_NS, public=public)

        self.do(name, step)
        [own] = [each for each in someone.group.staged(parent) if each.own]
        if adopt:
            self.do(name, lambda group: group.adopt(own_of(group, own), now_ns=NOW_NS))
        return own

    def add(self, name: str, *names: str) -> StagedCommit:
        return self.commit(name, *(Add(self.person(each).client.key_package) for each in names))

    def deliver(self, *names: str, adopt: bool = True) -> None:
        """All that was sent to these, who follow the commits that they find. What is not acknowledged comes again."""
        for name in names or self.people:
            someone = self.people[name]
            if someone.held is None:
                continue
            for number, (message, author) in enumerate(list(self.sent.items())):
                if author != name and number not in someone.acknowledged:
                    self.hand_over(name, message, number, adopt)

    def hand_over(self, name: str, message: bytes, number: int, adopt: bool) -> None:
        someone = self.people[name]

        def step(group: JournaledGroup) -> None:
            try:
                received = group.receive(message, b"%d" % number)
            except MlsError as error:
                if error.reason in ("9.2/generation-used", "15.3/generation-too-old"):
                    someone.acknowledged.add(number)  # it came before, and the acknowledgement was lost
                elif error.reason not in OF_ANOTHER_EPOCH:
                    raise
                received = None
            found = None if received is None else received.content
            if isinstance(found, VerifiedCommit) and adopt and found.epoch == group.current.authenticator:
                with suppress(MissingProposalsError):
                    group.adopt(group.stage(found, now_ns=NOW_NS), now_ns=NOW_NS)

        try:
            someone.turn(step)
        except PowerCutError:
            self.restart(name)
            self.follow(name) if adopt else None
            if number not in someone.acknowledged:
                self.hand_over(name, message, number, adopt)

    def follow(self, name: str) -> None:
        """A commit that arrived before a crash, and was not gone on with."""
        someone = self.people[name]
        for commit in someone.group.commits():
            if not any(each.own for each in someone.group.staged()):
                self.do(name, lambda group, commit=commit: group.stage(commit, now_ns=NOW_NS))  # type: ignore[misc]
                [staged] = someone.group.staged()
                self.do(name, lambda group, staged=staged: group.adopt(own_of(group, staged), now_ns=NOW_NS))  # type: ignore[misc]
                break


def whole_state(group: Group) -> GroupState:
    """All that is stored, but for the message keys of staged commits: an epoch that was entered has others by now."""
    state = STATES.decode(group.to_bytes())
    assert isinstance(state, GroupState)
    replace = msgspec.structs.replace
    kept = [replace(each, staged=tuple(replace(one, keys=b"") for one in each.staged)) for each in state.kept]
    return replace(state, kept=tuple(kept))


@contextmanager
def watched(world: World) -> Iterator[World]:
    """No key seals two messages that leave."""
    with patch("protocols.mls.group.seal_plaintext", world.sealed):
        yield world


def meet(world: World) -> None:
    """Three in a group."""
    world.create("ada")
    world.add("ada", "bob", "cyd")
    world.join("bob")
    world.join("cyd")


def recovered(person: Person) -> JournaledGroup:
    """As the store has it."""
    found = JournaledGroup.recover(*person.open(), services=SERVICES, retention=RETENTION)
    assert found is not None
    return found


def acknowledge(group: JournaledGroup, *writes: Write) -> None:
    """As the journal does, which has no answer to what nobody waits for."""
    for write in writes:
        if not isinstance(write, Settle):
            group.durable(Durable(write.token, write.stream, 0))


OF_ANOTHER_EPOCH = ("6/past-epoch", "6/future-epoch", "6.2/membership-tag", "6.3.2/sender-data")


def own_of(group: JournaledGroup, commit: StagedCommit) -> StagedCommit:
    """The same commit as this group has it, perhaps since a crash."""
    [found] = [each for each in group.staged(commit.parent) if each.id == commit.id]
    return found
