"""Any history of three people with power cuts at any write: whoever comes back is exactly who it was.

What is demanded, besides what ``World.restart`` holds a recovered group against: no key seals two messages that left;
what was acknowledged was heard, once; honest members never look like equivocators; and all who can still follow the
longest branch end in one epoch, and hear each other.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from actors.journaled_group import JournaledGroup
from protocols.errors import LocalError
from protocols.mls.staging import MissingProposalsError
from tests.actors.group_world import Cut, Person, PowerCutError, World, meet, own_of, watched
from tests.protocols.mls.room import NOW_NS

who = st.integers(0, 2)
picks = st.integers(0, 7)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.watching = watched(self.world)
        self.watching.__enter__()

    @initialize()
    def meet(self) -> None:
        meet(self.world)

    def person(self, number: int) -> Person:
        return list(self.world.people.values())[number]

    def take(self, number: int, step: Callable[[JournaledGroup], object]) -> None:
        """A step that is not taken again if the power went before it was written."""
        someone = self.person(number)
        try:
            someone.turn(step)
        except PowerCutError:
            self.world.restart(someone.name)

    @rule(number=who, after=st.integers(0, 2), late=st.booleans())
    def arm(self, number: int, after: int, late: bool) -> None:
        someone = self.person(number)
        someone.cut = Cut(someone.writes + after, late)

    @rule(number=who)
    def say(self, number: int) -> None:
        self.take(number, lambda group: self.world.speak(group, b"text %d" % len(self.world.texts)))

    @rule(number=who)
    def propose_update(self, number: int) -> None:
        self.take(number, lambda group: group.propose_update(entropy=self.world.entropy))

    @rule(number=who, adopt=st.booleans())
    def commit(self, number: int, adopt: bool) -> None:
        def step(group: JournaledGroup) -> None:
            if any(each.own for each in group.staged()):
                with pytest.raises(LocalError, match="committed in epoch"):
                    group.commit(entropy=self.world.entropy, now_ns=NOW_NS)
            else:
                own = group.commit(entropy=self.world.entropy, now_ns=NOW_NS)
                if adopt:
                    group.adopt(own, now_ns=NOW_NS)

        self.take(number, step)

    @rule(number=who, adopt=st.booleans())
    def deliver(self, number: int, adopt: bool) -> None:
        self.world.deliver(self.person(number).name, adopt=adopt)

    @rule(number=who, at=picks, which=picks)
    def adopt(self, number: int, at: int, which: int) -> None:
        """Some commit on some epoch that is kept: often on another branch."""

        def step(group: JournaledGroup) -> None:
            parent = group.epochs[at % len(group.epochs)]
            commits = group.commits(parent)
            if commits:
                try:
                    staged = group.stage(commits[which % len(commits)], now_ns=NOW_NS)
                except MissingProposalsError:
                    return
                group.adopt(own_of(group, staged), now_ns=NOW_NS)

        self.take(number, step)

    @rule(number=who, which=picks)
    def go_back(self, number: int, which: int) -> None:
        self.take(number, lambda group: group.return_to(group.epochs[which % len(group.epochs)]))

    @rule(number=who)
    def settle(self, number: int) -> None:
        self.world.settle(self.person(number).name)

    @rule(number=who, clean=st.booleans())
    def restart(self, number: int, clean: bool) -> None:
        someone = self.person(number)
        before = someone.state
        if clean:
            someone.close()
        someone.held = None
        assert someone.recover()
        assert someone.state == before
        assert someone.group.confirmed or not clean  # who has written nothing since a clean end is clean too
        if not someone.group.confirmed:
            self.world.confirm(someone.name)

    def teardown(self) -> None:
        try:
            if self.world.people:
                self.check()
        finally:
            self.watching.__exit__(None, None, None)

    def check(self) -> None:
        world = self.world
        for someone in world.people.values():
            someone.cut = None
        world.deliver(adopt=False)
        sent = list(world.sent)
        for someone in world.people.values():
            heard = [each.data for each in someone.read.values()]
            assert len(set(heard)) == len(heard)
            taken = [world.texts[sent[number]] for number in someone.acknowledged if sent[number] in world.texts]
            assert sorted(heard) == sorted(taken)
            assert someone.proofs == []
        heads = [someone.group.current for someone in world.people.values()]
        goal = max(heads, key=lambda epoch: (epoch.number, epoch.authenticator)).authenticator
        for name, someone in world.people.items():
            if goal in someone.group.epochs:
                someone.turn(lambda group: group.return_to(goal))
                world.say(name, b"still here, says " + name.encode())
        world.deliver(adopt=False)
        there = [name for name, someone in world.people.items() if someone.group.current.authenticator == goal]
        for name in there:
            heard = [each.data for each in world[name].read.values()]
            assert all(b"still here, says " + other.encode() in heard for other in there if other != name)


def histories(examples: int, steps: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_histories_with_power_cuts() -> None:
    histories(30, 40, derandomize=True)


@pytest.mark.campaign
@pytest.mark.timeout(3_600)
def test_long_histories_with_power_cuts() -> None:
    histories(1_000, 80, derandomize=False)
