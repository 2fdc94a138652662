"""From what somebody did back to who it was.

    user --certifies--> device --+-- hash ----------> node id in the DHT
                                 +-- STATIC --------> Noise static of its sessions
                                 +-- RECORD --------> its records in the DHT
                                 +-- CRDT_BUNDLE ---> its operations on documents
                                 +-- MLS_LEAF ------> signature keys of its leaves in groups

Every answer is the certificate by which a device acted for its user, and every function needs the same three
things: that the device did it, that its user let it, and then. A link that does not hold has a reason of its own.
As in ``roster``, ``at`` is when the verifier first had what it asks about. The last arrow is ``leaf``'s.
"""

from typing import Protocol

from protocols.identity.certificates import DeviceCertificate, Purpose
from protocols.identity.device import certified_device
from protocols.identity.errors import IdentityError
from protocols.identity.ids import NodeId
from protocols.identity.roster import Roster
from protocols.identity.signing import Domain, verify


class Owned(Protocol):
    """What names its owner and is signed by it, such as a record of the DHT."""

    @property
    def owner(self) -> bytes: ...

    def verify(self) -> None: ...


def who_is_node(roster: Roster, node: NodeId, device: bytes, at: int) -> DeviceCertificate:
    """Who has this place in the DHT.

    Raises:
        IdentityError: ``wrong_node``: it is not this device's; or what ``Roster.standing`` raises.
    """
    if NodeId.of(device) != node:
        raise IdentityError("wrong_node", f"{device.hex()[:16]} is not at {node}")
    return roster.standing(device, Purpose.DHT, at)


def who_is_at(
    roster: Roster, certificate: bytes, static_public: bytes, network_id: bytes, at: int
) -> DeviceCertificate:
    """Who is at the other end of a session with this static.

    Raises:
        IdentityError: ``bad_static_length``, ``bad_static``, or what ``Roster.standing`` raises.
    """
    device = certified_device(certificate, static_public, network_id)
    return roster.standing(device, Purpose.SESSION, at)


def who_owns(roster: Roster, record: Owned, at: int) -> DeviceCertificate:
    """Whose record it is.

    Raises:
        ProtocolError: what the record's ``verify`` raises.
        IdentityError: what ``Roster.standing`` raises.
    """
    record.verify()
    return roster.standing(record.owner, Purpose.DHT, at)


def who_wrote(roster: Roster, device: bytes, *fields: bytes, signature: bytes, at: int) -> DeviceCertificate:
    """Whose operations they are; ``fields`` are those of the statement under ``Domain.CRDT_BUNDLE``.

    Raises:
        IdentityError: ``bad_bundle``: this device did not sign them; or what ``Roster.standing`` raises.
    """
    if not verify(device, Domain.CRDT_BUNDLE, *fields, signature=signature):
        raise IdentityError("bad_bundle", f"not signed by {device.hex()[:16]}")
    return roster.standing(device, Purpose.CRDT, at)
