"""Every KEM alike, then what each has of its own: small orders, curves, ML-KEM, and X-Wing beside others."""

import json
import subprocess
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import CryptoError, x448, x25519
from protocols.errors import LocalError
from protocols.mls.kem import (
    DHKEM_P256,
    DHKEM_P384,
    DHKEM_P521,
    DHKEM_X448,
    DHKEM_X25519,
    MLKEM768_X25519,
    XWING,
    Kem,
    MontgomeryKem,
)
from protocols.mls.suite import Entropy, cipher_suite
from tests.interop.peer import HERE, install

KEMS = (DHKEM_P256, DHKEM_P384, DHKEM_P521, DHKEM_X25519, DHKEM_X448, XWING, MLKEM768_X25519)
HYBRIDS = (XWING, MLKEM768_X25519)
PRIME_25519 = 2**255 - 19
PRIME_448 = 2**448 - 2**224 - 1

every_kem = pytest.mark.parametrize("kem", KEMS, ids=repr)


def entropy(first: int = 1) -> Entropy:
    numbers = count(first)
    return lambda size: next(numbers).to_bytes(size, "big")


def key_pair(kem: Kem, byte: int = 7) -> tuple[bytes, bytes]:
    return kem.derive_key_pair(bytes((byte,)) * kem.private_size)


@every_kem
def test_both_ends_have_the_secret(kem: Kem) -> None:
    private, public = key_pair(kem)
    secret, kem_output = kem.encap(public, entropy())
    assert kem.decap(kem_output, private, public) == secret
    assert (len(private), len(public)) == (kem.private_size, kem.public_size)
    assert (len(secret), len(kem_output)) == (kem.secret_size, kem.kem_output_size)
    kem.check_public(public)
    assert kem.public(private) == public


@every_kem
def test_only_a_deterministic_kem_repeats_itself_with_its_entropy(kem: Kem) -> None:
    _, public = key_pair(kem)
    assert (kem.encap(public, entropy()) == kem.encap(public, entropy())) == kem.deterministic
    assert kem.encap(public, entropy()) != kem.encap(public, entropy(2))
    assert kem.deterministic == (kem not in HYBRIDS)


@every_kem
@settings(max_examples=10)
@given(ikm=st.binary(min_size=32, max_size=80))
def test_key_pair_follows_from_its_input(kem: Kem, ikm: bytes) -> None:
    """In MLS the input is a path secret of the hash's size, longer or shorter than the private key."""
    private, public = kem.derive_key_pair(ikm)
    assert kem.derive_key_pair(ikm) == (private, public)
    assert kem.derive_key_pair(ikm + b"\0") != (private, public)
    secret, kem_output = kem.encap(public, entropy())
    assert kem.decap(kem_output, private, public) == secret


@every_kem
def test_another_key_has_another_secret(kem: Kem) -> None:
    _, public = key_pair(kem)
    secret, kem_output = kem.encap(public, entropy())
    assert kem.decap(kem_output, *key_pair(kem, 8)) != secret


@every_kem
def test_public_key_or_encapsulation_of_a_wrong_length_is_refused(kem: Kem) -> None:
    private, public = key_pair(kem)
    _, kem_output = kem.encap(public, entropy())
    for size in (0, 1, len(public) - 1, len(public) + 1):
        bad = (public + b"\0")[:size]
        with pytest.raises(CryptoError):
            kem.check_public(bad)
        with pytest.raises(CryptoError):
            kem.encap(bad, entropy())
    for bad in (b"", kem_output[:-1], kem_output + b"\0"):
        with pytest.raises(CryptoError):
            kem.decap(bad, private, public)


@every_kem
def test_private_key_of_a_wrong_length_is_our_callers_fault_and_not_shown(kem: Kem) -> None:
    private, public = key_pair(kem)
    _, kem_output = kem.encap(public, entropy())
    for bad in (b"", private[:-1], private + b"\0"):
        with pytest.raises(LocalError) as caught:
            kem.public(bad)
        assert private[:8].hex() not in str(caught.value)
        with pytest.raises(LocalError):
            kem.decap(kem_output, bad, public)


