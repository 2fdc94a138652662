"""What may happen in a group: deeds of its members and of those outside, each of which ends in another epoch."""

from collections.abc import Callable
from typing import Final

from protocols.mls.external import propose_from_outside, propose_oneself
from protocols.mls.message import encode_message
from protocols.mls.proposals import Remove
from protocols.mls.suite import CipherSuite
from tests.protocols.mls.histories import MEMBERS_MAX, MEMBERS_MIN, History


def by_value(history: History) -> None:
    who = history.anybody()
    kinds = [history.added, history.external_psk, history.resumption_psk, history.extended, history.private]
    proposals = history.some(*kinds)
    if len(history.groups) > MEMBERS_MIN:
        proposals.append(history.removed(who))
    history.commit(who, proposals)


def by_reference(history: History) -> None:
    kinds = [history.added, history.external_psk, history.extended, history.private]
    for proposal in history.some(*kinds, *[history.resumption_psk] * (history.case is not None)):
        history.propose(history.anybody(), proposal)
    own = history.some(history.added, history.external_psk)
    history.commit(history.anybody(), own if history.random.random() < 0.5 else ())


def updates(history: History) -> None:
    who = history.anybody()
    for name in history.random.sample([name for name in history.groups if name != who], 2):
        sent = history.groups[name].propose_update(entropy=history.entropy, public=history.random.random() < 0.5)
        history.deliver(sent.message, name)
    history.commit(who)


def removal(history: History) -> None:
    who, whom = history.random.sample(list(history.groups), 2)
    history.propose(who, Remove(history.leaf(whom)))
    history.commit(history.anybody(whom))


def from_outside(history: History) -> None:
    for proposal in [*history.some(history.added, history.external_psk, history.extended), history.removed()]:
        message = propose_from_outside(history.somebody.current.group_info(), proposal, 0, history.outsider)
        history.deliver(encode_message(message))
    gone = [each.proposal.removed for each in history.somebody.proposals() if isinstance(each.proposal, Remove)]
    history.commit(history.random.choice([name for name in history.groups if history.leaf(name) not in gone]))


def request_to_be_added(history: History) -> None:
    bundle = history.bundles[history.newcomer()]
    history.deliver(encode_message(propose_oneself(history.somebody.current.group_info(), bundle)))
    history.commit(history.anybody())


def self_removal(history: History) -> None:
    who = history.anybody()
    history.deliver(history.groups[who].leave(entropy=history.entropy).message, who)
    history.commit(history.anybody(who))


def empty(history: History) -> None:
    history.commit(history.anybody())


def without_path(history: History) -> None:
    proposals = history.some(history.added, history.external_psk, history.private)
    history.commit(history.anybody(), proposals, with_path=False)


def external_join(history: History) -> None:
    history.commit_from_outside(history.newcomer())


def external_join_as_others_leave(history: History) -> None:
    who = history.anybody()
    history.deliver(history.groups[who].leave(entropy=history.entropy).message, who)
    history.commit_from_outside(history.newcomer())


def resync(history: History) -> None:
    who = history.anybody()
    history.fresh(who)
    history.commit_from_outside(who, replaces=history.leaf(who))


DEEDS: Final[tuple[Callable[[History], None], ...]] = (
    by_value,
    by_reference,
    updates,
    removal,
    from_outside,
    request_to_be_added,
    self_removal,
    empty,
    without_path,
    external_join,
    external_join_as_others_leave,
    resync,
)


def happen(history: History, rounds: int = 1) -> None:
    """Every deed so many times, in any order; between them the group is brought back within its bounds."""
    deeds = list(DEEDS) * rounds
    history.random.shuffle(deeds)
    for deed in deeds:
        while len(history.groups) < MEMBERS_MIN:
            without_path(history)
        while len(history.groups) > MEMBERS_MAX:
            removal(history)
        deed(history)


def founded(suite: CipherSuite, seed: str) -> History:
    """A group with a past of its own, to which the listener was then added."""
    history = History(suite, seed, {})
    history.found()
    by_reference(history)
    history.admit_listener()
    return history


def lineage(suite: CipherSuite, next_suite: CipherSuite, seed: str, rounds: int = 1) -> tuple[History, ...]:
    """A group, a branch of it, and what it was reinitialised as: the listener's cases in one document."""
    first = founded(suite, f"{seed} in suite {suite.id}")
    happen(first, rounds)
    branched = first.branched()
    by_value(branched)
    reinitialised = first.reinitialised(next_suite)
    by_reference(reinitialised)
    return first, branched, reinitialised
