"""An MLS group whose every step is durable before anybody outside learns of it.

``Group`` returns from each step what happened and what has to be durable first, and trusts its caller. Here is that
caller. It owns the group, so nobody else takes a step, and what a step would have others see comes out when the
step is in the journal. Its driver, the actor of the group, does three things after every call: tells the journal the
``writes``, carries out what is ``released``, and brings back each ``Durable``. What stays inside is at hand at once: a
commit that arrived can be staged and adopted in the same turn, and is one write. A driver that is told ``JournalLost``
drops the group, and with it what waited.

After an unclean recovery what we know of ourselves may be older than what we did: a disk may lie about a write, and
somebody may have put back a copy of it. Until that is settled, nothing is said but what was said before, byte for
byte. It is settled by ``confirm``, when others have told how far they have seen us, or by joining again with a fresh
leaf: an epoch that we begin ourselves is one in which we have not sent. Either is among the ``writes``, so that a
journal that is closed in order afterwards leaves nothing to settle.

A disk can be slower than what others send. Then a step raises ``BusyError`` before anything happened: its driver sheds
the message, which is not acknowledged, and so comes again.

This joins two subjects of ``protocols``, so it lives here; it is as pure as they are.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

import msgspec

from actors.group_journal import GroupJournal
from actors.group_mail import (
    Effect,
    Entered,
    Heard,
    Invite,
    Mail,
    Post,
    Proven,
    Seen,
    Taken,
    group_stream,
    ledger_stream,
)
from protocols.errors import LocalError
from protocols.journal.messages import Durable, Recovered, Write
from protocols.mls.codec import vector
from protocols.mls.epoch import Epoch
from protocols.mls.group import Group
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message_keys import GENERATION_SKIP_MAX
from protocols.mls.opening import ApplicationMessage, VerifiedCommit
from protocols.mls.outcomes import Moved, Outgoing, OwnCommit, Received
from protocols.mls.ratchets import GENERATIONS, Ratchet
from protocols.mls.send_ledger import COMMIT
from protocols.mls.services import Retention, Services
from protocols.mls.staging import StagedCommit

UNSEEN_MAX: Final = 64
"""Messages that we may have sent and nobody who answers has seen. They are skipped, which costs a receiver 0.1 ms."""
LOST_MAX: Final = 16
"""Messages that we may have sent since we were last confirmed, and that nobody has seen. What is skipped for them is
counted from what we know, which is ahead of what others saw since then. So it adds up, and others can follow over 60
such crashes in an epoch."""
AHEAD_MAX: Final = GENERATION_SKIP_MAX - UNSEEN_MAX
"""How far ahead of our ledger others may say that we were. Whoever lies can waste so many keys of ours, and the right
to commit in an epoch, but not lead us to where members who have seen less cannot follow."""

P = ParamSpec("P")
T = TypeVar("T")


class UnconfirmedError(LocalError):
    """After an unclean recovery nothing new is said before ``confirm``, or under a fresh leaf."""


def _read(read: "Callable[Concatenate[Group, P], T]") -> "Callable[Concatenate[JournaledGroup, P], T]":
    """What only looks."""

    @wraps(read)
    def method(self: "JournaledGroup", /, *args: P.args, **options: P.kwargs) -> T:
        return read(self._group, *args, **options)

    return method


def _moved(step: "Callable[Concatenate[Group, P], Moved]") -> "Callable[Concatenate[JournaledGroup, P], None]":
    """A step of which nobody else is told."""

    @wraps(step)
    def method(self: "JournaledGroup", /, *args: P.args, **options: P.kwargs) -> None:
        self._journal.move(step(self._group, *args, **options))

    return method


def _said(step: "Callable[Concatenate[Group, P], Outgoing]") -> "Callable[Concatenate[JournaledGroup, P], int]":
    """A step whose message leaves as a ``Post`` of the number returned, and stays until that is settled."""

    @wraps(step)
    def method(self: "JournaledGroup", /, *args: P.args, **options: P.kwargs) -> int:
        self._check_sending()
        out = step(self._group, *args, **options)
        post = Post(self._journal.number(), out.message)
        self._journal.write(out.records, (post,), out.reservations)
        return post.number

    return method


def _committed(
    step: "Callable[Concatenate[Group, P], OwnCommit]",
) -> "Callable[Concatenate[JournaledGroup, P], StagedCommit]":
    """A commit, which leaves as a ``Post`` too, and can be adopted before."""

    @wraps(step)
    def method(self: "JournaledGroup", /, *args: P.args, **options: P.kwargs) -> StagedCommit:
        self._check_sending()
        own = step(self._group, *args, **options)
        self._journal.write((own.record,), (Post(0, own.message),), own.reservations)
        return own.commit

    return method


class JournaledGroup:
    """Make it by ``begin`` once the group's streams are open, or get it back by ``recover``."""

    def __init__(self, journal: GroupJournal, *, confirmed: bool) -> None:
        self._journal: Final = journal
        self._group: Final = journal.group
        self.confirmed = confirmed
        """Whether anything new may be said."""

    @classmethod
    def begin(
        cls,
        group: Group,
        joined: StagedCommit | None = None,
        message: bytes = b"",
        *,
        before: "JournaledGroup | None" = None,
    ) -> "JournaledGroup":
        """Take over a group that was just created or joined. ``Entered`` comes out when it is stored.

        What the group's stream held is destroyed: the place of who comes back with a fresh leaf. His ledger goes on:
        the group was joined with the one from ``recovered_ledger``.

        Args:
            joined: the commit that the group was joined by, if it has Welcomes: of a group that continues another.
            message: an external commit of ours, to be sent to the members.
            before: the one that has these streams until now, if there is one, whose last step this is. What it waits
                for arrives here, and is not taken for what this waits for; nor is its mail for mail of this one.
        """
        if before is not None and before.group_id != group.group_id:
            raise LocalError("the streams are those of another group")
        made = cls(GroupJournal(group, None if before is None else before._journal), confirmed=True)
        effects: list[Effect] = [Entered(group.current.authenticator, False)]
        if message:
            effects.append(Post(made._journal.number(), message))
        made._journal.begin(*effects, *(() if joined is None else made._invitations(joined)))
        return made

    @classmethod
    def recover(
        cls,
        group: Recovered,
        ledger: Recovered,
        *,
        services: Services = Services(),  # noqa: B008  # immutable
        retention: Retention = Retention(),  # noqa: B008
    ) -> "JournaledGroup | None":
        """The group as it was when the last of its writes became durable; None if the first never did.

        All mail that was not taken comes out again, and commits of ours that others may not have. Whether anything is
        in doubt is for the journal to say, which calls no stream clean while the keystore is one that was imported.

        Raises:
            StorageError: ``bad_state`` or ``bad_record``: another program wrote it, or in another order.
        """
        journal = GroupJournal.recover(group, ledger, services, retention)
        if journal is None:
            return None
        made = cls(journal, confirmed=group.clean and ledger.clean)
        made.resend()
        return made

    # -- the journal ----------------------------------------------------------------------------------

    def writes(self) -> list[Write]:
        """What to tell the journal, in this order; until it is told, nothing is released."""
        return self._journal.outbox.writes()

    def durable(self, answer: Durable) -> None:
        self._journal.outbox.durable(answer)

    def released(self) -> list[Effect]:
        """What may be done now, in the order in which it came to be."""
        return self._journal.outbox.released()

    @property
    def streams(self) -> tuple[bytes, bytes]:
        """The names of the group's and of the ledger's stream."""
        return group_stream(self.group_id), ledger_stream(self.group_id)

    # -- where we are ---------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<JournaledGroup at {self.current!r}, {len(self.mail)} pieces of mail>"

    @property
    def group_id(self) -> bytes:
        return self._group.group_id

    @property
    def current(self) -> Epoch:
        return self._group.current

    @property
    def removed(self) -> bool:
        return self._group.removed

    @property
    def epochs(self) -> tuple[bytes, ...]:
        return self._group.epochs

    @property
    def mail(self) -> tuple[Mail, ...]:
        """What was not taken yet, durable or not."""
        return tuple(self._journal.mail.values())

    epoch = _read(Group.epoch)
    parent = _read(Group.parent)
    proposals = _read(Group.proposals)
    waiting = _read(Group.waiting)
    staged = _read(Group.staged)
    commits = _read(Group.commits)
    origin = _read(Group.origin)

    # -- steps ----------------------------------------------------------------------------------------

    send = _said(Group.send)
    propose = _said(Group.propose)
    propose_update = _said(Group.propose_update)
    leave = _said(Group.leave)
    commit = _committed(Group.commit)
    discard = _moved(Group.discard)
    expire = _moved(Group.expire)

    def receive(self, data: bytes, receipt: bytes = b"") -> Received | None:
        """Open a message. What a member says comes out as ``Heard``, and a receipt as ``Taken``.

        Returns:
            a proposal, a commit or an echo, so that what follows from it goes into the same write. None for what a
            member says: the application has it from there on, so it is durable first.

        Raises:
            BusyError: too much waits for the journal, or to be taken.
            MlsError: as ``Group.receive``. Of a message that came before, see ``acknowledge``.
        """
        journal = self._journal
        journal.check_room()
        received = self._group.receive(data)
        content = received.content
        effects: list[Effect] = []
        if received.evidence is not None:
            effects.append(Proven(journal.number(), received.evidence.to_bytes()))
        if isinstance(content, ApplicationMessage):
            effects.append(
                Heard(
                    journal.number(),
                    content.epoch,
                    content.sender,
                    content.credential.encode(),
                    content.authenticated_data,
                    content.data,
                )
            )
        if receipt:
            effects.append(Taken(receipt))
        journal.write((received.record,), effects)
        return None if isinstance(content, ApplicationMessage) else msgspec.structs.replace(received, record=b"")

    def acknowledge(self, receipt: bytes) -> None:
        """A message came that cannot be opened, as its key was used: it was received before. That may not be durable
        yet, so its receipt too comes out as ``Taken``, when it is.

        Raises:
            BusyError: as ``receive``.
        """
        self._journal.check_room()
        self._journal.outbox.hold(Taken(receipt))

    def stage(self, commit: VerifiedCommit, *, now_ns: int) -> StagedCommit:
        """As ``Group.stage``; again writes nothing."""
        held = self._group.staged(commit.epoch)
        staged = self._group.stage(commit, now_ns=now_ns)
        if not any(each is staged.commit for each in held):
            self._journal.write((staged.record,))
        return staged.commit

    def adopt(self, commit: StagedCommit, *, now_ns: int) -> None:
        """As ``Group.adopt``. ``Entered`` comes out, and the Welcomes of a commit of ours as ``Invite``."""
        held = next((each for each in self.staged(commit.parent) if each.id == commit.id), commit)
        moved = self._group.adopt(held, now_ns=now_ns)
        entered = Entered(self.current.authenticator, self.removed)
        self._journal.move(moved, entered, *self._invitations(held))

    def return_to(self, authenticator: bytes) -> None:
        """As ``Group.return_to``. ``Entered`` comes out."""
        self._journal.move(self._group.return_to(authenticator), Entered(authenticator, False))

    def settle(self, *numbers: int) -> None:
        """This mail was taken: a message of ours delivered, one of others' in its reader's own journal. Again is no
        mistake: what was settled just before a crash may come out once more."""
        self._journal.settle(numbers)

    def resend(self) -> None:
        """Give out again, byte for byte, all that others may not have: mail, and commits on epochs that are kept. While
        anything waits for the journal, nothing: ask again."""
        group, outbox = self._group, self._journal.outbox
        if not len(outbox):
            commits = [each for name in group.epochs for each in group.staged(name) if each.own]
            outbox.hold(*self.mail, *(Post(0, group.message_of(each)) for each in commits))

    def forget(self) -> None:
        """The last step, of who was removed or gives the group up: all that is stored of it is destroyed, mail that was
        not taken too. What is left to its driver are ``writes``, ``durable`` and ``released``.

        The ledger stays, 16 kB at most: who is let in again must not begin at zero.
        """
        self._journal.forget()

    def _check_sending(self) -> None:
        self._journal.check_room()
        if not self.confirmed:
            raise UnconfirmedError("the journal was not closed in order: others have to tell how far they saw us")

    def _invitations(self, commit: StagedCommit) -> list[Invite]:
        if not commit.welcomes or commit.next is None:
            return []
        first = commit.welcomes[0].welcome
        welcomes = tuple(
            (tuple(map(int, each.joiners)), vector(secrets.encode() for secrets in each.welcome.secrets))
            for each in commit.welcomes
        )
        number, name = self._journal.number(), commit.next.authenticator
        return [Invite(number, name, first.cipher_suite, first.encrypted_group_info, welcomes)]

    # -- after an unclean recovery --------------------------------------------------------------------

    def seen_of(self, leaf: LeafIndex) -> tuple[Seen, ...]:
        """What we have seen of the member at a leaf of the current epoch, for him to ``confirm``."""
        member = self.current.tree.leaf(leaf)
        seen = []
        for name in self.epochs:
            there = self.epoch(name).tree.leaf(leaf)
            if member is not None and there is not None and there.credential == member.credential:
                seen.append(Seen(name, self._group.sent_by(leaf, name)))
        return tuple(seen)

    def confirm(self, seen: Iterable[Seen]) -> None:
        """Others have told how far they have seen us: go on beyond that.

        How many have to answer is the caller's to say. ``UNSEEN_MAX`` messages beyond what they know of are skipped
        in each epoch, and ``LOST_MAX`` beyond what we do; a commit that none of them has seen may be made twice.

        Raises:
            LocalError: so far ahead that others may not be able to follow. A fresh leaf helps.
        """
        claims = dict.fromkeys(self.epochs, (0, 0, 0))
        for each in seen:
            if each.epoch in claims:
                handshake, application, commits = map(max, zip(claims[each.epoch], each.following, strict=True))
                claims[each.epoch] = handshake, application, min(commits, 1)
        for name, claim in claims.items():
            known = [self._group.ledger.following(name, ratchet) for ratchet in Ratchet]
            if any(claim[ratchet] > known[ratchet] + AHEAD_MAX for ratchet in Ratchet):
                raise LocalError(f"in epoch {self.epoch(name).number} others saw {claim} of us, and we know of {known}")
        reservations: list[bytes] = []
        for name, claim in claims.items():
            known = [self._group.ledger.following(name, ratchet) for ratchet in Ratchet]
            handshake, application = (
                min(max(claim[ratchet] + UNSEEN_MAX, known[ratchet] + LOST_MAX), GENERATIONS) for ratchet in Ratchet
            )
            reservations += self._group.note_sent(name, (handshake, application, claim[COMMIT]))
        self._journal.reserve(reservations)
        self._journal.trust()
        self.confirmed = True

    # -- to bytes and back ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """For a checkpoint that has the journal in it too, between two turns; secrets included."""
        return bytes([self.confirmed]) + self._journal.to_bytes()

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        services: Services = Services(),  # noqa: B008
        retention: Retention = Retention(),  # noqa: B008
    ) -> "JournaledGroup":
        """Raises:
        LocalError: these are not the bytes of a group with its journal.
        """
        return cls(GroupJournal.from_bytes(data[1:], services, retention), confirmed=data[:1] == b"\x01")
