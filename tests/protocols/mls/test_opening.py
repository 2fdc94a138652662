"""Opening changes nothing; who must have signed is asked of the epoch of the message. Refusals are in
``test_rules_messages``."""

import msgspec
import pytest

from protocols.mls.client import KeyPackageBundle
from protocols.mls.external import make_external_commit, propose_oneself
from protocols.mls.framing import AuthenticatedContent, PrivateMessage, PublicMessage
from protocols.mls.message import parse
from protocols.mls.opening import (
    ApplicationMessage,
    VerifiedCommit,
    VerifiedProposal,
    open_message,
    signature_key,
    verified,
)
from protocols.mls.proposals import Add, Remove
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import Room, person, untouched


@pytest.fixture
def room() -> Room:
    return Room.of("ada", "bob")


def opened(room: Room, data: bytes) -> AuthenticatedContent:
    """By Bob, twice: the first time leaves no trace."""
    bob = room["bob"]
    message = parse(data)
    assert isinstance(message, PublicMessage | PrivateMessage)
    kept = bob._kept[bob.current.authenticator]
    with untouched(bob):
        first, opening = open_message(kept.epoch, kept.keys, message)
        second, _ = open_message(kept.epoch, kept.keys, message)
    assert first == second
    assert (opening is None) == isinstance(message, PublicMessage)
    return first


def test_opened_message_is_typed_by_what_it_carries(room: Room) -> None:
    ada, epoch = room["ada"], room["bob"].current
    messages = [
        (room.say("ada"), ApplicationMessage),
        (ada.propose(Remove(1), entropy=room.entropy).message, VerifiedProposal),
        (ada.propose(Remove(1), entropy=room.entropy, public=True).message, VerifiedProposal),
        (room.make("ada", public=True).message, VerifiedCommit),
    ]
    for data, kind in messages:
        found = verified(epoch, opened(room, data))
        assert found.epoch == epoch.authenticator
        assert type(found) is kind


def test_proposal_is_named_by_the_hash_of_all_of_it(room: Room) -> None:
    """As a public message it is another one, with another name."""
    private = room["ada"].propose(Remove(1), entropy=room.entropy).message
    public = room["ada"].propose(Remove(1), entropy=room.entropy, public=True).message
    names = []
    for data in (private, public):
        content = opened(room, data)
        found = verified(room["bob"].current, content)
        assert isinstance(found, VerifiedProposal)
        assert found.reference == room.suite.proposal_ref(content.encode())
        names.append(found.reference)
    assert names[0] != names[1]
    assert names == [each.reference for each in room["ada"].proposals()]


def test_newcomer_signs_with_the_key_that_it_brings(room: Room) -> None:
    eve = person("eve")
    info, epoch = room["ada"].current.group_info(), room["bob"].current
    commit = make_external_commit(info, eve.bundle, entropy=room.entropy).authenticated
    proposal = propose_oneself(info, eve.bundle)
    for content in (commit.content, proposal.content):
        assert signature_key(epoch, content) == eve.signature.public
    mallory = KeyPackageBundle(eve.key_package, b"", b"", person("mallory").signature.private)
    forged = propose_oneself(info, mallory)
    assert isinstance(forged.content.content, Add)
    with refused("6.1/signature"):
        open_message(epoch, room["bob"]._kept[epoch.authenticator].keys, forged)


def test_authenticated_data_is_signed_and_in_the_clear(room: Room) -> None:
    data = room["ada"].send(b"sealed", authenticated_data=b"shown", entropy=room.entropy).message
    message = parse(data)
    assert isinstance(message, PrivateMessage)
    assert message.authenticated_data == b"shown"
    found = verified(room["bob"].current, opened(room, data))
    assert isinstance(found, ApplicationMessage)
    assert (found.data, found.authenticated_data) == (b"sealed", b"shown")
    kept = room["bob"]._kept[room["bob"].current.authenticator]
    with refused("6.3.1/decrypt"):
        open_message(kept.epoch, kept.keys, msgspec.structs.replace(message, authenticated_data=b"other"))
