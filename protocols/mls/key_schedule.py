"""The key schedule (RFC 9420 §8): from the secrets of one epoch to those of the next.

    init_secret ──┐
    commit_secret ┴─ joiner_secret ──┐
                     psk_secret ─────┴─ member secret ─┬─ welcome_secret
                                                       └─ epoch_secret ── EpochSecrets, the next init_secret too

Functions from values to values. Whoever calls keeps ``joiner_secret`` until the Welcome is written and
``EpochSecrets`` as long as the epoch; what lies between (member secret, epoch secret) never leaves this module.
The ``context`` is always an encoded GroupContext, and always that of the epoch to be entered.
"""

from typing import Final

import msgspec

from protocols.crypto import CryptoError
from protocols.mls.codec import Reader, opaque
from protocols.mls.errors import MlsError
from protocols.mls.suite import CipherSuite, Entropy

_EXTERNAL_INIT: Final = b"MLS 1.0 external init secret"


class EpochSecrets(msgspec.Struct, frozen=True, gc=False):
    """What an epoch's members share (§8, table 4), in the order of the table, and the next ``init_secret``."""

    sender_data_secret: bytes
    encryption_secret: bytes
    exporter_secret: bytes
    external_secret: bytes
    confirmation_key: bytes
    membership_key: bytes
    resumption_psk: bytes
    epoch_authenticator: bytes
    init_secret: bytes

    def __repr__(self) -> str:
        return "EpochSecrets(...)"

    def encode(self) -> bytes:
        return b"".join(opaque(getattr(self, field)) for field in self.__struct_fields__)

    @classmethod
    def read(cls, reader: Reader) -> "EpochSecrets":
        return cls(*(reader.opaque() for _ in cls.__struct_fields__))


def joiner_secret(suite: CipherSuite, init_secret: bytes, commit_secret: bytes, context: bytes) -> bytes:
    """What a Welcome tells each new member; ``commit_secret`` is zeros for a commit without a path."""
    return suite.expand_with_label(suite.extract(init_secret, commit_secret), b"joiner", context, suite.hash_size)


def welcome_secret(suite: CipherSuite, joiner_secret: bytes, psk_secret: bytes) -> bytes:
    return suite.derive_secret(suite.extract(joiner_secret, psk_secret), b"welcome")


def welcome_key_nonce(suite: CipherSuite, welcome_secret: bytes) -> tuple[bytes, bytes]:
    """What the Welcome's GroupInfo is encrypted with (§12.4.3.1): one key, one message."""
    return (
        suite.expand_with_label(welcome_secret, b"key", b"", suite.key_size),
        suite.expand_with_label(welcome_secret, b"nonce", b"", suite.nonce_size),
    )


def epoch_secrets(suite: CipherSuite, joiner_secret: bytes, psk_secret: bytes, context: bytes) -> EpochSecrets:
    member = suite.extract(joiner_secret, psk_secret)
    return derived_secrets(suite, suite.expand_with_label(member, b"epoch", context, suite.hash_size))


def derived_secrets(suite: CipherSuite, epoch_secret: bytes) -> EpochSecrets:
    """All of an epoch from its one secret, which in epoch 0 is drawn at random by the group's creator (§11)."""
    derive = suite.derive_secret
    return EpochSecrets(
        derive(epoch_secret, b"sender data"),
        derive(epoch_secret, b"encryption"),
        derive(epoch_secret, b"exporter"),
        derive(epoch_secret, b"external"),
        derive(epoch_secret, b"confirm"),
        derive(epoch_secret, b"membership"),
        derive(epoch_secret, b"resumption"),
        derive(epoch_secret, b"authentication"),
        derive(epoch_secret, b"init"),
    )


def confirmation_tag(suite: CipherSuite, confirmation_key: bytes, confirmed_transcript_hash: bytes) -> bytes:
    """§6.1. The key is the new epoch's, and so is the hash."""
    return suite.mac(confirmation_key, confirmed_transcript_hash)


def exporter(suite: CipherSuite, exporter_secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """``MLS-Exporter`` (§8.5)."""
    secret = suite.derive_secret(exporter_secret, label)
    return suite.expand_with_label(secret, b"exported", suite.hash(context), size)


# -- external initialisation (§8.3) -----------------------------------------------------------------


def external_key_pair(suite: CipherSuite, external_secret: bytes) -> tuple[bytes, bytes]:
    """Private and public: members hold the one, whoever joins by an external commit encrypts to the other."""
    return suite.kem.derive_key_pair(external_secret)


def send_external_init(suite: CipherSuite, external_public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """As the one who joins: the ``kem_output`` for the ExternalInit proposal, and the ``init_secret``.

    Raises:
        MlsError: ``5.1/invalid-public-key``.
    """
    schedule = suite.hpke.key_schedule(b"")
    try:
        return schedule.send_export(external_public, _EXTERNAL_INIT, suite.hash_size, entropy)
    except CryptoError as error:
        raise MlsError("5.1/invalid-public-key", str(error)) from None


def receive_external_init(suite: CipherSuite, external_secret: bytes, kem_output: bytes) -> bytes:
    """As a member: the ``init_secret``, for that commit only, in place of the epoch's own.

    Raises:
        MlsError: ``8.3/kem-output``.
    """
    private, public = external_key_pair(suite, external_secret)
    schedule = suite.hpke.key_schedule(b"")
    try:
        return schedule.receive_export(kem_output, private, public, _EXTERNAL_INIT, suite.hash_size)
    except CryptoError as error:
        raise MlsError("8.3/kem-output", str(error)) from None
