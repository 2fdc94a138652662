import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.noise.errors import NoiseError
from protocols.noise.patterns import PATTERNS, Pattern, check, pattern
from protocols.noise.suite import NAME_SIZE_MAX, protocol
from tests.protocols.noise.pair import XX, reason


def test_table_has_every_pattern_of_revision_34() -> None:
    assert [len(name.replace("1", "")) for name in PATTERNS].count(1) == 3
    assert sum("1" not in name and len(name) == 2 for name in PATTERNS) == 12
    assert sum("1" in name for name in PATTERNS) == 23


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_of_the_table_is_valid_and_named_after_what_it_does(name: str) -> None:
    shape = pattern(name)
    letters = name.replace("1", "")
    assert shape.one_way == (len(letters) == 1)
    sent = {"initiator": shape.messages[0::2], "responder": shape.messages[1::2]}
    pre = {"initiator": shape.initiator_pre, "responder": shape.responder_pre}
    roles = {"initiator": letters[0], "responder": letters[1] if len(letters) == 2 else "K"}
    for party, letter in roles.items():
        transmitted = any("s" in message for message in sent[party])
        assert pre[party] == (("s",) if letter == "K" else ())
        assert transmitted == (letter in "XI")
        if letter == "I":
            assert "s" in sent[party][0]


def test_fallback_is_the_pattern_from_the_other_side() -> None:
    assert pattern("XXfallback") == Pattern("XXfallback", (), ("e",), (("e", "ee", "s", "se"), ("s", "es")))


def test_psk_modifiers_put_the_token_where_section_9_4_says() -> None:
    assert pattern("NNpsk0+psk1+psk2").messages == (("psk", "e", "psk"), ("e", "ee", "psk"))
    assert pattern("XXpsk3").messages[2] == ("s", "se", "psk")
    assert pattern("XXfallback+psk0").messages[0] == ("psk", "e", "ee", "s", "se")
    assert pattern("XXpsk2+fallback").messages[0] == ("e", "ee", "s", "se", "psk")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("XY", "unknown_pattern"),
        ("", "unknown_pattern"),
        ("xx", "unknown_pattern"),
        ("XXpsk0+", "unknown_pattern"),
        ("XX+psk0", "unknown_pattern"),
        ("NNhfs", "unknown_modifier"),
        ("NNpsk00", "unknown_modifier"),
        ("NNpsk", "unknown_modifier"),
        ("NNpsk3", "invalid_pattern"),
        ("NNpsk0+psk0", "invalid_pattern"),
        ("NNpsk99999999999999999999", "invalid_pattern"),
        ("IKfallback", "invalid_pattern"),
        ("NNpsk0+fallback", "invalid_pattern"),
        ("Nfallback", "invalid_pattern"),
    ],
)
def test_name_that_is_no_pattern_says_why(name: str, why: str) -> None:
    assert reason(pattern, name) == why


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        (Pattern("", (), (), (("es",),)), "not known yet"),
        (Pattern("", (), ("s",), (("e", "es", "es"),)), "twice"),
        (Pattern("", (), (), (("e",), ("e", "ee", "s", "se"))), "not known yet"),
        (Pattern("", (), (), (("e",), ("e", "ee"), ("e",))), "sends a key twice"),
        (Pattern("", ("s",), (), (("e",), ("e", "se"))), "initiator encrypts after se without ee"),
        (Pattern("", ("s",), ("s",), (("e", "ss"),)), "initiator encrypts after ss without es"),
        (Pattern("", (), ("s",), (("e", "es"), ("e",))), "responder encrypts after es without ee"),
        (Pattern("", ("s",), ("s",), (("e", "es", "ss"), ("e", "ee"))), "responder encrypts after ss without se"),
        (Pattern("", ("s",), (), (("psk", "s"),)), "without an ephemeral key of its own"),
        (Pattern("", (), (), (("psk", "e"),)), "responder encrypts after psk"),
        (Pattern("", (), (), (("e", "ekem1"),)), "unknown token"),
    ],
)
def test_pattern_that_breaks_a_rule_of_section_7_3_is_refused(shape: Pattern, rule: str) -> None:
    with pytest.raises(NoiseError) as caught:
        check(shape)
    assert caught.value.reason == "invalid_pattern"
    assert rule in caught.value.detail


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoisePSK_XX_25519_ChaChaPoly_BLAKE2s", "malformed_name"),
        ("Noise_XX_25519_ChaChaPoly", "malformed_name"),
        (XX + "_", "malformed_name"),
        ("Noise_XX" + "x" * NAME_SIZE_MAX + "_25519_ChaChaPoly_BLAKE2s", "malformed_name"),
        ("Noise_XX_25518_ChaChaPoly_BLAKE2s", "unknown_algorithm"),
        ("Noise_XX_25519_ChaCha_BLAKE2s", "unknown_algorithm"),
        ("Noise_XX_25519_ChaChaPoly_BLAKE3", "unknown_algorithm"),
    ],
)
def test_name_that_is_no_protocol_says_why(name: str, why: str) -> None:
    assert reason(protocol, name) == why


@given(st.text(max_size=40))
def test_any_text_is_a_protocol_or_a_noise_error(text: str) -> None:
    reason(protocol, text)
    reason(pattern, text)
