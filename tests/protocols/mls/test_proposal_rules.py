"""Single proposals: who may send them and what is in them."""

import pickle
from typing import Any

import msgspec
import pytest

from protocols.mls.credentials import BasicCredential
from protocols.mls.extensions import (
    GREASE,
    Extension,
    ExtensionType,
    ExternalSender,
    RequiredCapabilities,
    external_senders_extension,
)
from protocols.mls.framing import NEW_MEMBER_COMMIT, NEW_MEMBER_PROPOSAL, Sender, SenderType, member
from protocols.mls.leaf_node import Lifetime
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import ProposalError, SentProposal, check_proposal, who_may
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
from protocols.mls.psk import ExternalPsk, ResumptionPsk
from tests.protocols.mls.kit import Group, client, external, group, refused, sent

SERVER = client("server")
KITCHEN = group(
    4, extensions=(external_senders_extension([ExternalSender(SERVER.signature.public, BasicCredential(b"server"))]),)
)
DAVE = client("dave")
NONCE = bytes(32)

PROPOSALS: dict[str, Proposal] = {
    "add": Add(DAVE.key_package),
    "update": Update(KITCHEN.clients[1].update(1)),
    "remove": Remove(2),
    "psk": PreSharedKey(ExternalPsk(b"psk", NONCE)),
    "reinit": ReInit(b"next", 1, 1, ()),
    "external_init": ExternalInit(bytes(32)),
    "group_context_extensions": GroupContextExtensions(()),
    "self_remove": SelfRemove(),
    "custom": Custom(0xF001, b""),
}

TABLE = {
    member(1): {
        "add", "update", "remove", "psk", "reinit", "group_context_extensions", "self_remove", "custom",
    },
    external(0): {"add", "remove", "psk", "reinit", "group_context_extensions"},
    NEW_MEMBER_PROPOSAL: {"add"},
    NEW_MEMBER_COMMIT: {"external_init", "remove", "psk"},
}  # fmt: skip


def check(proposal: SentProposal, where: Group = KITCHEN, **more: Any) -> None:
    check_proposal(proposal, suite=where.suite, context=where.context, tree=where.tree, **more)


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("sender", TABLE, ids=lambda each: SenderType(each.sender_type).name)
def test_senders_propose_what_their_type_may(sender: Sender, name: str) -> None:
    proposal = PROPOSALS[name]
    assert who_may(sender, proposal) == (name in TABLE[sender])
    if name in TABLE[sender]:
        check(sent(proposal, sender))
        return
    rule = "12.1.8/sender-type"
    if name == "external_init":
        rule = "12.2/external-init"
    elif sender == NEW_MEMBER_COMMIT:
        rule = "12.2/external-commit-proposal-type"
    with refused(rule):
        check(sent(proposal, sender))


def test_sender_is_somebody() -> None:
    check(sent(Remove(0), 3))
    for index in (4, 2**32 - 1):
        with refused("6/sender-not-member"):
            check(sent(Remove(0), index))
    with refused("6/sender-not-member"):
        check(sent(Remove(0), 1), KITCHEN.without(1))
    with refused("12.1.8.1/unknown-sender"):
        check(sent(Remove(0), external(1)))
    with refused("12.1.8.1/unknown-sender"):
        check(sent(Remove(0), external(0)), group(4))


@pytest.mark.parametrize("number", sorted(GREASE))
def test_grease_is_never_proposed(number: int) -> None:
    with refused("13.5/grease-proposal-type"):
        check(sent(Custom(number, b""), 1))


def test_grease_values_are_those_of_the_registry() -> None:
    assert len(GREASE) == 15
    assert {0x0A0A, 0x7A7A, 0xEAEA} <= GREASE
    assert 0xFAFA not in GREASE


# -- Add (§12.1.1) ----------------------------------------------------------------------------------


def test_add_has_a_sound_key_package() -> None:
    with refused("7.3/lifetime"):
        check(sent(Add(DAVE.altered_key_package(leaf={"lifetime": Lifetime(0, 1)})), 1), now_s=2)
    with refused("10.1/cipher-suite"):
        check(sent(Add(DAVE.altered_key_package(cipher_suite=3)), 1))
    forged = msgspec.structs.replace(DAVE.key_package, signature=bytes(64))
    with refused("10.1/key-package-signature"):
        check(sent(Add(forged), 1))
    check(sent(Add(forged), 1), signatures=False)


