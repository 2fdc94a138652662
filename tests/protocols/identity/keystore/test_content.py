import pickle
from collections.abc import Callable
from io import StringIO
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from protocols.errors import LocalError
from protocols.identity.certificates import ALL_PURPOSES, DeviceCertificate, Purpose
from protocols.identity.device import IDENTITY_ENTROPY_SIZE, certified_device
from protocols.identity.errors import IdentityError
from protocols.identity.keystore.content import (
    ANCHORS_MAX,
    ARCHIVE_MAX,
    DEVICES_MAX,
    STREAM_NAME_SIZE_MAX,
    Anchor,
    Content,
    DeviceKeys,
    RetiredKeys,
    unlock_content,
)
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.sealed import PLAINTEXT_SIZE_MAX, Role
from protocols.identity.signing import SigningKey
from tests.protocols.identity.keystore.files import NETWORK, NOW, PASSPHRASE, YEAR_NS, content, entropy, keys, nonce


def device(seed: object, network_id: bytes = NETWORK) -> DeviceKeys:
    return DeviceKeys.generate(entropy(IDENTITY_ENTROPY_SIZE, ("device", seed)), network_id, NOW)


def secrets(value: Content) -> list[bytes]:
    found = [value.journal_root, *([value.user_seed] if value.user_seed else [])]
    for each in value.devices:
        found += [each.signing_seed, each.static_private]
    return found + [each.signing_seed for each in value.archive]


def refused(attempt: Callable[[], Any], kind: type[Exception] = LocalError) -> None:
    with pytest.raises(kind) as caught:
        attempt()
    for secret in secrets(content()) + secrets(content(1)):
        assert secret.hex() not in repr(caught.value)


def test_a_new_user_has_one_device_that_they_certify_for_everything() -> None:
    value = content()
    [first] = value.devices
    certificate = first.certificate
    assert certificate is not None
    certificate.verify()
    assert (certificate.user, certificate.device) == (value.user_public, first.public)
    assert certificate.purposes == ALL_PURPOSES
    assert (certificate.not_before, certificate.not_after) == (NOW, NOW + YEAR_NS)
    assert value.device_public == first.public
    assert not value.imported
    assert len(set(secrets(value))) == 4


def test_a_device_is_ready_for_sessions() -> None:
    identity = content().devices[0].identity()
    assert identity.device_public == content().device_public
    assert certified_device(identity.certificate, identity.static_public, NETWORK) == content().device_public


def test_a_device_whose_users_seed_is_elsewhere_gets_its_certificate_from_there() -> None:
    user = content()
    assert user.user_seed is not None
    keys_of_device = device("elsewhere")
    value = Content.for_device(user.user_public, keys_of_device, bytes(32))
    refused(lambda: value.certify_device(value.device_public, NOW, NOW + YEAR_NS))
    request = value.devices[0].request(user.user_public, (Purpose.DHT,))
    certificate = DeviceCertificate.issue(SigningKey(user.user_seed), request, 0, NOW, NOW + 1)
    assert value.install(certificate).devices[0].certificate == certificate
    forged = replace(certificate, not_after=NOW + YEAR_NS)
    refused(lambda: value.install(forged), IdentityError)
    refused(lambda: content(1).install(certificate))


def test_devices_are_added_certified_rotated_and_removed_and_each_is_another_value() -> None:
    value = content()
    before = value.to_bytes()
    one, two, three = device(1), device(2, b"other network"), device(3)
    more = value.add_device(one).certify_device(one.public, NOW, NOW + YEAR_NS).add_device(two)
    assert [each.public for each in more.devices] == [value.device_public, one.public, two.public]
    rotated = more.rotate_device(one.public, three, NOW + 5)
    rotated = rotated.certify_device(three.public, NOW, NOW + YEAR_NS, replaces=one.public)
    certificate = rotated.device(three.public).certificate
    assert certificate is not None
    assert certificate.replaces == one.public
    assert [each.public for each in rotated.devices] == [value.device_public, three.public, two.public]
    fewer = rotated.remove_device(two.public, NOW + 6)
    assert [each.public for each in fewer.devices] == [value.device_public, three.public]
    assert [(each.public, each.retired_at) for each in fewer.archive] == [(one.public, NOW + 5), (two.public, NOW + 6)]
    assert value.to_bytes() == before
    for each in (value, more, rotated, fewer):
        assert Content.from_bytes(each.to_bytes()) == each


