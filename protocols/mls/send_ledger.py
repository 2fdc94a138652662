"""What must never go back: where a group's member has sent and whether it has committed, in every epoch.

An epoch is a value that one may return to, and the ratchets that belong to it can be restored from an old
backup. The ledger cannot: a generation is *reserved* here, made durable, and only then used, so whatever else
is rolled back, adopted or restored, the next message gets another key. It is not part of any epoch and adopting
another branch does not touch it. An epoch is named by its authenticator, as both branches of a fork number
theirs alike.

The table is bounded, and forgetting a row must not start it again at zero. So a row is never deleted on request
(an epoch that is over is wiped in its ``MessageKeys``); when there are too many, the row of the lowest epoch goes
and the *floor* rises above its number: an epoch below the floor that has no row may have had one, and nothing is
sent in it any more. What is guaranteed, as long as what was reserved is durable before it is used:

- no generation, and no right to commit, is given out twice, whatever is merged, applied twice or in another order;
- sending is refused at worst in epochs older than the ``EPOCHS_MAX // 2`` highest ones that were sent in.

It cannot help if the ledger itself was restored from a backup, or exists twice. Then the member needs a new leaf.
"""

from struct import Struct
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, read_version, uint8, uint64, vector
from protocols.mls.errors import MlsError
from protocols.mls.ratchets import GENERATIONS, Ratchet

EPOCHS_MAX: Final = 256
"""Epochs remembered, 16 kB: far more than a member keeps to return to, so the floor is never in the way."""

STATE_VERSION: Final = 1

_NAME_SIZE: Final = 32
"""Of the authenticator, which is up to 64 bytes long; as many as the shortest has, and no two agree in them."""

_RESERVATION: Final = Struct(f">Q{_NAME_SIZE}sBQQ")
_ROW: Final = Struct(f">Q{_NAME_SIZE}sQQQ")

COMMIT: Final = len(Ratchet)
"""Counted beside the ratchets, and never beyond one: a second commit on one parent is evidence against its author."""


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """Generations ``first`` to ``end - 1`` of a ratchet of ours, given out for good."""

    epoch: int
    authenticator: bytes
    ratchet: int
    """Or ``len(Ratchet)``: the right to commit in this epoch."""
    first: int
    end: int

    @property
    def generations(self) -> range:
        return range(self.first, self.end)

    def encode(self) -> bytes:
        """What has to be durable before any of the generations is used: 57 bytes, whatever the group."""
        return _RESERVATION.pack(self.epoch, self.authenticator, self.ratchet, self.first, self.end)


class _Row(msgspec.Struct):
    epoch: int
    following: list[int]
    """The next generation of each ratchet, and the number of commits."""


