import pytest

from protocols.errors import LocalError
from protocols.mls.codec import decode
from protocols.mls.ratchets import Chain, MessageKey, Ratchet, first_secret, key_and_nonce, next_secret, read_position
from protocols.mls.suite import cipher_suite

SUITE = cipher_suite(1)


def test_nothing_of_a_ratchet_is_like_anything_else_of_it() -> None:
    values = [first_secret(SUITE, b"\1" * 32, ratchet)[:12] for ratchet in Ratchet]
    secret = first_secret(SUITE, b"\1" * 32, Ratchet.APPLICATION)
    for generation in range(5):
        key, nonce = key_and_nonce(SUITE, secret, generation)
        secret = next_secret(SUITE, secret, generation)
        values += key[:12], nonce, secret[:12]
    assert len(set(values)) == len(values)


def test_position_names_leaf_ratchet_and_generation_in_nine_bytes() -> None:
    for leaf, ratchet, generation in ((0, Ratchet.HANDSHAKE, 0), (2**31 - 1, Ratchet.APPLICATION, 2**32 - 1)):
        position = MessageKey(leaf, ratchet, generation, b"", b"").position
        assert len(position) == 9
        assert read_position(position) == (leaf, ratchet, generation)
    for bad in (b"", bytes(8), bytes(10), b"\0\0\0\0\2\0\0\0\0"):
        with pytest.raises(LocalError):
            read_position(bad)


def test_oldest_keys_are_dropped_first_and_raise_the_floor() -> None:
    chain = Chain(b"secret", 7, 1, {2: b"two", 4: b"four", 6: b"six"})
    assert chain.drop_oldest(-1) == chain.drop_oldest(0) == 0
    assert (chain.drop_oldest(2), chain.floor, list(chain.kept)) == (2, 5, [6])
    assert (chain.drop_oldest(2), chain.floor, chain.kept) == (1, 7, {})


def test_chain_goes_to_bytes_and_back() -> None:
    chain = Chain(b"secret", 2**32, 1, {2: b"two", 4: b"four"})
    again = decode(Chain.read, chain.encode())
    assert (again.secret, again.generation, again.floor, again.kept) == (b"secret", 2**32, 1, {2: b"two", 4: b"four"})
    assert again.encode() == chain.encode()


def test_keys_and_secrets_are_not_shown() -> None:
    key = MessageKey(3, Ratchet.APPLICATION, 4, b"KEYKEYKEY", b"NONCENONCE")
    assert "KEY" not in repr(key)
    assert "NONCE" not in repr(key)
    assert "SECRET" not in repr(Chain(b"SECRET", 1, 0, {0: b"SECRET"}))