@every_kem
def test_source_of_too_little_entropy_is_refused(kem: Kem) -> None:
    _, public = key_pair(kem)
    with pytest.raises(LocalError, match="bytes of entropy"):
        kem.encap(public, lambda size: bytes(size - 1))


@every_kem
@settings(max_examples=25)
@given(data=st.data())
def test_whatever_a_peer_sends_is_a_key_or_a_crypto_error(kem: Kem, data: st.DataObject) -> None:
    private, public = key_pair(kem)
    theirs = data.draw(st.binary(min_size=kem.public_size, max_size=kem.public_size))
    kem_output = data.draw(st.binary(min_size=kem.kem_output_size, max_size=kem.kem_output_size))
    for call in (lambda: kem.check_public(theirs), lambda: kem.encap(theirs, entropy())):
        with suppress(CryptoError):
            call()
    with suppress(CryptoError):
        assert len(kem.decap(kem_output, private, public)) == kem.secret_size


# -- X25519 and X448 ----------------------------------------------------------------------------------------

SMALL_ORDER = [
    *((DHKEM_X25519, u) for u in (0, 1, PRIME_25519 - 1, PRIME_25519, PRIME_25519 + 1)),
    # of order 8
    (DHKEM_X25519, 325606250916557431795983626356110631294008115727848805560023387167927233504),
    (DHKEM_X25519, 39382357235489614581723060781553021112529911719440698176882885853963445705823),
    *((DHKEM_X448, u) for u in (0, 1, PRIME_448 - 1, PRIME_448, PRIME_448 + 1)),
]


@pytest.mark.parametrize(("kem", "u"), SMALL_ORDER)
def test_point_of_small_order_is_no_public_key(kem: MontgomeryKem, u: int) -> None:
    public = u.to_bytes(kem.public_size, "little")
    exchange = {DHKEM_X25519.id: x25519, DHKEM_X448.id: x448}[kem.id]
    spellings = [public]
    if kem is DHKEM_X25519:
        spellings.append(public[:-1] + bytes((public[-1] | 0x80,)))  # RFC 7748 §5: the top bit is ignored
    for each in spellings:
        with pytest.raises(CryptoError, match="low_order_point"):
            exchange(b"\x55" * kem.private_size, each)
        with pytest.raises(CryptoError, match=r"low_order_point|bad_key"):
            kem.check_public(each)
        with pytest.raises(CryptoError, match="low_order_point"):
            kem.encap(each, entropy())
        with pytest.raises(CryptoError, match="low_order_point"):
            kem.decap(each, *key_pair(kem))


@pytest.mark.parametrize(("kem", "prime"), [(DHKEM_X25519, PRIME_25519), (DHKEM_X448, PRIME_448)])
def test_key_has_one_name_in_a_group(kem: MontgomeryKem, prime: int) -> None:
    """RFC 7748 §5 takes the others for the same key: an Update to one of them would change nothing."""
    size = kem.public_size
    kem.check_public((prime - 2).to_bytes(size, "little"))
    for value in (prime + 2, prime + 9, 2 ** (8 * size) - 1):
        with pytest.raises(CryptoError, match="bad_key"):
            kem.check_public(value.to_bytes(size, "little"))


def test_x25519_key_with_the_top_bit_set_is_the_same_key_and_refused() -> None:
    _, public = key_pair(DHKEM_X25519)
    same = public[:-1] + bytes((public[-1] | 0x80,))
    private, _ = key_pair(DHKEM_X25519, 8)
    assert x25519(private, same) == x25519(private, public)
    with pytest.raises(CryptoError, match="bad_key"):
        DHKEM_X25519.check_public(same)


# -- ML-KEM-768 with X25519 ---------------------------------------------------------------------------------

