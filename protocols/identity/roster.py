"""Which devices a user has, from what the user signed.

Certificates and revocations come late, twice and in any order, so a roster is a function of the set of them: each
device keeps the highest of its certificates, the earliest of its revocations and the earliest certificate that takes
over from it, and these are maxima and minima, which no order changes. Nothing is believed for having come first or
last, and what is revoked or rotated never comes back.

*When* decides. A device that was good until Tuesday signed good things on Monday, and they stay good; a thief who
has the key on Wednesday writes "Monday" into whatever it signs. So the time to ask about is never one that the
signer wrote: it is when the verifier, or something that it trusts, first had the statement. Whoever kept no such time
asks about now.

A roster does not know what it was not told. Who withholds a revocation from a verifier keeps the device in standing
there until its certificate expires: that is what validity is for, and a reason to keep it short.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from protocols.errors import LocalError
from protocols.identity.certificates import DeviceCertificate, Purpose, Revocation
from protocols.identity.errors import IdentityError
from protocols.messages import Key32

DEVICES_MAX: Final = 256
"""A new key a week, for five years. A key that was known is never forgotten, or its revocation would be too: a full
roster takes in no more devices, and all that it knew stands. (Which ones came first counts there, and only there.)"""

CERTIFICATES_MAX: Final = 8
"""Of one device; the lowest versions give way. It has four purposes, and renewals leave older certificates behind."""

STATE_VERSION: Final = 1

Statement = DeviceCertificate | Revocation


class _Device(NamedTuple):
    """What is known of one key."""

    certificates: tuple[DeviceCertificate, ...] = ()
    """The highest first."""
    revocation: Revocation | None = None
    """The earliest."""
    successor: DeviceCertificate | None = None
    """Of those that take over, the one that begins first."""


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    version: int
    user: Key32
    statements: tuple[DeviceCertificate | Revocation, ...]


_NOTHING: Final = _Device()
_SAVED: Final = msgspec.msgpack.Decoder(_Saved)


class Roster:
    """The devices of one user."""

    __slots__ = ("_devices", "user")

    def __init__(self, user: bytes) -> None:
        self.user: Final = user
        self._devices: Final[dict[bytes, _Device]] = {}

    def __len__(self) -> int:
        """Devices that anything is known of, bad ones too."""
        return len(self._devices)

    def add(self, statement: Statement) -> bool:
        """Take in a certificate or a revocation; whether it said anything new.

        Raises:
            IdentityError: ``wrong_user``, ``bad_certificate``, ``bad_request``, ``bad_revocation`` or ``full``.
        """
        self._require_user(statement)
        if self._known(statement):
            return False
        statement.verify()
        return self._merge(statement)

    def standing(
        self, device: bytes, purpose: Purpose, at: int, shown: DeviceCertificate | None = None
    ) -> DeviceCertificate:
        """The certificate by which what ``device`` signed for ``purpose`` is the user's.

        ``at`` is when the verifier first had it, by the verifier's clock. ``shown`` is a certificate that came with
        it: it counts as if it had been added, and is not.

        Raises:
            IdentityError: ``unknown_device``, ``revoked``, ``rotated``, ``not_yet_valid``, ``expired``,
                ``wrong_purpose``; or what ``add`` raises, for ``shown``.
        """
        found = self._devices.get(device, _NOTHING)
        if shown is not None:
            found = self._with(found, device, shown)
        certificate = _acting(found, device, at)
        certificate.require_purpose(purpose)
        return certificate

    def in_force(self, at: int) -> list[DeviceCertificate]:
        """The certificate of every device that is in standing for anything, by key."""
        found = []
        for device, known in sorted(self._devices.items()):
            with suppress(IdentityError):
                found.append(_acting(known, device, at))
        return found

    def statements(self) -> list[Statement]:
        """All that there is to tell others about this user, in an order that depends on nothing else."""
        every = chain.from_iterable(map(_statements, self._devices.values()))
        return [each for _, each in sorted({msgspec.msgpack.encode(each): each for each in every}.items())]

    # -- to bytes and back -----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Equal rosters have equal bytes."""
        return msgspec.msgpack.encode(_Saved(STATE_VERSION, self.user, tuple(self.statements())))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Roster":
        """The roster whose ``to_bytes`` gave ``data``; signatures were checked when they came, and are not again."""
        try:
            saved = _SAVED.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LocalError(f"not a saved roster: {error}") from None
        if saved.version != STATE_VERSION:
            raise LocalError(f"a saved roster of version {saved.version}, not {STATE_VERSION}")
        roster = cls(saved.user)
        try:
            for statement in saved.statements:
                roster._require_user(statement)
                roster._merge(statement)
        except IdentityError as error:
            raise LocalError(f"not a saved roster: {error}") from None
        return roster

    # -- inside ------------------------------------------------------------------------------------------

    def _require_user(self, statement: Statement) -> None:
        if statement.user != self.user:
            raise IdentityError("wrong_user", f"{statement.user.hex()[:16]} says so, not {self.user.hex()[:16]}")

    def _with(self, found: _Device, device: bytes, shown: DeviceCertificate) -> _Device:
        self._require_user(shown)
        if shown.device != device:
            raise IdentityError("unknown_device", f"a certificate of {shown.device.hex()[:16]} was shown")
        if shown in found.certificates:
            return found
        shown.verify()
        return found._replace(certificates=_highest(found.certificates, shown))

    def _known(self, statement: Statement) -> bool:
        return statement in _statements(self._devices.get(statement.device, _NOTHING))

    def _merge(self, statement: Statement) -> bool:
        """Take in what is verified. All of it or, if the roster is full, nothing."""
        changes = {}
        device = self._devices.get(statement.device, _NOTHING)
        if isinstance(statement, Revocation):
            earliest = min(filter(None, (device.revocation, statement)), key=_end_of_revoked)
            changes[statement.device] = device._replace(revocation=earliest)
        else:
            changes[statement.device] = device._replace(certificates=_highest(device.certificates, statement))
            if statement.replaces:
                old = self._devices.get(statement.replaces, _NOTHING)
                first = min(filter(None, (old.successor, statement)), key=_end_of_replaced)
                changes[statement.replaces] = old._replace(successor=first)
        fresh = [key for key in changes if key not in self._devices]
        if len(self._devices) + len(fresh) > DEVICES_MAX:
            raise IdentityError("full", f"{DEVICES_MAX} devices of one user are known; no more are taken in")
        changed = any(self._devices.get(key) != value for key, value in changes.items())
        self._devices.update(changes)
        return changed


