"""Whose leaves are in a group: MLS asks (RFC 9420 §5.3.1), and the chain from the user down answers.

A leaf's credential is a ``LeafCredential``. Whoever is added, joins, commits or changes their leaf is asked for it, and
who joins asks it of everybody who is there already.

The time to ask about is ours, as nobody else's can be believed. So members may part ways over a device whose
standing ends, or of whose end only some have heard, while it commits; that is a fork like others. The cure is the
usual one, to remove the device's leaf.
"""

from collections.abc import Callable

from protocols.errors import ProtocolError
from protocols.identity.leaf import LeafCredential, RosterOf, authenticate_leaf
from protocols.mls.credentials import Authenticate, BasicCredential, Credential
from protocols.mls.policy import Policy
from protocols.mls.suite import CipherSuite


def leaf_authenticator(suite: CipherSuite, roster_of: RosterOf, now: Callable[[], int]) -> Authenticate:
    """The authentication service of a group with this suite.

    ``roster_of`` is what is known of a user, and nothing of one whose leaves are not to be believed.
    """

    def authenticate(credential: Credential, signature_key: bytes) -> bool:
        if not isinstance(credential, BasicCredential):
            return False
        try:
            authenticate_leaf(credential.identity, signature_key, suite.signature.id, roster_of, now())
        except ProtocolError:
            return False
        return True

    return authenticate


def same_device(old: Credential, new: Credential) -> bool:
    """Whether a leaf may go on with another credential, or be replaced from outside by it: the same device of the
    same user, with another leaf key or a renewed certificate; or the device that takes over from it.

    The new credential is authenticated besides; the old one was.
    """
    before, after = _read(old), _read(new)
    if before is None or after is None or before.certificate.user != after.certificate.user:
        return False
    return before.certificate.device in (after.certificate.device, after.certificate.replaces)


def device_of(credential: Credential) -> bytes:
    """The device that a credential stands for, so that it is in a group once; what is no credential of ours stands
    for itself, and is not let in."""
    leaf = _read(credential)
    return credential.encode() if leaf is None else leaf.certificate.device


DEVICES: Policy = Policy(may_succeed=same_device, client=device_of)
"""The policy of a group whose members are devices."""


def _read(credential: Credential) -> LeafCredential | None:
    if not isinstance(credential, BasicCredential):
        return None
    try:
        return LeafCredential.from_bytes(credential.identity)
    except ProtocolError:
        return None
