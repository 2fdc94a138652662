from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.codec import opaque, uint8, uint32, uint64
from protocols.mls.commit import Commit
from protocols.mls.framing import (
    NEW_MEMBER_PROPOSAL,
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    FramedContentAuthData,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    member,
)
from protocols.mls.message import encode_message, parse
from protocols.mls.message_keys import GENERATION_SKIP_MAX, MessageKeys, OwnMessageError
from protocols.mls.proposals import Remove
from protocols.mls.protection import (
    BUCKET_SIZE_MIN,
    Padding,
    blocks,
    buckets,
    no_padding,
    open_private,
    open_public,
    public_message,
    ratchet_of,
    seal_private,
    sender_data_key_nonce,
    sign_content,
    verify_content,
)
from protocols.mls.ratchets import MessageKey, Ratchet
from protocols.mls.suite import SUITES, CipherSuite, SignatureKeyPair, cipher_suite
from tests.protocols.mls.kit import refused

SUITE = cipher_suite(1)
CONTEXT = b"the encoded group context"
GUARD = b"\1\2\3\4"
ALICE = member(0)
APPLICATION, HANDSHAKE = ApplicationData(b"hello"), Commit((), None)
PUBLIC, PRIVATE = WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE

every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=repr)


class Epoch:
    """What two members share, without the group around it: Alice at leaf 0 and Bob at leaf 1."""

    def __init__(self, suite: CipherSuite = SUITE) -> None:
        self.suite = suite
        secret = b"\5" * suite.hash_size
        self.sender_data, self.membership = b"\6" * suite.hash_size, b"\7" * suite.hash_size
        self.alice, self.bob = MessageKeys(suite, secret, 2, 0), MessageKeys(suite, secret, 2, 1)
        numbers = count(1)
        self.signer: SignatureKeyPair = suite.signature_key_pair(lambda size: bytes((next(numbers),)) * size)

    def sign(
        self, content: Content = APPLICATION, wire_format: int = PRIVATE, sender: Sender = ALICE
    ) -> AuthenticatedContent:
        framed = FramedContent(b"group", 9, sender, b"in the clear", content)
        tag = bytes(self.suite.hash_size) if isinstance(content, Commit) else None
        private, public = self.signer
        return sign_content(self.suite, private, public, wire_format, framed, CONTEXT, tag)

    def key(self, ratchet: Ratchet = Ratchet.APPLICATION, generation: int = 0) -> MessageKey:
        return self.alice.advance(ratchet, generation)

    def seal(self, content: Content = APPLICATION, generation: int = 0, padding: Padding = buckets) -> PrivateMessage:
        ratchet = Ratchet.APPLICATION if isinstance(content, ApplicationData) else Ratchet.HANDSHAKE
        key, signed = self.key(ratchet, generation), self.sign(content)
        return seal_private(self.suite, self.sender_data, key, signed, GUARD, padding)

    def open(self, message: PrivateMessage) -> AuthenticatedContent:
        """The whole of it: decrypted, verified, consumed."""
        authenticated, opening = open_private(self.suite, self.sender_data, self.bob, message)
        verify_content(self.suite, self.signer.public, authenticated, CONTEXT)
        self.bob.consume(opening)
        return authenticated

    def forged(self, plaintext: bytes, sender_data: bytes | None = None, leaf: int = 0) -> PrivateMessage:
        """A message of application data as any member could make it, with whatever it likes inside."""
        key = MessageKeys(self.suite, b"\5" * self.suite.hash_size, 2).peek(leaf, Ratchet.APPLICATION, 0).key
        head = opaque(b"group") + uint64(9) + uint8(1)
        ciphertext = self.suite.aead(key.key).encrypt(key.nonce, plaintext, head + opaque(b""))
        data_key, nonce = sender_data_key_nonce(self.suite, self.sender_data, ciphertext)
        data = uint32(leaf) + uint32(0) + bytes(4) if sender_data is None else sender_data
        sealed = self.suite.aead(data_key).encrypt(nonce, data, head)
        return PrivateMessage(b"group", 9, 1, b"", sealed, ciphertext)


# -- signatures -------------------------------------------------------------------------------------


