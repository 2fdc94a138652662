"""Promises that a run has to keep, checked by somebody who knows everything and took no part.

**Proofs of possession.** Nobody is taken for a device that is not theirs. What an honest device proved is what its plan
said: to this issuer, for this channel and key package, as a device of its user. An impostor proves honestly too, now
and then, to have something to misuse; then it names, in the key package's place, the issuer that it means
(``honest_claim``). Whatever else was accepted is a ``false_accept``: in another's name or to another's user, for
another issuer, or too often. An honest device proves again if the answer was lost, ``ATTEMPTS_MAX`` times in all; an
impostor does not. And no honest device is ever blamed for what an impostor did with its words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from actors.host import EventRow
from actors.identity import ATTEMPTS_MAX
from cluster.impostor import is_honest_claim
from cluster.operations import Row, summary
from cluster.possession import channel, key_package
from cluster.world import World

ACCUSATIONS: Final = ("security", "breaker_opened")
"""Events that name a device that did wrong."""

Claim = tuple[str, int, str, str]
"""Device, peer that was convinced, channel and key package."""


def possession(rows: Iterable[Row], events: Sequence[EventRow], world: World) -> dict[str, Any]:
    """Figures of the ``possession`` workload. Proofs that honest peers made to liars are counted apart."""
    made = [row for row in rows if row.kind == "proof"]
    liars = {world.device(peer) for peer in range(world.honest.stop, world.scenario.peers)}
    figures = summary((row for row in made if row.key not in liars), "proof")
    proven = [event for event in events if event.name == "proven"]
    return {
        "proofs": {name: figures[name] for name in ("count", "counted", "outcomes", "success_ratio", "latency_ms")}
        | {"refused": _tally(row.reason for row in made if row.outcome == "refused" and row.key not in liars)},
        "to_liars": _tally(row.reason or row.outcome for row in made if row.key in liars),
        "convinced": len(proven),
        "standing": _tally(str(event.fields["standing"]) for event in proven),
        "false_accepts": sum(not good for good in _judged(made, proven, world)),
        "honest_blamed": _tally(str(each.fields.get("reason", each.name)) for each in honest_accused(events, world)),
    }


def honest_accused(events: Iterable[EventRow], world: World) -> list[EventRow]:
    """What honest devices were blamed for, as far as events were kept."""
    honest = {world.device(peer).hex() for peer in world.honest}
    return [event for event in events if event.name in ACCUSATIONS and event.fields["device"] in honest]


def _judged(made: Iterable[Row], proven: Iterable[EventRow], world: World) -> list[bool]:
    """Of each time that a peer was convinced, whether it was right to be."""
    issuers = {world.device(peer).hex(): peer for peer in range(world.scenario.peers)}
    planned = {
        (world.device(row.peer).hex(), issuers[row.key.hex()], channel(row.number).hex(), _reference(row, world))
        for row in made
    }
    users: dict[int, str] = {}
    used: Counter[Claim] = Counter()
    verdicts = []
    for event in proven:
        fields: Mapping[str, Any] = event.fields
        claim = fields["device"], event.peer, fields["channel"], fields["key_package"]
        peer = issuers.get(fields["device"], -1)
        good = claim in planned and used[claim] < ATTEMPTS_MAX
        if peer >= world.honest.stop:  # a liar may do it once, if it is what it says
            place, reference = map(bytes.fromhex, claim[2:])
            good = not used[claim] and is_honest_claim(place, reference, event.peer)
        if peer >= 0 and peer not in users:
            users[peer] = world.user(peer).public.hex()
        used[claim] += 1
        verdicts.append(good and fields["user"] in ("", users.get(peer)))
    return verdicts


def _reference(row: Row, world: World) -> str:
    return key_package(world.scenario.seed, row.number).hex()


def _tally(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in sorted(words):
        counts[word] = counts.get(word, 0) + 1
    return counts
