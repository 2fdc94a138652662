"""Each rule that stops a commit for its proposals, or for what binds it to its epoch (RFC 9420 §8.4, §12).

The commits are alice's, who is a member; their signatures, tags, hashes and ciphertexts are right. Bob refuses them.
"""

import msgspec
import pytest

from protocols.mls import staging
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.extensions import (
    Extension,
    ExtensionType,
    RequiredCapabilities,
)
from protocols.mls.framing import NEW_MEMBER_PROPOSAL, WireFormat
from protocols.mls.opening import VerifiedProposal
from protocols.mls.policy import Policy
from protocols.mls.proposals import (
    Add,
    Custom,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from protocols.mls.psk import ExternalPsk, ResumptionPsk, ResumptionUsage
from tests.protocols.mls.forgery import forge_commit
from tests.protocols.mls.refusals import (
    OPEN,
    PRIVATE_USE,
    SENDER,
    abilities,
    alike,
    committed,
    from_outside,
    proposed,
    refuses_commit,
    refuses_message,
    room,
    updated,
)
from tests.protocols.mls.room import GROUP_ID, key_of, private, signed


def test_sound_commit_is_staged() -> None:
    """What every test here alters one thing of."""
    here = room(OPEN)
    update = proposed(here, Update(updated(here, "carol")), here.leaf("carol"))
    asked = proposed(here, Add(here.key_package("eve")), NEW_MEMBER_PROPOSAL, SENDER)
    psk = PreSharedKey(ExternalPsk(b"psk", bytes(32)))
    forged = committed(here, update, asked, Add(here.key_package("dave")), psk, GroupContextExtensions(()))
    assert here.stage("bob", forged.message).next is not None


# -- §12.1: single proposals ------------------------------------------------------------------------


def test_update_of_ours_that_we_did_not_make_is_refused() -> None:
    """Whoever has bob's signature key can update him; bob has no private key for that leaf."""
    here = room()
    update = proposed(here, Update(updated(here, "bob")), here.leaf("bob"))
    refuses_commit(here, "12.1.2/unknown-update", committed(here, update))


@pytest.mark.parametrize("leaf", [3, 4, 2**32 - 1])
def test_nobody_is_removed_from_a_blank_leaf(leaf: int) -> None:
    here = room()
    refuses_commit(here, "12.1.3/blank-leaf", committed(here, Remove(leaf)))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_nonce_of_a_psk_has_the_size_of_the_hash(size: int) -> None:
    here = room()
    psk = PreSharedKey(ExternalPsk(b"psk", bytes(size)))
    refuses_commit(here, "12.1.4/psk-nonce-size", committed(here, psk))


@pytest.mark.parametrize("usage", [ResumptionUsage.REINIT, ResumptionUsage.BRANCH])
def test_psk_that_continues_a_group_has_no_place_in_a_later_commit(usage: ResumptionUsage) -> None:
    here = room()
    psk = PreSharedKey(ResumptionPsk(usage, GROUP_ID, 1, bytes(32)))
    refuses_commit(here, "12.1.4/psk-usage", committed(here, psk))


def test_reinitialised_group_has_no_older_version() -> None:
    here = room()
    refuses_commit(here, "12.1.5/version", committed(here, ReInit(b"next", 0, 1, ())))


def test_capabilities_that_a_member_lacks_are_not_required() -> None:
    here = room()
    required = RequiredCapabilities(extension_types=(PRIVATE_USE,)).extension()
    changed = GroupContextExtensions((required,))
    forged = committed(here, changed, leaf={"capabilities": abilities(SENDER, extensions=(10, PRIVATE_USE))})
    refuses_commit(here, "12.1.7/required-capabilities", forged)


def test_extension_that_a_member_lacks_is_not_made_the_groups() -> None:
    here = room()
    changed = GroupContextExtensions((Extension(PRIVATE_USE, b""),))
    forged = committed(here, changed, leaf={"capabilities": abilities(SENDER, extensions=(10, PRIVATE_USE))})
    refuses_commit(here, "13.4/context-extension-support", forged)


@pytest.mark.parametrize("kind", [ExtensionType.APPLICATION_ID, ExtensionType.RATCHET_TREE, ExtensionType.EXTERNAL_PUB])
def test_extension_of_another_place_is_not_made_the_groups(kind: ExtensionType) -> None:
    here = room()
    refuses_commit(here, "17.3/extension-place", committed(here, GroupContextExtensions((Extension(kind, b""),))))


@pytest.mark.parametrize(
    "proposal", [SelfRemove(), Custom(PRIVATE_USE, b""), Update(SENDER.leaf), ExternalInit(bytes(32))]
)
def test_sender_from_outside_proposes_only_what_it_may(proposal: Proposal) -> None:
    here = room(OPEN)
    refuses_message(here, "12.1.8/sender-type", from_outside(here, proposal, 0))


def test_external_sender_that_the_group_does_not_name_is_refused() -> None:
    here = room(OPEN)
    refuses_message(here, "12.1.8.1/unknown-sender", from_outside(here, Remove(2), 1))


# -- §12.2: lists -----------------------------------------------------------------------------------


def test_committer_does_not_commit_its_own_update() -> None:
    here = room()
    update = proposed(here, Update(updated(here, "alice")), here.leaf("alice"))
    refuses_commit(here, "12.2/committer-update", committed(here, update))


@pytest.mark.parametrize("proposal", [Remove(0), SelfRemove()])
def test_committer_does_not_commit_that_it_leaves(proposal: Proposal) -> None:
    here = room()
    refuses_commit(here, "12.2/committer-remove", committed(here, proposed(here, proposal, 0)))


@pytest.mark.parametrize("kinds", ["two updates", "update and remove", "two removes"])
def test_leaf_is_updated_or_removed_once(kinds: str) -> None:
    here = room()
    update = proposed(here, Update(updated(here, "carol")), here.leaf("carol"))
    remove = Remove(here.leaf("carol"))
    again = proposed(here, Update(updated(here, "carol")), here.leaf("carol"))
    both: dict[str, tuple[Remove | VerifiedProposal, ...]]
    both = {"two updates": (update, again), "update and remove": (update, remove), "two removes": (remove, remove)}
    refuses_commit(here, "12.2/same-leaf", committed(here, *both[kinds]))


def test_client_is_not_added_twice() -> None:
    here = room()
    dave = here.client("dave")
    again = dave.altered_key_package({"encryption_key": dave.encryption_key()}, init_key=dave.encryption_key())
    refuses_commit(here, "12.2/duplicate-add", committed(here, Add(dave.key_package), Add(again)))


def test_member_is_not_added() -> None:
    here = room()
    carol = here.client("carol")
    again = carol.altered_key_package({"encryption_key": carol.encryption_key()}, init_key=carol.encryption_key())
    refuses_commit(here, "12.2/already-member", committed(here, Add(again)))


def test_psk_is_not_committed_twice() -> None:
    here = room()
    psk = PreSharedKey(ExternalPsk(b"psk", bytes(32)))
    refuses_commit(here, "12.2/duplicate-psk", committed(here, psk, psk))


def test_extensions_are_not_changed_twice() -> None:
    here = room()
    change = GroupContextExtensions(())
    refuses_commit(here, "12.2/duplicate-context-extensions", committed(here, change, change))


def test_reinit_is_alone() -> None:
    here = room()
    refuses_commit(here, "12.2/reinit-with-others", committed(here, ReInit(b"next", 1, 1, ()), Remove(2)))


def test_member_has_no_use_for_an_external_init() -> None:
    here = room()
    refuses_commit(here, "12.2/external-init", committed(here, ExternalInit(bytes(32))))


def test_proposal_of_a_type_that_a_member_lacks_is_refused() -> None:
    here = room()
    refuses_commit(here, "12.2/unsupported-proposal-type", committed(here, Custom(PRIVATE_USE, b"")))


def test_grease_is_no_proposal() -> None:
    here = room()
    refuses_commit(here, "13.5/grease-proposal-type", committed(here, Custom(0x0A0A, b"")))


def test_extension_that_is_grease_is_not_made_the_groups_though_all_list_it() -> None:
    here = alike({"capabilities": abilities(SENDER, extensions=(10, 0x1A1A))})
    changed = GroupContextExtensions((Extension(0x1A1A, b""),))
    refuses_commit(here, "13.5/grease-context-extension", committed(here, changed))


def test_member_leaves_by_reference_only() -> None:
    here = room()
    refuses_commit(here, "extensions-draft/self-remove-by-value", committed(here, SelfRemove()))


def test_member_says_in_public_that_it_leaves() -> None:
    here = room()
    leaving = signed(here["alice"], SelfRemove(), wire_format=WireFormat.PRIVATE_MESSAGE)
    key = key_of(here["carol"], here.leaf("alice"), SelfRemove(), 0)
    refuses_message(here, "extensions-draft/self-remove-private", private(here["alice"], leaving, key))


# -- §12.4: the commit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proposals",
    [
        (),
        (Remove(2),),
        (GroupContextExtensions(()),),
        (Remove(2), PreSharedKey(ExternalPsk(b"psk", bytes(32)))),
    ],
)
def test_path_is_missed_where_the_proposals_need_one(proposals: tuple[Proposal, ...]) -> None:
    here = room()
    refuses_commit(here, "12.4/path-required", committed(here, *proposals, with_path=False))


