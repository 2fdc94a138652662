"""Another name in every channel, that only its owner can connect.

A pseudonym is a signing key that HKDF-SHA256 (RFC 5869) derives from the user's seed and the channel. Nothing needs
to be stored: all devices that hold the seed come to the same one. Without the seed two pseudonyms of one user are as
far from each other, and from the user's key, as those of two. To everybody else it is a user like any other, and
certifies devices; a device key that serves two pseudonyms connects them, so each has device keys of its own. What
the network shows (endpoints, times) is not hidden by a key.

Who wants to be known to some people in a channel shows them a ``PseudonymLink``. Both keys sign it: with the user's
signature alone anybody could claim somebody else's words, with the pseudonym's alone put them into somebody else's
mouth. It is a proof, and whoever was shown it can show it on.
"""

from typing import Annotated, Final, Self

from msgspec import Meta

from protocols.crypto import ED25519_SEED_SIZE, SHA256
from protocols.errors import LocalError
from protocols.identity.errors import IdentityError
from protocols.identity.messages import CHANNEL_SIZE_MAX
from protocols.identity.signing import Domain, Signature, SigningKey, sign, verify
from protocols.messages import Key32, Message
from protocols.transcript import transcript

_SALT: Final = b"SpacePanda pseudonym"
_INFO: Final = "spacepanda/pseudonym-key/1"


def pseudonym(user: SigningKey, channel: bytes) -> SigningKey:
    """The key of ``user`` in ``channel``."""
    if not 0 < len(channel) <= CHANNEL_SIZE_MAX:
        raise LocalError(f"a channel's id has 1 to {CHANNEL_SIZE_MAX} bytes, not {len(channel)}")
    extracted = SHA256.hkdf_extract(_SALT, user.seed)
    return SigningKey(SHA256.hkdf_expand(extracted, transcript(_INFO, channel), ED25519_SEED_SIZE))


class PseudonymLink(Message, frozen=True, gc=False, tag="id.link"):
    """A user and a pseudonym say that they are one."""

    user: Key32
    pseudonym: Key32
    channel: Annotated[bytes, Meta(min_length=1, max_length=CHANNEL_SIZE_MAX)]
    by_user: Signature
    by_pseudonym: Signature

    @classmethod
    def sign(cls, user: SigningKey, channel: bytes) -> Self:
        other = pseudonym(user, channel)
        fields = user.public, other.public, channel
        return cls(*fields, sign(user, Domain.PSEUDONYM, *fields), sign(other, Domain.PSEUDONYM, *fields))

    def verify(self) -> None:
        """Raises:
        IdentityError: ``bad_link``: one of the two did not sign this.
        """
        fields = self.user, self.pseudonym, self.channel
        for public, signature in ((self.user, self.by_user), (self.pseudonym, self.by_pseudonym)):
            if not verify(public, Domain.PSEUDONYM, *fields, signature=signature):
                raise IdentityError("bad_link", f"not signed by {public.hex()[:16]}")
