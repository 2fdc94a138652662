"""Message protection (RFC 9420 §6): content is signed, then shown to all with a tag, or encrypted for the members.

What is signed binds the content to the group context of the epoch in which it is sent, so ``context`` is always
that encoded context: of the epoch before a commit, not of the one that it makes. What is encrypted hides its
sender too: leaf, generation and reuse guard travel under a key of their own, taken from a sample of the ciphertext.

Nothing here moves a ratchet. Sealing takes the key that ``MessageKeys.advance`` gave; opening answers with an
``Opening``, to be consumed once the signature has verified.

Length is what encryption does not hide. A padding is a function from the length of what is to be sealed to the
number of zeros to add; ``buckets`` is the one used if nothing is said.
"""

from collections.abc import Callable
from hmac import compare_digest
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag

from protocols.errors import LocalError
from protocols.mls.codec import MESSAGE_SIZE_MAX, Reader, opaque, uint8, uint32, uint64
from protocols.mls.errors import MlsError
from protocols.mls.framing import (
    FRAMED_CONTENT_LABEL,
    ApplicationData,
    AuthenticatedContent,
    ContentType,
    FramedContent,
    FramedContentAuthData,
    PrivateMessage,
    PublicMessage,
    SenderType,
    WireFormat,
    content_type,
    member,
    read_content,
    to_be_signed,
)
from protocols.mls.message_keys import MessageKeys, Opening
from protocols.mls.ratchets import MessageKey, Ratchet
from protocols.mls.suite import CipherSuite

REUSE_GUARD_SIZE: Final = 4
BUCKET_SIZE_MIN: Final = 256

# -- padding ----------------------------------------------------------------------------------------

Padding: TypeAlias = Callable[[int], int]
"""How many zeros to add to so many bytes."""


def no_padding(size: int) -> int:
    """Shows the exact length, and costs nothing."""
    return 0


def blocks(block_size: int) -> Padding:
    """Up to a multiple of ``block_size``."""
    if not 0 < block_size <= MESSAGE_SIZE_MAX:
        raise LocalError(f"blocks of {block_size} bytes; 1 to {MESSAGE_SIZE_MAX}")
    return lambda size: -size % block_size


def buckets(size: int) -> int:
    """Up to 256 bytes, and beyond that by Padmé (Nikitin et al., PETS 2019).

    A chat line and its signature fill one bucket, so lines all look alike. A longer length keeps as many leading
    bits as its number of bits has bits: that shows O(log log size) of it and adds at most 12 %.
    """
    if size <= BUCKET_SIZE_MIN:
        return BUCKET_SIZE_MIN - size
    exponent = size.bit_length() - 1
    return -size % (1 << exponent - exponent.bit_length())


# -- signatures (§6.1) ------------------------------------------------------------------------------


def sign_content(
    suite: CipherSuite,
    private: bytes,
    public: bytes,
    wire_format: int,
    content: FramedContent,
    context: bytes,
    confirmation_tag: bytes | None = None,
) -> AuthenticatedContent:
    """Sign a content as its sender.

    Args:
        public: the private key's own.
        confirmation_tag: of a commit; it can be put in later, as the signature does not cover it.
    """
    signed = to_be_signed(wire_format, content, context)
    signature = suite.sign_with_label(private, public, FRAMED_CONTENT_LABEL, signed)
    return AuthenticatedContent(wire_format, content, FramedContentAuthData(signature, confirmation_tag))


def verify_content(suite: CipherSuite, public: bytes, authenticated: AuthenticatedContent, context: bytes) -> None:
    """Raises:
    MlsError: ``6.1/signature``.
    """
    signed = to_be_signed(authenticated.wire_format, authenticated.content, context)
    if not suite.verify_with_label(public, FRAMED_CONTENT_LABEL, signed, authenticated.auth.signature):
        sender = authenticated.content.sender
        raise MlsError("6.1/signature", f"sender type {sender.sender_type}, index {sender.index}")


# -- public messages (§6.2) -------------------------------------------------------------------------