def test_another_certificate_of_a_device_has_a_higher_version() -> None:
    value = content()
    again = value.certify_device(value.device_public, NOW + 1, NOW + YEAR_NS, (Purpose.MLS,))
    certificate = again.devices[0].certificate
    assert certificate is not None
    assert certificate.version == 1
    assert certificate.purposes == (Purpose.MLS,)


def test_the_first_device_is_rotated_with_its_file_and_never_removed() -> None:
    value = content()
    refused(lambda: value.remove_device(value.device_public, NOW))
    rotated = value.rotate_device(value.device_public, device(1), NOW)
    assert rotated.device_public == device(1).public
    assert unlock_content(rotated.seal(keys(), nonce()), PASSPHRASE, device=device(1).public)[1] == rotated


def test_a_key_is_a_device_once() -> None:
    value = content().add_device(device(1))
    refused(lambda: value.add_device(device(1)))
    refused(lambda: value.remove_device(device(1).public, NOW).add_device(device(1)))
    refused(lambda: value.remove_device(device(2).public, NOW))
    assert value.user_seed is not None
    users = DeviceKeys(value.user_seed, bytes(32), NETWORK, None, NOW)
    refused(lambda: value.add_device(users))
    refused(lambda: value.add_device(replace(device(2), certificate=content(1).devices[0].certificate)))


def test_what_a_keystore_holds_is_bounded_and_fits_a_file() -> None:
    value = content()
    for index in range(1, DEVICES_MAX):
        value = value.add_device(device(index, bytes(64)))
    refused(lambda: value.add_device(device("one too many")))
    retired = tuple(RetiredKeys(entropy(32, index), bytes(64), NOW, NOW) for index in range(ARCHIVE_MAX))
    anchors = tuple(Anchor(b"%096d" % index, 2**63 - 1, bytes(32)) for index in range(ANCHORS_MAX))
    assert len(anchors[0].stream) == STREAM_NAME_SIZE_MAX
    value = replace(value, archive=retired, anchors=anchors)
    for each in value.devices[1:]:
        value = value.certify_device(each.public, NOW, 2**63 - 1)
    assert Content.from_bytes(value.to_bytes()) == value
    assert len(value.to_bytes()) < PLAINTEXT_SIZE_MAX
    fuller = value.remove_device(value.devices[3].public, NOW + 1)
    assert len(fuller.archive) == ARCHIVE_MAX
    assert fuller.archive[:-1] == retired[1:]


def test_an_import_says_that_it_is_one_and_brings_no_journal() -> None:
    value = replace(content(), anchors=(Anchor(b"a", 1, bytes(32)),))
    there = value.from_elsewhere(entropy(32, "root"))
    assert there.imported
    assert there.anchors == ()
    assert there.journal_root != value.journal_root
    assert there.devices == value.devices
    assert not there.confirmed().imported


def test_without_its_users_seed_a_keystore_says_still_whose_it_is() -> None:
    value = content().without_user_seed()
    assert value.user_seed is None
    assert value.user_public == content().user_public
    assert Content.from_bytes(value.to_bytes()) == value


# -- bytes --------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 3), st.integers(0, 3), st.booleans(), st.integers(0, 2**63 - 1), st.randoms(use_true_random=False)
)
def test_contents_go_to_a_file_and_back(more: int, removed: int, seed: bool, generation: int, random: Any) -> None:
    value = content(random.random())
    for index in range(more):
        value = value.add_device(device((index, random.random())))
    for _ in range(min(more, removed)):
        value = value.remove_device(value.devices[1].public, NOW)
    value = replace(value if seed else value.without_user_seed(), generation=generation)
    data = value.seal(keys(), random.randbytes(24))
    assert unlock_content(data, PASSPHRASE)[1] == value
    for secret in secrets(value):
        assert secret not in data


