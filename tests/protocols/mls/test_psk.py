from itertools import permutations

import pytest

from protocols.errors import LocalError
from protocols.mls.codec import decode
from protocols.mls.psk import (
    PSKS_MAX,
    ExternalPsk,
    PreSharedKeyId,
    ResumptionPsk,
    ResumptionUsage,
    psk_secret,
    read_psk_id,
)
from protocols.mls.suite import cipher_suite
from tests.protocols.mls.kit import refused

SUITE = cipher_suite(1)
NONCE = b"\1" * 32
IDS: tuple[PreSharedKeyId, ...] = (
    ExternalPsk(b"id", NONCE),
    ExternalPsk(b"id", b"\2" * 32),
    ExternalPsk(b"another", NONCE),
    ResumptionPsk(ResumptionUsage.APPLICATION, b"group", 4, NONCE),
    ResumptionPsk(ResumptionUsage.BRANCH, b"group", 4, NONCE),
    ResumptionPsk(ResumptionUsage.APPLICATION, b"group", 5, NONCE),
)


def test_no_psk_is_a_secret_of_zeros() -> None:
    assert psk_secret(SUITE, ()) == bytes(32)


def test_psk_secret_depends_on_every_field_of_the_id_and_on_the_psk() -> None:
    secrets = {psk_secret(SUITE, ((psk_id, psk),)) for psk_id in IDS for psk in (b"a", b"b")}
    assert len(secrets) == 2 * len(IDS)


def test_psk_secret_depends_on_the_order() -> None:
    psks = [(psk_id, b"psk") for psk_id in IDS[:4]]
    assert len({psk_secret(SUITE, order) for order in permutations(psks)}) == 24


def test_ids_decode_to_what_was_encoded() -> None:
    assert [decode(read_psk_id, each.encode()) for each in IDS] == list(IDS)


def test_unknown_types_and_usages_are_refused() -> None:
    with refused("8.4/unknown-psk-type"):
        decode(read_psk_id, b"\3\0\0")
    for usage in (0, 4):
        with refused("8.4/unknown-psk-usage"):
            decode(read_psk_id, b"\2" + bytes((usage,)) + b"\0" + bytes(8) + b"\0")


def test_more_psks_than_can_be_counted_are_the_callers_fault() -> None:
    with pytest.raises(LocalError):
        psk_secret(SUITE, ((IDS[0], b""),) * (PSKS_MAX + 1))
