"""What a kept epoch remembers, and how much of it. Floods by a live member are in ``test_byzantine``."""

import pytest

from protocols.errors import LocalError
from protocols.mls.commit import Commit
from protocols.mls.external import make_external_commit
from protocols.mls.kept import COMMITS_MAX, ECHOES_MAX, PROPOSALS_MAX, PROPOSALS_PER_SENDER_MAX, KeptEpoch
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.proposals import Remove, SelfRemove
from protocols.mls.staging import StagedCommit, commit_id
from tests.protocols.mls.forgery import forge_commit, forge_external_commit
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, altered, external, person, signed


@pytest.fixture
def room() -> Room:
    return Room.of("ada", "bob", "cyd")


def kept_by(room: Room, name: str) -> KeptEpoch:
    group = room[name]
    return group._kept[group.current.authenticator]


def proposal(room: Room, name: str, what: int | SelfRemove) -> VerifiedProposal:
    """To remove somebody, or oneself."""
    epoch = room[name].current
    content = signed(room[name], Remove(what) if isinstance(what, int) else what)
    reference = epoch.suite.proposal_ref(content.encode())
    body, sender = content.content.content, content.content.sender
    assert isinstance(body, Remove | SelfRemove)
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


def test_oldest_commit_from_outside_is_forgotten_first_and_one_that_is_staged_last(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never the one that has just come, nor a member's."""
    monkeypatch.setattr("protocols.mls.kept.COMMITS_FROM_OUTSIDE_MAX", 2)
    kept, group_info = kept_by(room, "ada"), room["ada"].current.group_info()
    made = [make_external_commit(group_info, person(f"x{n}").bundle, entropy=room.entropy) for n in range(5)]
    members = commit(room, "bob")
    kept.keep(members)
    room.stage("ada", external(made[0]))
    heard = []
    for each in made[1:]:
        room["ada"].receive(external(each))
        heard.append([_numbers(made)[other.commit] for other in kept.commits.values() if other is not members])
    assert heard == [[0, 1], [0, 2], [0, 3], [0, 4]]
    assert members in kept.commits.values()
    kept.staged[made[4].id] = made[4]
    room["ada"].receive(external(made[1]))
    assert [_numbers(made)[each.commit] for each in kept.commits.values() if each is not members] == [4, 1]
    # What is staged stays so, and can be adopted.
    room["ada"].adopt(room["ada"].staged()[0], now_ns=NOW_NS)


def test_proposal_beyond_the_limits_is_kept_if_a_members_commit_refers_to_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.mls.kept.PROPOSALS_PER_SENDER_MAX", 1)
    monkeypatch.setattr("protocols.mls.kept.WANTED_PROPOSALS_MAX", 3)
    kept = kept_by(room, "ada")
    made = [proposal(room, "bob", removed) for removed in range(5)]
    kept.keep(made[0])
    with refused("limit/proposals"):
        kept.check_room(made[1])
    kept.keep(referring(room, *made[1:4]))
    for each in made[1:3]:
        kept.check_room(each)
        kept.keep(each)
    for each in made[3:]:  # one is wanted, and it is one too many; nobody asks for the other
        with refused("limit/proposals"):
            kept.check_room(each)
    assert kept.within_limits() == made[:1]


def test_strangers_commits_want_nothing_but_self_removes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may refer to nothing else, and whoever has the group info can make them."""
    monkeypatch.setattr("protocols.mls.kept.PROPOSALS_MAX", 1)
    kept = kept_by(room, "ada")
    kept.keep(proposal(room, "cyd", 0))
    remove, leave = proposal(room, "bob", 2), proposal(room, "bob", SelfRemove())
    kept.keep(referring(room, remove, leave, stranger=True))
    with refused("limit/proposals"):
        kept.check_room(remove)
    kept.keep(referring(room, leave, stranger=True))
    kept.check_room(leave)


def referring(room: Room, *proposals: VerifiedProposal, stranger: bool = False) -> VerifiedCommit:
    """Cyd's commit that carries them out, or an external one; neither needs to be sound."""
    made = forge_external_commit(room["cyd"], person("eve"), *proposals) if stranger else None
    forged = made or forge_commit(room["cyd"], *proposals)
    body, sender = forged.authenticated.content.content, forged.authenticated.content.sender
    assert isinstance(body, Commit)
    return VerifiedCommit(room["cyd"].current.authenticator, body, sender, forged.authenticated)


def _numbers(made: list[StagedCommit]) -> dict[Commit, int]:
    return {each.commit: number for number, each in enumerate(made)}


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
