"""A group as one of its members holds it: the epochs, the branches between them, and what is under way.

All that follows from rules is elsewhere, as functions of an immutable ``Epoch``. What is here is the little that
has to be remembered, and the order in which things may happen:

    receive   bytes, once verified: an application message, a proposal, a commit, or our own echo
    stage     a commit: the whole next epoch beside its parent; several may be staged on one parent
    adopt     one of the staged; the parent is kept
    return_to an epoch that is kept, to adopt another of its children

Each step returns a ``record``, to be durable before anything that the step returned is acted upon or sent.
Each also either happens whole, or raises and leaves the group as it was. Messages go out under positions from
the ``SendLedger``, whose ``reservation`` must be durable first and is never rolled back with the rest.

Nobody here chooses between branches: that is policy, and the caller's.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from protocols.errors import LocalError, ProtocolError
from protocols.messages import Message
from protocols.mls.client import KeyPackageBundle, signed_leaf_node
from protocols.mls.committing import NO_CHANGE, LeafChange, Welcomes, draft_leaf, make_commit, successor
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions
from protocols.mls.founding import found
from protocols.mls.framing import (
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    SenderType,
    WireFormat,
    content_type,
    member,
)
from protocols.mls.joining import Origin, StagedJoin
from protocols.mls.kem import drawn
from protocols.mls.kept import KeptEpoch
from protocols.mls.leaf_node import LeafIndex, LeafNodeSource
from protocols.mls.message import encode_message, parse
from protocols.mls.message_keys import MessageKeys, Opening, OwnMessageError
from protocols.mls.opening import (
    ApplicationMessage,
    VerifiedCommit,
    VerifiedProposal,
    open_message,
    verified,
    verify_sender,
)
from protocols.mls.outcomes import Echo, Moved, Outgoing, OwnCommit, Received, Staged
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import SentProposal, check_proposal
from protocols.mls.proposal_selection import Rejected, committable, select_proposals
from protocols.mls.proposals import PreSharedKey, Proposal, SelfRemove, Update
from protocols.mls.protection import (
    REUSE_GUARD_SIZE,
    Padding,
    buckets,
    padded,
    public_message,
    ratchet_of,
    seal_plaintext,
    sign_content,
)
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.ratchets import Ratchet, read_position
from protocols.mls.records import (
    RECORDS,
    STATES,
    VERSION,
    CommitDiscarded,
    CommitKept,
    CommitStaged,
    EpochAdopted,
    EpochReturned,
    EpochsDropped,
    GroupState,
    MessageReceived,
    MessageSent,
    ProposalKept,
)
from protocols.mls.send_ledger import COMMIT, SendLedger
from protocols.mls.services import Retention, Services
from protocols.mls.staging import (
    Checks,
    LeafSecrets,
    PskLookup,
    StagedCommit,
    stage_commit,
)
from protocols.mls.storing import keep_again, kept_from, kept_state, staged_again, staged_record
from protocols.mls.suite import Entropy

KEPT_MAX: Final = 64
"""Epochs kept on all branches together: what hangs off the line that ``Retention`` keeps is bounded by this alone."""

NANOSECONDS: Final = 1_000_000_000

_ASKED_BEFORE: Final = Checks(
    authenticate=lambda _credential, _key: True, policy=Policy(may_succeed=lambda _old, _new: True)
)
"""For commits that were staged before: what the authentication service and the policy said then was said."""

_OF_ANOTHER_BRANCH: Final = frozenset({"6.2/membership-tag", "6.3.2/sender-data"})
"""What a message breaks in an epoch that has the number of its own and is another: no better reason than any."""


class Group:
    """One member's group. Create it by ``create`` or ``join``, or restore it by ``from_bytes``."""

    def __init__(
        self,
        epoch: Epoch,
        keys: MessageKeys,
        *,
        ledger: SendLedger,
        now_ns: int,
        services: Services = Services(),  # noqa: B008  # immutable
        retention: Retention = Retention(),  # noqa: B008
    ) -> None:
        if retention.epochs < 1:
            raise LocalError(f"a group keeps at least its current epoch, not {retention.epochs}")
        self.ledger: Final = ledger
        self.services: Final = services
        self.retention: Final = retention
        self._kept: dict[bytes, KeptEpoch] = {epoch.authenticator: KeptEpoch(epoch, keys, b"", now_ns)}
        """In the order in which they were entered."""
        self._current = epoch.authenticator
        self.removed = False
        """A commit that removes us was adopted. To return to its parent is to undo that."""

    @classmethod
    def create(
        cls,
        bundle: KeyPackageBundle,
        group_id: bytes,
        *,
        entropy: Entropy,
        now_ns: int,
        extensions: Extensions = (),
        services: Services = Services(),  # noqa: B008
        retention: Retention = Retention(),  # noqa: B008
    ) -> "Group":
        """A group of one (§11), with a ledger of its own."""
        epoch, keys = found(bundle, group_id, extensions, entropy, policy=services.policy)
        return cls(epoch, keys, ledger=SendLedger(), now_ns=now_ns, services=services, retention=retention)

    @classmethod
    def join(
        cls,
        joined: StagedJoin | StagedCommit,
        *,
        now_ns: int,
        ledger: SendLedger,
        services: Services = Services(),  # noqa: B008
        retention: Retention = Retention(),  # noqa: B008
    ) -> "Group":
        """Begin in the epoch of a Welcome, of an external commit of ours that the group accepted, or of our first
        commit of a group that continues another (``reinitialise``, ``branch``).

        Nothing was written down yet: store ``to_bytes()`` before the first message is sent, and before the private
        keys of the key package are erased.

        Args:
            ledger: a new one, or of who comes back to the group, or opens a Welcome again, the one it had there.
        """
        if isinstance(joined, StagedJoin):
            epoch, keys = joined.epoch, joined.keys
        elif (
            joined.next is None
            or joined.keys is None
            or not joined.own
            or not (joined.external or joined.next.number == 1)
        ):
            raise LocalError(f"{joined!r} is not ours: a group is joined by a Welcome or a commit of one's own")
        else:
            epoch, keys = joined.next, joined.keys
        return cls(epoch, keys, ledger=ledger, now_ns=now_ns, services=services, retention=retention)

    # -- where we are -------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Group at {self.current!r}, {len(self._kept)} epochs kept>"

    @property
    def current(self) -> Epoch:
        return self._kept[self._current].epoch

    @property
    def group_id(self) -> bytes:
        return self.current.group_id

    @property
    def epochs(self) -> tuple[bytes, ...]:
        """The authenticators of the epochs that are kept, in the order in which they were entered."""
        return tuple(self._kept)

    def epoch(self, authenticator: bytes) -> Epoch:
        return self._at(authenticator).epoch

    def parent(self, authenticator: bytes) -> bytes | None:
        """The authenticator of the epoch before, if one is known."""
        return self._at(authenticator).parent or None

    def proposals(self, authenticator: bytes | None = None) -> tuple[VerifiedProposal, ...]:
        """What was proposed in an epoch, by default the current one."""
        return tuple(self._at(authenticator or self._current).proposals.values())

    def waiting(self, authenticator: bytes | None = None) -> tuple[VerifiedProposal, ...]:
        """Those that somebody would commit, alone if not together, and before whose commit nothing is to be said
        (§12.4). A stranger who asks to be added counts only if the application decides on proposals, or whoever has
        the group info could keep all members silent."""
        kept, policy = self._at(authenticator or self._current), self.services.policy
        epoch = kept.epoch
        waiting = []
        for sent in self._pending(kept)[0]:
            if sent.sender.sender_type == SenderType.NEW_MEMBER_PROPOSAL and policy.accept is None:
                continue
            assert sent.reference is not None
            if sent.reference not in kept.committable:
                kept.committable[sent.reference] = committable(
                    sent,
                    suite=epoch.suite,
                    context=epoch.context,
                    tree=epoch.tree,
                    own=epoch.own_leaf,
                    authenticate=self.services.authenticate,
                    policy=policy,
                )
            if kept.committable[sent.reference]:
                waiting.append(kept.proposals[sent.reference])
        return tuple(waiting)

    def staged(self, authenticator: bytes | None = None) -> tuple[StagedCommit, ...]:
        """The commits staged on an epoch, by default the current one."""
        return tuple(self._at(authenticator or self._current).staged.values())

    def commits(self, authenticator: bytes | None = None) -> tuple[VerifiedCommit, ...]:
        """The commits that arrived on an epoch, staged or not."""
        return tuple(self._at(authenticator or self._current).commits.values())

    def message_of(self, ours: StagedCommit | VerifiedProposal) -> bytes:
        """A commit or proposal of ours as it was sent, to be sent again: never made anew."""
        if isinstance(ours, StagedCommit):
            where, name = ours.parent, ours.id
        else:
            where, name = ours.epoch, ours.reference
        if (message := self._at(where).messages.get(name)) is None:
            raise LocalError(f"{ours!r} is not ours")
        return message

    def sent_by(self, leaf: LeafIndex, authenticator: bytes) -> tuple[int, int, int]:
        """How far a member was seen to go in an epoch, as its ledger counts: it asks that when it cannot trust it."""
        kept = self._at(authenticator)
        committed = any(each.sender == member(leaf) for each in kept.commits.values())
        handshake, application = (kept.keys.following(leaf, ratchet) for ratchet in Ratchet)
        return handshake, application, int(committed)

    def note_sent(self, authenticator: bytes, following: tuple[int, int, int]) -> tuple[bytes, ...]:
        """So far others saw us go in an epoch, also if we know nothing of it.

        Returns:
            reservations, to be durable before the next step.
        """
        kept, ledger = self._at(authenticator), self.ledger
        number = kept.epoch.number
        raised = [ledger.raise_to(number, authenticator, ratchet, following[ratchet]) for ratchet in Ratchet]
        raised.append(ledger.raise_to(number, kept.parent_name, COMMIT, following[COMMIT]))
        return tuple(each.encode() for each in raised if each.generations)

    def origin(self, authenticator: bytes | None = None) -> Origin:
        """What another group that continues this one has to agree with."""
        epoch = self._at(authenticator or self._current).epoch
        return Origin(epoch.context, epoch.tree, epoch.reinit)

    def _at(self, authenticator: bytes) -> KeptEpoch:
        kept = self._kept.get(authenticator)
        if kept is None:
            raise LocalError(f"epoch {authenticator.hex()[:16]} is not kept: resynchronise by an external commit")
        return kept

    # -- receiving ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Received:
        """Open and verify a message to this group, in whichever kept epoch it was sent.

        Raises:
            MlsError: it breaks a rule. ``6/future-epoch`` and ``6/past-epoch`` say that its epoch is not kept
                here: the one may come, for the other only a resync helps. ``6.2/membership-tag`` and
                ``6.3.2/sender-data`` may be a forgery, or a message of a branch that is not known here.
        """
        message = parse(data)
        if not isinstance(message, PublicMessage | PrivateMessage):
            raise MlsError("6/not-a-group-message", f"a {type(message).__name__} is not sent to members")
        if message.group_id != self.group_id:
            raise MlsError("6/other-group", f"group {message.group_id.hex()}")
        kept, authenticated, opening = self._opened(message, data)
        if authenticated is None:
            return Received(Echo(kept.epoch.authenticator), b"")
        found = verified(kept.epoch, authenticated)
        position = b"" if opening is None else opening.key.position
        name = kept.epoch.authenticator
        if isinstance(found, ApplicationMessage):
            assert opening is not None
            kept.keys.consume(opening)
            return Received(found, RECORDS.encode(MessageReceived(name, position)))
        if isinstance(found, VerifiedCommit) and found.sender == member(kept.epoch.own_leaf):
            held = kept.staged.get(kept.commit_id(authenticated))
            return Received(Echo(name, held), b"", kept.evidence(authenticated))
        kept.check_room(found)
        evidence = kept.evidence(authenticated) if isinstance(found, VerifiedCommit) else None
        if opening is not None:
            kept.keys.consume(opening)
        kept.keep(found)
        self._keep_elsewhere(kept, found)
        kind = CommitKept if isinstance(found, VerifiedCommit) else ProposalKept
        return Received(found, RECORDS.encode(kind(name, authenticated.encode(), position)), evidence)

    def _keep_elsewhere(self, kept: KeptEpoch, found: VerifiedProposal | VerifiedCommit) -> None:
        """What is proposed from outside is bound to the number of an epoch only: it stands in every branch."""
        if isinstance(found, VerifiedCommit) or found.sender.sender_type == SenderType.MEMBER:
            return
        for other in self._kept.values():
            if other is not kept and other.epoch.number == kept.epoch.number:
                here = msgspec.structs.replace(found, epoch=other.epoch.authenticator)
                with suppress(MlsError):
                    verify_sender(other.epoch, found.authenticated)
                    other.check_room(here)
                    other.keep(here)

    def _opened(
        self, message: PublicMessage | PrivateMessage, data: bytes
    ) -> tuple[KeptEpoch, AuthenticatedContent | None, Opening | None]:
        """The epoch in which a message verifies, among those of its number: two branches number theirs alike."""
        candidates = [each for each in self._kept.values() if each.epoch.number == message.epoch]
        candidates.sort(key=lambda each: each.epoch.authenticator != self._current)
        if not candidates:
            newest = max(each.epoch.number for each in self._kept.values())
            rule = "6/future-epoch" if message.epoch > newest else "6/past-epoch"
            raise MlsError(rule, f"epoch {message.epoch}; the current one is {self.current.number}")
        echo = self._echo_of(data)
        refused: MlsError | None = None
        for kept in candidates:
            if kept.is_echo(echo):
                return kept, self._own_commit(kept, data), None
            try:
                return kept, *open_message(kept.epoch, kept.keys, message)
            except OwnMessageError:
                return kept, None, None
            except MlsError as error:
                if refused is None or refused.reason in _OF_ANOTHER_BRANCH:
                    # Another one, as that error's traceback holds the keys that were tried.
                    refused = MlsError(error.reason, error.detail)
        assert refused is not None
        try:
            raise refused
        finally:
            del refused

    def _own_commit(self, kept: KeptEpoch, data: bytes) -> AuthenticatedContent | None:
        for name, sent in kept.messages.items():
            if sent == data and name in kept.staged:
                return kept.staged[name].authenticated
        return None

    def _echo_of(self, data: bytes) -> bytes:
        return self.current.suite.hash(data)

    # -- commits ------------------------------------------------------------------------------------

    def stage(self, commit: VerifiedCommit, *, now_ns: int) -> Staged:
        """Check a commit and compute the epoch it leads to; the group stays where it is.

        Raises:
            MissingProposalsError: proposals that it refers to have not arrived; try again when they have.
            MlsError: the commit breaks a rule, or there are too many on this parent: ``limit/staged``.
            LocalError: its parent is not kept.
        """
        kept = self._at(commit.epoch)
        name = kept.commit_id(commit.authenticated)
        if name not in kept.staged and not kept.has_place_for(commit):
            raise MlsError("limit/staged", f"{len(kept.staged)} commits are staged on epoch {kept.epoch.number}")
        staged = kept.staged.get(name) or stage_commit(
            kept.epoch,
            commit,
            proposals=kept.proposals,
            own_updates=kept.own_updates,
            psks=self._psks_from(kept),
            checks=self._checks(now_ns if self.services.check_lifetimes else None),
        )
        record = RECORDS.encode(staged_record(staged, kept.messages.get(name, b"")))
        kept.staged[name] = staged
        return Staged(staged, record)

    def discard(self, commit: StagedCommit) -> Moved:
        """Let go of a commit that somebody else made and that is staged here: its place is free for another.

        Raises:
            LocalError: it is not staged here; or it is ours, which we could not stage again.
        """
        kept = self._at(commit.parent)
        if kept.staged_of(commit).own:
            raise LocalError(f"{commit!r} is ours: it is held until its parent is dropped")
        del kept.staged[commit.id]
        return Moved(RECORDS.encode(CommitDiscarded(commit.parent, commit.id)))

    def adopt(self, commit: StagedCommit, *, now_ns: int) -> Moved:
        """Move to the epoch that a staged commit leads to; its parent is kept as long as ``retention`` says.

        To adopt what was adopted before is to go back to it. What the commit's Welcomes are needed for has to be in
        an outbox by now: with its parent the commit is forgotten.

        Raises:
            LocalError: the commit is not staged here, or the time is negative.
        """
        if now_ns < 0:
            raise LocalError(f"the time is {now_ns} ns")
        kept = self._at(commit.parent)
        self._enter(kept, kept.staged_of(commit), now_ns)
        erased = self._drop(now_ns)
        return Moved(RECORDS.encode(EpochAdopted(commit.parent, commit.id, now_ns, erased)), erased)

    def return_to(self, authenticator: bytes) -> Moved:
        """Go back to an epoch that is kept, so that another of its children can be adopted."""
        self._at(authenticator)
        self._current = authenticator
        self.removed = False
        return Moved(RECORDS.encode(EpochReturned(authenticator)))

    def expire(self, now_ns: int) -> Moved:
        """Drop the epochs that are older than ``retention`` allows."""
        erased = self._drop(now_ns)
        return Moved(RECORDS.encode(EpochsDropped(erased)) if erased else b"", erased)

    def _enter(self, kept: KeptEpoch, staged: StagedCommit, now_ns: int) -> None:
        if staged.next is None or staged.keys is None:
            self._current = kept.epoch.authenticator
            self.removed = True
            return
        name = staged.next.authenticator
        if name not in self._kept:
            # Once entered, an epoch has its one object of message keys for good: staging the commit again
            # makes others, which are never used.
            self._kept[name] = KeptEpoch(staged.next, staged.keys, kept.epoch.authenticator, now_ns)
        self._current = name
        self.removed = False

    def _drop(self, now_ns: int) -> tuple[bytes, ...]:
        """Forget what is beyond the retention, never the current epoch.

        Nor an epoch whose parent stays: the parent's secrets and the commit would make it again whole, with the
        message keys that it has used. So branches are looked into without losing the place where they part.
        """
        left, age, line = dict(self._kept), self.retention.age_ns, self._line()[: self.retention.epochs]
        for name, kept in self._kept.items():
            surplus = name not in line or len(left) > KEPT_MAX or (age is not None and now_ns - kept.since_ns > age)
            if surplus and name != self._current and kept.parent not in left:
                del left[name]
        drop = tuple(name for name in self._kept if name not in left)
        self._forget(drop)
        return drop

    def _line(self) -> list[bytes]:
        """The current epoch and its ancestors, the newest first."""
        line, name = [], self._current
        while name in self._kept:
            line.append(name)
            name = self._kept[name].parent
        return line

    def _forget(self, names: Iterable[bytes]) -> None:
        for name in names:
            self._kept.pop(name).keys.wipe()

    def _checks(self, now_ns: int | None) -> Checks:
        services = self.services
        now_s = None if now_ns is None else now_ns // NANOSECONDS
        return Checks(now_s, services.authenticate, services.policy, services.run)

    def _psks_from(self, kept: KeptEpoch) -> PskLookup:
        """Keys as seen from an epoch: of this group's own, those of its ancestors, as branches number theirs alike."""

        def lookup(psk: PreSharedKeyId) -> bytes | None:
            if isinstance(psk, ResumptionPsk) and psk.psk_group_id == kept.epoch.group_id:
                ancestor: KeptEpoch | None = kept
                while ancestor is not None:
                    if ancestor.epoch.number == psk.psk_epoch and psk.usage == ResumptionUsage.APPLICATION:
                        return ancestor.epoch.resumption_psk
                    ancestor = self._kept.get(ancestor.parent)
            return self.services.psks(psk)

        return lookup

    # -- sending ------------------------------------------------------------------------------------

    def send(
        self,
        data: bytes,
        *,
        entropy: Entropy,
        authenticated_data: bytes = b"",
        padding: Padding = buckets,
        despite_proposals: bool = False,
    ) -> Outgoing:
        """Say something to the group.

        Args:
            authenticated_data: sent along in the clear, and signed.
            despite_proposals: send although proposals are ``waiting``. §12.4 forbids it, so that who was
                to be removed reads nothing more; a member that leaves the committing to another has no choice.

        Raises:
            LocalError: we are no member any more; or proposals wait, which the caller is to commit first.
        """
        kept = self._sending()
        if not despite_proposals and (waiting := self.waiting()):
            raise LocalError(f"{len(waiting)} proposals wait: commit them first (RFC 9420 §12.4)")
        return self._sealed(kept, ApplicationData(data), authenticated_data, entropy, padding)[1]

    def propose(
        self,
        proposal: Proposal,
        *,
        entropy: Entropy,
        authenticated_data: bytes = b"",
        padding: Padding = buckets,
        public: bool = False,
        now_ns: int | None = None,
    ) -> Outgoing:
        """Propose something for somebody's next commit. To update one's own leaf is ``propose_update``.

        Args:
            public: readable by whoever carries it. A SelfRemove always is (``leave``).
            now_ns: for the lifetime of a key package, which who sends it has to check (§7.3); None does not.

        Raises:
            MlsError: the proposal breaks a rule by itself (§12.1).
            LocalError: an Update, we are no member any more, or ``leave`` does not work here.
        """
        if isinstance(proposal, Update):
            raise LocalError("an Update has private keys to go with it: propose_update makes them")
        if leaving := isinstance(proposal, SelfRemove):
            self._check_leaving()
        epoch, services = self._sending().epoch, self.services
        check_proposal(
            SentProposal(proposal, member(epoch.own_leaf)),
            suite=epoch.suite,
            context=epoch.context,
            tree=epoch.tree,
            now_s=self._checks(now_ns).now_s,
            authenticate=services.authenticate,
            policy=services.policy,
        )
        return self._proposed(proposal, None, authenticated_data, entropy, padding, public or leaving)

    def propose_update(
        self,
        *,
        entropy: Entropy,
        change: LeafChange = NO_CHANGE,
        padding: Padding = buckets,
        public: bool = False,
    ) -> Outgoing:
        """Propose fresh keys for our leaf, to be committed by somebody else. A commit of one's own does more."""
        epoch = self._sending().epoch
        old = epoch.own_leaf_node
        private, encryption_key = epoch.suite.kem.derive_key_pair(epoch.suite.kem.draw_ikm(entropy))
        signature = change.signature or epoch.signer
        unsigned = successor(old, signature, change, LeafNodeSource.UPDATE, encryption_key, None)
        leaf = signed_leaf_node(unsigned, epoch.suite, signature.private, epoch.group_id, epoch.own_leaf)
        secrets = LeafSecrets(private, signature.private)
        return self._proposed(Update(leaf), secrets, b"", entropy, padding, public)

    def leave(self, *, entropy: Entropy) -> Outgoing:
        """Ask to be removed: by a SelfRemove, which is always public, so that an external commit can carry it out.

        Raises:
            LocalError: not every member supports it, we have said so in this epoch, or we are no member any more.
        """
        return self.propose(SelfRemove(), entropy=entropy)

    def _check_leaving(self) -> None:
        kept = self._sending()
        epoch = kept.epoch
        if not epoch.tree.support.all_support_proposal(SelfRemove.proposal_type):
            raise LocalError(
                "not every member's capabilities list SelfRemove, so nobody can commit it: ask for a Remove"
            )
        own = member(epoch.own_leaf)
        if any(isinstance(each.proposal, SelfRemove) and each.sender == own for each in kept.proposals.values()):
            raise LocalError(f"we have asked to be removed in epoch {epoch.number} already: that can be sent again")

    def commit(
        self,
        proposals: Iterable[Proposal] = (),
        *,
        entropy: Entropy,
        now_ns: int,
        with_path: bool = True,
        pending: bool = True,
        change: LeafChange = NO_CHANGE,
        welcomes: Welcomes = Welcomes.ONE_FOR_ALL,
        tree_in_welcome: bool = True,
        group_info_extensions: Extensions = (),
        authenticated_data: bytes = b"",
        padding: Padding = buckets,
        public: bool = False,
    ) -> OwnCommit:
        """Commit these proposals of ours and those that were received; the commit is staged, not adopted.

        A member commits once in an epoch, whatever happens, as two commits would be evidence against it: that
        is reserved in the ledger like a message key.

        Args:
            with_path: False is cheaper and makes nothing secret again; refused if a proposal needs a path, which may
                be one of others'.
            pending: False leaves out what others proposed.

        Raises:
            LocalError: we have committed in this epoch, or are no member any more.
            MlsError: our own proposals break a rule.
        """
        kept = self._sending()
        epoch, checks = kept.epoch, self._checks(now_ns)
        sender = member(epoch.own_leaf)
        others, strange = self._pending(kept) if pending else ([], ())
        selected = select_proposals(
            suite=epoch.suite,
            context=epoch.context,
            tree=epoch.tree,
            own=[SentProposal(each, sender) for each in proposals],
            pending=others,
            committer=sender,
            path_leaf=draft_leaf(epoch, change) if with_path else None,
            now_s=checks.now_s,
            authenticate=checks.authenticate,
            policy=checks.policy,
            run=checks.run,
        )
        self.ledger.check_commit(epoch.number, kept.parent_name)
        staged = make_commit(
            epoch,
            selected.kept,
            entropy=entropy,
            wire_format=WireFormat.PUBLIC_MESSAGE if public else WireFormat.PRIVATE_MESSAGE,
            with_path=with_path,
            leaf=change,
            psks=self._psks_from(kept),
            authenticated_data=authenticated_data,
            welcomes=welcomes,
            tree_in_welcome=tree_in_welcome,
            group_info_extensions=group_info_extensions,
            checks=checks,
        )
        sealing = self._sealing(staged.authenticated, entropy, padding)
        message, reservations, position = self._protected(kept, staged.authenticated, sealing)
        reservation = self.ledger.reserve_commit(epoch.number, kept.parent_name).encode()
        record = RECORDS.encode(staged_record(staged, message, position))
        self._hold_own(kept, staged, message)
        return OwnCommit(staged, message, (reservation, *reservations), record, (*strange, *selected.rejected))

    def _pending(self, kept: KeptEpoch) -> tuple[list[SentProposal], tuple[Rejected, ...]]:
        """What was proposed in an epoch, without the PSKs that we do not know: to name one in a proposal would
        otherwise keep all from committing."""
        lookup = self._psks_from(kept)
        known, strange = [], []
        for each in kept.within_limits():
            sent = SentProposal(each.proposal, each.sender, each.reference)
            if isinstance(each.proposal, PreSharedKey) and lookup(each.proposal.psk) is None:
                strange.append(Rejected(sent, MlsError("8.4/unknown-psk", f"{each.proposal.psk!r}")))
            else:
                known.append(sent)
        return known, tuple(strange)

    def _sending(self) -> KeptEpoch:
        if self.removed:
            raise LocalError("we were removed from this group")
        if self.current.reinit is not None:
            # §12.4.2: "the client MUST NOT use the group to send messages anymore".
            raise LocalError("the group was reinitialised: nothing more is sent in it")
        return self._kept[self._current]

    def _proposed(
        self,
        proposal: Proposal,
        secrets: LeafSecrets | None,
        authenticated_data: bytes,
        entropy: Entropy,
        padding: Padding,
        public: bool,
    ) -> Outgoing:
        kept = self._sending()
        if not kept.has_room_for_proposal(member(kept.epoch.own_leaf)):
            raise LocalError("we have made so many proposals in this epoch that others keep no more of them")
        authenticated, outgoing = self._sealed(kept, proposal, authenticated_data, entropy, padding, public)
        found = verified(kept.epoch, authenticated)
        assert isinstance(found, VerifiedProposal)
        kept.keep(found)
        kept.messages[found.reference] = outgoing.message
        record = ProposalKept(kept.epoch.authenticator, authenticated.encode(), message=outgoing.message)
        if secrets is not None and isinstance(proposal, Update):
            kept.own_updates[proposal.leaf_node.encryption_key] = secrets
            record = msgspec.structs.replace(
                record,
                encryption_private=secrets.encryption_private,
                signature_private=secrets.signature_private,
            )
        return msgspec.structs.replace(outgoing, records=(*outgoing.records, RECORDS.encode(record)))

    def _sealed(
        self,
        kept: KeptEpoch,
        content: Content,
        authenticated_data: bytes,
        entropy: Entropy,
        padding: Padding,
        public: bool = False,
    ) -> tuple[AuthenticatedContent, Outgoing]:
        """Sign and protect what is not a commit."""
        epoch = kept.epoch
        wire_format = WireFormat.PUBLIC_MESSAGE if public else WireFormat.PRIVATE_MESSAGE
        framed = FramedContent(epoch.group_id, epoch.number, member(epoch.own_leaf), authenticated_data, content)
        authenticated = sign_content(epoch.suite, *epoch.signer, wire_format, framed, epoch.context_bytes)
        sealing = self._sealing(authenticated, entropy, padding)
        message, reservations, position = self._protected(kept, authenticated, sealing)
        echo = self._echo_of(message)
        kept.remember(echo)
        record = RECORDS.encode(MessageSent(epoch.authenticator, echo, position))
        return authenticated, Outgoing(message, reservations, (record,))

    def _sealing(
        self, authenticated: AuthenticatedContent, entropy: Entropy, padding: Padding
    ) -> tuple[bytes, bytes] | None:
        """What sealing a private message can fail of, before a key is taken: its plaintext and reuse guard."""
        if authenticated.wire_format == WireFormat.PUBLIC_MESSAGE:
            return None
        return padded(authenticated, padding), drawn(entropy, REUSE_GUARD_SIZE)

    def _protected(
        self, kept: KeptEpoch, authenticated: AuthenticatedContent, sealing: tuple[bytes, bytes] | None
    ) -> tuple[bytes, tuple[bytes, ...], bytes]:
        """The message for the wire, the reservation of its key, and that key's position."""
        epoch = kept.epoch
        if sealing is None:
            public = public_message(epoch.suite, epoch.secrets.membership_key, authenticated, epoch.context_bytes)
            return encode_message(public), (), b""
        ratchet = ratchet_of(content_type(authenticated.content.content))
        reservation = self.ledger.reserve(epoch.number, epoch.authenticator, ratchet)
        key = kept.keys.advance(ratchet, reservation.first)
        sealed = seal_plaintext(epoch.suite, epoch.secrets.sender_data_secret, key, authenticated, *sealing)
        return encode_message(sealed), (reservation.encode(),), key.position

    def _hold_own(self, kept: KeptEpoch, staged: StagedCommit, message: bytes) -> None:
        sender = member(kept.epoch.own_leaf)
        kept.remember(self._echo_of(message))
        kept.staged[staged.id] = staged
        kept.messages[staged.id] = message
        kept.keep(VerifiedCommit(kept.epoch.authenticator, staged.commit, sender, staged.authenticated))

    # -- to bytes and back --------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """All of it but the ledger, which is stored apart; secrets included, to be sealed by whoever stores it."""
        kept = tuple(kept_state(each) for each in self._kept.values())
        return STATES.encode(GroupState(VERSION, self._current, self.removed, kept))

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        ledger: SendLedger,
        *,
        services: Services = Services(),  # noqa: B008
        retention: Retention = Retention(),  # noqa: B008
    ) -> "Group":
        """What was stored, to be brought up to date by ``replay``.

        Args:
            ledger: the highest that is known, never one restored along with ``data``.

        Raises:
            LocalError: these are not the bytes of a group, or of another version.
        """
        try:
            state = STATES.decode(data)
            assert isinstance(state, GroupState)
            if state.version != VERSION:
                raise LocalError(f"a group stored as version {state.version}; this code reads {VERSION}")
            kept = [kept_from(each) for each in state.kept]
            first = kept[0]
            group = cls(
                first.epoch, first.keys, ledger=ledger, now_ns=first.since_ns, services=services, retention=retention
            )
            group._kept = {each.epoch.authenticator: each for each in kept}
            for each in state.kept:
                for staged in each.staged:
                    group._restage(staged)
            group._at(state.current)
            for one in kept:
                one.align(ledger)
        except (ProtocolError, IndexError) as error:
            raise LocalError(f"this is no stored group: {error}") from None
        group._current, group.removed = state.current, state.removed
        return group

    def replay(self, record: bytes) -> None:
        """Bring a restored group to where it was when a record was written. Records come in the order of writing.

        Raises:
            LocalError: the record does not follow on this state, or was altered.
        """
        try:
            self._replay(RECORDS.decode(record))
        except ProtocolError as error:
            raise LocalError(f"a record that does not follow on this state: {error}") from None

    def _replay(self, record: Message) -> None:
        match record:
            case MessageSent(epoch, echo, position):
                kept = self._at(epoch)
                self._sent_again(kept, position)
                kept.remember(echo)
            case MessageReceived(epoch, position):
                self._at(epoch).keys.mark_received(position)
            case ProposalKept(epoch) | CommitKept(epoch):
                kept = self._at(epoch)
                self._keep_elsewhere(kept, keep_again(kept, record))
            case CommitStaged():
                self._restage(record)
            case CommitDiscarded(epoch, commit):
                if self._at(epoch).staged.pop(commit, None) is None:
                    raise LocalError(f"commit {commit.hex()[:16]} is not staged on epoch {epoch.hex()[:16]}")
            case EpochAdopted(epoch, commit, now, dropped):
                kept = self._at(epoch)
                if commit not in kept.staged:
                    raise LocalError(f"commit {commit.hex()[:16]} is not staged on epoch {kept.epoch.number}")
                entered = kept.staged[commit].next
                self._check_dropped(dropped, kept.epoch.authenticator if entered is None else entered.authenticator)
                self._enter(kept, kept.staged[commit], now)
                self._forget(dropped)
            case EpochReturned(epoch):
                self.return_to(epoch)
            case EpochsDropped(epochs):
                self._check_dropped(epochs, self._current)
                self._forget(epochs)
            case _:
                raise LocalError(f"{type(record).__name__} is no record of a group")

    def _check_dropped(self, epochs: tuple[bytes, ...], current: bytes) -> None:
        for name in epochs:
            self._at(name)
        if current in epochs or len(dict.fromkeys(epochs)) != len(epochs):
            raise LocalError("a record drops the current epoch, or one twice")

    def _sent_again(self, kept: KeptEpoch, position: bytes) -> None:
        """A key of ours that was used after the state was stored; it may be that the ledger does not know."""
        if position:
            leaf, ratchet, generation = read_position(position)
            if leaf != kept.epoch.own_leaf:
                raise LocalError(f"a record says that we sent as leaf {leaf}")
            kept.keys.mark_sent(ratchet, generation)
            self.ledger.note(kept.epoch.number, kept.epoch.authenticator, ratchet, generation + 1)

    def _restage(self, record: CommitStaged) -> None:
        kept = self._at(record.epoch)
        staged = staged_again(kept, record, msgspec.structs.replace(_ASKED_BEFORE, run=self.services.run))
        if record.own:
            self._sent_again(kept, record.position)
            self._hold_own(kept, staged, record.message)
            self.ledger.note(kept.epoch.number, kept.parent_name, COMMIT, 1)
        else:
            kept.staged[staged.id] = staged
