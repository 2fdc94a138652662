"""Each rule that stops a message before anybody asks what it would do (RFC 9420 §2, §5, §6, §9, §15)."""

from typing import Any

import msgspec
import pytest

from protocols.mls.codec import MESSAGE_SIZE_MAX, NUMBERS_MAX, opaque, optional, uint16, uint64, vector
from protocols.mls.commit import Commit
from protocols.mls.extensions import Extension, ExtensionType, ExternalSender, external_senders_extension
from protocols.mls.framing import (
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    member,
)
from protocols.mls.group import Group
from protocols.mls.message import encode_message, parse
from protocols.mls.message_keys import GENERATION_SKIP_MAX
from protocols.mls.proposals import Add, Custom, GroupContextExtensions, PreSharedKey, Remove, Update
from protocols.mls.protection import padded, seal_plaintext, seal_private, sender_data_key_nonce
from protocols.mls.psk import ExternalPsk, ResumptionPsk
from protocols.mls.ratchets import MessageKey, Ratchet
from protocols.mls.suite import SignatureKeyPair
from tests.protocols.mls.forgery import enveloped, forge_commit, forge_message
from tests.protocols.mls.kit import refused
from tests.protocols.mls.refusals import refuses_commit, refuses_message
from tests.protocols.mls.room import Room, altered, key_of, private, signed

CUSTOM = 0xF123


def room(**options: Any) -> Room:
    return Room.of("alice", "bob", "carol", **options)


def content(author: Group, body: Content, **changes: Any) -> FramedContent:
    framed = FramedContent(author.current.group_id, author.current.number, member(author.current.own_leaf), b"", body)
    return msgspec.structs.replace(framed, **changes)


def keys(author: Group) -> SignatureKeyPair:
    return SignatureKeyPair(author.current.signature_private, author.current.own_leaf_node.signature_key)


def said(author: Group, body: Content, **changes: Any) -> bytes:
    """A public message as any member can make it."""
    tag = bytes(32) if isinstance(body, Commit) else None
    return forge_message(author.current, content(author, body, **changes), keys(author), confirmation_tag=tag)


def spelt(encoded: bytes) -> Custom:
    """A proposal that is signed as it is spelt."""

    class Spelt(Custom, frozen=True):
        def encode(self) -> bytes:
            return encoded

    return Spelt(CUSTOM, b"")


# -- §2: what the bytes are -------------------------------------------------------------------------


def test_message_that_ends_early_is_refused_wherever_it_ends() -> None:
    here = room()
    message = forge_commit(here["alice"], Add(here.key_package("dave"))).message
    for size in range(len(message)):
        with refused("2.1/truncated"):
            here["bob"].receive(message[:size])


def test_vector_that_holds_no_whole_number_of_items_is_refused() -> None:
    here = room()
    odd = Extension(ExtensionType.REQUIRED_CAPABILITIES, opaque(b"\0\1\0") + opaque(b"") * 2)
    refuses_commit(here, "2.1/truncated", forge_commit(here["alice"], GroupContextExtensions((odd,))))


def test_message_with_more_behind_it_is_refused() -> None:
    here = room()
    refuses_message(here, "2.1/trailing-bytes", here.say("alice") + b"\0")


def test_extension_data_with_more_behind_it_is_refused() -> None:
    here = room()
    extension = external_senders_extension([])
    longer = Extension(extension.extension_type, extension.extension_data + b"\0")
    refuses_commit(here, "2.1/trailing-bytes", forge_commit(here["alice"], GroupContextExtensions((longer,))))


def test_message_larger_than_any_is_refused_unread() -> None:
    refuses_message(room(), "2.1/too-large", bytes(MESSAGE_SIZE_MAX + 1))


def test_list_of_more_numbers_than_any_is_refused_unread() -> None:
    here = room()
    able = msgspec.structs.replace(here.client("dave").leaf.capabilities, extensions=(0xF000,) * (NUMBERS_MAX + 1))
    package = here.client("dave").altered_key_package({"capabilities": able})
    refuses_message(here, "2.1/too-large", said(here["alice"], Add(package)))


def test_presence_octet_of_two_is_refused() -> None:
    class Present(Commit, frozen=True):
        def encode(self) -> bytes:
            return vector(()) + b"\2"

    here = room()
    refuses_message(here, "2.1.1/invalid-presence", said(here["alice"], Present((), None)))


