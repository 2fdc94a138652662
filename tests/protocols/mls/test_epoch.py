import pytest

from protocols.errors import LocalError
from protocols.mls.credentials import BasicCredential
from protocols.mls.epoch import Epoch
from protocols.mls.extensions import Extension, external_pub
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.proposals import Add, ReInit
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import SUITES
from protocols.mls.welcome import GROUP_INFO_LABEL
from tests.protocols.mls.room import NOW_NS, Room


@pytest.mark.parametrize("suite", SUITES)
def test_epoch_goes_to_bytes_and_back(suite: int) -> None:
    room = Room.of("ada", "bob", "cyd", suite=SUITES[suite])
    room.commit("bob")
    room.commit("ada", ReInit(b"next", 1, 1, ()))
    for group in room.groups.values():
        epoch = group.current
        again = Epoch.from_bytes(epoch.to_bytes())
        assert again.to_bytes() == epoch.to_bytes()
        assert again.authenticator == epoch.authenticator
        assert again.interim_transcript_hash == epoch.interim_transcript_hash
        assert again.context_bytes == epoch.context_bytes
        assert again.reinit == ReInit(b"next", 1, 1, ())
        assert again.export(b"label", b"context", 99) == epoch.export(b"label", b"context", 99)


def test_epoch_of_another_version_is_not_read() -> None:
    data = Room.of("ada")["ada"].current.to_bytes()
    with pytest.raises(LocalError, match="version 2"):
        Epoch.from_bytes(b"\2" + data[1:])


def test_epoch_shows_no_secret() -> None:
    epoch = Room.of("ada", "bob")["ada"].current
    shown = f"{epoch!r} {epoch.secrets!r} {epoch.private!r}"
    for secret in (epoch.secrets.init_secret, epoch.signature_private, epoch.private.leaf_private):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_epochs_with_one_tree_and_number_are_told_apart_by_their_authenticator() -> None:
    """Two commits without a path that differ in nothing but a key that they mix in."""
    room = Room.of("ada", "bob")
    add = Add(room.key_package("eve"))
    left = room.make("ada", add, with_path=False, authenticated_data=b"left").commit.next
    right = room.make("bob", add, with_path=False, authenticated_data=b"right").commit.next
    assert left is not None
    assert right is not None
    assert left.tree.tree_hash == right.tree.tree_hash
    assert left.number == right.number
    assert left.authenticator != right.authenticator
    assert left.export(b"label", b"", 32) != right.export(b"label", b"", 32)


def test_exports_differ_by_label_context_and_size() -> None:
    epoch = Room.of("ada")["ada"].current
    exported = [epoch.export(*each) for each in ((b"a", b"", 32), (b"b", b"", 32), (b"a", b"c", 32), (b"a", b"", 33))]
    assert len(set(exported)) == 4
    assert [len(each) for each in exported] == [32, 32, 32, 33]


def test_group_info_is_signed_and_shows_what_is_asked_for() -> None:
    room = Room.of("ada", "bob")
    epoch = room["bob"].current
    info = epoch.group_info(more=(Extension(0xF00D, b"more"),))
    assert info.signer == epoch.own_leaf
    assert external_pub(info.extensions) is not None
    public = epoch.own_leaf_node.signature_key
    assert epoch.suite.verify_with_label(public, GROUP_INFO_LABEL, info.to_be_signed(), info.signature)
    bare = epoch.group_info(with_tree=False, with_external_pub=False)
    assert bare.extensions == ()
    assert external_pub(room["ada"].current.group_info().extensions) == external_pub(info.extensions)


def test_epoch_whose_own_leaf_is_gone_says_so() -> None:
    room = Room.of("ada", "bob")
    epoch = room["bob"].current
    tree = epoch.tree.changed({}, [LeafIndex(1)], ())[0]
    assert isinstance(tree, RatchetTree)
    broken = Epoch(epoch.suite, epoch.context, tree, b"", epoch.secrets, epoch.private, epoch.signature_private)
    with pytest.raises(LocalError, match="blank"):
        _ = broken.own_leaf_node


def test_making_a_commit_leaves_its_epoch_as_it_was() -> None:
    room = Room.of("ada", "bob")
    epoch = room["ada"].current
    before = epoch.to_bytes()
    staged = room.make("ada", Add(room.key_package("eve"))).commit
    assert epoch.to_bytes() == before
    room["ada"].adopt(staged, now_ns=NOW_NS)
    assert room["ada"].epoch(staged.parent) is epoch
    assert epoch.to_bytes() == before
    assert isinstance(epoch.own_leaf_node.credential, BasicCredential)