# draft-connolly-cfrg-xwing-kem-10, appendix C, the first of its vectors
XWING_SEED = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
XWING_PUBLIC_BEGINS = "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3d"
XWING_PUBLIC_ENDS = "eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534"
XWING_SECRET = "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384"
XWING_CIPHERTEXT = """
    b83aa828d4d62b9a83ceffe1d3d3bb1ef31264643c070c5798927e41fb07914a273f8f96e7826cd5375a283d7da885304c5de0516a0f0654
    243dc5b97f8bfeb831f68251219aabdd723bc6512041acbaef8af44265524942b902e68ffd23221cda70b1b55d776a92d1143ea3a0c475f6
    3ee6890157c7116dae3f62bf72f60acd2bb8cc31ce2ba0de364f52b8ed38c79d719715963a5dd3842d8e8b43ab704e4759b5327bf027c63c
    8fa857c4908d5a8a7b88ac7f2be394d93c3706ddd4e698cc6ce370101f4d0213254238b4a2e8821b6e414a1cf20f6c1244b699046f5a01ca
    a0a1a55516300b40d2048c77cc73afba79afeea9d2c0118bdf2adb8870dc328c5516cc45b1a2058141039e2c90a110a9e16b318dfb53bd49
    a126d6b73f215787517b8917cc01cabd107d06859854ee8b4f9861c226d3764c87339ab16c3667d2f49384e55456dd40414b70a6af841585
    f4c90c68725d57704ee8ee7ce6e2f9be582dbee985e038ffc346ebfb4e22158b6c84374a9ab4a44e1f91de5aac5197f89bc5e5442f51f9a5
    937b102ba3beaebf6e1c58380a4a5fedce4a4e5026f88f528f59ffd2db41752b3a3d90efabe463899b7d40870c530c8841e8712b733668ed
    033adbfafb2d49d37a44d4064e5863eb0af0a08d47b3cc888373bc05f7a33b841bc2587c57eb69554e8a3767b7506917b6b70498727f16ea
    c1a36ec8d8cfaf751549f2277db277e8a55a9a5106b23a0206b4721fa9b3048552c5bd5b594d6e247f38c18c591aea7f56249c72ce7b117a
    fcc3a8621582f9cf71787e183dee09367976e98409ad9217a497df888042384d7707a6b78f5f7fb8409e3b535175373461b776002d799cba
    d62860be70573ecbe13b246e0da7e93a52168e0fb6a9756b895ef7f0147a0dc81bfa644b088a9228160c0f9acf1379a2941cd28c06ebc80e
    44e17aa2f8177010afd78a97ce0868d1629ebb294c5151812c583daeb88685220f4da9118112e07041fcc24d5564a99fdbde28869fe07223
    87d7a9a4d16e1cc8555917e09944aa5ebaaaec2cf62693afad42a3f518fce67d273cc6c9fb5472b380e8573ec7de06a3ba2fd5f931d725b4
    93026cb0acbd3fe62d00e4c790d965d7a03a3c0b4222ba8c2a9a16e2ac658f572ae0e746eafc4feba023576f08942278a041fb82a70a595d
    5bacbf297ce2029898a71e5c3b0d1c6228b485b1ade509b35fbca7eca97b2132e7cb6bc465375146b7dceac969308ac0c2ac89e7863eb894
    3015b24314cafb9c7c0e85fe543d56658c213632599efabfc1ec49dd8c88547bb2cc40c9d38cbd3099b4547840560531d0188cd1e9c23a0e
    bee0a03d5577d66b1d2bcb4baaf21cc7fef1e03806ca96299df0dfbc56e1b2b43e4fc20c37f834c4af62127e7dae86c3c25a2f696ac8b589
    dec71d595bfbe94b5ed4bc07d800b330796fda89edb77be0294136139354eb8cd37591578f9c600dd9be8ec6219fdd507adf3397ed4d6870
    7b8d13b24ce4cd8fb22851bfe9d632407f31ed6f7cb1600de56f17576740ce2a32fc5145030145cfb97e63e0e41d354274a079d3e6fb2e15
"""