def test_length_of_eight_bytes_is_refused() -> None:
    here = room()
    body = uint16(CUSTOM) + b"\xc0\0\0\0\0\0\0\1" + b"x"
    refuses_message(here, "2.1.2/invalid-length", said(here["alice"], spelt(body)))


@pytest.mark.parametrize("length", [b"\x40\x01", b"\x80\0\0\x01"])
def test_length_in_a_longer_form_than_needed_is_refused(length: bytes) -> None:
    here = room()
    refuses_message(here, "2.1.2/non-minimal-length", said(here["alice"], spelt(uint16(CUSTOM) + length + b"x")))


# -- §6: whose message it is ------------------------------------------------------------------------


def test_message_of_another_version_is_refused() -> None:
    here = room()
    refuses_message(here, "6/unknown-version", uint16(2) + here.say("alice")[2:])


def test_message_of_an_unknown_wire_format_is_refused() -> None:
    here = room()
    refuses_message(here, "6/unknown-wire-format", uint16(1) + uint16(6) + here.say("alice")[4:])


def test_sender_of_an_unknown_type_is_refused() -> None:
    here = room()
    refuses_message(here, "6/unknown-sender-type", said(here["alice"], Remove(2), sender=Sender(5)))


def test_public_content_of_an_unknown_type_is_refused() -> None:
    class Odd(FramedContent, frozen=True):
        def encode(self) -> bytes:
            return super().encode()[: -1 - len(self.content.encode())] + b"\4" + self.content.encode()

    here = room()
    framed = content(here["alice"], Remove(2))
    odd = Odd(framed.group_id, framed.epoch, framed.sender, framed.authenticated_data, framed.content)
    refuses_message(here, "6/unknown-content-type", forge_message(here["alice"].current, odd, keys(here["alice"])))


@pytest.mark.parametrize("kind", [0, 4])
def test_private_content_of_an_unknown_type_is_refused(kind: int) -> None:
    here = room()
    message = msgspec.structs.replace(parse(here.say("alice")), content_type=kind)
    refuses_message(here, "6/unknown-content-type", encode_message(message))


def test_key_package_sent_to_members_is_refused() -> None:
    here = room()
    refuses_message(here, "6/not-a-group-message", encode_message(here.key_package("dave")))


@pytest.mark.parametrize("version", [0, 2])
def test_key_package_is_of_the_version_of_its_message(version: int) -> None:
    package = Room().client("dave").altered_key_package(version=version)
    with refused("10/version"):
        parse(encode_message(package))


def test_message_of_another_group_is_refused() -> None:
    here = room()
    refuses_message(here, "6/other-group", said(here["alice"], Remove(2), group_id=b"elsewhere"))


def test_message_of_a_later_epoch_is_refused() -> None:
    here = room()
    refuses_message(here, "6/future-epoch", said(here["alice"], Remove(2), epoch=2))


def test_message_of_an_epoch_before_ours_is_refused() -> None:
    here = room()
    refuses_message(here, "6/past-epoch", said(here["alice"], Remove(2), epoch=0))


@pytest.mark.parametrize(
    ("sender", "body"),
    [
        (Sender(SenderType.EXTERNAL, 0), Commit((), None)),
        (NEW_MEMBER_PROPOSAL, Remove(2)),
        (NEW_MEMBER_PROPOSAL, Commit((), None)),
        (NEW_MEMBER_COMMIT, Remove(2)),
    ],
)
def test_sender_from_outside_sends_only_what_its_type_may(sender: Sender, body: Content) -> None:
    eve = Room().client("eve")
    senders = external_senders_extension([ExternalSender(eve.signature.public, eve.leaf.credential)])
    here = room(extensions=(senders,))
    epoch, tag = here["alice"].current, bytes(32) if isinstance(body, Commit) else None
    framed = content(here["alice"], body, sender=sender)
    refuses_message(here, "6/sender-content", forge_message(epoch, framed, eve.signature, confirmation_tag=tag))


@pytest.mark.parametrize("leaf", [3, 4, 2**32 - 1])
def test_sender_at_a_leaf_where_nobody_is_is_refused(leaf: int) -> None:
    here = room()
    refuses_message(here, "6/sender-not-member", said(here["alice"], Remove(2), sender=member(leaf)))


