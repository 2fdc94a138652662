"""Pre-shared keys (RFC 9420 §8.4): secrets from outside of the group, or from an older epoch, mixed into the next."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, opaque, uint16, uint64
from protocols.mls.errors import MlsError
from protocols.mls.suite import CipherSuite

PSKS_MAX: Final = 2**16 - 1
"""What ``PSKLabel`` can count."""


class ResumptionUsage(IntEnum):
    APPLICATION = 1
    REINIT = 2
    BRANCH = 3


class ExternalPsk(msgspec.Struct, frozen=True, gc=False):
    """A key that the members share by other means."""

    psk_id: bytes
    psk_nonce: bytes

    def encode(self) -> bytes:
        return b"\1" + opaque(self.psk_id) + opaque(self.psk_nonce)


class ResumptionPsk(msgspec.Struct, frozen=True, gc=False):
    """The ``resumption_psk`` of some epoch of some group."""

    usage: int
    psk_group_id: bytes
    psk_epoch: int
    psk_nonce: bytes

    def encode(self) -> bytes:
        return (
            b"\2" + bytes((self.usage,)) + opaque(self.psk_group_id) + uint64(self.psk_epoch) + opaque(self.psk_nonce)
        )


PreSharedKeyId: TypeAlias = ExternalPsk | ResumptionPsk


def read_psk_id(reader: Reader) -> PreSharedKeyId:
    match psk_type := reader.uint8():
        case 1:
            return ExternalPsk(reader.opaque(), reader.opaque())
        case 2:
            usage = reader.uint8()
            if not 1 <= usage <= 3:
                raise MlsError("8.4/unknown-psk-usage", f"usage {usage}")
            return ResumptionPsk(usage, reader.opaque(), reader.uint64(), reader.opaque())
        case _:
            raise MlsError("8.4/unknown-psk-type", f"type {psk_type}")


def psk_secret(suite: CipherSuite, psks: Sequence[tuple[PreSharedKeyId, bytes]]) -> bytes:
    """All PSKs of a commit in one secret, in the order of their proposals; zeros if there is none."""
    count = len(psks)
    if count > PSKS_MAX:
        raise LocalError(f"{count} PSKs in one epoch; at most {PSKS_MAX} can be counted")
    secret = zeros = bytes(suite.hash_size)
    for index, (psk_id, psk) in enumerate(psks):
        label = psk_id.encode() + uint16(index) + uint16(count)
        derived = suite.expand_with_label(suite.extract(zeros, psk), b"derived psk", label, suite.hash_size)
        secret = suite.extract(derived, secret)
    return secret