@every_suite
def test_signature_covers_wire_format_content_and_context(suite: CipherSuite) -> None:
    epoch = Epoch(suite)
    signed, public = epoch.sign(), epoch.signer.public
    verify_content(suite, public, signed, CONTEXT)
    content = signed.content
    for other in (
        msgspec.structs.replace(signed, wire_format=PUBLIC),
        msgspec.structs.replace(signed, content=msgspec.structs.replace(content, group_id=b"another")),
        msgspec.structs.replace(signed, content=msgspec.structs.replace(content, epoch=8)),
        msgspec.structs.replace(signed, content=msgspec.structs.replace(content, sender=member(1))),
        msgspec.structs.replace(signed, content=msgspec.structs.replace(content, authenticated_data=b"")),
        msgspec.structs.replace(signed, content=msgspec.structs.replace(content, content=ApplicationData(b"bye"))),
        msgspec.structs.replace(signed, auth=FramedContentAuthData(b"", None)),
    ):
        with refused("6.1/signature"):
            verify_content(suite, public, other, CONTEXT)
    with refused("6.1/signature"):
        verify_content(suite, public, signed, b"the context of the next epoch")


def test_senders_from_outside_do_not_sign_the_context() -> None:
    epoch = Epoch()
    for sender, is_bound in (
        (Sender(SenderType.EXTERNAL, 0), False),
        (NEW_MEMBER_PROPOSAL, False),
        (Sender(SenderType.NEW_MEMBER_COMMIT), True),
        (member(0), True),
    ):
        signed = epoch.sign(Remove(1), PUBLIC, sender)
        if is_bound:
            with refused("6.1/signature"):
                verify_content(SUITE, epoch.signer.public, signed, b"another context")
        else:
            verify_content(SUITE, epoch.signer.public, signed, b"another context")


# -- public messages --------------------------------------------------------------------------------


@every_suite
@pytest.mark.parametrize("content", [Remove(1), HANDSHAKE], ids=["proposal", "commit"])
def test_public_message_arrives_as_it_was_signed(suite: CipherSuite, content: Content) -> None:
    epoch = Epoch(suite)
    signed = epoch.sign(content, PUBLIC)
    message = parse(encode_message(public_message(suite, epoch.membership, signed, CONTEXT)))
    assert isinstance(message, PublicMessage)
    assert open_public(suite, epoch.membership, message, CONTEXT) == signed


def test_public_message_without_the_members_tag_is_refused() -> None:
    epoch = Epoch()
    message = public_message(SUITE, epoch.membership, epoch.sign(Remove(1), PUBLIC), CONTEXT)
    assert message.membership_tag is not None
    flipped = bytes((message.membership_tag[0] ^ 1,)) + message.membership_tag[1:]
    for tag in (None, b"", message.membership_tag[:-1], flipped):
        with refused("6.2/membership-tag"):
            open_public(SUITE, epoch.membership, msgspec.structs.replace(message, membership_tag=tag), CONTEXT)
    with refused("6.2/membership-tag"):
        open_public(SUITE, epoch.membership, message, b"another context")
    with refused("6.2/membership-tag"):
        open_public(SUITE, b"another key", message, CONTEXT)


def test_membership_tag_covers_signature_and_confirmation_tag() -> None:
    epoch = Epoch()
    message = public_message(SUITE, epoch.membership, epoch.sign(HANDSHAKE, PUBLIC), CONTEXT)
    for auth in (
        msgspec.structs.replace(message.auth, signature=b"\1" * 64),
        msgspec.structs.replace(message.auth, confirmation_tag=b"\1" * 32),
    ):
        with refused("6.2/membership-tag"):
            open_public(SUITE, epoch.membership, msgspec.structs.replace(message, auth=auth), CONTEXT)


def test_sender_from_outside_needs_no_membership_tag() -> None:
    epoch = Epoch()
    signed = epoch.sign(Remove(1), PUBLIC, Sender(SenderType.EXTERNAL, 0))
    message = public_message(SUITE, b"", signed, CONTEXT)
    assert message.membership_tag is None
    assert open_public(SUITE, epoch.membership, message, CONTEXT) == signed


def test_application_data_in_the_clear_is_refused_on_both_sides() -> None:
    epoch = Epoch()
    signed = epoch.sign(APPLICATION, PUBLIC)
    with pytest.raises(LocalError, match="encrypted only"):
        public_message(SUITE, epoch.membership, signed, CONTEXT)
    for sender in (member(0), Sender(SenderType.EXTERNAL, 0)):
        content = msgspec.structs.replace(signed.content, sender=sender)
        with refused("6.2/application-data"):
            open_public(SUITE, epoch.membership, PublicMessage(content, signed.auth, b""), CONTEXT)