def test_blank_leaf_has_no_private_messages_either() -> None:
    here = room()
    body = ApplicationData(b"from nowhere")
    authenticated = _private_content(here["alice"], body, 3)
    refuses_message(
        here, "6/sender-not-member", private(here["alice"], authenticated, key_of(here["alice"], 3, body, 0))
    )


def test_message_in_the_name_of_another_is_refused() -> None:
    """A member's tag is easily made by another member; the signature is not."""
    here = room()
    refuses_message(here, "6.1/signature", said(here["alice"], Remove(0), sender=member(here.leaf("carol"))))


def test_private_message_in_the_name_of_another_is_refused_and_costs_it_no_key() -> None:
    here = room()
    body = ApplicationData(b"I am carol")
    leaf = here.leaf("carol")
    authenticated = _private_content(here["alice"], body, leaf)
    refuses_message(here, "6.1/signature", private(here["alice"], authenticated, key_of(here["alice"], leaf, body, 0)))
    assert here["bob"].receive(here.say("carol"))


def test_signature_is_for_one_wire_format() -> None:
    here = room()
    authenticated = signed(here["alice"], Remove(2), wire_format=WireFormat.PRIVATE_MESSAGE)
    relabelled = msgspec.structs.replace(authenticated, wire_format=WireFormat.PUBLIC_MESSAGE)
    refuses_message(here, "6.1/signature", enveloped(here["alice"].current, relabelled))


def test_public_message_without_the_right_membership_tag_is_refused() -> None:
    here = room()
    authenticated = signed(here["alice"], Remove(2))
    message = PublicMessage(authenticated.content, authenticated.auth, bytes(32))
    refuses_message(here, "6.2/membership-tag", encode_message(message))


def test_membership_tag_covers_the_confirmation_tag() -> None:
    here = room()
    forged = forge_commit(here["alice"])
    message = parse(forged.message)
    auth = altered(forged.authenticated, confirmation_tag=bytes(32)).auth
    refuses_message(here, "6.2/membership-tag", encode_message(msgspec.structs.replace(message, auth=auth)))


def test_application_data_in_public_is_refused() -> None:
    here = room()
    refuses_message(here, "6.2/application-data", said(here["alice"], ApplicationData(b"to everybody")))


# -- §6.3: what is encrypted ------------------------------------------------------------------------


def _private_content(author: Group, body: Content, leaf: int) -> AuthenticatedContent:
    return signed(author, body, sender=leaf, wire_format=WireFormat.PRIVATE_MESSAGE)


def test_message_under_another_key_than_it_names_is_refused() -> None:
    here = room()
    body = ApplicationData(b"hello")
    leaf = here.leaf("alice")
    wrong = MessageKey(leaf, Ratchet.APPLICATION, 0, bytes(16), bytes(12))
    refuses_message(here, "6.3.1/decrypt", private(here["alice"], _private_content(here["alice"], body, leaf), wrong))


def test_padding_that_is_not_zeros_is_refused() -> None:
    here = room()
    epoch = here["alice"].current
    authenticated = _private_content(here["alice"], ApplicationData(b"hello"), epoch.own_leaf)
    key = here["alice"]._kept[epoch.authenticator].keys.advance(Ratchet.APPLICATION, 0)
    plaintext = padded(authenticated, lambda _: 8) + b"\1"
    sealed = seal_plaintext(epoch.suite, epoch.secrets.sender_data_secret, key, authenticated, plaintext, bytes(4))
    refuses_message(here, "6.3.1/padding", encode_message(sealed))


def test_sender_data_of_another_ciphertext_is_refused() -> None:
    here = room()
    one, other = parse(here.say("alice")), parse(here.say("alice", b"another"))
    swapped = msgspec.structs.replace(one, encrypted_sender_data=other.encrypted_sender_data)  # type: ignore[union-attr]
    refuses_message(here, "6.3.2/sender-data", encode_message(swapped))


def test_sender_data_that_names_a_leaf_beyond_the_tree_is_refused() -> None:
    here = room()
    authenticated = _private_content(here["alice"], ApplicationData(b"hello"), 4)
    key = MessageKey(4, Ratchet.APPLICATION, 0, bytes(16), bytes(12))
    refuses_message(here, "6.3.2/unknown-leaf", private(here["alice"], authenticated, key))