class SendLedger:
    """One for each group, as epochs of a group are compared by number."""

    def __init__(self) -> None:
        self._rows: dict[bytes, _Row] = {}
        self._floor = 0

    def __repr__(self) -> str:
        return f"<SendLedger: {len(self._rows)} epochs, floor {self._floor}>"

    def reserve(self, epoch: int, authenticator: bytes, ratchet: Ratchet, count: int = 1) -> Reservation:
        """The next ``count`` generations; several at once cost one write for many messages.

        Raises:
            LocalError: the ratchet is used up, or the epoch too old to know what was sent in it.
        """
        first = self._following(epoch, authenticator, ratchet)
        if not 0 < count <= GENERATIONS - first:
            raise LocalError(f"{count} generations wanted, {GENERATIONS - first} are left: another epoch is due")
        self._raise(epoch, _name(authenticator), ratchet, first + count)
        return Reservation(epoch, _name(authenticator), ratchet, first, first + count)

    def check_commit(self, epoch: int, authenticator: bytes) -> None:
        """Before a commit is made.

        Raises:
            LocalError: we have committed in this epoch, or it is too old to know.
        """
        if self._following(epoch, authenticator, COMMIT):
            raise LocalError(f"we have committed in epoch {epoch}: send that commit again, another would be a fork")

    def reserve_commit(self, epoch: int, authenticator: bytes) -> Reservation:
        """The right to sign one commit in an epoch; like a key it is given once.

        Raises:
            LocalError: as ``check_commit``.
        """
        self.check_commit(epoch, authenticator)
        self._raise(epoch, _name(authenticator), COMMIT, 1)
        return Reservation(epoch, _name(authenticator), COMMIT, 0, 1)

    def _following(self, epoch: int, authenticator: bytes, kind: int) -> int:
        row = self._rows.get(_name(authenticator))
        if row is None and epoch < self._floor:
            raise LocalError(f"nothing is known of epoch {epoch}, which is below {self._floor}: nothing is sent in it")
        if row is not None and row.epoch != epoch:
            raise LocalError(f"the authenticator is that of epoch {row.epoch}, not {epoch}")
        return 0 if row is None else row.following[kind]

    def following(self, name: bytes, kind: int) -> int:
        """Where what was given out of a ratchet, or of the right to commit, ends; 0 if nothing is known."""
        row = self._rows.get(_name(name))
        return 0 if row is None else row.following[kind]

    def note(self, epoch: int, name: bytes, kind: int, following: int) -> None:
        """What another state proves was given out: never lowers anything."""
        if following and (_name(name) in self._rows or epoch >= self._floor):
            self._raise(epoch, _name(name), kind, following)

    def raise_to(self, epoch: int, name: bytes, kind: int, following: int) -> Reservation:
        """As ``note``, to be written down: of generations that somebody may have seen, and none if they are known."""
        first = self.following(name, kind)
        self.note(epoch, name, kind, following)
        return Reservation(epoch, _name(name), kind, first, max(first, self.following(name, kind)))

    def apply(self, reservation: bytes) -> None:
        """What a journal says was reserved; in any order, and again.

        Raises:
            LocalError: these are not the bytes of a reservation.
        """
        if len(reservation) != _RESERVATION.size:
            raise LocalError(f"a reservation of {len(reservation)} bytes, not {_RESERVATION.size}")
        epoch, name, ratchet, _, end = _RESERVATION.unpack(reservation)
        if ratchet > COMMIT or end > (GENERATIONS if ratchet < COMMIT else 1):
            raise LocalError("these bytes are no reservation")
        if name in self._rows or epoch >= self._floor:
            self._raise(epoch, name, ratchet, end)

    def merge(self, other: "SendLedger") -> None:
        """Take in what another ledger of this group and member knows: of each ratchet the higher position.

        A row that only one of the two has, below the other's floor, may have been higher there before it was
        forgotten: it goes, whether or not there is room for it.
        """
        floor = max(self._floor, other._floor)
        rows = {}
        for name, row in (self._rows | other._rows).items():
            mine, theirs = self._rows.get(name), other._rows.get(name)
            if mine is not None and theirs is not None:
                pairs = zip(mine.following, theirs.following, strict=True)
                rows[name] = _Row(row.epoch, [max(pair) for pair in pairs])
            elif row.epoch >= (other if theirs is None else self)._floor:
                rows[name] = _Row(row.epoch, list(row.following))
        self._rows, self._floor = rows, floor
        self._bound()

    # -- to bytes and back ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        rows = sorted((row.epoch, name, *row.following) for name, row in self._rows.items())
        return uint8(STATE_VERSION) + uint64(self._floor) + vector(_ROW.pack(*row) for row in rows)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SendLedger":
        """Raises:
        LocalError: these are not the bytes of a ledger.
        """
        try:
            return decode(cls._read, data)
        except MlsError as error:
            raise LocalError(f"this is no stored ledger: {error}") from None

    @classmethod
    def _read(cls, reader: Reader) -> "SendLedger":
        read_version(reader, "a ledger", STATE_VERSION)
        ledger = cls()
        ledger._floor = reader.uint64()
        for epoch, name, *following in reader.vector(lambda each: _ROW.unpack(each.take(_ROW.size))):
            ledger._rows[name] = _Row(epoch, following)
        return ledger

    def _raise(self, epoch: int, name: bytes, kind: int, following: int) -> None:
        row = self._rows.setdefault(name, _Row(epoch, [0] * (len(Ratchet) + 1)))
        row.following[kind] = max(row.following[kind], following)
        self._bound()

    def _bound(self) -> None:
        while len(self._rows) > EPOCHS_MAX:
            name, row = min(self._rows.items(), key=lambda item: (item[1].epoch, item[0]))
            del self._rows[name]
            self._floor = max(self._floor, row.epoch + 1)


def _name(authenticator: bytes) -> bytes:
    if len(authenticator) < _NAME_SIZE:
        raise LocalError(f"an epoch authenticator of {len(authenticator)} bytes")
    return authenticator[:_NAME_SIZE]
