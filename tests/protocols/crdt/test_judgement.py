"""What counts is a function of the set of operations, and the function is the one that is written down."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Accuse, Acknowledge, Assign, Change, Grant, Revoke, Role
from protocols.crdt.evidence import accusation
from tests.protocols.crdt.reference_judgement import Court, Reference
from tests.protocols.crdt.worlds import World, Written, causal

NOBODY: tuple[bytes, ...] = ()
SAY = Assign(("a",), 1)
OWNER, ADMIN, MEMBER, READER = Role.OWNER, Role.ADMIN, Role.MEMBER, Role.READER


# -- the law ----------------------------------------------------------------------------------------------


class Step(NamedTuple):
    author: int
    kind: int
    target: int
    role: Role
    seen: tuple[int, ...]
    back: int


STEPS = st.lists(
    st.builds(
        Step,
        st.integers(0, 4),
        st.sampled_from([0, 0, 1, 2, 2, 3, 4]),
        st.integers(0, 5),
        st.sampled_from([READER, MEMBER, ADMIN, ADMIN]),
        st.lists(st.integers(0, 20), max_size=3).map(tuple),
        st.sampled_from([0, 0, 0, 0, 1, 2]),
    ),
    min_size=10,
    max_size=24,
)


def play(steps: Sequence[Step]) -> tuple[World, list[Written], list[tuple[Written, str]]]:
    """Everybody does what they like; what the rules refuse does not happen, but is told."""
    world = World(OWNER, ADMIN, ADMIN, ADMIN, MEMBER, None)
    court = Court(world.channel, [world.genesis])
    taken, refused = [world.genesis], []
    chains: dict[int, list[Written]] = {0: [world.genesis]}
    for step in steps:
        chain = chains.setdefault(step.author, [])
        previous = chain[-1 - step.back] if step.back < len(chain) else None
        if step.author == 0 and previous is None:
            previous = chain[-1]
        change: Change
        match step.kind:
            case 0:
                change = SAY
            case 1:
                change = Grant(world.public(step.target), step.role)
            case 2:
                change = Revoke(world.public(step.target))
            case 3:
                change = Acknowledge()
            case _:
                forks = list(court.history.forks.values())
                if not forks:
                    continue
                fork = forks[step.target % len(forks)]
                change = accusation(court.history, fork.first, fork.second)
        seen = [taken[-1 - each % len(taken)] for each in step.seen]
        beside = None if previous else (chain[0] if chain else world.tip(step.author))  # it begins again
        written = world.write(step.author, change, seen, previous, beside)
        if written.id in court.history:
            continue
        reason = court.refusal(written)
        if reason is not None:
            refused.append((written, reason))
            continue
        court.take(written)
        taken.append(written)
        chain.append(written)
    return world, taken, refused


@settings(max_examples=40, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_what_the_definition_gives(steps: list[Step], random: Random) -> None:
    world, taken, _ = play(steps)
    expected = Reference(world.channel, [each.operation for each in taken]).outcome()
    for number in range(3):
        ranks = list(range(len(taken)))
        random.shuffle(ranks)
        court = Court(world.channel, causal(taken, ranks), eager=number != 1)
        note(f"order {ranks}")
        assert court.outcome() == expected


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_admission_follows_from_an_operation_and_its_past_alone(steps: list[Step]) -> None:
    world, taken, refused = play(steps)
    by_id = {each.id: each for each in taken}
    for written, reason in [*((each, None) for each in taken[1:]), *refused]:
        past = history_of(by_id, written)
        assert Court(world.channel, past).refusal(written) == reason


def history_of(by_id: dict[bytes, Written], written: Written) -> list[Written]:
    """What lies in its past, in the order in which it was written."""
    wanted, agenda = set(), [written]
    while agenda:
        operation = agenda.pop().operation
        for each in (*operation.dependencies, operation.previous):
            if each in by_id and each not in wanted:
                wanted.add(each)
                agenda.append(by_id[each])
    return [each for each in by_id.values() if each.id in wanted]


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_the_front_is_what_counts_and_nobody_unfenced_who_counts_has_seen(steps: list[Step]) -> None:
    world, taken, _ = play(steps)
    court = Court(world.channel, taken)
    good = [held for held in court.history if held.counts and held.operation.author not in court.judge.fenced]
    last = {held.id for held in good if not any(other is not held and other.sees(held) for other in good)}
    assert set(court.judge.front) == last


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_what_an_honest_device_had_seen_counts_whatever_is_proved_later(steps: list[Step]) -> None:
    world, taken, _ = play([step._replace(kind=3 * (step.kind % 2)) for step in steps])
    court = Court(world.channel, taken)
    event("an equivocator" if court.history.forks else "none")
    for suspect, fork in list(court.history.forks.items()):
        if suspect == world.public(0):
            continue
        seen = {
            held.id
            for held in court.history
            if held.operation.author == suspect
            and any(other.sees(held) and other.operation.author != suspect for other in court.history)
        }
        tip = [each for each in taken if each.operation.author == world.public(0)][-1]
        court.take(world.write(0, accusation(court.history, fork.first, fork.second), [], tip))
        assert seen == {held.id for held in court.history if held.operation.author == suspect and held.counts}
        break


# -- removal --------------------------------------------------------------------------------------------------


class Story:
    """A world and a court that hears of everything as it is written."""

    def __init__(self, *roles: Role | None) -> None:
        self.world = World(*roles)
        self.court = Court(self.world.channel, [self.world.genesis])
        self._tips = {0: self.world.genesis}

    def say(self, author: int, *after: Written, change: Change = SAY, beside: Written | None = None) -> Written:
        written = self._write(author, after, change, beside)
        self.court.take(written)
        self._tips[author] = written
        return written

    def refused(self, author: int, *after: Written, change: Change = SAY, beside: Written | None = None) -> str | None:
        """Why this is not taken; it is as if it had not been written."""
        return self.court.refusal(self._write(author, after, change, beside))

    def _write(self, author: int, after: Sequence[Written], change: Change, beside: Written | None) -> Written:
        previous = self._tips.get(author)
        if previous is None and beside is None:
            beside = self.world.tip(author)  # which was refused
        return self.world.write(author, change, after, previous, beside)

    def grant(self, author: int, device: int, role: Role, *after: Written) -> Written:
        return self.say(author, *after, change=Grant(self.world.public(device), role))

    def revoke(self, author: int, device: int, *after: Written) -> Written:
        return self.say(author, *after, change=Revoke(self.world.public(device)))

    def fork(self, author: int, *after: Written) -> tuple[Written, Written]:
        """Two operations that begin an author's chain."""
        one = self.say(author, *after)
        return one, self.say(author, *after, change=Assign(("b",), 2), beside=one)

    def accuse(self, author: int, one: Written, other: Written, *after: Written) -> Written:
        held = self.court.history.operations
        return self.say(author, *after, change=accusation(self.court.history, held[one.id], held[other.id]))

    def counts(self, *written: Written) -> list[bool]:
        """In whatever order it arrives."""
        taken = [each for each in self.world.written if each.id in self.court.history]
        expected = Reference(self.world.channel, [each.operation for each in taken]).outcome()
        for ranks in (range(len(taken)), range(len(taken), 0, -1)):
            court = Court(self.world.channel, causal(taken, ranks))
            assert court.outcome() == expected
        return [self.court.counts(each) for each in written]

    def role(self, author: int) -> Role | None:
        return self.court.judge.role(self.world.public(author))


