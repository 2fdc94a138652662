"""What a kept epoch remembers, and how much of it. Floods by a live member are in ``test_byzantine``."""

import pytest

from protocols.errors import LocalError
from protocols.mls.kept import COMMITS_MAX, ECHOES_MAX, PROPOSALS_MAX, PROPOSALS_PER_SENDER_MAX, KeptEpoch, commit_id
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.proposals import Remove
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, altered, signed


@pytest.fixture
def room() -> Room:
    return Room.of("ada", "bob", "cyd")


def kept_by(room: Room, name: str) -> KeptEpoch:
    group = room[name]
    return group._kept[group.current.authenticator]


def proposal(room: Room, name: str, removed: int) -> VerifiedProposal:
    epoch = room[name].current
    content = signed(room[name], Remove(removed))
    reference = epoch.suite.proposal_ref(content.encode())
    body, sender = content.content.content, content.content.sender
    assert isinstance(body, Remove)
    return VerifiedProposal(epoch.authenticator, body, sender, reference, content)


def commit(room: Room, name: str) -> VerifiedCommit:
    made = room.make(name, public=True).commit
    return VerifiedCommit(made.parent, made.commit, made.authenticated.content.sender, made.authenticated)


def test_newest_echoes_are_remembered(room: Room) -> None:
    kept = kept_by(room, "ada")
    for number in range(ECHOES_MAX + 2):
        kept.remember(number.to_bytes(32, "big"))
    assert len(kept.echoes) == ECHOES_MAX
    assert not kept.is_echo((1).to_bytes(32, "big"))
    assert kept.is_echo((2).to_bytes(32, "big"))


def test_proposal_kept_twice_takes_one_place(room: Room) -> None:
    kept, one = kept_by(room, "ada"), proposal(room, "bob", 2)
    for _ in range(PROPOSALS_PER_SENDER_MAX + 1):
        kept.check_room(one)
        kept.keep(one)
    assert list(kept.proposals.values()) == [one]


def test_proposals_of_all_together_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROPOSALS_PER_SENDER_MAX < PROPOSALS_MAX
    monkeypatch.setattr("protocols.mls.kept.PROPOSALS_MAX", 2)
    kept = kept_by(room, "ada")
    for name in ("bob", "cyd"):
        kept.keep(proposal(room, name, 0))
    with refused("limit/proposals"):
        kept.check_room(proposal(room, "ada", 1))


def test_commits_of_all_members_together_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMMITS_MAX > 1
    monkeypatch.setattr("protocols.mls.kept.COMMITS_MAX", 1)
    kept = kept_by(room, "ada")
    kept.keep(commit(room, "bob"))
    with refused("limit/commits"):
        kept.check_room(commit(room, "cyd"))


def test_commit_with_another_tag_takes_the_place_of_the_first(room: Room) -> None:
    kept, one = kept_by(room, "ada"), commit(room, "bob")
    tagged = altered(one.authenticated, confirmation_tag=bytes(32))
    other = VerifiedCommit(one.epoch, one.commit, one.sender, tagged)
    assert commit_id(kept.epoch, tagged) != commit_id(kept.epoch, one.authenticated)
    for each in (one, other, one):
        kept.check_room(each)
        kept.keep(each)
        assert list(kept.commits.values()) == [each]


def test_commit_that_was_not_staged_here_is_not_adopted(room: Room) -> None:
    own = room.make("bob").commit
    with pytest.raises(LocalError, match="not staged"):
        room["ada"].adopt(own, now_ns=NOW_NS)
