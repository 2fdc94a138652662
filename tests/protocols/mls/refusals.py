"""A group of alice, bob and carol in which alice breaks the rules, what the others say, and how bob refuses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from protocols.mls.extensions import (
    Extension,
    Extensions,
    ExternalSender,
    external_senders_extension,
)
from protocols.mls.framing import FramedContent, Sender, SenderType, member
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.leaf_node import Capabilities, LeafNode
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.proposals import (
    Add,
    Proposal,
)
from protocols.mls.welcome import Welcome
from tests.protocols.mls.forgery import Forged, forge_commit, forge_message
from tests.protocols.mls.kit import Client, refused
from tests.protocols.mls.room import GROUP_ID, NOW_NS, Room, name_at, refuses

NOW_S = NOW_NS // 10**9
PRIVATE_USE = 0xF00D
"""An extension, proposal or credential type that nobody here has."""
SENDER = Room().client("eve")
"""Whom rooms with ``OPEN`` let propose from outside."""
OPEN = external_senders_extension([ExternalSender(SENDER.signature.public, SENDER.leaf.credential)])


def room(*extensions: Extension, **services: Any) -> Room:
    return Room.of("alice", "bob", "carol", extensions=extensions, **services)


def alike(leaf: Mapping[str, Any], extensions: Extensions = ()) -> Room:
    """A group whose members' leaves have these fields."""
    here = Room()
    for name in ("alice", "bob", "carol"):
        client = here.client(name)
        bundle = msgspec.structs.replace(client.bundle, key_package=client.altered_key_package(leaf))
        here.clients[name] = dataclasses.replace(client, bundle=bundle)
    founder = here.clients["alice"].bundle
    here.groups["alice"] = Group.create(
        founder, GROUP_ID, entropy=here.entropy, now_ns=NOW_NS, extensions=extensions, services=here.services
    )
    here.commit("alice", Add(here.key_package("bob")), Add(here.key_package("carol")))
    return here


def abilities(client: Client, **changes: Any) -> Capabilities:
    return msgspec.structs.replace(client.leaf.capabilities, **changes)


def proposed(
    here: Room, proposal: Proposal, sender: Sender | int, signer: Client | None = None, *, heard: tuple[str, ...] = ()
) -> VerifiedProposal:
    """What somebody says that should be committed, received by all who will have to know it."""
    epoch = here["alice"].current
    by = member(sender) if isinstance(sender, int) else sender
    keys = (here.client(name_at(epoch, by.index)) if signer is None else signer).signature
    message = forge_message(epoch, FramedContent(epoch.group_id, epoch.number, by, b"", proposal), keys)
    found = [here[name].receive(message).content for name in heard or tuple(here.groups)]
    assert isinstance(found[0], VerifiedProposal)
    return found[0]


def from_outside(here: Room, proposal: Proposal, index: int) -> bytes:
    """A proposal by an external sender."""
    epoch = here["alice"].current
    content = FramedContent(epoch.group_id, epoch.number, Sender(SenderType.EXTERNAL, index), b"", proposal)
    return forge_message(epoch, content, SENDER.signature)


def committed(here: Room, *proposals: Proposal | VerifiedProposal, **steps: Any) -> Forged:
    return forge_commit(here["alice"], *proposals, **steps)


def updated(here: Room, name: str, **changes: Any) -> LeafNode:
    """A member's own new leaf, with fields changed before it is signed."""
    client, index = here.client(name), here.leaf(name)
    return client.resigned(client.update(index, **changes), index, GROUP_ID)


# -- refusals ---------------------------------------------------------------------------------------


def refuses_commit(room: Room, rule: str, forged: Forged, *, by: str = "bob") -> None:
    """That a member who receives the commit does not stage it, by this rule, and stays where it was."""
    found = room[by].receive(forged.message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(room[by], rule):
        room[by].stage(found, now_ns=NOW_NS)


def refuses_message(room: Room, rule: str, message: bytes, *, by: str = "bob") -> None:
    """That a member does not so much as keep it."""
    with refuses(room[by], rule):
        room[by].receive(message)


def refuses_welcome(rule: str, welcome: Welcome, joiner: Client, **options: Any) -> None:
    """That the joiner for whom it is made does not enter the group."""
    with refused(rule):
        stage_welcome(welcome, [joiner.bundle], **options)