def test_what_a_revoked_device_wrote_before_counts_and_what_it_wrote_beside_does_not() -> None:
    story = Story(OWNER, ADMIN, MEMBER)
    before = story.say(2)
    removal = story.revoke(1, 2, before)
    beside = story.say(2)
    assert story.counts(before, removal, beside) == [True, True, False]
    assert story.role(2) is None


def test_an_operation_with_an_old_date_does_not_get_past_a_removal() -> None:
    """Attack C2: its clock and its past say that it was written before."""
    story = Story(OWNER, ADMIN, MEMBER, MEMBER)
    removal = story.revoke(1, 2, story.say(3))
    back_dated = story.say(2, story.world.genesis)
    assert back_dated.operation.clock < removal.operation.clock
    assert story.counts(back_dated) == [False]
    assert story.refused(2, removal) == "revoked"


def test_who_builds_on_a_removed_device_still_counts() -> None:
    story = Story(OWNER, ADMIN, MEMBER, MEMBER)
    beside = story.say(2)
    built = story.say(3, beside)
    story.revoke(1, 2, story.world.genesis)
    assert story.counts(beside, built) == [False, True]


def test_a_device_that_is_granted_again_writes_again() -> None:
    story = Story(OWNER, ADMIN, MEMBER)
    beside = story.say(2)
    removal = story.revoke(1, 2, story.world.genesis)
    again = story.grant(0, 2, READER, removal)
    assert story.refused(2, again) == "unauthorised"
    more = story.say(2, story.grant(0, 2, MEMBER))
    assert story.counts(beside, more) == [False, True]
    assert story.role(2) == MEMBER


