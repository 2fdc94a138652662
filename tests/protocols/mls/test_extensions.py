from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mls.extensions import (
    DEFAULT_EXTENSIONS,
    IN_GROUP_CONTEXT,
    IN_GROUP_INFO,
    IN_KEY_PACKAGE,
    IN_LEAF_NODE,
    Extension,
    Extensions,
    ExtensionType,
    ExternalSender,
    RequiredCapabilities,
    external_pub,
    external_pub_extension,
    external_senders,
    external_senders_extension,
    find_extension,
    required_capabilities,
)
from tests.protocols.mls.kit import refused
from tests.protocols.mls.structures import CREDENTIALS, EXTENSIONS, NUMBERS, OCTETS, some

OTHERS = (Extension(0x0A0A, b"grease"), Extension(0xF000, b""))


@given(EXTENSIONS)
def test_extension_is_found_by_its_type(extensions: Extensions) -> None:
    for each in extensions:
        assert find_extension(extensions, each.extension_type) == each.extension_data
    absent = next(kind for kind in range(8) if kind not in {each.extension_type for each in extensions})
    assert find_extension(extensions, absent) is None


@given(st.builds(RequiredCapabilities, NUMBERS, NUMBERS, NUMBERS))
def test_required_capabilities_are_read_from_among_others(required: RequiredCapabilities) -> None:
    assert required_capabilities((*OTHERS, required.extension())) == required
    assert required_capabilities(OTHERS) is None


@given(some(st.builds(ExternalSender, OCTETS, CREDENTIALS), 3))
def test_external_senders_are_read_from_among_others(senders: tuple[ExternalSender, ...]) -> None:
    assert external_senders((*OTHERS, external_senders_extension(senders))) == senders
    assert external_senders(OTHERS) == ()


@given(OCTETS)
def test_external_pub_is_read_from_among_others(key: bytes) -> None:
    assert external_pub((*OTHERS, external_pub_extension(key))) == key
    assert external_pub(OTHERS) is None


@pytest.mark.parametrize(
    ("extension", "read"),
    [
        (RequiredCapabilities((1,), (), (2,)).extension(), required_capabilities),
        (external_senders_extension(()), external_senders),
        (external_pub_extension(b"key"), external_pub),
    ],
)
def test_data_of_a_known_type_is_one_whole_structure(extension: Extension, read: Callable[[Extensions], Any]) -> None:
    data = extension.extension_data
    with refused("2.1/trailing-bytes"):
        read((msgspec.structs.replace(extension, extension_data=data + b"\0"),))
    with refused("2.1/truncated"):
        read((msgspec.structs.replace(extension, extension_data=data[:-1]),))


def test_code_points_are_those_of_the_registry() -> None:
    """§17.3: external_pub and external_senders are easily swapped."""
    named = {kind.name.lower(): int(kind) for kind in ExtensionType}
    assert named == {
        "application_id": 0x0001,
        "ratchet_tree": 0x0002,
        "required_capabilities": 0x0003,
        "external_pub": 0x0004,
        "external_senders": 0x0005,
        "last_resort_key_package": 0x000A,
    }
    places = [*IN_LEAF_NODE, *IN_KEY_PACKAGE, *IN_GROUP_CONTEXT, *IN_GROUP_INFO]
    assert sorted(places) == sorted(ExtensionType)
    assert frozenset(places) - IN_KEY_PACKAGE == DEFAULT_EXTENSIONS