def test_sender_data_with_more_behind_it_is_refused() -> None:
    here = room()
    epoch = here["alice"].current
    sound = parse(here.say("alice"))
    assert isinstance(sound, PrivateMessage)
    key, nonce = sender_data_key_nonce(epoch.suite, epoch.secrets.sender_data_secret, sound.ciphertext)
    head = opaque(sound.group_id) + uint64(sound.epoch) + bytes((sound.content_type,))
    longer = epoch.suite.aead(key).decrypt(nonce, sound.encrypted_sender_data, head) + b"\0"
    sealed = epoch.suite.aead(key).encrypt(nonce, longer, head)
    message = msgspec.structs.replace(sound, encrypted_sender_data=sealed)
    refuses_message(here, "2.1/trailing-bytes", encode_message(message))


def test_message_that_was_opened_is_not_opened_again() -> None:
    here = room()
    message = here.say("alice")
    here["bob"].receive(message)
    refuses_message(here, "9.2/generation-used", message)


def _at_generation(here: Room, generation: int) -> bytes:
    """What alice says after as many messages that nobody got."""
    epoch = here["alice"].current
    key = here["alice"]._kept[epoch.authenticator].keys.advance(Ratchet.APPLICATION, generation)
    authenticated = _private_content(here["alice"], ApplicationData(b"%d" % generation), epoch.own_leaf)
    sealed = seal_private(epoch.suite, epoch.secrets.sender_data_secret, key, authenticated, bytes(4))
    return encode_message(sealed)


@pytest.mark.parametrize("generation", [GENERATION_SKIP_MAX + 1, 2**32 - 1])
def test_generation_far_ahead_is_refused_underived(generation: int) -> None:
    here = room()
    authenticated = _private_content(here["alice"], ApplicationData(b"hello"), here.leaf("alice"))
    key = MessageKey(here.leaf("alice"), Ratchet.APPLICATION, generation, bytes(16), bytes(12))
    refuses_message(here, "15.3/generation-too-far", private(here["alice"], authenticated, key))


def test_generation_whose_key_was_dropped_is_refused() -> None:
    here = room()
    oldest = _at_generation(here, 0)
    for generation in (GENERATION_SKIP_MAX, 2 * GENERATION_SKIP_MAX):
        here["bob"].receive(_at_generation(here, generation))
    refuses_message(here, "15.3/generation-too-old", oldest)


# -- what a message is made of ----------------------------------------------------------------------


def test_item_of_a_commit_that_is_neither_proposal_nor_reference_is_refused() -> None:
    class Odd(Commit, frozen=True):
        def encode(self) -> bytes:
            return vector([b"\3" + opaque(b"reference")]) + optional(None)

    here = room()
    refuses_message(here, "12.4/unknown-proposal-or-ref", said(here["alice"], Odd((), None)))


def test_leaf_of_an_unknown_source_is_refused() -> None:
    here = room()
    leaf = msgspec.structs.replace(here.client("alice").leaf, source=4)
    refuses_message(here, "7.2/unknown-leaf-node-source", said(here["alice"], Update(leaf)))


def test_psk_of_an_unknown_type_is_refused() -> None:
    class Odd(ExternalPsk, frozen=True):
        def encode(self) -> bytes:
            return b"\3" + opaque(self.psk_id) + opaque(self.psk_nonce)

    here = room()
    refuses_message(here, "8.4/unknown-psk-type", said(here["alice"], PreSharedKey(Odd(b"psk", bytes(32)))))


@pytest.mark.parametrize("usage", [0, 4])
def test_psk_of_an_unknown_usage_is_refused(usage: int) -> None:
    here = room()
    psk = ResumptionPsk(usage, b"room", 0, bytes(32))
    refuses_message(here, "8.4/unknown-psk-usage", said(here["alice"], PreSharedKey(psk)))


def test_extension_type_that_stands_twice_is_refused() -> None:
    here = room()
    twice = (Extension(0xF000, b"one"), Extension(0xF000, b"two"))
    refuses_message(here, "13.4/duplicate-extension", said(here["alice"], GroupContextExtensions(twice)))


def test_leaf_with_an_extension_twice_is_refused_wherever_it_is() -> None:
    here = room()
    twice = (Extension(0xF000, b"one"), Extension(0xF000, b"two"))
    package = here.client("dave").altered_key_package({"extensions": twice})
    refuses_message(here, "13.4/duplicate-extension", said(here["alice"], Add(package)))