def test_a_grant_does_not_undo_a_revocation_that_it_had_not_seen() -> None:
    story = Story(OWNER, ADMIN, MEMBER)
    story.revoke(1, 2, story.world.genesis)
    story.grant(0, 2, ADMIN)
    assert story.counts() == []
    assert story.role(2) is None


def test_what_nobody_allowed_is_refused() -> None:
    story = Story(OWNER, ADMIN, MEMBER, READER, None)
    genesis = story.world.genesis
    assert story.refused(4, genesis) == "unauthorised"
    assert story.refused(3, genesis) == "unauthorised"
    assert story.refused(3, genesis, change=Acknowledge()) is None
    assert story.refused(2, genesis, change=Grant(story.world.public(4), READER)) == "unauthorised"
    assert story.refused(2, genesis, change=Revoke(story.world.public(3))) == "unauthorised"
    assert story.refused(1, genesis, change=Grant(story.world.public(4), OWNER)) == "unauthorised"
    assert story.refused(1, genesis, change=Revoke(story.world.public(0))) == "not_revocable"
    assert story.refused(0, change=Revoke(story.world.public(0))) == "not_revocable"


def test_a_reader_may_leave_and_what_it_writes_after_is_refused() -> None:
    story = Story(OWNER, ADMIN, MEMBER, READER)
    leave = story.revoke(3, 3, story.world.genesis)
    assert story.counts(leave) == [True]
    assert story.role(3) is None
    assert story.refused(3, change=Acknowledge()) == "revoked"


def test_leaving_is_not_undone_by_who_lets_the_device_in_again_and_had_not_seen_it() -> None:
    story = Story(OWNER, ADMIN, MEMBER)
    leave = story.revoke(2, 2, story.world.genesis)
    story.grant(1, 2, MEMBER, story.world.genesis)
    assert story.counts(leave) == [True]
    assert story.role(2) is None
    assert story.refused(2) == "revoked"


def test_who_was_removed_cannot_leave_any_more_and_is_let_in_again() -> None:
    """Else it could leave with an old date, at any time, and nobody who has let go of that time would know."""
    story = Story(OWNER, ADMIN, MEMBER)
    removal = story.revoke(1, 2, story.world.genesis)
    leave = story.revoke(2, 2, story.world.genesis)
    again = story.grant(1, 2, MEMBER, removal)
    assert story.counts(leave) == [False]
    assert story.role(2) == MEMBER
    assert story.counts(story.say(2, again)) == [True]


# -- who revokes whom -----------------------------------------------------------------------------------------


def test_of_two_who_revoke_each_other_the_one_nearer_to_the_owner_stays() -> None:
    story = Story(OWNER, ADMIN, None)
    grant = story.grant(1, 2, ADMIN, story.world.genesis)
    near, far = story.revoke(1, 2), story.revoke(2, 1, grant)
    assert story.counts(near, far) == [True, False]
    assert (story.role(1), story.role(2)) == (ADMIN, None)
    assert (story.court.judge.depth(story.world.public(1)), story.court.judge.depth(story.world.public(2))) == (1, None)


def test_of_two_equals_who_revoke_each_other_none_stays() -> None:
    story = Story(OWNER, ADMIN, ADMIN)
    genesis = story.world.genesis
    assert story.counts(story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)) == [True, True]
    assert (story.role(1), story.role(2)) == (None, None)
    assert story.court.judge.members == {story.world.public(0): OWNER}


def test_three_equals_in_a_circle_are_all_removed() -> None:
    story = Story(OWNER, ADMIN, ADMIN, ADMIN)
    genesis = story.world.genesis
    circle = [story.revoke(1, 2, genesis), story.revoke(2, 3, genesis), story.revoke(3, 1, genesis)]
    assert story.counts(*circle) == [True, True, True]


