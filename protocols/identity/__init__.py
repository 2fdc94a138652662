"""Who a peer is: users, their devices, and what ties everything that a device does to the user it does it for.

``signing`` is the one way in which anything is signed, ``ids`` are names made of keys. ``certificates`` is what a user
and a device sign to belong together and how it ends; ``roster`` is what follows from all of it at a time.
``device`` has the keys of one device, with the certified static of its sessions; ``leaf`` is the credential of its
leaves in MLS groups. ``chain`` goes back from something done to who it was. ``pseudonyms`` are a user's other names,
one a channel. ``possession`` proves to one peer, now, that a device has its key. ``keystore`` is how all of these keys
are kept.
"""

from protocols.identity.certificates import ALL_PURPOSES, DeviceCertificate, DeviceRequest, Purpose, Revocation
from protocols.identity.device import (
    CERTIFICATE_SIZE,
    IDENTITY_ENTROPY_SIZE,
    DeviceIdentity,
    certified_device,
    certify,
    prologue,
)
from protocols.identity.errors import IdentityError
from protocols.identity.ids import DeviceId, NodeId, UserId
from protocols.identity.leaf import LeafCredential, authenticate_leaf
from protocols.identity.pseudonyms import PseudonymLink, pseudonym
from protocols.identity.roster import Roster
from protocols.identity.signing import Domain, SigningKey, sign, verify

__all__ = [
    "ALL_PURPOSES",
    "CERTIFICATE_SIZE",
    "IDENTITY_ENTROPY_SIZE",
    "DeviceCertificate",
    "DeviceId",
    "DeviceIdentity",
    "DeviceRequest",
    "Domain",
    "IdentityError",
    "LeafCredential",
    "NodeId",
    "PseudonymLink",
    "Purpose",
    "Revocation",
    "Roster",
    "SigningKey",
    "UserId",
    "authenticate_leaf",
    "certified_device",
    "certify",
    "prologue",
    "pseudonym",
    "sign",
    "verify",
]
