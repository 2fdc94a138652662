import msgspec
import pytest

from protocols.errors import LocalError
from protocols.mls.commit import Commit
from protocols.mls.framing import (
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    FramedContentAuthData,
    WireFormat,
    member,
)
from protocols.mls.suite import cipher_suite
from protocols.mls.transcript import confirmed_transcript_hash, interim_transcript_hash

SUITE = cipher_suite(1)
COMMIT = Commit((), None)


def authenticated(
    content: Content = COMMIT, signature: bytes = b"signature", tag: bytes = b"tag"
) -> AuthenticatedContent:
    framed = FramedContent(b"group", 7, member(0), b"", content)
    return AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, framed, FramedContentAuthData(signature, tag))


def test_confirmed_hash_covers_history_wire_format_and_signature() -> None:
    commit = authenticated()
    private = msgspec.structs.replace(commit, wire_format=WireFormat.PRIVATE_MESSAGE)
    hashes = [
        confirmed_transcript_hash(SUITE, b"before", commit),
        confirmed_transcript_hash(SUITE, b"", commit),
        confirmed_transcript_hash(SUITE, b"before", private),
        confirmed_transcript_hash(SUITE, b"before", authenticated(signature=b"another")),
    ]
    assert len(set(hashes)) == len(hashes)


def test_only_the_interim_hash_covers_the_confirmation_tag() -> None:
    first, second = authenticated(tag=b"first"), authenticated(tag=b"second")
    confirmed = confirmed_transcript_hash(SUITE, b"before", first)
    assert confirmed == confirmed_transcript_hash(SUITE, b"before", second)
    assert interim_transcript_hash(SUITE, confirmed, b"first") != interim_transcript_hash(SUITE, confirmed, b"second")


def test_what_is_no_commit_enters_no_transcript() -> None:
    with pytest.raises(LocalError, match="ApplicationData"):
        confirmed_transcript_hash(SUITE, b"", authenticated(ApplicationData(b"hello")))