def membership_tag(
    suite: CipherSuite, membership_key: bytes, authenticated: AuthenticatedContent, context: bytes
) -> bytes:
    """A MAC over ``AuthenticatedContentTBM``: whoever is no member cannot speak as one, not even with a leaf's key."""
    signed = to_be_signed(authenticated.wire_format, authenticated.content, context)
    return suite.mac(membership_key, signed + authenticated.auth.encode())


def public_message(
    suite: CipherSuite, membership_key: bytes, authenticated: AuthenticatedContent, context: bytes
) -> PublicMessage:
    """What was signed, for everybody to read; ``membership_key`` is used only for a member's.

    Raises:
        LocalError: it was signed for another wire format, or is application data.
    """
    content, auth = authenticated.content, authenticated.auth
    if authenticated.wire_format != WireFormat.PUBLIC_MESSAGE:
        raise LocalError(f"content signed for wire format {authenticated.wire_format} is no public message")
    if isinstance(content.content, ApplicationData):
        raise LocalError("application data is sent encrypted only (RFC 9420 §6.2)")
    if content.sender.sender_type != SenderType.MEMBER:
        return PublicMessage(content, auth)
    return PublicMessage(content, auth, membership_tag(suite, membership_key, authenticated, context))


def open_public(
    suite: CipherSuite, membership_key: bytes, message: PublicMessage, context: bytes
) -> AuthenticatedContent:
    """A public message whose signature is still to be verified.

    Raises:
        MlsError: ``6.2/application-data``, ``6.2/membership-tag``.
    """
    content = message.content
    if isinstance(content.content, ApplicationData):
        raise MlsError("6.2/application-data", f"from sender type {content.sender.sender_type}")
    authenticated = AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, content, message.auth)
    if content.sender.sender_type == SenderType.MEMBER:
        tag = membership_tag(suite, membership_key, authenticated, context)
        if not compare_digest(tag, message.membership_tag or b""):
            raise MlsError("6.2/membership-tag", f"of leaf {content.sender.index}")
    return authenticated


# -- private messages (§6.3) ------------------------------------------------------------------------


def ratchet_of(kind: int) -> Ratchet:
    """Which of a leaf's ratchets encrypts this content type."""
    return Ratchet.APPLICATION if kind == ContentType.APPLICATION else Ratchet.HANDSHAKE


def seal_private(
    suite: CipherSuite,
    sender_data_secret: bytes,
    key: MessageKey,
    authenticated: AuthenticatedContent,
    reuse_guard: bytes,
    padding: Padding = buckets,
) -> PrivateMessage:
    """Encrypt what a member signed.

    Args:
        key: of ``MessageKeys.advance``, for this message only.
        reuse_guard: four fresh random bytes. Should a key ever be used twice, they make the nonces differ.

    Raises:
        LocalError: the content was signed for another wire format or leaf than the key is for, or is too large.
    """
    return seal_plaintext(suite, sender_data_secret, key, authenticated, padded(authenticated, padding), reuse_guard)


def padded(authenticated: AuthenticatedContent, padding: Padding) -> bytes:
    """What is to be encrypted; made before a key is taken, as it is where sealing can fail.

    Raises:
        LocalError: it is too large.
    """
    plaintext = authenticated.content.content.encode() + authenticated.auth.encode()
    plaintext += bytes(padding(len(plaintext)))
    if len(plaintext) > MESSAGE_SIZE_MAX:
        raise LocalError(f"a message of {len(plaintext)} bytes; nobody reads more than {MESSAGE_SIZE_MAX}")
    return plaintext


