from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, opaque, uint16, varint, vector
from protocols.mls.commit import Commit
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, encode_extensions, read_extensions
from protocols.mls.framing import ApplicationData, FramedContent, PrivateMessage, Sender, member
from protocols.mls.leaf_node import LeafNode
from protocols.mls.message import encode_message, parse, read_message
from protocols.mls.psk import read_psk_id
from protocols.mls.rules import RULES
from protocols.mls.welcome import GroupSecrets, Welcome
from tests.protocols.mls.kit import client, refused
from tests.protocols.mls.structures import MESSAGES, STRUCTURES

EXAMPLES = settings(max_examples=25)


def encoded(read: Callable[[Reader], Any], value: Any) -> bytes:
    return encode_message(value) if read == read_message else bytes(value.encode())


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_goes_both_ways(name: str) -> None:
    read, values = STRUCTURES[name]

    @EXAMPLES
    @given(values)
    def both_ways(value: Any) -> None:
        data = encoded(read, value)
        again = decode(read, data)
        assert again == value
        assert encoded(read, again) == data

    both_ways()


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_cut_at_any_byte_or_followed_by_another_is_refused(name: str) -> None:
    read, values = STRUCTURES[name]

    @settings(max_examples=8)
    @given(values)
    def cut(value: Any) -> None:
        data = encoded(read, value)
        for end in range(len(data)):
            with pytest.raises(MlsError, match=r"2\.1/truncated"):
                decode(read, data[:end])
        with refused("2.1/trailing-bytes"):
            decode(read, data + b"\0")

    cut()


@pytest.mark.parametrize("name", STRUCTURES)
def test_altered_bytes_are_refused_or_mean_just_what_they_say(name: str) -> None:
    read, values = STRUCTURES[name]

    @EXAMPLES
    @given(values, st.lists(st.tuples(st.integers(0, 2**12), st.integers(1, 255)), min_size=1, max_size=3))
    def altered(value: Any, changes: list[tuple[int, int]]) -> None:
        data = bytearray(encoded(read, value))
        for place, change in changes:
            data[place % len(data)] ^= change
        with suppress(MlsError):
            assert encoded(read, decode(read, bytes(data))) == data

    altered()


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(sorted(STRUCTURES)))
def test_any_bytes_are_refused_or_mean_just_what_they_say(data: bytes, name: str) -> None:
    read, _ = STRUCTURES[name]
    with suppress(MlsError):
        assert encoded(read, decode(read, data)) == data


@given(MESSAGES)
def test_structures_do_not_change(message: Any) -> None:
    assert hash(message) == hash(parse(encode_message(message)))
    for field in message.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(message, field, None)


def test_group_secrets_do_not_show_themselves() -> None:
    secrets = GroupSecrets(b"joiner secret", b"path secret", ())
    assert "secret'" not in repr(secrets)
    assert "joiner" not in str(secrets)


def test_error_names_a_rule_that_is_listed() -> None:
    for rule in RULES:
        assert MlsError(rule, "detail").reason == rule
    with pytest.raises(LocalError, match="no rule"):
        MlsError("12/whatever")


# -- numbers that stand for nothing -----------------------------------------------------------------


def test_unknown_version_or_wire_format_is_refused() -> None:
    body = Welcome(1, (), b"").encode()
    with refused("6/unknown-version"):
        parse(uint16(2) + uint16(3) + body)
    for wire_format in (0, 6, 2**16 - 1):
        with refused("6/unknown-wire-format"):
            parse(uint16(1) + uint16(wire_format) + body)


def test_unknown_sender_type_is_refused() -> None:
    for sender_type in (0, 5, 255):
        with refused("6/unknown-sender-type"):
            decode(Sender.read, bytes((sender_type, 0, 0, 0, 0)))


def test_unknown_content_type_is_refused() -> None:
    content = FramedContent(b"g", 1, member(0), b"", ApplicationData(b"hello")).encode()
    at = len(content) - len(opaque(b"hello")) - 1
    private = PrivateMessage(b"g", 1, 1, b"", b"", b"").encode()
    for kind in (0, 4, 255):
        with refused("6/unknown-content-type"):
            decode(FramedContent.read, content[:at] + bytes((kind,)) + content[at + 1 :])
        with refused("6/unknown-content-type"):
            decode(PrivateMessage.read, private[:10] + bytes((kind,)) + private[11:])


def test_unknown_leaf_node_source_is_refused() -> None:
    leaf = client("alice").leaf
    head = opaque(leaf.encryption_key) + opaque(leaf.signature_key)
    head += leaf.credential.encode() + leaf.capabilities.encode()
    assert leaf.encode().startswith(head + b"\1")
    for source in (0, 4, 255):
        with refused("7.2/unknown-leaf-node-source"):
            decode(LeafNode.read, head + bytes((source,)) + leaf.encode()[len(head) + 1 :])


def test_unknown_psk_type_or_usage_is_refused() -> None:
    for psk_type in (0, 3):
        with refused("8.4/unknown-psk-type"):
            decode(read_psk_id, bytes((psk_type,)) + bytes(20))
    for usage in (0, 4):
        with refused("8.4/unknown-psk-usage"):
            decode(read_psk_id, bytes((2, usage)) + bytes(20))


def test_item_of_a_commit_is_a_proposal_or_a_reference() -> None:
    for kind in (0, 3):
        with refused("12.4/unknown-proposal-or-ref"):
            decode(Commit.read, vector([bytes((kind,)) + opaque(b"x")]) + b"\0")


def test_extension_type_stands_once_in_a_list() -> None:
    twice = encode_extensions([Extension(7, b"one"), Extension(8, b""), Extension(7, b"two")])
    with refused("13.4/duplicate-extension"):
        decode(read_extensions, twice)


def test_list_of_a_gigabyte_in_a_small_message_is_refused() -> None:
    for head in (uint16(1) + uint16(3) + uint16(1), uint16(1) + uint16(1)):
        with refused("2.1/truncated"):
            parse(head + varint(2**30 - 1) + b"\0" * 100)
