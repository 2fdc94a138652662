"""Transcript hashes (RFC 9420 §8.2): the whole history of commits in one value, which enters every epoch's keys.

There are two, as the confirmation tag of a commit is computed from the hash that covers the commit: the
*confirmed* hash takes in all of a commit but its tag, the *interim* hash takes in the tag too, and is what the
next commit's confirmed hash starts from. In epoch 0 nothing is confirmed and the hash is empty, yet the
creator computes a tag over that for the interim hash (§11).
"""

from protocols.errors import LocalError
from protocols.mls.codec import opaque, uint16
from protocols.mls.commit import Commit
from protocols.mls.framing import AuthenticatedContent
from protocols.mls.suite import CipherSuite


def confirmed_transcript_hash(suite: CipherSuite, interim_before: bytes, authenticated: AuthenticatedContent) -> bytes:
    """The hash after a commit: over ``ConfirmedTranscriptHashInput``."""
    content = authenticated.content
    if not isinstance(content.content, Commit):
        raise LocalError(f"a transcript is made of commits, not of a {type(content.content).__name__}")
    signature = opaque(authenticated.auth.signature)
    return suite.hash(interim_before + uint16(authenticated.wire_format) + content.encode() + signature)


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """The confirmed hash with its tag: over ``InterimTranscriptHashInput``."""
    return suite.hash(confirmed + opaque(confirmation_tag))