def test_an_owner_settles_a_circle() -> None:
    story = Story(OWNER, ADMIN, ADMIN)
    genesis = story.world.genesis
    one, other = story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)
    assert story.counts(story.revoke(0, 1), one, other) == [True, False, True]


def test_who_is_removed_takes_no_bystander_along() -> None:
    story = Story(OWNER, ADMIN, ADMIN, ADMIN)
    genesis = story.world.genesis
    story.revoke(1, 2, genesis)
    first = story.revoke(2, 3, genesis)
    assert story.counts(first) == [False]
    story.revoke(2, 1)
    assert story.counts(first) == [False]
    assert [story.role(each) for each in (1, 2, 3)] == [None, None, ADMIN]


def test_puppets_of_a_removed_admin_are_nobody() -> None:
    story = Story(OWNER, ADMIN, ADMIN, None, None)
    genesis = story.world.genesis
    first = story.grant(2, 3, ADMIN, genesis)
    second = story.grant(3, 4, ADMIN, first)
    strike = story.revoke(4, 1, second)
    assert story.counts(strike) == [True]
    removal = story.revoke(1, 2, genesis)
    assert story.counts(removal, first, second, strike) == [True, False, False, False]
    assert [story.role(each) for each in (1, 2, 3, 4)] == [ADMIN, None, None, None]
    assert story.refused(1, removal, strike) is None, "what revoked it has no effect, and is no reason to refuse"


# -- what owners had seen --------------------------------------------------------------------------------------


def test_a_removed_admin_cannot_remove_its_equal_once_an_owner_knows() -> None:
    story = Story(OWNER, ADMIN, ADMIN)
    removal = story.revoke(1, 2, story.world.genesis)
    work = story.say(1)
    story.say(0, work)
    back_dated = story.revoke(2, 1, story.world.genesis)
    assert story.counts(removal, work, back_dated) == [True, True, False]
    story.say(0, back_dated)
    assert story.counts(removal, work, back_dated) == [True, True, False]
    assert (story.role(1), story.role(2)) == (ADMIN, None)


def test_an_admin_cannot_take_back_that_a_deeper_one_removed_it_once_an_owner_knows() -> None:
    story = Story(OWNER, ADMIN, None, ADMIN)
    grant = story.grant(3, 2, ADMIN, story.world.genesis)
    removal = story.revoke(2, 1, grant)
    story.say(0, removal)
    back_dated = story.revoke(1, 2, grant)
    assert story.counts(removal, back_dated) == [True, False]


def test_until_an_owner_knows_equals_remove_each_other_and_then_what_it_knew_first_decides() -> None:
    story = Story(OWNER, ADMIN, ADMIN)
    genesis = story.world.genesis
    one, other = story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)
    assert story.counts(one, other) == [True, True]
    story.say(0, one)
    assert story.counts(one, other) == [True, False]
    story.say(0, other)
    assert story.counts(one, other) == [True, False]


def test_an_owner_that_hears_of_both_at_once_prefers_neither() -> None:
    story = Story(OWNER, ADMIN, ADMIN)
    genesis = story.world.genesis
    one, other = story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)
    story.say(0, one, other)
    assert story.counts(one, other) == [True, True]


def test_owners_who_heard_of_it_the_other_way_round_contradict_each_other() -> None:
    story = Story(OWNER, ADMIN, ADMIN, OWNER)
    genesis = story.world.genesis
    one, other = story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)
    story.say(0, one)
    assert story.counts(one, other) == [True, False]
    story.say(3, other)
    assert story.counts(one, other) == [True, True]


def test_who_knows_a_late_revocation_is_no_witness_but_an_owner() -> None:
    story = Story(OWNER, ADMIN, ADMIN, MEMBER, MEMBER, None)
    genesis = story.world.genesis
    removals = [story.revoke(1, 2, genesis), story.revoke(1, 3)]
    story.say(0, removals[1])
    puppet = story.grant(2, 5, MEMBER, genesis)
    back_dated = [story.revoke(2, 1), story.revoke(2, 4)]
    story.say(5, puppet, *back_dated)
    story.say(3, *back_dated)
    assert story.counts(*removals, *back_dated, puppet) == [True, True, False, False, False]


