"""First epochs; how a follow-up may be wrong is in ``test_rules_following``."""

from functools import partial

import pytest

from protocols.errors import LocalError
from protocols.mls.extensions import Extension, ExtensionType, RequiredCapabilities
from protocols.mls.founding import branch, found, reinitialise
from protocols.mls.group import Group
from protocols.mls.joining import Origin, OriginLookup, stage_welcome
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.proposals import ReInit, Remove
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk
from protocols.mls.send_ledger import SendLedger
from protocols.mls.suite import SUITES
from protocols.mls.transcript import interim_transcript_hash
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, fresh, person, refuses, untouched
from tests.protocols.mls.trees import counting_entropy


@pytest.mark.parametrize("suite", SUITES)
def test_group_of_one_has_an_empty_transcript_and_a_true_tag(suite: int) -> None:
    """§11: the confirmed hash is empty, and the interim one is made of the tag all the same."""
    ada = person("ada", SUITES[suite])
    epoch, keys = found(ada.bundle, b"group", (), counting_entropy("first"))
    assert epoch.number == 0
    assert epoch.context.confirmed_transcript_hash == b""
    assert epoch.interim_transcript_hash == interim_transcript_hash(epoch.suite, b"", epoch.confirmation_tag)
    assert epoch.tree.leaf_count == 1
    assert epoch.own_leaf == keys.own_leaf == 0
    assert epoch.secrets.encryption_secret == b""
    again, _ = found(ada.bundle, b"group", (), counting_entropy("second"))
    assert again.authenticator != epoch.authenticator
    assert again.context == epoch.context


def test_only_member_commits_alone() -> None:
    room = Room.of("ada")
    first = room["ada"].current.authenticator
    room.commit("ada")
    room.commit("ada")
    assert room["ada"].current.number == 2
    assert room["ada"].current.authenticator != first


def test_creator_keeps_the_rules_that_it_sets() -> None:
    required = RequiredCapabilities(extension_types=(0xF00D,)).encode()
    with refused("7.3/required-capabilities"):
        Room.of("ada", extensions=(Extension(ExtensionType.REQUIRED_CAPABILITIES, required),))


def test_reinit_to_a_version_that_is_not_made_here_founds_nothing() -> None:
    room = Room.of("ada", "bob")
    room.commit("ada", ReInit(b"next", 2, 1, ()))
    with pytest.raises(LocalError, match="version 2"):
        reinitialise(room["ada"].current, fresh(room.client("ada")), [room.key_package("bob")], entropy=room.entropy)


def origins_of(old: Group) -> OriginLookup:
    def lookup(group_id: bytes, epoch: int) -> Origin | None:
        return old.origin() if (group_id, epoch) == (old.group_id, old.current.number) else None

    return lookup


def resumed(old: Group, psk: PreSharedKeyId) -> bytes | None:
    known = isinstance(psk, ResumptionPsk) and psk.psk_group_id == old.group_id
    return old.current.resumption_psk if known else None


def followed(room: Room, followers: list[str], suite: int) -> Room:
    """The group that everybody goes on in."""
    after = Room(SUITES[suite])
    for name in followers:
        after.clients[name] = person(f"{name}", SUITES[suite])
    return after


@pytest.mark.parametrize("suite", [1, 2])
def test_reinitialised_group_has_its_members_and_the_old_one_is_closed(suite: int) -> None:
    room = Room.of("ada", "bob", "cyd")
    room.commit("bob", ReInit(b"next", 1, suite, ()))
    ada = room["ada"]
    with pytest.raises(LocalError, match="reinitialised"):
        ada.send(b"still?", entropy=room.entropy)
    with untouched(ada), pytest.raises(LocalError, match="reinitialised"):
        ada.commit(entropy=room.entropy, now_ns=NOW_NS)
    after = followed(room, ["ada", "bob", "cyd"], suite)
    first = reinitialise(
        ada.current,
        after.client("ada").bundle,
        [after.key_package(name) for name in ("bob", "cyd")],
        entropy=room.entropy,
    )
    after.groups["ada"] = Group.join(first, now_ns=NOW_NS, ledger=SendLedger())
    for name in ("bob", "cyd"):
        old = room[name]
        staged = stage_welcome(
            first.welcomes[0].welcome,
            [after.client(name).bundle],
            psks=partial(resumed, old),
            origins=origins_of(old),
        )
        after.groups[name] = Group.join(staged, now_ns=NOW_NS, ledger=SendLedger())
    after.check_agreement()
    assert after["bob"].group_id == b"next"
    assert after["bob"].current.number == 1
    after.fill()


def test_group_that_committed_no_reinit_is_not_reinitialised() -> None:
    room = Room.of("ada", "bob")
    with pytest.raises(LocalError, match="ReInit"):
        reinitialise(room["ada"].current, room.client("ada").bundle, [], entropy=room.entropy)
    room.commit("ada", ReInit(b"next", 1, 2, ()))
    with pytest.raises(LocalError, match="suite"):
        reinitialise(room["ada"].current, room.client("ada").bundle, [], entropy=room.entropy)


def test_branch_has_some_of_the_members_and_the_group_goes_on() -> None:
    room = Room.of("ada", "bob", "cyd")
    side = followed(room, ["ada", "bob"], 1)
    first = branch(
        room["ada"].current, side.client("ada").bundle, b"side", [side.key_package("bob")], entropy=room.entropy
    )
    side.groups["ada"] = Group.join(first, now_ns=NOW_NS, ledger=SendLedger())
    staged = stage_welcome(
        first.welcomes[0].welcome,
        [side.client("bob").bundle],
        psks=lambda psk: resumed(room["bob"], psk),
        origins=origins_of(room["bob"]),
    )
    side.groups["bob"] = Group.join(staged, now_ns=NOW_NS, ledger=SendLedger())
    side.check_agreement()
    side.fill()
    room.fill()
    with refuses(room["bob"], "6/other-group"):
        room["bob"].receive(side.say("ada"))


def test_branch_keeps_the_cipher_suite() -> None:
    room = Room.of("ada", "bob")
    with pytest.raises(LocalError, match="suite"):
        branch(room["ada"].current, person("ada", SUITES[2]).bundle, b"side", [], entropy=room.entropy)


def test_branch_is_joined_by_nobody_who_was_not_there() -> None:
    """Whoever was in the old epoch has its resumption secret; others have nothing that opens the Welcome."""
    room = Room.of("ada", "bob", "cyd")
    old = room["cyd"].current
    room.commit("ada", Remove(LeafIndex(2)))
    cyd = fresh(room.client("cyd"))
    first = branch(room["ada"].current, fresh(room.client("ada")), b"side", [cyd.key_package], entropy=room.entropy)
    with refused("12.4.3.1/group-info"):
        stage_welcome(first.welcomes[0].welcome, [cyd], psks=lambda _: old.resumption_psk)