@pytest.mark.parametrize("kem", HYBRIDS, ids=repr)
def test_xwing_agrees_with_its_draft(kem: Kem) -> None:
    seed = bytes.fromhex(XWING_SEED)
    public = kem.public(seed)
    assert public.startswith(bytes.fromhex(XWING_PUBLIC_BEGINS))
    assert public.endswith(bytes.fromhex(XWING_PUBLIC_ENDS))
    assert kem.decap(bytes.fromhex(XWING_CIPHERTEXT), seed, public) == bytes.fromhex(XWING_SECRET)


def test_the_two_hybrids_derive_other_keys_but_open_what_the_other_sealed() -> None:
    private, public = key_pair(XWING)
    assert key_pair(MLKEM768_X25519) != (private, public)
    secret, kem_output = MLKEM768_X25519.encap(public, entropy())
    assert XWING.decap(kem_output, private, public) == secret


@pytest.mark.parametrize("kem", HYBRIDS, ids=repr)
def test_each_half_of_a_hybrid_matters(kem: Kem) -> None:
    """An altered ML-KEM ciphertext is rejected in silence, with a secret nobody else has (FIPS 203 §6.3)."""
    private, public = key_pair(kem)
    secret, kem_output = kem.encap(public, entropy())
    for position in (0, 500, 1087, 1088, 1118):
        altered = kem_output[:position] + bytes((kem_output[position] ^ 1,)) + kem_output[position + 1 :]
        assert kem.decap(altered, private, public) != secret


@pytest.mark.parametrize("kem", HYBRIDS, ids=repr)
def test_hybrid_key_with_a_bad_half_is_refused(kem: Kem) -> None:
    private, public = key_pair(kem)
    _, kem_output = kem.encap(public, entropy())
    out_of_range = b"\xff" * 3 + public[3:]
    small_order = public[:-32] + bytes(32)
    for bad in (out_of_range, small_order):
        with pytest.raises(CryptoError):
            kem.check_public(bad)
        with pytest.raises(CryptoError):
            kem.encap(bad, entropy())
    with pytest.raises(CryptoError, match="low_order_point"):
        kem.decap(kem_output[:-32] + bytes(32), private, public)


