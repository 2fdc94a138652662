"""Each rule for groups that continue another (RFC 9420 §11.2, §11.3).

Alice makes the new group by our own code, from an old epoch in which something is otherwise than bob knows it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from protocols.mls.epoch import Epoch
from protocols.mls.extensions import Extension
from protocols.mls.founding import branch, reinitialise
from protocols.mls.joining import Origin, stage_welcome
from protocols.mls.proposals import (
    ReInit,
)
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.staging import StagedCommit
from tests.protocols.mls.forgery import (
    forge_welcome,
)
from tests.protocols.mls.kit import Client, refused
from tests.protocols.mls.refusals import refuses_welcome
from tests.protocols.mls.room import GROUP_ID, Room, fresh


def room() -> Room:
    """Alice, who has a parent with bob; carol, beside whom dave will be; and a key at the root."""
    return Room.of("alice", "bob", "carol")


def invited(here: Room, **alterations: Any) -> tuple[Any, Client]:
    dave = here.client("dave")
    return forge_welcome(here["alice"], dave, **alterations), dave


def _ended(**wanted: Any) -> tuple[Room, Epoch]:
    """A group that agreed to go on as another."""
    here = Room.of("alice", "bob", "carol")
    agreed = ReInit(b"next", 1, 1, ())
    here.commit("alice", agreed)
    return here, here["alice"].current


def _reinitialised(here: Room, old: Epoch, *names: str) -> tuple[StagedCommit, Any]:
    """The new group as alice makes it, and bob's key package for it."""
    packages = {name: fresh(here.client(name)) for name in names}
    made = reinitialise(
        old, fresh(here.client("alice")), [each.key_package for each in packages.values()], entropy=here.entropy
    )
    return made, packages["bob"]


def _join(here: Room, made: StagedCommit, bundle: Any, origin: Origin | None, **options: Any) -> Any:
    resumption = here["bob"].current.resumption_psk

    def known(psk: PreSharedKeyId) -> bytes | None:
        return resumption if isinstance(psk, ResumptionPsk) else None

    return stage_welcome(made.welcomes[0].welcome, [bundle], psks=known, origins=lambda _id, _epoch: origin, **options)


def test_group_that_follows_a_reinit_as_agreed_is_joined() -> None:
    here, old = _ended()
    made, bundle = _reinitialised(here, old, "bob", "carol")
    assert _join(here, made, bundle, here["bob"].origin()).epoch.group_id == b"next"


def test_group_that_continues_one_which_we_do_not_know_is_refused() -> None:
    here, old = _ended()
    made, bundle = _reinitialised(here, old, "bob", "carol")
    with refused("11.2/unknown-origin"):
        _join(here, made, bundle, None)


def test_group_that_continues_one_which_goes_on_is_refused() -> None:
    here = Room.of("alice", "bob", "carol")
    pretended = msgspec.structs.replace(here["alice"].current, reinit=ReInit(b"next", 1, 1, ()))
    made, bundle = _reinitialised(here, pretended, "bob", "carol")
    with refused("11.2/not-reinitialised"):
        _join(here, made, bundle, here["bob"].origin())


@pytest.mark.parametrize("other", [ReInit(b"other", 1, 1, ()), ReInit(b"next", 1, 1, (Extension(3, b"\0\0\0"),))])
def test_group_that_follows_otherwise_than_agreed_is_refused(other: ReInit) -> None:
    here, old = _ended()
    made, bundle = _reinitialised(here, msgspec.structs.replace(old, reinit=other), "bob", "carol")
    with refused("11.2/other-parameters"):
        _join(here, made, bundle, here["bob"].origin())


def test_group_that_follows_without_a_member_is_refused() -> None:
    here, old = _ended()
    made, bundle = _reinitialised(here, old, "bob")
    with refused("11.2/other-members"):
        _join(here, made, bundle, here["bob"].origin())


def _branched(here: Room, *names: str) -> tuple[StagedCommit, Any]:
    packages = {name: fresh(here.client(name)) for name in names}
    made = branch(
        here["alice"].current,
        fresh(here.client("alice")),
        b"branch",
        [each.key_package for each in packages.values()],
        entropy=here.entropy,
    )
    return made, packages["bob"]


def test_branch_of_some_members_is_joined_and_one_with_a_stranger_refused() -> None:
    here = Room.of("alice", "bob", "carol")
    assert _join(here, *_branched(here, "bob"), here["bob"].origin())
    with refused("11.3/other-members"):
        _join(here, *_branched(here, "bob", "mallory"), here["bob"].origin())


def test_branch_of_another_suite_is_refused() -> None:
    here = Room.of("alice", "bob", "carol")
    origin = here["bob"].origin()
    other = msgspec.structs.replace(origin, context=msgspec.structs.replace(origin.context, cipher_suite=3))
    with refused("11.3/other-parameters"):
        _join(here, *_branched(here, "bob"), other)


def _resuming(here: Room, *usages: ResumptionUsage) -> tuple[Any, Client, Callable[[PreSharedKeyId], bytes]]:
    secret = here["alice"].current.resumption_psk
    psks = tuple(ResumptionPsk(each, GROUP_ID, 1, bytes([each]) * 32) for each in usages)
    welcome, dave = invited(here, psks=psks, known=dict.fromkeys(psks, secret))
    return welcome, dave, lambda _: secret


def test_group_that_continues_another_is_joined_at_its_beginning() -> None:
    """Else a later member could be told that the group grew out of one that it has nothing to do with."""
    here = room()
    welcome, dave, known = _resuming(here, ResumptionUsage.BRANCH)
    origin = here["alice"].origin()
    refuses_welcome("11.2/first-epoch", welcome, dave, psks=known, origins=lambda _id, _epoch: origin)


def test_group_does_not_continue_two() -> None:
    welcome, dave, known = _resuming(room(), ResumptionUsage.REINIT, ResumptionUsage.BRANCH)
    refuses_welcome("12.4.3.1/several-origins", welcome, dave, psks=known)
