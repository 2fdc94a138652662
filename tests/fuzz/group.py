"""Fuzzing a live group: what anybody can send to it, and what one of its members can.

Promised, whatever arrives:
- nothing but ``MlsError`` comes out;
- who refuses is exactly as before, byte for byte;
- who accepts agree: on the epoch, and on everything but what was encrypted to each alone; and they can talk;
- evidence against whoever commits twice convinces strangers;
- what was stored before, with the records since, is what the group is now;
- proposals that arrived, however bad, keep no honest member from committing, nor the others from following.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence
from protocols.mls.external import make_external_commit
from protocols.mls.framing import NEW_MEMBER_PROPOSAL, ApplicationData, PublicMessage, Sender, SenderType
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.key_package import KeyPackage
from protocols.mls.message import encode_message, parse
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Add
from protocols.mls.send_ledger import SendLedger
from protocols.mls.suite import SignatureKeyPair
from protocols.mls.welcome import GroupInfo, Welcome
from tests.fuzz import inviting
from tests.fuzz.draws import Draws
from tests.fuzz.forging import Mallory
from tests.fuzz.world import (
    CHECKS,
    HONEST,
    NOW_NS,
    SERVICES,
    SUITES,
    World,
    entropy_of,
    psks,
    world,
)

T = TypeVar("T")

PERSONAL: Final = (
    "5.1.3/decrypt",
    "7.5/path-secret-mismatch",
    "6/past-epoch",
    "8.4/unknown-psk",
    "12.1.2/unknown-update",
    "12.4.2/confirmation-tag",
)
"""Why one member may have to refuse what another accepts: it was given other secrets than the others, or lacks one
that they have, and they cannot see that. The protocol has no remedy but to commit again without it."""


class Member:
    """An honest one. Every call is watched."""

    def __init__(self, made: World, name: str) -> None:
        self.name: Final = name
        self.stored: Final = made.members[name]
        self.group: Final = made.restored(name)
        self.started: Final = self.group.epochs
        self.records: Final[list[bytes]] = []
        self._state = self.stored.state
        """What ``to_bytes`` says, as long as that is known."""

    def unless_refused(self, act: Callable[[], T]) -> T | MlsError:
        before = self._state or self.group.to_bytes()
        try:
            result = act()
        except MlsError as refused:
            if self.group.to_bytes() != before:
                raise AssertionError(f"{self.name} refused ({refused}) and is not as before") from refused
            self._state = before
            return refused
        self._state = b""
        return result

    def take(self, message: bytes) -> str | MlsError:
        """Receive it, and follow if it is a commit. Where that ended is said in a few words."""
        received = self.unless_refused(lambda: self.group.receive(message))
        if isinstance(received, MlsError):
            return received
        self.records.append(received.record)
        if received.evidence is not None:
            ForkEvidence.from_bytes(received.evidence.to_bytes()).verify()
        commit = received.content
        if not isinstance(commit, VerifiedCommit):
            return type(commit).__name__
        staged = self.unless_refused(lambda: self.group.stage(commit, now_ns=NOW_NS))
        if isinstance(staged, MlsError):
            return staged
        moved = self.group.adopt(staged.commit, now_ns=NOW_NS)
        self._state = b""
        self.records.extend((staged.record, moved.record))
        return "removed" if self.group.removed else self.group.current.authenticator.hex()

    def check_stored(self) -> None:
        """That a restart changes nothing."""
        if not any(self.records):
            return
        again = self.stored.restored()
        for record in filter(None, self.records):
            again.replay(record)
        assert again.to_bytes() == self.group.to_bytes(), f"{self.name}'s records do not lead to where it is"


def run(data: bytes) -> None:
    draws = Draws(data)
    scenario = draws.choice(SCENARIOS)
    scenario(world(draws.choice(SUITES)), draws)


# -- what anybody can send --------------------------------------------------------------------------------------


def raw(made: World, draws: Draws) -> None:
    """Bytes; seeds of this one are messages that are sound."""
    message = draws.rest()
    deliver(made, [message])
    _taken_outside(made, message)


def corrupted(made: World, draws: Draws) -> None:
    """A sound message with some change that its signature or tag should reveal, or somebody's twice."""
    messages = []
    for _ in range(1 + draws.below(3)):
        message = draws.choice(made.messages)
        messages.append(draws.altered(message) if draws.chance(2) else message)
    deliver(made, messages)
    _taken_outside(made, messages[0])


