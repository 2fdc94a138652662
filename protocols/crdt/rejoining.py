"""How a device comes back to a channel whose members have let go of what it lacks: by their snapshot.

What is in it cannot be checked, so it needs signatures: of more than half of the owners, who are the same for ever, or
it is not asked for; and of more than half of the admins and owners that were known here and, as it says, still are. A
device that was away while all of these changed has no better knowledge than the owners'.

Pages are of one size and announce how much there is, and what they come to has the digest that was signed: so who gives
them can keep us waiting, and nothing else.

What this device wrote and no member took has not seen what they settled, and never will have: it is lost, as a second
branch beside what is settled would be the end of the device. Its chain goes on from where they have it.
"""

from collections.abc import Mapping
from typing import Self

import msgspec

from protocols.crdt.changes import Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import PAGE_SIZE, Fetch, Mark, Page, Response, Settled
from protocols.crdt.replica import Replica
from protocols.crdt.snapshot import Sealed, body_of, decode_sealed, digest_of, is_trusted, signers_of
from protocols.errors import LocalError


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    channel: bytes
    device: bytes
    began_at: int
    mark: Mark | None = None
    size: int = 0
    pages: list[bytes] = []


class Rejoining:
    """A snapshot that is being fetched from one member: ``request`` gives what to ask, ``answer`` takes the answer."""

    __slots__ = ("_state",)

    def __init__(self, channel: bytes, device: bytes, began_at: int) -> None:
        self._state = _State(channel, device, began_at)

    @property
    def device(self) -> bytes:
        """Who is asked."""
        return self._state.device

    @property
    def began_at(self) -> int:
        return self._state.began_at

    def request(self) -> Settled | Fetch:
        state = self._state
        if state.mark is None:
            return Settled(state.channel)
        return Fetch(state.channel, state.mark.digest, PAGE_SIZE * len(state.pages))

    def answer(self, response: Response, owners: Mapping[bytes, Role]) -> Sealed | None:
        """The snapshot, when all of it is there.

        Raises:
            CrdtError: ``bad_answer``, ``bad_signature`` or ``bad_snapshot``: this is a lie. ``untrusted_snapshot`` or
                ``snapshot_gone``: it is not to be had here, by nobody's fault.
        """
        state = self._state
        match response:
            case Mark() if state.mark is None:
                self._begin(response, owners)
                return None
            case Page(size=size, data=data) if state.mark is not None:
                return self._take(state.mark, size, data)
        raise CrdtError("bad_answer", f"{type(response).__name__} to another question")

    def _begin(self, mark: Mark, owners: Mapping[bytes, Role]) -> None:
        if not mark.frame.ends:
            raise CrdtError("snapshot_gone", "nothing is settled there")
        if not is_trusted(signers_of(self._state.channel, mark.digest, mark.signatures), owners):
            raise CrdtError("untrusted_snapshot", "not more than half of the owners signed it")
        self._state.mark = mark

    def _take(self, mark: Mark, size: int, data: bytes) -> Sealed | None:
        state = self._state
        if not size:
            raise CrdtError("snapshot_gone", "something newer is settled there")
        had = PAGE_SIZE * len(state.pages)
        if (state.pages and size != state.size) or len(data) != min(PAGE_SIZE, size - had):
            raise CrdtError("bad_answer", f"{len(data)} bytes at {had} of a snapshot of {size}")
        state.size = size
        state.pages.append(data)
        if had + len(data) < size:
            return None
        sealed = decode_sealed(b"".join(state.pages))
        if digest_of(body_of(sealed.body, sealed.size)) != mark.digest:
            raise CrdtError("bad_snapshot", "it is not the one that was signed")
        return msgspec.structs.replace(sealed, tail=(), signatures=mark.signatures)

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises:
        LocalError: these are not the bytes of such a state.
        """
        rejoining = cls(b"", b"", 0)
        try:
            rejoining._state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"nobody rejoins: {error}") from None
        return rejoining


def rejoined(replica: Replica, sealed: Sealed, device: bytes) -> Replica:
    """The replica that ``device`` goes on with. It is open: what others hold in front of the snapshot may not have seen
    all of it.

    Raises:
        CrdtError: ``bad_snapshot``, ``untrusted_snapshot``, or ``stale_snapshot``: we have had a newer one.
    """
    fresh = Replica.restored(replica.genesis, sealed)
    signers = [each for each, _ in sealed.signatures]
    leading = {
        each: role
        for each, role in replica.judge.members.items()
        if (fresh.judge.role(each) or 0) >= Role.ADMIN and (each != device or each in signers)
    }
    if not is_trusted(tuple(signers), leading):
        raise CrdtError("untrusted_snapshot", "not more than half of the admins and owners known here signed it")
    known = fresh.settled_sequences
    if any(known.get(author, 0) < last for author, last in replica.settled_sequences.items()):
        raise CrdtError("stale_snapshot", "it lacks what is settled here")
    fresh.is_open = True
    return fresh


def lost(before: Replica, after: Replica, device: bytes) -> int:
    """How many operations of a device were lost in between."""
    old, new = before.tip(device), after.tip(device)
    return max((old.sequence if old else 0) - (new.sequence if new else 0), 0)