# What openmls 0.9.2 with openmls_libcrux_crypto 0.4.0 derived from OPENMLS_IKM and sealed to it, in its suite 0x004D
OPENMLS_IKM = b"\x0b" * 32
OPENMLS_PRIVATE = "4fa33f004bc74219921e92ed7725742da52b4a8d584730096ccc8fd7602222b6"
OPENMLS_CIPHERTEXT = "a7872b2f0676d4d2b8e1180306230d8664b408fae7838f189371fa"
OPENMLS_KEM_OUTPUT = """
    9822c80d254ea3c2ce2e8705f550cf2fba6b783916ee6e407b222f4282606b721a67e175ed00edc6d0c373cedfa37e4f77130f702b9e1302
    82b7a9223a4f46ce2c3823649c04f4d8c0e998357a5a57a7fac37c2820d5353ab3ee683c76d4ab4d5c459f916b1bc7ec1c8ceb2541124b5a
    be472e7f9c873f0b58d01500c10f6737ae02eec7f2dcddfd73c4aaf8120214ef77e8814b22ef363cdab31361e5bc6433a632f72aed3962f5
    c1ba921315492fb76e39c97b054a8e6592903e85a2aa5f2b895ddf35e2e8e6d4109b72585a8b82cdb39f8282e6dc7a1eca9fd13d247dc281
    a5ff1613a5a52850bf938c7859e01b30cd4d505c6a891b06a06935fe922160d30d3b85406398ee049a0a65ba319612f839cc956adc638fed
    005367f129f8f7f2a5cc257e221afdd1786162bc043dd0488a6f15928222b469cdbeb2f8da711ac9ed1511beae530ce3f69a9008bde9cb8d
    6ccb759e74da50e8dda1bdd7f0a319421911453ec6a7767325600682db3e4ba6b648675babb6e9bc11850fab12db77585cbe2345f0ba592d
    b7f800c3252b743658bc6ad5083b5b42808a51ae62b28ae3bedaf7ca6cb3806a56cd50962a7e9fe12894e830904ce10c2bc797db8e0d6d50
    44aa22919b093e8b242c400e7e0bc18c9ab08ece546155adc7b41dd624026f6d064a13bfacb11ced71c3d8b3e33dd099de8dee04d4794b61
    7db98f98e304c7d2fa9875edf4709d3bcfd1fecc35f5e154b72c0cc569ff7afb855948546afff4cfc36531af49b952b3b3efad486244c8cc
    d69d1770e77fbd93f8bca980d605fc8a634119742bb33daa8f99c2e07b5b8e02a907aefaf8c1c69632bcaff28a9960684cb7d15bb6f2cacf
    f2fdddef501fca32ac486eba1f0a6eeff5a7a905ab71005964a6e80296310f296f2c0d18e67bda6417135b92ccbc21872aeb5ce6d0c91504
    151b9e581b59273530494ee84ade412d2df63489e3ead8530fa3072eb8aa3247e0400790fa37c764467461983df2746be6fdc023e1dbd6da
    377bba37405dbf5a656132ab095d8c56638896778462125cf170cef0e510d50b759db13a31f2bfa23578d53e06381562ea77353c12652dc3
    8c937d6c99a7f4adf68f10ab883e81e51d40958fad26a467c5845e4ffacd274e923f1dec3e75b13589dfe591cfaf05581bf1f28d383e7d35
    0e7e2c60768cb781b5f55a18fa574587ba99151a54c73fecc46a9e352e03dc8068ca08c86b303a3baede1973e70f66ab7088083618a60535
    7615cffc14c6775dd7817d87359090287934e8d8ecea1a40f704f61888769af545fd5bc32dbc7e83dac10e86a9bd2c6afd9545760f099c64
    78f7091624ce7d72d126f28a98743d57f2ecb4d67042ce7658f3d4d8e5d4f4877cf585cb93ae6650e384a3c3117f8e41bd037f2989246900
    b0d4910af3e15f760ae3eaf9c82857a5829f1a3e9b170d0296b77172318a1e8f3d07f182a0517263e1b8c5d4d5d0e3bef20c3c8704046436
    6734aa2e22d02dbbe8a89e98edaa33ecdcc76b05ecdf96f44a0791aab268f9a39d62f8a78100961d0ccabf4ef8f068de30d3b43fee8b4c1d
"""


def test_xwing_suite_opens_what_openmls_sealed() -> None:
    suite = cipher_suite(0x004D)
    private, public = suite.kem.derive_key_pair(OPENMLS_IKM)
    assert private.hex() == OPENMLS_PRIVATE
    kem_output, ciphertext = bytes.fromhex(OPENMLS_KEM_OUTPUT), bytes.fromhex(OPENMLS_CIPHERTEXT)
    assert suite.hpke.key_schedule(b"info").open(kem_output, private, public, b"", ciphertext) == b"path secret"


@pytest.mark.parametrize("number", [0x0053, 0x0054])
def test_xwing_suites_agree_with_ts_mls(number: int) -> None:
    """Its key derivation, which every member of a tree repeats, and its HPKE both ways."""
    found = install()
    if isinstance(found, str):
        pytest.skip(f"no interop with ts-mls: {found}")
    node, packages = found
    suite = cipher_suite(number)
    ikm, info, plaintext = b"\x0b" * 64, b"info", b"path secret"
    private, public = suite.kem.derive_key_pair(ikm)
    schedule = suite.hpke.key_schedule(info)
    request = {
        "suite": suite.name,
        "ikm": ikm.hex(),
        "info": info.hex(),
        "sealed": [part.hex() for part in schedule.seal(public, b"", plaintext, entropy())],
        "public": public.hex(),
        "plaintext": plaintext.hex(),
    }
    done = subprocess.run(
        [node, str(HERE / "xwing.mjs"), str(packages)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(done.stdout)
    assert (answer["private"], answer["public"]) == (private.hex(), public.hex())
    assert bytes.fromhex(answer["opened"]) == plaintext
    kem_output, ciphertext = (bytes.fromhex(part) for part in answer["sealed"])
    assert schedule.open(kem_output, private, public, b"", ciphertext) == plaintext