def _acting(found: _Device, device: bytes, at: int) -> DeviceCertificate:
    """The certificate that counts at this time."""
    revocation, successor = found.revocation, found.successor
    if revocation is not None and at >= revocation.revoked_at:
        raise IdentityError("revoked", f"{device.hex()[:16]}, at {revocation.revoked_at}")
    if successor is not None and at >= successor.not_before:
        raise IdentityError("rotated", f"{successor.device.hex()[:16]} took over at {successor.not_before}")
    if not found.certificates:
        raise IdentityError("unknown_device", f"no certificate of {device.hex()[:16]}")
    begun = (each for each in found.certificates if each.not_before <= at)
    certificate = next(begun, found.certificates[-1])
    certificate.require_valid(at)
    return certificate


def _highest(certificates: tuple[DeviceCertificate, ...], one: DeviceCertificate) -> tuple[DeviceCertificate, ...]:
    if one in certificates:
        return certificates
    return tuple(sorted((*certificates, one), key=_height, reverse=True)[:CERTIFICATES_MAX])


def _height(certificate: DeviceCertificate) -> tuple[int, bytes]:
    """A user who signs two of one version gets the same one of them everywhere."""
    return certificate.version, certificate.to_bytes()


def _end_of_replaced(successor: DeviceCertificate) -> tuple[int, bytes]:
    return successor.not_before, successor.to_bytes()


def _end_of_revoked(revocation: Revocation) -> tuple[int, bytes]:
    return revocation.revoked_at, revocation.signature


def _statements(device: _Device) -> Iterator[Statement]:
    yield from device.certificates
    yield from filter(None, (device.revocation, device.successor))
