"""What members agree to let go of: a snapshot is signed while there still are operations to check it by.

Once everybody has compacted, nobody can tell any more whether a snapshot is true: each has its own, of another moment,
and what both came from is gone. So an admin proposes one, and the other admins and owners make the same from their own
operations and sign it, and only then does anybody compact. Who comes later takes the one that is settled. It shows for
itself, and whoever was away and needs it can have it from a single member, honest or not.

Rejected: to ask around when a snapshot is needed. It would be about operations that those who are asked have dropped.
"""

from typing import Final, Self

import msgspec

from protocols.crdt.changes import Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import PAGE_SIZE, TRANSFER_SIZE_MAX, Confirm, Fetch, Mark, Page
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import (
    Frame,
    Sealed,
    Signatures,
    body_of,
    decode_sealed,
    decode_snapshot,
    digest_of,
    encode_sealed,
    frame_of,
    is_trusted,
    signers_of,
)
from protocols.errors import LocalError

NO_FRAME: Final = Frame((), ())
NOTHING_SETTLED: Final = Mark(bytes(32), NO_FRAME, ())


class Offer:
    """The snapshot that a replica begins with, for others to have; made when somebody asks."""

    __slots__ = ("_data", "_mark", "_sealed")

    def __init__(self, sealed: Sealed | None) -> None:
        self._sealed: Final = sealed
        self._mark: Mark | None = None
        self._data = b""

    @property
    def mark(self) -> Mark:
        if self._sealed is None:
            return NOTHING_SETTLED
        if self._mark is None:
            body = body_of(self._sealed.body, self._sealed.size)
            self._mark = Mark(digest_of(body), frame_of(decode_snapshot(body)), self._sealed.signatures)
        return self._mark

    def page(self, asked: Fetch) -> Page:
        if self._sealed is None or asked.digest != self.mark.digest:
            return Page(0, b"")
        self._data = self._data or encode_sealed(self._sealed)
        if len(self._data) > TRANSFER_SIZE_MAX:
            return Page(0, b"")
        return Page(len(self._data), self._data[asked.offset : asked.offset + PAGE_SIZE])


class Proposal:
    """A snapshot that others are asked to sign."""

    __slots__ = ("began_at", "channel", "digest", "frame", "sealed")

    def __init__(self, channel: bytes, sealed: Sealed, began_at: int) -> None:
        self.channel: Final = channel
        self.sealed = msgspec.structs.replace(sealed, tail=())
        body = body_of(sealed.body, sealed.size)
        self.digest: Final = digest_of(body)
        self.frame: Final = frame_of(decode_snapshot(body))
        self.began_at: Final = began_at

    @property
    def question(self) -> Confirm:
        return Confirm(self.channel, self.digest, self.frame)

    @property
    def signers(self) -> tuple[bytes, ...]:
        return tuple(device for device, _ in self.sealed.signatures)

    def sign(self, signatures: Signatures) -> None:
        """Take in what others have signed.

        Raises:
            CrdtError: ``bad_signature``: they did not.
        """
        signers_of(self.channel, self.digest, signatures)
        found = dict(self.sealed.signatures) | dict(signatures)
        self.sealed = msgspec.structs.replace(self.sealed, signatures=tuple(sorted(found.items())))

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode((self.channel, encode_sealed(self.sealed), self.began_at))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises:
        LocalError: these are not the bytes of a proposal.
        """
        try:
            channel, sealed, began_at = msgspec.msgpack.decode(data, type=tuple[bytes, bytes, int])
            return cls(channel, decode_sealed(sealed), began_at)
        except (msgspec.MsgspecError, CrdtError) as error:
            raise LocalError(f"this is no stored proposal: {error}") from None


def is_settled(replica: Replica, signers: tuple[bytes, ...]) -> bool:
    """Whether so many have signed that those who come later will believe it (``rejoining``). To demand the owners costs
    no time: they are not removed, so nothing is stable without them."""
    members = replica.judge.members
    return is_trusted(signers, members) and is_trusted(signers, owners_of(replica))


def owners_of(replica: Replica) -> dict[bytes, Role]:
    return {device: role for device, role in replica.judge.members.items() if role is Role.OWNER}


def followed(replica: Replica, mark: Mark) -> Sealed | None:
    """The snapshot that others have settled on, made here too; None if it is too early for that, or too late, or those
    who signed are not enough for us.

    Raises:
        CrdtError: ``bad_signature`` or ``bad_snapshot``.
    """
    devices = signers_of(replica.channel, mark.digest, mark.signatures)
    if not is_settled(replica, devices):
        return None
    sealed = replica.snapshot_at(mark.frame)
    if sealed is None or digest_of(body_of(sealed.body, sealed.size)) != mark.digest:
        return None
    return msgspec.structs.replace(sealed, signatures=mark.signatures)