def _taken_outside(made: World, data: bytes) -> None:
    try:
        message = parse(data)
    except MlsError:
        return
    if isinstance(message, Welcome):
        invite(made, message)
    elif isinstance(message, GroupInfo):
        let_in(made, message)
    elif isinstance(message, KeyPackage):
        add(made, message)


# -- what a member can ------------------------------------------------------------------------------------------


def commits(made: World, draws: Draws) -> None:
    mallory = Mallory(made, made.restored("mallory"), draws)
    deliver(made, [mallory.protected(mallory.commit().authenticated) for _ in range(1 + draws.below(2))])


def external_commits(made: World, draws: Draws) -> None:
    mallory = Mallory(made, made.restored("mallory"), draws)
    forged = [mallory.external_commit(draws.choice(made.bundles)) for _ in range(1 + draws.below(2))]
    deliver(made, [mallory.protected(each.authenticated) for each in forged])


def proposals(made: World, draws: Draws) -> None:
    """Then alice commits whatever of them she can, with what waits already."""
    mallory = Mallory(made, made.restored("mallory"), draws)
    messages = []
    for _ in range(1 + draws.below(3)):
        proposal = mallory.proposal()
        sender, signer = None, None
        if draws.chance(4):
            sender, signer = Sender(SenderType.EXTERNAL, draws.below(2)), made.outsider
        elif isinstance(proposal, Add) and draws.chance(4):
            sender, signer = NEW_MEMBER_PROPOSAL, _owner(made, proposal.key_package)
        messages.append(mallory.sent(proposal, sender=sender, signer=signer))
    members = deliver(made, messages)
    alice, others = members[0], members[1:]
    own = alice.group.commit(entropy=entropy_of("alice"), now_ns=NOW_NS)
    alice.group.adopt(own.commit, now_ns=NOW_NS)
    for other in others:
        outcome = other.take(own.message)
        followed = "removed" if other.group.removed else alice.group.current.authenticator.hex()
        lacking = isinstance(outcome, MlsError) and outcome.reason == "8.4/unknown-psk"
        assert outcome == followed or lacking, f"{other.name} does not follow alice's commit: {outcome}"


def messages(made: World, draws: Draws) -> None:
    """Application data, in envelopes that lie about the sender, the generation or the padding."""
    mallory = Mallory(made, made.restored("mallory"), draws)
    deliver(made, [mallory.sent(ApplicationData(draws.take(draws.below(64)))) for _ in range(1 + draws.below(4))])


def key_packages(made: World, draws: Draws) -> None:
    """Published by Mallory, used by alice."""
    mallory = Mallory(made, made.restored("mallory"), draws)
    added = mallory.resigned(Add(mallory.changed(draws.choice(made.bundles).key_package)), 0)
    assert isinstance(added, Add)
    add(made, added.key_package)


def welcomes(made: World, draws: Draws) -> None:
    bundle = draws.choice(made.bundles)
    invite(made, inviting.welcome(Mallory(made, made.restored("mallory"), draws), bundle))


def group_infos(made: World, draws: Draws) -> None:
    let_in(made, inviting.group_info(Mallory(made, made.restored("mallory"), draws)))


SCENARIOS: Final = (
    raw,
    corrupted,
    commits,
    external_commits,
    proposals,
    messages,
    key_packages,
    welcomes,
    group_infos,
)


# -- what honest ones make of it --------------------------------------------------------------------------------