def test_what_is_settled_stays_so_when_a_late_revocation_draws_it_into_a_circle() -> None:
    """What the owner had seen one after the other is judged as before: the first was removed by the second."""
    story = Story(OWNER, ADMIN, ADMIN, ADMIN)
    genesis = story.world.genesis
    beside = story.revoke(2, 3, genesis)
    story.say(0, beside)
    removal = story.revoke(1, 2, genesis)
    last = story.revoke(1, 3)
    story.say(0, last)
    assert story.counts(beside, removal, last) == [False, True, True]
    back_dated = story.revoke(3, 1, genesis)
    assert story.counts(beside, removal, last, back_dated) == [False, True, True, False]


def test_an_equivocating_owner_is_a_witness_as_far_as_others_vouch_for_it() -> None:
    story = Story(OWNER, ADMIN, ADMIN, MEMBER, OWNER)
    genesis = story.world.genesis
    one, other = story.revoke(1, 2, genesis), story.revoke(2, 1, genesis)
    first = story.say(4, one)
    second = story.say(4, other, beside=first)
    story.accuse(3, first, second, genesis)
    assert story.counts(one, other) == [True, True]
    story.say(0, second)
    assert story.counts(one, other) == [False, True]


# -- equivocation ---------------------------------------------------------------------------------------------


def test_an_equivocator_is_fenced_and_what_an_honest_device_had_seen_counts() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    voucher = story.say(2, one)
    more = story.say(1)
    assert story.counts(one, other, more) == [True, True, True]
    assert story.court.judge.accusations_due == (story.world.public(1),)
    proof = story.accuse(3, one, other, story.world.genesis)
    assert story.counts(one, other, more, voucher, proof) == [True, False, False, True, True]
    assert story.court.judge.accusations_due == NOBODY
    assert [proof.id] == [held.id for held in story.court.judge.fenced[story.world.public(1)]]
    assert story.role(1) == MEMBER, "fences and roles are two things"
    assert story.court.history.forks[story.world.public(1)].first.id == one.id


def test_a_proof_in_hand_is_no_less_a_proof_for_arriving_first() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    voucher = story.say(2, other)
    proof = story.accuse(3, one, other, story.world.genesis)
    late = Court(story.world.channel, [story.world.genesis, proof])
    for each in (one, other):
        late.take(each)
    assert [late.counts(one), late.counts(other)] == [False, False]
    late.take(voucher)
    assert [late.counts(one), late.counts(other)] == [False, True]
    assert late.outcome() == story.court.outcome()


def test_equivocators_do_not_vouch_for_each_other() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    first = story.say(2, one)
    second = story.say(2, other, beside=first)
    assert story.counts(one, other) == [True, True]
    story.accuse(3, one, other, story.world.genesis)
    assert story.counts(one, other, first) == [True, True, True]
    story.accuse(3, first, second)
    assert story.counts(one, other, first, second) == [False, False, False, False]


def test_who_knows_the_proof_takes_in_nothing_more() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    proof = story.accuse(3, one, other, story.world.genesis)
    assert story.refused(2, one, proof) == "fenced_dependency"
    assert story.refused(3, one) == "fenced_dependency"
    assert story.refused(2, one) is None
    assert story.refused(1, proof) == "fenced"


def test_nobody_takes_in_both_branches_unproven() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    assert story.refused(2, one, other) == "unproven_fork"
    first = story.say(3, one)
    assert story.refused(2, first, other) == "unproven_fork"
    story.accuse(0, one, other, one, other)
    assert story.counts(one, other) == [True, False], "who accuses has seen both, and vouches for none"


def test_neither_an_accusation_nor_who_depends_on_it_vouches() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    proof = story.accuse(0, one, other, one, other)
    aware = story.say(2, proof)
    another = story.accuse(3, one, other, one)
    assert story.counts(proof, aware, another, one, other) == [True, True, True, False, False]


def test_an_equivocator_cannot_build_on_its_own_other_branch() -> None:
    story = Story(OWNER, MEMBER)
    one = story.say(1, story.world.genesis)
    assert story.refused(1, one, beside=one) == "unproven_fork"
    assert story.refused(1, story.say(1), beside=one) == "unproven_fork"