def seal_plaintext(
    suite: CipherSuite,
    sender_data_secret: bytes,
    key: MessageKey,
    authenticated: AuthenticatedContent,
    plaintext: bytes,
    reuse_guard: bytes,
) -> PrivateMessage:
    """``seal_private``, of what ``padded`` made."""
    content = authenticated.content
    kind = content_type(content.content)
    if authenticated.wire_format != WireFormat.PRIVATE_MESSAGE or content.sender != member(key.leaf):
        raise LocalError(f"{key!r} is for a private message of its leaf, not for what was signed")
    if key.ratchet != ratchet_of(kind):
        raise LocalError(f"{key!r} is not for content type {kind}")
    if len(reuse_guard) != REUSE_GUARD_SIZE:
        raise LocalError(f"a reuse guard of {len(reuse_guard)} bytes, not {REUSE_GUARD_SIZE}")
    head = opaque(content.group_id) + uint64(content.epoch) + uint8(kind)
    ciphertext = suite.aead(key.key).encrypt(
        _guarded(key.nonce, reuse_guard), plaintext, head + opaque(content.authenticated_data)
    )
    sender_data = uint32(key.leaf) + uint32(key.generation) + reuse_guard
    sender_key, sender_nonce = sender_data_key_nonce(suite, sender_data_secret, ciphertext)
    sealed_sender = suite.aead(sender_key).encrypt(sender_nonce, sender_data, head)
    return PrivateMessage(content.group_id, content.epoch, kind, content.authenticated_data, sealed_sender, ciphertext)


def open_private(
    suite: CipherSuite, sender_data_secret: bytes, keys: MessageKeys, message: PrivateMessage
) -> tuple[AuthenticatedContent, Opening]:
    """A private message whose signature is still to be verified, and the key that it used.

    Whether the leaf is blank in the message's epoch (§6.3.2) is seen when its signature key is looked up.

    Raises:
        OwnMessageError: it says that we sent it.
        MlsError: ``6.3.1/decrypt``, ``6.3.1/padding``, ``6.3.2/sender-data``, of section 2, and of
            ``MessageKeys.peek``.
    """
    kind = message.content_type
    head = opaque(message.group_id) + uint64(message.epoch) + uint8(kind)
    key, nonce = sender_data_key_nonce(suite, sender_data_secret, message.ciphertext)
    try:
        sender = Reader(suite.aead(key).decrypt(nonce, message.encrypted_sender_data, head))
    except InvalidTag:
        raise MlsError("6.3.2/sender-data", f"{len(message.encrypted_sender_data)} bytes") from None
    leaf, generation, reuse_guard = sender.uint32(), sender.uint32(), sender.take(REUSE_GUARD_SIZE)
    if sender.offset != sender.end:
        raise MlsError("2.1/trailing-bytes", f"{sender.end - sender.offset} bytes after the sender data")

    opening = keys.peek(leaf, ratchet_of(kind), generation)
    try:
        plaintext = suite.aead(opening.key.key).decrypt(
            _guarded(opening.key.nonce, reuse_guard), message.ciphertext, head + opaque(message.authenticated_data)
        )
    except InvalidTag:
        raise MlsError("6.3.1/decrypt", f"{opening.key!r}, {len(message.ciphertext)} bytes") from None
    reader = Reader(plaintext)
    body = read_content(reader, kind)
    auth = FramedContentAuthData.read(reader, kind)
    padding = reader.rest()
    if padding.count(0) != len(padding):
        raise MlsError("6.3.1/padding", f"{len(padding) - padding.count(0)} bytes of it")
    content = FramedContent(message.group_id, message.epoch, member(leaf), message.authenticated_data, body)
    return AuthenticatedContent(WireFormat.PRIVATE_MESSAGE, content, auth), opening


def sender_data_key_nonce(suite: CipherSuite, sender_data_secret: bytes, ciphertext: bytes) -> tuple[bytes, bytes]:
    """§6.3.2, from the first Nh bytes of the ciphertext, or all if it has fewer."""
    sample = ciphertext[: suite.hash_size]
    return (
        suite.expand_with_label(sender_data_secret, b"key", sample, suite.key_size),
        suite.expand_with_label(sender_data_secret, b"nonce", sample, suite.nonce_size),
    )


def _guarded(nonce: bytes, reuse_guard: bytes) -> bytes:
    """The nonce with the reuse guard xored into its first four bytes (§6.3.1)."""
    size = len(nonce)
    return (int.from_bytes(nonce, "big") ^ int.from_bytes(reuse_guard, "big") << 8 * (size - 4)).to_bytes(size, "big")