def test_content_signed_for_the_other_wire_format_is_not_sent() -> None:
    epoch = Epoch()
    with pytest.raises(LocalError):
        public_message(SUITE, epoch.membership, epoch.sign(Remove(1), PRIVATE), CONTEXT)
    with pytest.raises(LocalError):
        seal_private(SUITE, epoch.sender_data, epoch.key(), epoch.sign(APPLICATION, PUBLIC), GUARD)


# -- private messages -------------------------------------------------------------------------------


@every_suite
@pytest.mark.parametrize("content", [APPLICATION, Remove(1), HANDSHAKE], ids=["application", "proposal", "commit"])
def test_private_message_arrives_as_it_was_signed(suite: CipherSuite, content: Content) -> None:
    epoch = Epoch(suite)
    message = parse(encode_message(epoch.seal(content)))
    assert isinstance(message, PrivateMessage)
    assert epoch.open(message) == epoch.sign(content)


def test_messages_open_in_any_order() -> None:
    epoch = Epoch()
    messages = [epoch.seal(ApplicationData(bytes((each,))), each) for each in range(5)]
    for each in (3, 0, 4, 2, 1):
        assert epoch.open(messages[each]).content.content == ApplicationData(bytes((each,)))


def test_no_part_of_a_private_message_can_be_changed_and_nothing_is_changed_by_trying() -> None:
    epoch = Epoch()
    message = epoch.seal()
    before = epoch.bob.to_bytes()

    def flipped(data: bytes, position: int) -> bytes:
        return data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]

    sample = SUITE.hash_size
    altered = (
        ("6.3.2/sender-data", {"group_id": b"another"}),
        ("6.3.2/sender-data", {"epoch": 8}),
        ("6.3.2/sender-data", {"content_type": 2}),
        ("6.3.2/sender-data", {"encrypted_sender_data": flipped(message.encrypted_sender_data, 0)}),
        ("6.3.2/sender-data", {"encrypted_sender_data": b""}),
        ("6.3.2/sender-data", {"ciphertext": flipped(message.ciphertext, 0)}),
        ("6.3.2/sender-data", {"ciphertext": b""}),
        ("6.3.1/decrypt", {"authenticated_data": b""}),
        ("6.3.1/decrypt", {"ciphertext": flipped(message.ciphertext, sample)}),
        ("6.3.1/decrypt", {"ciphertext": message.ciphertext[:sample]}),
    )
    for rule, change in altered:
        with refused(rule):
            epoch.open(msgspec.structs.replace(message, **change))
        assert epoch.bob.to_bytes() == before
    epoch.open(message)


def test_replayed_message_is_refused() -> None:
    epoch = Epoch()
    message = epoch.seal()
    epoch.open(message)
    before = epoch.bob.to_bytes()
    with refused("9.2/generation-used"):
        epoch.open(message)
    assert epoch.bob.to_bytes() == before


def test_message_whose_signature_does_not_verify_leaves_its_key_for_the_true_one() -> None:
    epoch = Epoch()
    before = epoch.bob.to_bytes()
    body, signature = APPLICATION.encode(), bytes(64)
    with refused("6.1/signature"):
        epoch.open(epoch.forged(body + opaque(signature)))
    assert epoch.bob.to_bytes() == before
    epoch.open(epoch.seal())


def test_padding_that_is_not_zeros_is_refused() -> None:
    epoch = Epoch()
    before = epoch.bob.to_bytes()
    for padding in (b"\1", bytes(100) + b"\1", b"\1" + bytes(100)):
        with refused("6.3.1/padding"):
            epoch.open(epoch.forged(APPLICATION.encode() + opaque(bytes(64)) + padding))
    with refused("2.1/truncated"):
        epoch.open(epoch.forged(APPLICATION.encode() + b"\x3f"))
    assert epoch.bob.to_bytes() == before


def test_sender_data_that_is_too_short_or_too_long_is_refused() -> None:
    epoch = Epoch()
    for rule, sender_data in (("2.1/truncated", bytes(11)), ("2.1/trailing-bytes", bytes(13))):
        with refused(rule):
            epoch.open(epoch.forged(b"", sender_data))


