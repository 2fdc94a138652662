from itertools import count

import pytest

from protocols.mls.codec import decode
from protocols.mls.key_schedule import (
    EpochSecrets,
    confirmation_tag,
    derived_secrets,
    epoch_secrets,
    exporter,
    external_key_pair,
    joiner_secret,
    receive_external_init,
    send_external_init,
    welcome_key_nonce,
    welcome_secret,
)
from protocols.mls.suite import SUITES, CipherSuite, Entropy, cipher_suite
from tests.protocols.mls.kit import refused

SUITE = cipher_suite(1)
SIZE = SUITE.hash_size

every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=repr)


def entropy() -> Entropy:
    numbers = count(1)
    return lambda size: bytes((next(numbers),)) * size


@every_suite
def test_everything_of_an_epoch_is_of_the_suites_sizes_and_different(suite: CipherSuite) -> None:
    joiner = joiner_secret(suite, bytes(suite.hash_size), bytes(suite.hash_size), b"context")
    secrets = epoch_secrets(suite, joiner, bytes(suite.hash_size), b"context")
    values = [getattr(secrets, field) for field in secrets.__struct_fields__]
    values += [joiner, welcome_secret(suite, joiner, bytes(suite.hash_size))]
    assert {len(value) for value in values} == {suite.hash_size}
    assert len(set(values)) == len(values)
    key, nonce = welcome_key_nonce(suite, values[-1])
    assert (len(key), len(nonce)) == (suite.key_size, suite.nonce_size)


def test_each_input_of_the_schedule_matters() -> None:
    inputs = [b"\1" * SIZE, b"\2" * SIZE, b"context"]
    joiner = joiner_secret(SUITE, inputs[0], inputs[1], inputs[2])
    assert joiner != joiner_secret(SUITE, inputs[1], inputs[0], inputs[2])
    assert joiner != joiner_secret(SUITE, inputs[0], inputs[1], b"another")
    secrets = epoch_secrets(SUITE, joiner, bytes(SIZE), b"context")
    assert secrets != epoch_secrets(SUITE, joiner, b"\3" * SIZE, b"context")
    assert secrets != epoch_secrets(SUITE, joiner, bytes(SIZE), b"another")
    assert secrets == epoch_secrets(SUITE, joiner, bytes(SIZE), b"context")


def test_epoch_secrets_go_to_bytes_and_back_and_are_not_shown() -> None:
    secrets = derived_secrets(SUITE, b"\5" * SIZE)
    assert decode(EpochSecrets.read, secrets.encode()) == secrets
    assert repr(secrets) == "EpochSecrets(...)"


def test_exports_differ_by_label_by_context_and_by_size() -> None:
    secret = b"\7" * SIZE
    exports = [
        exporter(SUITE, secret, b"label", b"context", 32),
        exporter(SUITE, secret, b"another", b"context", 32),
        exporter(SUITE, secret, b"label", b"another", 32),
        exporter(SUITE, secret, b"label", b"context", 33)[:32],
    ]
    assert len(set(exports)) == len(exports)
    assert len(exporter(SUITE, secret, b"label", b"context", 1000)) == 1000


def test_confirmation_tag_depends_on_key_and_transcript() -> None:
    tags = {confirmation_tag(SUITE, key, transcript) for key in (b"\1" * 32, b"\2" * 32) for transcript in (b"", b"t")}
    assert len(tags) == 4


@every_suite
def test_joiner_and_members_agree_on_the_init_secret_of_an_external_commit(suite: CipherSuite) -> None:
    external_secret = b"\4" * suite.hash_size
    _, public = external_key_pair(suite, external_secret)
    kem_output, init_secret = send_external_init(suite, public, entropy())
    assert receive_external_init(suite, external_secret, kem_output) == init_secret
    assert len(init_secret) == suite.hash_size


@every_suite
def test_external_init_of_another_group_gives_another_secret_or_none(suite: CipherSuite) -> None:
    _, public = external_key_pair(suite, b"\4" * suite.hash_size)
    kem_output, init_secret = send_external_init(suite, public, entropy())
    assert receive_external_init(suite, b"\5" * suite.hash_size, kem_output) != init_secret


@every_suite
def test_kem_output_of_a_wrong_length_is_refused(suite: CipherSuite) -> None:
    for kem_output in (b"", bytes(suite.kem.kem_output_size - 1), bytes(suite.kem.kem_output_size + 1)):
        with refused("8.3/kem-output"):
            receive_external_init(suite, b"\4" * suite.hash_size, kem_output)


def test_external_key_to_which_nothing_can_be_encrypted_is_refused() -> None:
    for public in (bytes(32), b"", bytes(33)):
        with refused("5.1/invalid-public-key"):
            send_external_init(SUITE, public, entropy())