def test_update_needs_a_path() -> None:
    here = room()
    update = proposed(here, Update(updated(here, "carol")), here.leaf("carol"))
    refuses_commit(here, "12.4/path-required", committed(here, update, with_path=False))


def test_confirmation_tag_of_another_epoch_is_refused() -> None:
    here = room()
    refuses_commit(here, "12.4.2/confirmation-tag", committed(here, tag=lambda tag: bytes(len(tag))))


def test_commit_that_names_a_proposal_nobody_has_seen_is_refused() -> None:
    here = room()

    def naming(commit: Commit) -> Commit:
        return msgspec.structs.replace(commit, proposals=(ProposalRef(bytes(32)),))

    refuses_commit(here, "erratum-8815/unknown-proposal", committed(here, commit=naming))


def test_commit_waits_for_the_proposal_that_it_names() -> None:
    here = room()
    remove = proposed(here, Remove(2), here.leaf("alice"), heard=("alice", "carol"))
    refuses_commit(here, "erratum-8815/unknown-proposal", committed(here, remove))


def test_psk_that_we_do_not_have_is_refused() -> None:
    here = room()
    psk = PreSharedKey(ExternalPsk(b"secret", bytes(32)))
    refuses_commit(here, "8.4/unknown-psk", committed(here, psk))


def test_more_psks_than_can_be_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = room()
    psks = [PreSharedKey(ExternalPsk(b"psk", bytes([number]) * 32)) for number in range(3)]
    forged = committed(here, *psks)
    monkeypatch.setattr(staging, "PSKS_MAX", 2)
    refuses_commit(here, "8.4/psk-count", forged)


def test_nothing_follows_in_an_epoch_that_a_reinit_ended() -> None:
    here = room()
    ended = committed(here, ReInit(b"next", 1, 1, ()))
    for name in here.groups:
        if name != "alice":
            here.follow(ended.message, [name])
    assert here["bob"].current.reinit is not None
    refuses_commit(here, "11.2/suspended", forge_commit(here["carol"]))


def test_proposal_that_the_application_does_not_accept_is_refused() -> None:
    here = room(policy=Policy(accept=lambda proposal, _: not isinstance(proposal, Remove)))
    refuses_commit(here, "policy/refused", committed(here, Remove(2)))