def test_generation_of_four_billion_is_refused_at_once() -> None:
    epoch = Epoch()
    for generation in (GENERATION_SKIP_MAX + 1, 2**32 - 1):
        with refused("15.3/generation-too-far"):
            epoch.open(epoch.forged(b"", uint32(0) + uint32(generation) + bytes(4)))


def test_sender_that_is_no_leaf_is_refused() -> None:
    epoch = Epoch()
    with refused("6.3.2/unknown-leaf"):
        epoch.open(epoch.forged(b"", uint32(2) + uint32(0) + bytes(4)))


def test_own_echo_is_told_apart_from_a_fault() -> None:
    epoch = Epoch()
    with pytest.raises(OwnMessageError):
        open_private(SUITE, epoch.sender_data, epoch.alice, epoch.seal())


def test_key_is_for_its_own_leaf_and_content_type() -> None:
    epoch = Epoch()
    key, signed = epoch.key(), epoch.sign(APPLICATION)
    for wrong_key, content in (
        (key, epoch.sign(HANDSHAKE)),
        (key, epoch.sign(Remove(1))),
        (key, epoch.sign(APPLICATION, sender=member(1))),
        (epoch.key(Ratchet.HANDSHAKE), signed),
    ):
        with pytest.raises(LocalError):
            seal_private(SUITE, epoch.sender_data, wrong_key, content, GUARD)
    for guard in (b"", bytes(3), bytes(5)):
        with pytest.raises(LocalError):
            seal_private(SUITE, epoch.sender_data, key, signed, guard)


def test_reuse_guard_changes_the_ciphertext_of_a_key_used_twice() -> None:
    epoch = Epoch()
    key, signed = epoch.key(), epoch.sign()
    first, second = (seal_private(SUITE, epoch.sender_data, key, signed, guard) for guard in (GUARD, b"\5\6\7\x08"))
    assert first.ciphertext != second.ciphertext
    epoch.open(second)


def test_handshake_and_application_data_use_different_ratchets() -> None:
    assert [ratchet_of(kind) for kind in (1, 2, 3)] == [Ratchet.APPLICATION, Ratchet.HANDSHAKE, Ratchet.HANDSHAKE]


# -- padding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [no_padding, blocks(1), blocks(100), buckets])
def test_padded_message_opens_and_has_the_length_of_the_policy(padding: Padding) -> None:
    epoch = Epoch()
    plaintext_size = len(APPLICATION.encode()) + 1 + 1 + 64
    message = epoch.seal(padding=padding)
    assert len(message.ciphertext) == plaintext_size + padding(plaintext_size) + 16
    assert epoch.open(message).content.content == APPLICATION


@given(st.integers(1, 2**26))
def test_buckets_cost_at_most_an_eighth_and_show_few_bits(size: int) -> None:
    padded = size + buckets(size)
    assert size <= padded <= max(BUCKET_SIZE_MIN, size + size // 8)
    assert padded + buckets(padded) == padded
    exponent = padded.bit_length() - 1
    assert padded == BUCKET_SIZE_MIN or padded % (1 << exponent - exponent.bit_length()) == 0


def test_lines_of_a_chat_all_look_the_same() -> None:
    epoch = Epoch()
    sizes = {len(epoch.seal(ApplicationData(bytes(size)), size).ciphertext) for size in range(0, 180)}
    assert sizes == {BUCKET_SIZE_MIN + 16}


@given(st.integers(0, 10_000), st.integers(1, 1000))
def test_blocks_fill_up_to_a_multiple(size: int, block_size: int) -> None:
    padding = blocks(block_size)(size)
    assert 0 <= padding < block_size
    assert (size + padding) % block_size == 0


def test_blocks_of_no_size_or_more_than_a_message_are_the_callers_fault() -> None:
    for block_size in (0, -1, 2**30):
        with pytest.raises(LocalError):
            blocks(block_size)


def test_message_larger_than_anybody_reads_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = Epoch()
    monkeypatch.setattr("protocols.mls.protection.MESSAGE_SIZE_MAX", 300)
    epoch.seal(ApplicationData(bytes(100)), 0)
    with pytest.raises(LocalError, match="nobody reads"):
        epoch.seal(ApplicationData(bytes(300)), 1)