def deliver(made: World, messages: list[bytes]) -> list[Member]:
    """All of them to every honest member, in order."""
    members = [Member(made, name) for name in HONEST]
    for message in messages:
        _check_agreement([each.take(message) for each in members])
    for each in members:
        each.check_stored()
    _check_talk(members)
    return members


def _check_agreement(outcomes: list[str | MlsError]) -> None:
    """An echo is nobody's: Mallory can claim to be somebody, who then looks no further."""
    said = [each for each in outcomes if isinstance(each, str) and each != "Echo"]
    assert len({each for each in said if each != "removed"}) <= 1, f"they follow to different epochs: {outcomes}"
    refused = [each for each in outcomes if isinstance(each, MlsError) and each.reason not in PERSONAL]
    assert not said or not refused, f"some accept what others refuse: {outcomes}"


def _check_talk(members: list[Member]) -> None:
    """Who moved to one epoch understand each other there."""
    first, *others = members
    at, over = first.group.current.authenticator, first.group.removed or first.group.current.reinit is not None
    listeners = [each for each in others if each.group.current.authenticator == at and at not in each.started]
    if listeners and not over:
        sent = first.group.send(b"here", entropy=entropy_of("talk"))
        for each in listeners:
            heard = each.take(sent.message)
            assert heard == "ApplicationMessage", f"{each.name} hears of {first.name}: {heard}"


def invite(made: World, welcome: Welcome) -> None:
    """Whoever can join does, is stored and restored, and commits in the group that it believes in."""
    wire = encode_message(welcome)
    try:
        message = parse(wire)
        assert isinstance(message, Welcome)
        staged = stage_welcome(message, made.bundles, psks=psks, checks=CHECKS)
    except MlsError:
        return
    _live_in(Group.join(staged, now_ns=NOW_NS, services=SERVICES, ledger=SendLedger()))


def let_in(made: World, info: GroupInfo) -> None:
    """A stranger joins by an external commit; if the group info was sound, the group lets it."""
    try:
        message = parse(encode_message(info))
        assert isinstance(message, GroupInfo)
        commit = make_external_commit(message, made.bundles[0], entropy=entropy_of("stranger"), checks=CHECKS)
    except MlsError:
        return
    authenticated = commit.authenticated
    deliver(made, [encode_message(PublicMessage(authenticated.content, authenticated.auth))])
    _live_in(Group.join(commit, now_ns=NOW_NS, services=SERVICES, ledger=SendLedger()))


def add(made: World, key_package: KeyPackage) -> None:
    """Alice adds its owner, or refuses; who is added can be told what it needs."""
    alice = Member(made, HONEST[0])
    alice.unless_refused(
        lambda: alice.group.commit([Add(key_package)], entropy=entropy_of("alice"), now_ns=NOW_NS, pending=False)
    )


def _live_in(group: Group) -> None:
    state = group.to_bytes()
    again = Group.from_bytes(state, SendLedger(), services=SERVICES)
    assert again.to_bytes() == state, "a group just joined is another once it is restored"
    try:
        own = group.commit(entropy=entropy_of("joiner"), now_ns=NOW_NS)
    except MlsError:
        return
    group.adopt(own.commit, now_ns=NOW_NS)
    group.send(b"here", entropy=entropy_of("joiner"))


def _owner(made: World, key_package: KeyPackage) -> SignatureKeyPair:
    return made.keys.get(key_package.leaf_node.signature_key, made.outsider)


def seeds() -> list[bytes]:
    """Every scenario in every suite, tame and less tame; and every message, as it is sent."""
    draw: Any = entropy_of("seeds")
    heads = [bytes((scenario, suite)) for scenario in range(len(SCENARIOS)) for suite in range(len(SUITES))]
    whole = [bytes((0, at)) + message for at, suite in enumerate(SUITES) for message in world(suite).messages]
    return [*heads, *(head + draw(size) for head in heads for size in (8, 32, 128)), *whole]
