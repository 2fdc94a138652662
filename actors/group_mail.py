"""What a group gives out and keeps until it is taken: its messages to others, and what others said.

An MLS record says that a key was used, not what was said under it, and a key is used once. Whoever crashes between
the record and the message would have lost the message: ours, sent under a key that is gone, or somebody's, which
was acknowledged and cannot be opened again. So content is journaled in the same write as the record of its key, and
stays, as *mail*, until its taker says that it is ``Settled``: ours when it was delivered, others' when the
application has it in its own journal. After a crash all mail that is not settled comes out again, byte for byte;
who takes it knows it by its number, or by what it says.

Commits of ours are in the group's own records anyhow, and leave with number 0: nothing is to be settled.
"""

from typing import Annotated, Final, TypeAlias

import msgspec

from protocols.crypto import SHA256
from protocols.messages import Codec, Message, Uint64
from protocols.mls.codec import Reader, decode
from protocols.mls.records import Bytes, Name
from protocols.mls.welcome import JOINERS_MAX, EncryptedGroupSecrets, Welcome

MAIL_MAX: Final = 4096
"""Pieces of mail that are not settled. Beyond, nothing is sent and nothing is received: whoever takes it is gone."""
MAIL_SIZE_MAX: Final = 64 * 1024 * 1024
"""Of all of them; one more may exceed it."""
STATE_SIZE_MAX: Final = 256 * 1024 * 1024
"""As large as the journal's snapshots."""

STATE_VERSION: Final = 1
RESERVED: Final = "mls.reserved"
"""The kind of the records in a ledger's stream."""


def group_stream(group_id: bytes) -> bytes:
    """The name of the stream of a group's states, records and mail. By hash, as group ids are of any length."""
    return b"mls/" + SHA256.digest(group_id)


def ledger_stream(group_id: bytes) -> bytes:
    """The name of the stream of reservations, which is never erased nor rolled back."""
    return b"mls-ledger/" + SHA256.digest(group_id)


# -- mail, which is stored --------------------------------------------------------------------------


class Post(Message, frozen=True, gc=False, tag="group.post"):
    """To be sent to every member, as often as it takes."""

    number: Uint64
    message: Bytes


class Invite(Message, frozen=True, tag="group.invite"):
    """The Welcomes of a commit of ours that was adopted."""

    number: Uint64
    epoch: Name
    """The authenticator of the epoch that they lead into."""
    suite: int
    group_info: Bytes
    """Encrypted; all Welcomes of the commit have it."""
    welcomes: Annotated[tuple[tuple[tuple[int, ...], bytes], ...], msgspec.Meta(max_length=JOINERS_MAX)]
    """Of each the leaves that it is for, and its ``EncryptedGroupSecrets``."""

    def __repr__(self) -> str:
        return f"Invite({self.number}, {len(self.welcomes)} Welcomes)"

    def sealed(self) -> tuple[tuple[tuple[int, ...], Welcome], ...]:
        """Each Welcome, and the leaves that it is for."""
        return tuple(
            (leaves, Welcome(self.suite, decode(_read_secrets, secrets), self.group_info))
            for leaves, secrets in self.welcomes
        )


class Heard(Message, frozen=True, gc=False, tag="group.heard"):
    """What a member said, for the application."""

    number: Uint64
    epoch: Name
    leaf: int
    credential: Bytes
    """Of that leaf in that epoch, encoded."""
    authenticated_data: Bytes
    data: Bytes

    def __repr__(self) -> str:
        return f"Heard({self.number}, from leaf {self.leaf}, {len(self.data)} bytes)"


class Proven(Message, frozen=True, gc=False, tag="group.proven"):
    """Proof that a member forked the group, to be kept and shown around: a ``ForkEvidence``."""

    number: Uint64
    evidence: Bytes


Mail: TypeAlias = Post | Invite | Heard | Proven


class Settled(Message, frozen=True, gc=False, tag="group.settled"):
    """These were taken."""

    numbers: Annotated[tuple[Uint64, ...], msgspec.Meta(max_length=2 * MAIL_MAX)]


MAIL: Final[Codec[Mail | Settled]] = Codec(Post, Invite, Heard, Proven, Settled, size_max=STATE_SIZE_MAX)
"""Beside ``mls.records.RECORDS`` what a group's stream has in it."""


# -- what is said once ------------------------------------------------------------------------------


class Taken(Message, frozen=True, gc=False, tag="group.taken"):
    """A message that was received may be acknowledged."""

    receipt: Bytes


class Entered(Message, frozen=True, gc=False, tag="group.entered"):
    """The group stands in this epoch, for good: the key package that led here may be erased."""

    epoch: Name
    removed: bool
    """We are no member of what comes after it."""


Effect: TypeAlias = Mail | Taken | Entered
EFFECTS: Final[Codec[Effect]] = Codec(Post, Invite, Heard, Proven, Taken, Entered, size_max=STATE_SIZE_MAX)


# -- between members ----------------------------------------------------------------------------------


class Seen(Message, frozen=True, gc=False, tag="group.seen"):
    """How far a member has seen another one go in an epoch, for whoever cannot trust his own ledger any more."""

    epoch: Name
    following: tuple[Uint64, Uint64, Uint64]
    """The generations of the two ratchets, and the number of commits, as ``SendLedger`` counts."""


# -- all of it --------------------------------------------------------------------------------------


class State(Message, frozen=True, tag="group.state"):
    """What a snapshot of a group's stream holds."""

    version: int
    group: Annotated[bytes, msgspec.Meta(max_length=STATE_SIZE_MAX)]
    numbered: Uint64
    """The highest number that mail has had."""
    mail: Annotated[tuple[Mail, ...], msgspec.Meta(max_length=2 * MAIL_MAX)]

    def __repr__(self) -> str:
        return f"State({len(self.group)} bytes, {len(self.mail)} pieces of mail)"


STATES: Final[Codec[State]] = Codec(State, size_max=STATE_SIZE_MAX)


def _read_secrets(reader: Reader) -> tuple[EncryptedGroupSecrets, ...]:
    return reader.vector(EncryptedGroupSecrets.read, JOINERS_MAX)
