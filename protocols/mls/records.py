"""What a group writes down: one small record for each thing that happened, and now and then the whole.

A record says what changed and is as large as that: a few dozen bytes for a message sent or received, the commit and
our share of its secrets for a staged epoch. The tree is in it only as part of a Welcome of ours. ``Group.replay``
applies records to the state that they were written after.

They hold secrets, so whoever stores them seals them. The record that staged a commit has the secrets of the epoch
that it leads to: what is to be erased with an old epoch is therefore everything up to the next whole state.

A record's tag is its version: what changes gets another tag, and a reader that knows the old one goes on reading it.
"""

from typing import Annotated, Final

import msgspec

from protocols.messages import Codec, Message, Uint64

Bytes = Annotated[bytes, msgspec.Meta(max_length=64 * 1024 * 1024)]
Name = Annotated[bytes, msgspec.Meta(max_length=64)]
"""An epoch's authenticator, or a commit's id."""
PrivateKey = Annotated[bytes, msgspec.Meta(max_length=256)]
"""66 bytes over P-521."""

STATE_SIZE_MAX: Final = 1024 * 1024 * 1024
"""A stored group: the trees of its kept epochs, at most."""

VERSION: Final = 1


class MessageSent(Message, frozen=True, gc=False, tag="mls.sent"):
    """We sent a message, and shall know it when it comes back; if it was private, it used up a key of ours."""

    epoch: Name
    echo: Name
    position: Name = b""


class MessageReceived(Message, frozen=True, gc=False, tag="mls.received"):
    """The key of somebody's application message was used."""

    epoch: Name
    position: Name


class ProposalKept(Message, frozen=True, gc=False, tag="mls.proposal"):
    """A proposal that a commit may refer to; if it updates our leaf, with the private keys of that."""

    epoch: Name
    authenticated: Bytes
    position: Name = b""
    message: Bytes = b""
    """Of our own: what to send, byte for byte, as often as it takes."""
    encryption_private: PrivateKey = b""
    signature_private: PrivateKey = b""

    def __repr__(self) -> str:
        return "ProposalKept(...)"


class CommitKept(Message, frozen=True, gc=False, tag="mls.commit"):
    """A commit that was verified: if it was private, it cannot be opened again."""

    epoch: Name
    authenticated: Bytes
    position: Name = b""


class CommitStaged(Message, frozen=True, gc=False, tag="mls.staged"):
    """What only we know of the epoch that a commit leads to; the rest follows from the commit."""

    epoch: Name
    authenticated: Bytes
    own: bool
    message: Bytes
    """Of our own: what to send, byte for byte, as often as it takes."""
    position: Name
    group_info: Bytes
    """Encrypted, as all Welcomes of the commit have it; the rest of each follows, with whom it is for."""
    welcomes: Annotated[tuple[tuple[tuple[int, ...], bytes], ...], msgspec.Meta(max_length=2**20)]
    secrets: Bytes
    keys: Bytes
    private: Bytes
    signature_private: PrivateKey

    def __repr__(self) -> str:
        return "CommitStaged(...)"


class CommitDiscarded(Message, frozen=True, gc=False, tag="mls.discarded"):
    """A staged commit was let go of; it may be staged again."""

    epoch: Name
    commit: Name


class EpochAdopted(Message, frozen=True, gc=False, tag="mls.adopted"):
    """The group moved on, or we were removed from it."""

    epoch: Name
    commit: Name
    now: Uint64
    dropped: Annotated[tuple[Name, ...], msgspec.Meta(max_length=1024)]
    """What went with it: replayed as it was, however much is kept nowadays."""


class EpochReturned(Message, frozen=True, gc=False, tag="mls.returned"):
    """The group went back to an epoch that was kept."""

    epoch: Name


class EpochsDropped(Message, frozen=True, gc=False, tag="mls.dropped"):
    """These are over: their secrets are erased."""

    epochs: Annotated[tuple[Name, ...], msgspec.Meta(max_length=1024)]


class KeptState(Message, frozen=True, gc=False, tag="mls.kept"):
    """One kept epoch, whole."""

    epoch: Bytes
    keys: Bytes
    parent: Name
    since: Uint64
    echoes: Annotated[tuple[Name, ...], msgspec.Meta(max_length=2**16)]
    proposals: Annotated[tuple[ProposalKept, ...], msgspec.Meta(max_length=2**16)]
    commits: Annotated[tuple[CommitKept, ...], msgspec.Meta(max_length=2**16)]
    staged: Annotated[tuple[CommitStaged, ...], msgspec.Meta(max_length=2**16)]

    def __repr__(self) -> str:
        return "KeptState(...)"


class GroupState(Message, frozen=True, gc=False, tag="mls.group"):
    """A group, whole."""

    version: int
    current: Name
    removed: bool
    kept: Annotated[tuple[KeptState, ...], msgspec.Meta(max_length=1024)]


RECORDS: Final[Codec[Message]] = Codec(
    MessageSent,
    MessageReceived,
    ProposalKept,
    CommitKept,
    CommitStaged,
    CommitDiscarded,
    EpochAdopted,
    EpochReturned,
    EpochsDropped,
    size_max=STATE_SIZE_MAX,
)
STATES: Final[Codec[Message]] = Codec(GroupState, size_max=STATE_SIZE_MAX)