def test_add_on_arrival_is_not_held_against_extensions_that_its_commit_may_change() -> None:
    strict = group(2, extensions=(RequiredCapabilities((), (), (2,)).extension(),))
    check(sent(Add(DAVE.key_package), 1), strict)


# -- Update (§12.1.2) -------------------------------------------------------------------------------


def test_update_is_signed_for_its_senders_place() -> None:
    bob = KITCHEN.clients[1]
    check(sent(Update(bob.update(1)), 1))
    with refused("7.3/leaf-signature"):
        check(sent(Update(bob.update(2)), 1))
    with refused("7.3/leaf-source"):
        check(sent(Update(bob.path_leaf(1)), 1))


def test_update_brings_a_new_encryption_key() -> None:
    bob = KITCHEN.clients[1]
    with refused("7.3/unchanged-encryption-key"):
        check(sent(Update(bob.update(1, encryption_key=bob.leaf.encryption_key)), 1))


def test_update_keeps_the_client_that_it_was() -> None:
    bob = KITCHEN.clients[1]
    renamed = sent(Update(bob.update(1, credential=BasicCredential(b"boss"))), 1)
    with refused("5.3.1/successor"):
        check(renamed)
    check(renamed, policy=Policy(may_succeed=lambda old, new: True))


# -- Remove (§12.1.3), PreSharedKey (§12.1.4), ReInit (§12.1.5), GroupContextExtensions (§12.1.7) ---


def test_only_a_member_is_removed() -> None:
    check(sent(Remove(0), 1))
    for index in (4, 2**32 - 1):
        with refused("12.1.3/blank-leaf"):
            check(sent(Remove(index), 1))
    with refused("12.1.3/blank-leaf"):
        check(sent(Remove(2), 1), KITCHEN.without(2))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_psk_nonce_has_the_size_of_the_hash(size: int) -> None:
    with refused("12.1.4/psk-nonce-size"):
        check(sent(PreSharedKey(ExternalPsk(b"psk", bytes(size))), 1))
    with refused("12.1.4/psk-nonce-size"):
        check(sent(PreSharedKey(ResumptionPsk(1, b"group", 0, bytes(size))), 1))


def test_resumption_psks_in_proposals_are_for_the_application() -> None:
    check(sent(PreSharedKey(ResumptionPsk(1, b"group", 0, NONCE)), 1))
    for usage in (2, 3):
        with refused("12.1.4/psk-usage"):
            check(sent(PreSharedKey(ResumptionPsk(usage, b"group", 0, NONCE)), 1))


def test_reinit_does_not_go_back() -> None:
    check(sent(ReInit(b"next", 2, 99, ()), 1))
    with refused("12.1.5/version"):
        check(sent(ReInit(b"next", 0, 1, ()), 1))


def test_context_extensions_on_arrival_are_sound_in_themselves() -> None:
    with refused("17.3/extension-place"):
        check(sent(GroupContextExtensions((Extension(ExtensionType.EXTERNAL_PUB, b""),)), 1))
    check(sent(GroupContextExtensions((Extension(0xF001, b""),)), 1))


# -- what is the application's ----------------------------------------------------------------------


def test_application_may_refuse_a_proposal() -> None:
    policy = Policy(accept=lambda proposal, sender: not (isinstance(proposal, Remove) and sender.index == 1))
    check(sent(Remove(0), 2), policy=policy)
    with refused("policy/refused"):
        check(sent(Remove(0), 1), policy=policy)


def test_error_of_a_list_survives_being_pickled() -> None:
    other = ProposalError("12.2/same-leaf", "leaf 4", 7)
    error = pickle.loads(pickle.dumps(ProposalError("12.2/same-leaf", "leaf 3", 5, (other,))))
    assert [(each.detail, each.position) for each in error.others] == [("leaf 4", 7)]
    assert (error.reason, error.detail, error.position) == ("12.2/same-leaf", "leaf 3", 5)
