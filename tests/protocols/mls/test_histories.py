"""Any history of a group without a server: messages lost, late, doubled and out of order, commits that race, members
who go back and change branches, and crashes at every point between a thing done and its being sent.

The model knows little: who is in which epoch, by the proposals alone, and what was durable when a member crashed.
It knows nothing of trees or secrets. What it demands:

- an epoch is the same to all who are in it, and one commit on one parent leads everybody to the same epoch;
- a message is opened, once, by those who were in its epoch, and attributed to whoever sent it; nobody else opens it;
- no key and nonce ever seal two messages that left their sender;
- a failing call changes nothing, and a value that was handed out never changes;
- a member restored from its snapshot, its records and its ledger is the member it was;
- honest members never look like equivocators;
- at the end, everybody who still has an ancestor of the longest branch can follow it.
"""

from collections.abc import Iterable
from types import EllipsisType
from typing import Any, Literal, TypeAlias
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle
from protocols.mls.commit import ProposalRef
from protocols.mls.committing import Welcomes
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions, RequiredCapabilities
from protocols.mls.external import make_external_commit
from protocols.mls.framing import member
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal
from protocols.mls.outcomes import Echo
from protocols.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ProposalType,
    Remove,
    SelfRemove,
)
from protocols.mls.protection import seal_plaintext
from protocols.mls.psk import ExternalPsk, ResumptionPsk, ResumptionUsage
from protocols.mls.ratchets import MessageKey
from protocols.mls.staging import StagedCommit
from protocols.mls.suite import SUITES
from tests.protocols.mls.peers import RETENTION, Invitation, Peer, Sent, Unmoved, View, durable_part, view
from tests.protocols.mls.room import GROUP_ID, NOW_NS, SERVICES, external, fresh, name_at, person, untouched
from tests.protocols.mls.trees import counting_entropy

NAMES = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ivy", "joe", "kit", "lea"]

Crash: TypeAlias = Literal["before", "reserved", "recorded"] | None
"""When a member loses its memory: with nothing of a step durable, with its reservations only, with all of it but
before anything was sent; or not at all."""

crashes = st.sampled_from([None, None, None, None, None, "before", "reserved", "recorded"])
picks = st.integers(0, 11)

KINDS = ["update", "add", "remove", "psk", "extensions", "leave"]