def test_a_content_opens_with_the_passphrase() -> None:
    opened, value = unlock_content(content().seal(keys(), nonce(), Role.EXPORT), PASSPHRASE, Role.EXPORT)
    assert value == content()
    assert not opened.locked


def test_a_content_under_another_header_is_refused() -> None:
    """Only a faulty program writes that, as the header is authenticated; what it writes is not used."""
    for header_device, generation in ((content(1).device_public, 0), (content().device_public, 1)):
        data = keys().seal(Role.KEYSTORE, header_device, generation, content().to_bytes(), nonce())
        with pytest.raises(KeystoreError) as caught:
            unlock_content(data, PASSPHRASE)
        assert caught.value.reason == "malformed_content"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_that_are_no_content_are_refused_and_not_quoted(data: st.DataObject) -> None:
    """Also when they come out of a valid seal; whatever decodes is what it encodes to."""
    plain = bytearray(content().to_bytes())
    match data.draw(st.sampled_from(["flip", "cut", "extend", "anything"])):
        case "flip":
            plain[data.draw(st.integers(0, len(plain) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del plain[data.draw(st.integers(0, len(plain) - 1)) :]
        case "extend":
            plain += data.draw(st.binary(min_size=1, max_size=9))
        case _:
            plain = bytearray(data.draw(st.binary(max_size=99)))
    found: Content | None = None
    caught: KeystoreError | None = None
    try:
        found = Content.from_bytes(bytes(plain))
    except KeystoreError as error:
        caught = error
    if found is not None:
        assert found.to_bytes() == plain
    else:
        assert caught is not None
        assert caught.reason == "malformed_content"
        assert caught.__cause__ is None
        assert str(caught) == "it opened, but it holds what no keystore does"


def test_contents_that_contradict_themselves_are_refused() -> None:
    value = content()
    wrong: list[dict[str, object]] = [
        {"user_seed": bytes(32)},
        {"user_public": content(1).user_public},
        {"devices": ()},
        {"devices": value.devices * 2},
        {"devices": content(1).devices},
        {"anchors": (Anchor(b"b", 1, bytes(32)), Anchor(b"a", 1, bytes(32)))},
        {"anchors": (Anchor(b"b", 1, bytes(32)), Anchor(b"b", 2, bytes(32)))},
        {"journal_root": bytes(31)},
        {"generation": -1},
        {"imported": 1},
    ]
    for fields in wrong:
        plain = msgspec.msgpack.encode(
            ["keystore.content", *[fields.get(name, getattr(value, name)) for name in FIELDS]]
        )
        with pytest.raises(KeystoreError):
            Content.from_bytes(plain)
    plain = msgspec.msgpack.encode(["keystore.content", *[getattr(value, name) for name in FIELDS]])
    assert Content.from_bytes(plain) == value


FIELDS = ("generation", "user_public", "user_seed", "devices", "archive", "journal_root", "anchors", "imported")


# -- secrets ------------------------------------------------------------------------------------------------


def test_what_would_not_open_again_is_not_sealed() -> None:
    value, keys_of = content(), DeviceKeys.generate(entropy(64, "new"), b"net", NOW)
    for wrong in (
        value.add_device(replace(keys_of, static_private=b"short")),
        value.add_device(replace(keys_of, network_id=b"")),
        value.rotate_device(value.device_public, keys_of, -1),
        replace(value, anchors=(Anchor(b"n" * (STREAM_NAME_SIZE_MAX + 1), 1, bytes(32)),)),
    ):
        with pytest.raises(LocalError) as caught:
            wrong.seal(keys(), nonce())
        assert "not open again" in str(caught.value)


def test_nothing_that_prints_or_pickles_has_a_secret_in_it() -> None:
    value = content().add_device(device(1)).remove_device(device(1).public, NOW)
    screen = Console(file=StringIO(), width=10_000)
    shown = [value, value.devices[0], value.archive[0], value.devices, [value]]
    for each in shown:
        screen.print(each)
    text = repr(shown) + str(shown) + f"{value}" + screen.file.getvalue()  # type: ignore[attr-defined]
    for secret in secrets(value):
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text
    for each in (value, value.devices[0], value.archive[0]):
        with pytest.raises(LocalError):
            pickle.dumps(each)
