import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crypto import BLAKE2S
from protocols.errors import LocalError
from protocols.noise.symmetric import (
    AES_GCM,
    CHACHA_POLY,
    MESSAGE_SIZE_MAX,
    NONCE_RESERVED,
    PLAINTEXT_SIZE_MAX,
    Cipher,
    CipherState,
    SymmetricState,
)
from tests.protocols.noise.pair import reason

KEY = bytes(range(32))
CIPHERS = pytest.mark.parametrize("cipher", [CHACHA_POLY, AES_GCM], ids=lambda cipher: cipher.name)


def test_nonce_is_little_endian_for_chacha_and_big_endian_for_gcm() -> None:
    assert CHACHA_POLY.pack_nonce(258).hex() == "00000000" + "0201000000000000"
    assert AES_GCM.pack_nonce(258).hex() == "00000000" + "0000000000000102"


@CIPHERS
def test_stream_opens_in_order_only(cipher: Cipher) -> None:
    send, receive = CipherState(cipher, KEY), CipherState(cipher, KEY)
    first, second = send.encrypt_with_ad(b"", b"1"), send.encrypt_with_ad(b"", b"2")
    assert reason(receive.decrypt_with_ad, b"", second) == "decrypt_failed"
    assert receive.decrypt_with_ad(b"", first) == b"1"
    assert reason(receive.decrypt_with_ad, b"", first) == "decrypt_failed"
    assert receive.decrypt_with_ad(b"", second) == b"2"


@CIPHERS
@given(nonces=st.lists(st.integers(0, NONCE_RESERVED - 1), min_size=1, max_size=8), data=st.data())
def test_explicit_counters_open_in_any_order(cipher: Cipher, nonces: list[int], data: st.DataObject) -> None:
    context = cipher.context(KEY)
    sealed = {nonce: cipher.seal(context, nonce, b"ad", str(nonce).encode()) for nonce in nonces}
    for nonce in data.draw(st.permutations(nonces)):
        assert cipher.open(context, nonce, b"ad", sealed[nonce]) == str(nonce).encode()
        assert reason(cipher.open, context, nonce ^ 1, b"ad", sealed[nonce]) in (
            "decrypt_failed",
            "nonce_exhausted",
        )


@CIPHERS
def test_a_failed_message_leaves_counter_and_key_alone(cipher: Cipher) -> None:
    sealed = CipherState(cipher, KEY).encrypt_with_ad(b"ad", b"text")
    receive = CipherState(cipher, KEY)
    for bad in (sealed[:-1], sealed + b"\0", b"", bytes(15), bytes(MESSAGE_SIZE_MAX + 1), bytes(len(sealed))):
        assert reason(receive.decrypt_with_ad, b"ad", bad)
        assert (receive.nonce, receive.key) == (0, KEY)
    assert reason(receive.decrypt_with_ad, b"da", sealed) == "decrypt_failed"
    assert receive.decrypt_with_ad(b"ad", sealed) == b"text"


@CIPHERS
def test_the_last_counter_is_never_used(cipher: Cipher) -> None:
    state = CipherState(cipher, KEY, NONCE_RESERVED - 1)
    sealed = state.encrypt_with_ad(b"", b"last")
    assert reason(state.encrypt_with_ad, b"", b"one more") == "nonce_exhausted"
    receive = CipherState(cipher, KEY, NONCE_RESERVED - 1)
    assert receive.decrypt_with_ad(b"", sealed) == b"last"
    assert reason(receive.decrypt_with_ad, b"", sealed) == "nonce_exhausted"
    assert state.nonce == receive.nonce == NONCE_RESERVED


def test_message_is_at_most_65535_bytes() -> None:
    send, receive = CipherState(CHACHA_POLY, KEY), CipherState(CHACHA_POLY, KEY)
    sealed = send.encrypt_with_ad(b"", bytes(PLAINTEXT_SIZE_MAX))
    assert len(sealed) == MESSAGE_SIZE_MAX
    assert receive.decrypt_with_ad(b"", sealed) == bytes(PLAINTEXT_SIZE_MAX)
    with pytest.raises(LocalError):
        send.encrypt_with_ad(b"", bytes(PLAINTEXT_SIZE_MAX + 1))
    assert send.nonce == 1
    assert reason(receive.decrypt_with_ad, b"", bytes(MESSAGE_SIZE_MAX + 1)) == "message_too_long"
    assert reason(receive.decrypt_with_ad, b"", bytes(15)) == "message_too_short"


@CIPHERS
def test_rekey_is_the_default_of_section_4_2_and_keeps_the_counter(cipher: Cipher) -> None:
    send, receive = CipherState(cipher, KEY, 5), CipherState(cipher, KEY, 5)
    send.rekey()
    keystream = cipher.context(KEY).encrypt(cipher.pack_nonce(2**64 - 1), bytes(32), b"")[:32]
    assert send.key == keystream == cipher.rekey(KEY)
    assert send.nonce == 5
    sealed = send.encrypt_with_ad(b"", b"new key")
    assert reason(receive.decrypt_with_ad, b"", sealed) == "decrypt_failed"
    receive.rekey()
    assert receive.decrypt_with_ad(b"", sealed) == b"new key"


def test_copy_of_a_symmetric_state_goes_its_own_way() -> None:
    state = SymmetricState(CHACHA_POLY, BLAKE2S, KEY, KEY)
    state.mix_key(b"first")
    twin = state.copy()
    before = twin.chaining_key, twin.transcript_hash, twin.split()[0].key
    state.mix_key_and_hash(b"second")
    state.encrypt_and_hash(b"text")
    assert (twin.chaining_key, twin.transcript_hash, twin.split()[0].key) == before
    assert twin.cipher_state is not None
    assert twin.cipher_state.nonce == 0