REQUIREMENTS: tuple[Extensions, ...] = (
    (),
    (RequiredCapabilities(proposal_types=(ProposalType.SELF_REMOVE,)).extension(),),
)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.peers: dict[str, Peer] = {}
        self.log: list[Sent] = []
        self.invitations: list[Invitation] = []
        self.views: dict[bytes, View] = {}
        self.members: dict[bytes, frozenset[str]] = {}
        """Who must be in an epoch, by its authenticator, or in what a commit leads to, by its id."""
        self.children: dict[tuple[bytes, bytes], bytes] = {}
        """Where a commit on a parent leads."""
        self.parents: dict[bytes, tuple[bytes, bytes]] = {}
        self.refused: set[int] = set()
        """External commits that were one too many for somebody."""
        self.now_ns = NOW_NS
        self.entropy = counting_entropy("histories")
        self.sealing: list[tuple[bytes, bytes]] = []
        self.sealed: dict[tuple[bytes, bytes], None] = {}
        self.patch = patch("protocols.mls.group.seal_plaintext", self._seal)
        self.patch.start()

    def _seal(self, suite: Any, secret: bytes, key: MessageKey, *rest: Any) -> Any:
        self.sealing.append((key.key, key.nonce))
        return seal_plaintext(suite, secret, key, *rest)

    # -- the story ----------------------------------------------------------------------------------

    @initialize(size=st.integers(1, 6), suite=st.sampled_from([1, 1, 1, 2, 3]))
    def begin(self, size: int, suite: int) -> None:
        self.peers = {name: Peer(person(name, SUITES[suite])) for name in NAMES}
        ada = self.peers["ada"]
        ada.group = Group.create(
            ada.client.bundle,
            GROUP_ID,
            entropy=self.entropy,
            now_ns=self.now_ns,
            services=SERVICES,
            retention=RETENTION,
        )
        self.members[ada.group.current.authenticator] = frozenset({"ada"})
        self.check_entered(ada)
        ada.save()
        if size > 1:
            self.make_commit(ada, [Add(self.key_package(name)) for name in NAMES[1:size]], None, adopt=True)
            for _ in range(size - 1):
                self.answer(0, None)

    @rule(who=picks, crash=crashes)
    def speak(self, who: int, crash: Crash) -> None:
        peer = self.sender(who)
        if peer is None:
            return
        words = b"message %d" % len(self.log)
        with Unmoved(peer):
            out = peer.live.send(words, entropy=self.entropy, despite_proposals=True)
        self.told(peer, f"says {words.decode()}", crash)
        sent = Sent(peer.name, peer.live.current.authenticator, out.message, words)
        self.leaves(peer, sent, out.reservations, out.records, crash)

    @rule(
        who=picks,
        what=st.sampled_from(KINDS),
        which=picks,
        public=st.booleans(),
        crash=crashes,
    )
    def propose(self, who: int, what: str, which: int, public: bool, crash: Crash) -> None:
        peer = self.sender(who)
        proposal = None if peer is None else self.proposal(peer, what, which)
        if peer is None or proposal is None:
            return
        with Unmoved(peer):
            if proposal is Ellipsis:
                out = peer.live.propose_update(entropy=self.entropy, public=public)
            elif isinstance(proposal, SelfRemove):
                out = peer.live.leave(entropy=self.entropy)
            else:
                out = peer.live.propose(proposal, entropy=self.entropy, public=public)
        self.told(peer, f"proposes {what}", crash)
        said = peer.live.proposals()[-1].proposal if proposal is Ellipsis else proposal
        sent = Sent(peer.name, peer.live.current.authenticator, out.message, said)
        self.leaves(peer, sent, out.reservations, out.records, crash)

    @rule(
        who=picks,
        what=st.lists(st.sampled_from(["add", "remove", "psk", "resumption", "extensions"]), max_size=3, unique=True),
        which=picks,
        cheap=st.booleans(),
        public=st.booleans(),
        adopt=st.booleans(),
        crash=crashes,
    )
    def commit(
        self, who: int, what: list[str], which: int, cheap: bool, public: bool, adopt: bool, crash: Crash
    ) -> None:
        """With what others proposed if ``what`` does not make it a commit without a path."""
        peer = self.sender(who)
        if peer is None:
            return
        found = [self.proposal(peer, each, which) for each in what]
        proposals = [each for each in found if each is not None and each is not Ellipsis]
        cheap = cheap and bool(proposals) and all(isinstance(each, Add | PreSharedKey) for each in proposals)
        self.make_commit(peer, proposals, crash, adopt=adopt, with_path=not cheap, pending=not cheap, public=public)

    @rule(who=picks, back=picks, crash=crashes)
    def deliver(self, who: int, back: int, crash: Crash) -> None:
        """Any message, to anybody, again or for the first time; ``back`` counts from the newest."""
        peer = self.holder(who)
        if peer is not None and self.log:
            self.hand_over(peer, len(self.log) - 1 - back % len(self.log), crash)

    @rule(who=picks, reverse=st.booleans())
    def catch_up(self, who: int, reverse: bool) -> None:
        peer = self.holder(who)
        if peer is not None:
            self.hand_over_all(peer, reverse=reverse)

    @rule(who=picks, at=picks, which=picks, crash=crashes)
    def follow(self, who: int, at: int, which: int, crash: Crash) -> None:
        """Stage and adopt some commit on some kept epoch: the current one if ``at`` is 0."""
        peer = self.holder(who)
        if peer is None:
            return
        group = peer.live
        epochs = [group.current.authenticator, *group.epochs]
        parent = epochs[at % len(epochs)]
        choices: list[VerifiedCommit | StagedCommit] = [*group.commits(parent), *group.staged(parent)]
        if choices:
            self.move(peer, choices[which % len(choices)], crash, "erratum-8815/unknown-proposal")

    @rule(who=picks, which=picks)
    def keep_up(self, who: int, which: int) -> None:
        """As a member does that is neither cut off nor crashes."""
        self.catch_up(who, reverse=False)
        self.follow(who, 0, which, None)

    @rule()
    def gather(self) -> None:
        """All who can meet on one branch, and those who are invited come."""
        self.heal()
        for _ in range(len(self.invitations)):
            self.answer(0, None)

    @rule(who=picks, what=st.sampled_from(KINDS), which=picks, by=picks, public=st.booleans())
    def agree(self, who: int, what: str, which: int, by: int, public: bool) -> None:
        """One proposes, another commits it, and all follow."""
        self.propose(who, what, which, public, None)
        for number in range(len(NAMES)):
            self.catch_up(number, reverse=bool(which % 2))
        self.commit(by, [], which, False, public, True, None)
        self.gather()

    @rule(who=picks, which=picks)
    def go_back(self, who: int, which: int) -> None:
        peer = self.holder(who)
        if peer is None:
            return
        name = peer.live.epochs[which % len(peer.live.epochs)]
        with Unmoved(peer):
            moved = peer.live.return_to(name)
        peer.records.append(moved.record)
        self.told(peer, "goes back", None)
        self.check_entered(peer)

    @precondition(lambda self: self.invitations)
    @rule(which=picks, crash=crashes)
    def answer(self, which: int, crash: Crash) -> None:
        """Join by a Welcome, also from another branch than the one that one is on."""
        invitation = self.invitations.pop(which % len(self.invitations))
        peer = self.peers[invitation.to]
        if invitation.epoch in peer.answered:
            return
        bundles = [*map(KeyPackageBundle.to_bytes, peer.bundles)]
        try:
            staged = stage_welcome(invitation.welcome, peer.bundles, psks=SERVICES.psks)
        except MlsError as error:
            excuse(error, "8.4/unknown-psk")  # a resumption key, which no joiner has
            return
        assert [*map(KeyPackageBundle.to_bytes, peer.bundles)] == bundles
        assert staged.epoch.authenticator == invitation.epoch
        peer.answered.add(invitation.epoch)
        joined = Group.join(staged, now_ns=self.now_ns, ledger=peer.ledger(), services=SERVICES, retention=RETENTION)
        self.enter(peer, joined, "joins")
        if crash is not None:
            peer.restore()

    @rule(who=picks, via=picks, leaving=st.booleans())
    def come_from_outside(self, who: int, via: int, leaving: bool) -> None:
        """By an external commit on somebody's current epoch: for the first time, or back after being lost."""
        host = self.sender(via)
        peer = self.peers[NAMES[who]]
        if host is None or host is peer:
            return
        base = host.live.current
        could_follow = peer.group is not None and base.authenticator in peer.group.epochs
        if could_follow or base.authenticator in peer.joined_on:
            return
        roster = {name_at(base, leaf): leaf for leaf, _ in base.tree.members()}
        self_removes = tuple(
            each
            for each in (host.live.proposals() if leaving else ())
            if isinstance(each.proposal, SelfRemove) and name_at(base, each.sender.index) != peer.name
        )
        psk = (ExternalPsk(b"outside", self.entropy(base.suite.hash_size)),) if who % 2 else ()
        with Unmoved(host):
            commit = make_external_commit(
                base.group_info(),
                fresh(peer.client),
                entropy=self.entropy,
                replaces=roster.get(peer.name),
                self_removes=self_removes,
                psk_ids=psk,
                psks=SERVICES.psks,
            )
        # Who is outside does not know the parent's authenticator.
        commit = msgspec.structs.replace(commit, parent=base.authenticator)
        self.expect(commit, peer.name, host.live.proposals())
        peer.joined_on.add(base.authenticator)
        joined = Group.join(commit, now_ns=self.now_ns, ledger=peer.ledger(), services=SERVICES, retention=RETENTION)
        self.link(commit)
        self.enter(peer, joined, "comes from outside")
        self.log.append(Sent(peer.name, base.authenticator, external(commit), commit.commit, commit.id))

    @rule(who=picks, what=st.sampled_from(["save", "reboot", "resend", "wait"]), seconds=st.sampled_from([60, 4_000]))
    def rest(self, who: int, what: str, seconds: int) -> None:
        peer = self.holder(who)
        if peer is None:
            return
        match what:
            case "save":
                peer.save()
            case "reboot":
                before = durable_part(peer.live)
                peer.restore()
                assert durable_part(peer.live) == before
            case "resend":
                self.resend(peer)
            case _:
                self.now_ns += seconds * 10**9
                moved = peer.live.expire(self.now_ns)
                peer.records += [moved.record] if moved.record else []
                self.told(peer, f"drops {len(moved.erase)} epochs", None)

    @rule(who=picks, back=picks, at=st.integers(0, 4_000), mask=st.integers(1, 255))
    def tamper(self, who: int, back: int, at: int, mask: int) -> None:
        """One byte of a message is changed on its way."""
        peer = self.holder(who)
        if peer is None or not self.log:
            return
        sent = self.log[len(self.log) - 1 - back % len(self.log)]
        at %= len(sent.data)
        data = sent.data[:at] + bytes((sent.data[at] ^ mask,)) + sent.data[at + 1 :]
        if sent.external:
            return  # nothing protects its confirmation tag before it is staged
        with untouched(peer.live):
            try:
                received = peer.live.receive(data)
            except MlsError:
                return
            # The sender data is intact and says that it is ours: nothing to be done with it.
            assert isinstance(received.content, Echo)
            assert received.content.commit is None
            assert sent.author == peer.name

    def teardown(self) -> None:
        try:
            if self.peers:
                self.heal()
        finally:
            self.patch.stop()

    # -- steps --------------------------------------------------------------------------------------

    def resend(self, peer: Peer) -> None:
        """A commit of one's own that was made before a crash goes out as it was."""
        for parent in peer.live.epochs:
            for staged in peer.live.staged(parent):
                if staged.own and all(each.commit_id != staged.id for each in self.log):
                    self.log.append(Sent(peer.name, parent, peer.live.message_of(staged), staged.commit, staged.id))
                    self.told(peer, "sends a commit from before a crash", None)

    def make_commit(self, peer: Peer, proposals: list[Proposal], crash: Crash, *, adopt: bool, **options: Any) -> None:
        group = peer.live
        parent = group.current
        if parent.authenticator in peer.committed:
            with untouched(group), pytest.raises(LocalError, match="committed in epoch"):
                group.commit(proposals, entropy=self.entropy, now_ns=self.now_ns, **options)
            return
        style = Welcomes.ONE_EACH if len(self.log) % 2 else Welcomes.ONE_FOR_ALL
        with Unmoved(peer):
            own = group.commit(proposals, entropy=self.entropy, now_ns=self.now_ns, welcomes=style, **options)
        self.told(peer, f"commits {[type(each).__name__ for each in own.commit.commit.proposals]}", crash)
        self.expect(own.commit, None, group.proposals())
        self.link(own.commit)
        if crash != "before":
            peer.committed.add(parent.authenticator)
        sent = Sent(peer.name, parent.authenticator, own.message, own.commit.commit, own.commit.id)
        self.leaves(peer, sent, own.reservations, [own.record], crash)
        if crash is None and adopt:
            self.move(peer, own.commit, None)

    def move(
        self,
        peer: Peer,
        choice: VerifiedCommit | StagedCommit,
        crash: Crash,
        *excused: str,
    ) -> bool:
        """Stage it if it is not, and adopt it; whether that went well."""
        group = peer.live
        if isinstance(choice, VerifiedCommit):
            try:
                with Unmoved(peer):
                    staged = group.stage(choice, now_ns=self.now_ns)
            except MlsError as error:
                excuse(error, *excused, "8.4/unknown-psk", "limit/staged")
                return False
            self.link(staged.commit)
            if not self.lasts(peer, (), [staged.record], crash):
                return False
            choice = staged.commit
        with Unmoved(peer):
            moved = group.adopt(choice, now_ns=self.now_ns)
        self.told(peer, f"adopts the commit of leaf {choice.committer}", crash)
        replaced = choice.external and path_key(choice) == peer.client.signature.public
        assert group.removed == (peer.name not in self.members[choice.id] or replaced)
        for each in choice.welcomes:
            for leaf in each.joiners:
                assert choice.next is not None
                invitation = Invitation(name_at(choice.next, leaf), each.welcome, choice.next.authenticator)
                if invitation not in self.invitations and crash is None:
                    self.invitations.append(invitation)
        if self.lasts(peer, (), [moved.record], crash):
            self.check_entered(peer)
        return True

    def hand_over(self, peer: Peer, number: int, crash: Crash = None) -> None:
        group, sent = peer.live, self.log[number]
        if sent.epoch not in group.epochs:
            with untouched(group), pytest.raises(MlsError):
                group.receive(sent.data)
            return
        assert peer.name in self.members[sent.epoch]
        if number in peer.opened and not sent.public:
            with untouched(group), pytest.raises(MlsError, match="generation"):
                group.receive(sent.data)
            return
        try:
            with Unmoved(peer):
                received = group.receive(sent.data)
        except MlsError as error:
            excuse(error, "limit/commits")
            self.refused.add(number)
            return
        assert received.evidence is None
        if sent.author == peer.name and not sent.external:
            assert isinstance(received.content, Echo), received.content
            assert received.record == b""
            return
        match received.content:
            case ApplicationMessage(epoch, _, credential, _, data):
                assert (epoch, data, credential) == (
                    sent.epoch,
                    sent.said,
                    self.peers[sent.author].client.leaf.credential,
                )
            case VerifiedProposal(epoch, proposal, sender):
                assert (epoch, proposal) == (sent.epoch, sent.said)
                assert name_at(group.epoch(epoch), sender.index) == sent.author
            case VerifiedCommit(epoch, commit):
                assert (epoch, commit) == (sent.epoch, sent.said)
            case _:
                raise AssertionError(received.content)
        self.told(peer, f"receives message {number} of {sent.author}", crash)
        if crash in (None, "recorded"):
            peer.opened.add(number)
        self.lasts(peer, (), [received.record], crash)

    def hand_over_all(self, peer: Peer, *, reverse: bool = False) -> None:
        numbers = [number for number, sent in enumerate(self.log) if sent.epoch in peer.live.epochs]
        for number in reversed(numbers) if reverse else numbers:
            if number not in peer.opened:
                self.hand_over(peer, number)

    def heal(self) -> None:
        """Everything arrives, and all follow the longest branch who still have an epoch of it."""
        holders = [peer for peer in self.peers.values() if peer.group is not None]
        heads = [peer.live.current for peer in holders if not peer.live.removed]
        if not heads:
            return
        goal = max(heads, key=lambda epoch: (epoch.number, epoch.authenticator)).authenticator
        note(f"all follow {goal.hex()[:8]}")
        for peer in holders:
            path = [goal]
            while path[-1] not in peer.live.epochs and path[-1] in self.parents:
                path.append(self.parents[path[-1]][0])
            if path[-1] not in peer.live.epochs:
                continue
            peer.records.append(peer.live.return_to(path.pop()).record)
            while path:
                parent = peer.live.current.authenticator
                self.hand_over_all(peer)
                wanted = self.parents[path.pop()][1]
                held = [each for each in peer.live.staged(parent) if each.id == wanted]
                arrived = [
                    each
                    for each in peer.live.commits(parent)
                    if peer.live.current.suite.hash(each.authenticated.encode()) == wanted
                ]
                sent = [number for number, each in enumerate(self.log) if each.commit_id == wanted]
                assert held or arrived or not sent or sent[0] in self.refused, "a commit that was sent is not here"
                if not (held or arrived) or not self.move(peer, (held or arrived)[0], None) or peer.live.removed:
                    break
            self.check_entered(peer)

    # -- durability ---------------------------------------------------------------------------------

    def lasts(self, peer: Peer, reservations: Iterable[bytes], records: Iterable[bytes], crash: Crash) -> bool:
        """Write a step down and perhaps crash on the way; whether the member still knows what it did."""
        if crash != "before":
            peer.reservations += reservations
        if crash in (None, "recorded"):
            peer.records += [record for record in records if record]
        if crash is None:
            return True
        before = durable_part(peer.live)
        peer.restore()
        if crash == "recorded":
            assert durable_part(peer.live) == before
        self.check_entered(peer)
        return False

    def leaves(
        self, peer: Peer, sent: Sent, reservations: Iterable[bytes], records: Iterable[bytes], crash: Crash
    ) -> None:
        """Send a message once it is durable. After a crash it is sent from an outbox, a commit when ``resend`` says."""
        self.lasts(peer, reservations, records, crash)
        if crash is None or (crash == "recorded" and not sent.commit_id):
            self.log.append(sent)
        if crash in (None, "recorded"):
            for pair in self.sealing:
                assert pair not in self.sealed, "a key and nonce sealed two messages"
                self.sealed[pair] = None
        self.sealing.clear()

    def enter(self, peer: Peer, group: Group, how: str) -> None:
        peer.group = group
        peer.opened = {number for number in peer.opened if self.log[number].epoch not in group.epochs}
        peer.values = {}
        peer.save()
        self.told(peer, how, None)
        self.check_entered(peer)

    # -- what must hold -----------------------------------------------------------------------------

    def expect(self, commit: StagedCommit, joiner: str | None, known: tuple[VerifiedProposal, ...]) -> None:
        """Who is in the group after a commit, by its proposals alone."""
        roster = dict(self.views[commit.parent].roster)
        after = set(self.members[commit.parent])
        by_reference = {each.reference: each for each in known}
        added = {joiner} if joiner else set()
        for item in commit.commit.proposals:
            proposal: Proposal
            sender = None
            if isinstance(item, ProposalRef):
                proposal, sender = by_reference[item.reference].proposal, by_reference[item.reference].sender
            else:
                proposal = item
            if isinstance(proposal, Remove):
                after.discard(roster[proposal.removed])
            elif isinstance(proposal, SelfRemove):
                assert sender is not None
                after.discard(roster[sender.index])
            elif isinstance(proposal, Add):
                added.add(proposal.key_package.leaf_node.credential.encode()[3:].decode())
        self.members[commit.id] = frozenset(after | added)

    def link(self, commit: StagedCommit) -> None:
        """One commit on one parent leads everybody to the same epoch."""
        if commit.next is None:
            return
        child = commit.next.authenticator
        assert self.children.setdefault((commit.parent, commit.id), child) == child
        self.parents[child] = (commit.parent, commit.id)
        self.members[child] = self.members[commit.id]

    def check_entered(self, peer: Peer) -> None:
        if peer.live.removed:
            return
        seen = view(peer.live)
        name = peer.live.current.authenticator
        assert self.views.setdefault(name, seen) == seen
        assert sorted(name for _, name in seen.roster) == sorted(self.members[name])
        peer.live.current.private.check(peer.live.current.tree)

    # -- picking ------------------------------------------------------------------------------------

    def holder(self, who: int) -> Peer | None:
        """Somebody who has a group."""
        peers = [peer for peer in self.peers.values() if peer.group is not None]
        return peers[who % len(peers)] if peers else None

    def sender(self, who: int) -> Peer | None:
        """Somebody who may speak."""
        peers = [peer for peer in self.peers.values() if peer.group is not None and not peer.group.removed]
        return peers[who % len(peers)] if peers else None

    def key_package(self, name: str) -> Any:
        peer = self.peers[name]
        peer.bundles.append(fresh(peer.client))
        return peer.bundles[-1].key_package

    def proposal(self, peer: Peer, what: str, which: int) -> Proposal | EllipsisType | None:
        """A sound proposal of a kind, if there is one; an ellipsis for an Update."""
        epoch = peer.live.current
        roster = {name_at(epoch, leaf): leaf for leaf, _ in epoch.tree.members()}
        nonce = self.entropy(epoch.suite.hash_size)
        match what:
            case "update":
                return ...
            case "add":
                absent = [name for name in NAMES if name not in roster]
                return Add(self.key_package(absent[which % len(absent)])) if absent else None
            case "remove":
                others = [leaf for name, leaf in roster.items() if name != peer.name]
                return Remove(others[which % len(others)]) if others else None
            case "psk":
                return PreSharedKey(ExternalPsk(b"shared", nonce))
            case "resumption":
                return PreSharedKey(ResumptionPsk(ResumptionUsage.APPLICATION, GROUP_ID, epoch.number, nonce))
            case "extensions":
                return GroupContextExtensions(REQUIREMENTS[which % 2])
            case _:
                said = [each for each in peer.live.proposals() if each.sender == member(epoch.own_leaf)]
                return None if any(isinstance(each.proposal, SelfRemove) for each in said) else SelfRemove()

    def told(self, peer: Peer, what: str, crash: Crash) -> None:
        where = "nowhere" if peer.group is None else peer.group.current.authenticator.hex()[:8]
        note(f"{peer.name} at {where} {what}" + (f", then crashes with {crash}" if crash else ""))


def excuse(error: MlsError, *rules: str) -> None:
    """Among honest members this may happen too."""
    if error.reason not in rules:
        raise error


def path_key(commit: StagedCommit) -> bytes:
    assert commit.commit.path is not None
    return commit.commit.path.leaf_node.signature_key


def histories(examples: int, steps: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_histories_with_forks_losses_and_crashes() -> None:
    histories(50, 50, derandomize=True)


@pytest.mark.campaign
@pytest.mark.timeout(3_600)
def test_long_histories_with_forks_losses_and_crashes() -> None:
    histories(1_500, 80, derandomize=False)
