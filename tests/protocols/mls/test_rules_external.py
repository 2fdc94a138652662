"""Each rule that stops an external commit, on either side (RFC 9420 §8.3, §12.2, §12.4.3.2).

Whoever joins is shown a group info with a lie in it, or lies to the members in one point; the rest is right.
"""

from typing import Any

import msgspec
import pytest

from protocols.mls.credentials import BasicCredential
from protocols.mls.external import make_external_commit
from protocols.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
)
from protocols.mls.psk import ExternalPsk
from tests.protocols.mls.forgery import (
    forge_external_commit,
)
from tests.protocols.mls.kit import refused
from tests.protocols.mls.refusals import proposed, refuses_commit, refuses_message
from tests.protocols.mls.room import Room


def room() -> Room:
    """Alice, who has a parent with bob; carol, beside whom dave will be; and a key at the root."""
    return Room.of("alice", "bob", "carol")


# -- external commits (§12.4.3.2), as their author is refused ---------------------------------------


def test_group_info_without_a_key_for_it_admits_nobody() -> None:
    here = room()
    with refused("12.4.3.2/no-external-pub"):
        make_external_commit(
            here["alice"].current.group_info(with_external_pub=False), here.client("dave").bundle, entropy=here.entropy
        )


def test_group_of_another_version_is_not_joined() -> None:
    here = room()
    epoch = here["alice"].current
    later = msgspec.structs.replace(epoch, context=msgspec.structs.replace(epoch.context, version=2))
    with refused("12.4.3.1/version-or-suite"):
        make_external_commit(later.group_info(), here.client("dave").bundle, entropy=here.entropy)


def test_group_info_is_believed_no_more_than_a_welcome() -> None:
    here = room()
    info = here["alice"].current.group_info()
    altered = msgspec.structs.replace(info, signature=here["bob"].current.group_info().signature)
    with refused("12.4.3.1/signature"):
        make_external_commit(altered, here.client("dave").bundle, entropy=here.entropy)


def test_nothing_is_committed_in_an_epoch_after_which_there_is_no_number() -> None:
    """No group gets there, but whoever signs a group info can say so."""
    here = room()
    epoch = here["alice"].current
    last = msgspec.structs.replace(epoch, context=msgspec.structs.replace(epoch.context, epoch=2**64 - 1))
    with refused("8.1/last-epoch"):
        make_external_commit(last.group_info(), here.client("dave").bundle, entropy=here.entropy)


# -- and as the members refuse it -------------------------------------------------------------------


def joining(here: Room, *proposals: Any, **alterations: Any) -> Any:
    return forge_external_commit(here["alice"], here.client("dave"), *proposals, **alterations)


def test_sound_external_commit_is_staged() -> None:
    here = room()
    psk = PreSharedKey(ExternalPsk(b"psk", bytes(32)))
    assert here.stage("bob", joining(here, psk).message).external


def test_external_commit_without_a_path_is_refused() -> None:
    here = room()
    refuses_message(here, "12.4.3.2/path-required", joining(here, with_path=False).message)


@pytest.mark.parametrize("count", [0, 2])
def test_external_commit_has_one_external_init(count: int) -> None:
    here = room()
    refuses_commit(here, "12.2/external-commit-init-count", joining(here, init=lambda each: (each,) * count))


def test_external_commit_removes_one_leaf_at_most() -> None:
    here = room()
    refuses_commit(here, "12.2/external-commit-remove-count", joining(here, Remove(1), Remove(2)))


def test_external_commit_removes_nobody_but_who_comes_back() -> None:
    here = room()
    refuses_commit(here, "12.2/external-commit-remove-other", joining(here, Remove(2)))


@pytest.mark.parametrize(
    "proposal", [Add(Room().client("eve").key_package), GroupContextExtensions(()), ReInit(b"next", 1, 1, ())]
)
def test_external_commit_does_nothing_but_join(proposal: Proposal) -> None:
    here = room()
    refuses_commit(here, "12.2/external-commit-proposal-type", joining(here, proposal))


@pytest.mark.parametrize("field", ["encryption_key", "credential"])
def test_who_comes_back_keeps_the_rules_for_an_update(field: str) -> None:
    here = room()
    bob = here.client("bob")
    if field == "encryption_key":
        back = forge_external_commit(here["alice"], bob, Remove(1), leaf={field: bob.leaf.encryption_key})
        refuses_commit(here, "7.3/unchanged-encryption-key", back, by="carol")
    else:
        back = forge_external_commit(here["alice"], bob, Remove(1), leaf={field: BasicCredential(b"robert")})
        refuses_commit(here, "12.2/external-commit-remove-other", back, by="carol")


def test_external_commit_refers_to_nothing_that_members_proposed() -> None:
    here = room()
    psk = proposed(here, PreSharedKey(ExternalPsk(b"psk", bytes(32))), 0)
    refuses_commit(here, "12.4.3.2/proposal-by-reference", joining(here, psk))


def test_external_commit_carries_out_that_somebody_leaves() -> None:
    here = room()
    leaving = proposed(here, SelfRemove(), here.leaf("carol"))
    assert here.stage("bob", joining(here, leaving).message).removed == (2,)


@pytest.mark.parametrize("kem_output", [bytes(31), bytes(32), b""])
def test_kem_output_that_is_none_is_refused(kem_output: bytes) -> None:
    here = room()
    refuses_commit(here, "8.3/kem-output", joining(here, init=lambda _: (ExternalInit(kem_output),)))


def test_external_commit_to_another_key_than_the_groups_has_a_wrong_tag() -> None:
    here = room()
    other = here.client("eve").encryption_key()
    refuses_commit(here, "12.4.2/confirmation-tag", joining(here, init=lambda _: (ExternalInit(other),)))


def test_leaf_of_an_external_commit_keeps_the_rules_for_leaves() -> None:
    here = room()
    refuses_commit(here, "7.3/leaf-signature", joining(here, leaf_signer=here.client("eve")))
    refuses_commit(here, "7.3/duplicate-signature-key", forge_external_commit(here["alice"], here.client("carol")))