def test_an_owner_that_equivocates_is_fenced_too() -> None:
    story = Story(OWNER, ADMIN, None, None)
    kept = story.grant(0, 2, MEMBER)
    hidden = story.say(0, change=Grant(story.world.public(3), ADMIN), beside=kept)
    voucher = story.say(2, kept)
    story.accuse(1, kept, hidden, story.world.genesis)
    assert story.counts(story.world.genesis, kept, hidden, voucher) == [True, True, False, True]
    assert (story.role(0), story.role(2), story.role(3)) == (OWNER, MEMBER, None)
    assert story.counts(story.revoke(1, 2)) == [True], "an admin goes on"


def test_a_revocation_of_an_equivocator_falls_with_it() -> None:
    story = Story(OWNER, ADMIN, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    written = story.say(2, story.world.genesis)
    removal = story.revoke(1, 2)
    assert story.counts(written, removal) == [False, True]
    story.accuse(3, one, other, story.world.genesis)
    assert story.counts(written, removal) == [True, False]


def test_a_device_accuses_another_once_and_only_with_evidence() -> None:
    story = Story(OWNER, MEMBER, MEMBER, None)
    one, other = story.fork(1, story.world.genesis)
    accuse = story.accuse(2, one, other, story.world.genesis).operation.change
    assert story.refused(2, change=accuse) == "already_accused"
    assert story.refused(0, change=accuse) is None
    assert isinstance(accuse, Accuse)
    assert story.refused(0, change=Accuse(accuse.second, accuse.first)) == "bad_evidence"
    assert story.refused(3, story.world.genesis, change=accuse) == "unauthorised"


def test_a_proof_that_only_an_equivocator_brought_is_brought_again() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    one, other = story.fork(1, story.world.genesis)
    first = story.accuse(2, one, other, story.world.genesis)
    second = story.say(2, story.world.genesis, beside=first)
    assert story.court.judge.accusations_due == (story.world.public(2),)
    story.accuse(3, first, second, story.world.genesis)
    assert story.court.judge.accusations_due == (story.world.public(1),)
    story.say(3, change=story.court.judge.accusation_of(story.world.public(1)))
    assert story.court.judge.accusations_due == NOBODY
    story.say(3, *(each for each in story.world.written if each.id in story.court.judge.front))


def test_the_accusation_of_a_removed_device_has_no_effect_but_that_others_have_to_bring_it() -> None:
    story = Story(OWNER, MEMBER, MEMBER, MEMBER)
    genesis = story.world.genesis
    one, other = story.fork(1, genesis)
    removal = story.revoke(0, 2, genesis)
    proof = story.accuse(2, one, other, genesis)
    assert story.counts(one, other, proof, removal) == [False, False, False, True]
    assert story.court.judge.accusations_due == (story.world.public(1),)
    assert proof.id not in story.court.judge.front
    story.accuse(3, one, other, genesis)
    assert story.court.judge.accusations_due == NOBODY


# -- limits ---------------------------------------------------------------------------------------------------


def test_admins_cannot_use_up_what_is_left_to_the_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.crdt.judgement.AUTHORITY_MAX", 8)
    monkeypatch.setattr("protocols.crdt.judgement.OWNERS_AUTHORITY", 3)
    story = Story(OWNER, ADMIN, None)
    flood = [story.grant(1, 2, READER, story.world.genesis) for _ in range(4)]
    assert story.refused(1, change=Grant(story.world.public(2), READER)) == "too_much_authority"
    removal = story.revoke(0, 1, flood[-1])
    assert story.counts(removal, *flood) == [True, True, True, True, True]
    for _ in range(2):
        story.grant(0, 2, READER)
    assert story.refused(0, change=Grant(story.world.public(2), READER)) == "too_much_authority"


def test_a_chain_is_judged_at_once_and_a_removal_in_it_is_not_missed() -> None:
    story = Story(OWNER, ADMIN, MEMBER)
    chain = [story.say(2, story.world.genesis), *(story.say(2) for _ in range(3))]
    story.revoke(1, 2, chain[1])
    later = story.say(2)
    assert story.counts(*chain, later) == [True, True, False, False, False]


def test_what_was_admitted_and_not_added_leaves_no_trace() -> None:
    story = Story(OWNER, MEMBER, READER)
    story.say(2, story.world.genesis, change=Acknowledge())
    assert story.refused(1, story.world.genesis) is None
    assert story.refused(2) == "unauthorised"
    assert story.court.outcome().roles[story.world.public(2)] == READER
