"""The promises of replicated documents, checked by somebody who knows everything and took no part.

A second before a run of the workload ``convergence`` ends, every replica is described (event ``replica``). Then:

* **One digest.** All honest replicas that are up and members show the same document, roles and fenced devices.
* **Nothing forged.** What a replica holds in an honest device's name, this device has written: its chain there is not
  longer than here, and where it is as long, ends in the same operation.
* **Equivocators are fenced**, each of them, at every honest replica; and nobody honest is.
* **Nobody honest is blamed** by anybody honest, for anything.
* **Something happened.** At least half of the writes that honest peers were asked for were carried out, and at least
  half of the honest peers that are up are members still. Replicas that nobody can write to agree, too.

What lies can still cost is the damage: for each fenced device, how much of what it wrote counts, since others had built
on it before the proof came, and how much is inert. That is listed, and has to be the same everywhere, too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from actors.host import EventRow
from cluster.churn import up_since
from cluster.convergence import DESCRIBED_BEFORE_END_NS, SHOWN
from cluster.invariants import honest_accused
from cluster.operations import Row, summary
from cluster.sections import NS_PER_S
from cluster.world import World

EQUIVOCATOR: Final = "equivocator"
"""The kind of adversary that has to be fenced."""

CATCH_UP_NS: Final = 20 * NS_PER_S
"""How long before the end a peer must be up: who has just come back cannot have heard of everything."""

NOBODY: Final = -1
"""For a device that no peer has: a liar with rights may let in whom it likes."""

NAMED_MAX: Final = 5
"""Peers that one sentence about a broken promise names."""


class Writer(NamedTuple):
    """What a replica has of one device."""

    sequence: int
    tip: str
    counting: int
    inert: int
    is_fenced: bool
    role: int


class Replica(NamedTuple):
    """What was said of one replica."""

    peer: int
    digest: str
    set_digest: str
    operations: int
    inert: int
    parked: int
    writers: Mapping[str, Writer]
    """By the beginning of their device."""


def convergence(rows: Iterable[Row], events: Sequence[EventRow], world: World) -> dict[str, Any]:
    """Figures of the ``convergence`` workload, and the promises that were broken, as sentences."""
    made = list(rows)
    replicas = {each.peer: each for each in map(_read, events) if each is not None}
    names = {world.device(peer).hex()[:SHOWN]: peer for peer in range(world.scenario.peers)}
    honest = {name: peer for name, peer in names.items() if peer in world.honest}
    judged = [replicas[peer] for peer in _expected(world, replicas, names) if peer in replicas]
    digests = Counter(each.digest for each in judged)
    forged = sorted({peer for each in judged for peer in _forged(each, replicas, honest)})
    blamed = Counter(str(each.fields.get("reason", each.name)) for each in honest_accused(events, world))
    figures = {
        "writes": _counted(made, "write"),
        "grants": _counted(made, "grant"),
        "revokes": _counted(made, "revoke"),
        "replicas": len(judged),
        "digests": len(digests),
        "sets": len({each.set_digest for each in judged}),
        "digest": max(digests, key=lambda each: (digests[each], each), default=None),
        "operations": max((each.operations for each in judged), default=0),
        "inert": max((each.inert for each in judged), default=0),
        "parked": sum(each.parked for each in judged),
        "forged": len(forged),
        "damage": _damage(judged, names, world),
        "honest_blamed": dict(sorted(blamed.items())),
    }
    broken = [*_broken(world, replicas, judged, names, honest, forged, blamed), *_idle(world, made, judged)]
    return figures | {"broken": broken}


def _idle(world: World, rows: Sequence[Row], judged: Sequence[Replica]) -> Iterable[str]:
    """Why the other promises mean little."""
    writes = [row for row in rows if row.kind == "write"]
    done = sum(row.outcome == "ok" for row in writes)
    if 2 * done < len(writes) or not writes:
        yield f"{done} of {len(writes)} writes were carried out"
    up = sum(up_since(world.schedule(peer), _described_at(world)) is not None for peer in world.honest)
    if 2 * len(judged) < up:
        yield f"{len(judged)} of {up} honest peers that are up can be compared"


def _broken(
    world: World,
    replicas: Mapping[int, Replica],
    judged: Sequence[Replica],
    names: Mapping[str, int],
    honest: Mapping[str, int],
    forged: Sequence[int],
    blamed: Mapping[str, int],
) -> Iterable[str]:
    missing = [peer for peer in _expected(world, replicas, names) if peer not in replicas]
    if missing or not judged:
        yield f"replicas of peers {_some(missing)} said nothing"
    common = Counter(each.digest for each in judged).most_common(1)
    apart = [each.peer for each in judged if each.digest != common[0][0]]
    if apart:
        yield f"{len(apart)} of {len(judged)} honest replicas have another digest: peers {_some(apart)}"
    if forged:
        yield f"operations in the names of peers {_some(forged)} that they never wrote"
    fenced = {name for each in judged for name, writer in each.writers.items() if writer.is_fenced}
    unfenced = {
        name
        for each in judged
        for name in (*_equivocators(world), *fenced)
        if name not in each.writers or not each.writers[name].is_fenced
    }
    if unfenced:
        at_large = sorted(names.get(name, NOBODY) for name in unfenced)
        yield f"equivocators are not fenced everywhere: peers {_some(at_large)}"
    framed = sorted(honest[name] for name in fenced if name in honest)
    if framed:
        yield f"honest peers {_some(framed)} are fenced"
    if len({_shares(each) for each in judged}) > 1 and not apart:
        yield "not the same operations of fenced devices count everywhere"
    if blamed:
        yield f"honest devices were blamed: {', '.join(f'{reason} {n}' for reason, n in sorted(blamed.items()))}"


def _expected(world: World, replicas: Mapping[int, Replica], names: Mapping[str, int]) -> list[int]:
    """The honest peers that are up for long enough and still members, as the owner knows it, who always stays."""
    at, owner = _described_at(world), replicas.get(0)
    roles = {} if owner is None else {names.get(name): writer.role for name, writer in owner.writers.items()}
    members = [peer for peer in world.honest if owner is None or roles.get(peer)]
    since = ((peer, up_since(world.schedule(peer), at)) for peer in members)
    return [peer for peer, up_at in since if up_at is not None and up_at <= at - CATCH_UP_NS]


def _described_at(world: World) -> int:
    return world.scenario.duration_ns - DESCRIBED_BEFORE_END_NS


def _forged(replica: Replica, replicas: Mapping[int, Replica], honest: Mapping[str, int]) -> Iterable[int]:
    """Honest peers in whose names it holds what they did not write. Who is down now, or was removed, cannot be asked:
    of these the chains have to agree with each other, which the digest sees to."""
    for name, peer in honest.items():
        theirs = replica.writers.get(name)
        own = replicas[peer].writers.get(name) if peer in replicas else None
        if theirs is None or own is None:
            continue
        if theirs.sequence > own.sequence or (theirs.sequence == own.sequence and theirs.tip != own.tip):
            yield peer


def _equivocators(world: World) -> list[str]:
    found = []
    for peer in range(world.honest.stop, world.scenario.peers):
        liar = world.adversary(peer)
        if liar is not None and world.scenario.adversaries[liar].kind == EQUIVOCATOR:
            found.append(world.device(peer).hex()[:SHOWN])
    return found


def _damage(judged: Sequence[Replica], names: Mapping[str, int], world: World) -> list[dict[str, Any]]:
    """What became of all that fenced devices wrote, at the first replica that is asked."""
    return [
        {
            "peer": names.get(name, NOBODY),
            "kind": _kind(world, names.get(name, NOBODY)),
            "device": name,
            "counting": writer.counting,
            "inert": writer.inert,
        }
        for each in judged[:1]
        for name, writer in each.writers.items()
        if writer.is_fenced
    ]


def _kind(world: World, peer: int) -> str:
    if peer == NOBODY:
        return "puppet"
    liar = world.adversary(peer)
    return "honest" if liar is None else world.scenario.adversaries[liar].kind


def _shares(replica: Replica) -> tuple[tuple[str, int], ...]:
    return tuple((name, each.counting) for name, each in replica.writers.items() if each.is_fenced)


def _counted(rows: Iterable[Row], kind: Any) -> dict[str, Any]:
    figures = summary(rows, kind)
    return {name: figures[name] for name in ("count", "counted", "outcomes", "success_ratio", "latency_ms")}


def _read(event: EventRow) -> Replica | None:
    if event.name != "replica" or event.service != "workload":
        return None
    fields: Mapping[str, Any] = event.fields
    writers = {}
    for line in fields["authors"].split():
        name, sequence, tip, counting, inert, fenced, role = line.split(":")
        writers[name] = Writer(int(sequence), tip, int(counting), int(inert), fenced == "1", int(role))
    return Replica(
        event.peer,
        fields["digest"],
        fields["set"],
        fields["operations"],
        fields["inert"],
        fields["parked"],
        writers,
    )


def _some(peers: Sequence[int]) -> str:
    more = f" and {len(peers) - NAMED_MAX} more" if len(peers) > NAMED_MAX else ""
    return ", ".join(map(str, peers[:NAMED_MAX])) + more
