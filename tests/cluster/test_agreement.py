"""The promises of replicas: each is broken once on purpose, and that is noticed."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from actors.host import EventRow
from cluster import summary
from cluster.agreement import CATCH_UP_NS, EQUIVOCATOR, convergence
from cluster.cli import app
from cluster.console import results_table
from cluster.operations import Row
from cluster.results import write
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.world import World
from tests.cluster.test_convergence import OPTIONS, TABLE, outcome, tiny

SHORT: Final = 16
END: Final = (75 - 1) * NS_PER_S
DONE: Final = (Row(0, "write", END, 0, b"", 0, "ok", 0, 0),)


def world(liars: int = 0) -> World:
    """Twelve peers, of which the last ones count as equivocators."""
    table = {**TABLE, "adversaries": [{"kind": "garbage", "count": liars}] if liars else []}
    scenario = Scenario.from_table(table)
    equivocators = tuple(msgspec.structs.replace(each, kind=EQUIVOCATOR) for each in scenario.adversaries)
    return World(msgspec.structs.replace(scenario, adversaries=equivocators))


def line(world: World, peer: int, sequence: int = 3, tip: str = "aa", fenced: int = 0, role: int = 2) -> str:
    return f"{world.device(peer).hex()[:SHORT]}:{sequence}:{tip}:{sequence}:0:{fenced}:{role}"


def row(world: World, peer: int, *lines: str, digest: str = "d", **changes: Any) -> EventRow:
    known = {text.partition(":")[0]: text for text in (*(line(world, each) for each in range(12)), *lines)}
    fields: dict[str, Any] = {
        "channel": "c",
        "digest": digest,
        "set": "s",
        "operations": 36,
        "inert": 0,
        "parked": 0,
        "members": 12,
        "authors": " ".join(known[name] for name in sorted(known)),
    }
    return EventRow(END, peer, "workload", "replica", fields | changes)


def judged(world: World, *events: EventRow) -> Any:
    """With a good row for every honest peer that has none."""
    rows = {each: row(world, each) for each in world.honest} | {each.peer: each for each in events}
    return convergence(DONE, list(rows.values()), world)


def test_replicas_that_agree_keep_all_promises() -> None:
    figures = judged(world())
    assert figures["broken"] == []
    assert (figures["replicas"], figures["digests"], figures["damage"]) == (12, 1, [])


def test_another_digest_is_found_and_its_peer_named() -> None:
    made = world()
    assert judged(made, row(made, 7, digest="e"))["broken"] == [
        "1 of 12 honest replicas have another digest: peers 7",
    ]


def test_a_replica_that_says_nothing_is_missed() -> None:
    made = world()
    events = [row(made, peer) for peer in range(11)]
    assert convergence(DONE, events, made)["broken"] == ["replicas of peers 11 said nothing"]
    assert len(convergence(DONE, [], made)["broken"]) == 2


def test_who_was_removed_is_not_asked_whether_it_wrote_or_not() -> None:
    made = world()
    removed = row(made, 0, line(made, 7, role=0))
    silent = " ".join(each for each in str(removed.fields["authors"]).split() if not each.endswith(":0:0"))
    for owner in (removed, row(made, 0, authors=silent)):
        assert judged(made, owner, row(made, 7, digest="e"))["broken"] == []


@pytest.mark.parametrize("said", [{"sequence": 4}, {"tip": "bb"}])
def test_what_an_honest_device_never_wrote_is_forged(said: dict[str, Any]) -> None:
    made = world()
    figures = judged(made, row(made, 3, line(made, 5, **said)))
    assert figures["broken"] == ["operations in the names of peers 5 that they never wrote"]
    assert figures["forged"] == 1
    assert judged(made, row(made, 3, line(made, 5, sequence=2, tip="bb")))["broken"] == [], "less is not forged"


def test_an_equivocator_at_large_is_found() -> None:
    made = world(liars=2)
    fenced = [row(made, peer, line(made, 10, fenced=1), line(made, 11, fenced=1)) for peer in made.honest]
    figures = judged(made, *fenced)
    assert figures["broken"] == []
    assert figures["damage"] == sorted(
        (
            {"peer": peer, "kind": "equivocator", "device": made.device(peer).hex()[:SHORT], "counting": 3, "inert": 0}
            for peer in (10, 11)
        ),
        key=lambda each: str(each["device"]),
    )
    fenced[4] = row(made, 4, line(made, 10, fenced=1))
    assert judged(made, *fenced)["broken"][0] == "equivocators are not fenced everywhere: peers 11"


def test_an_honest_device_that_is_fenced_or_blamed_is_found() -> None:
    made = world()
    framed = [row(made, peer, line(made, 2, fenced=1)) for peer in made.honest]
    assert judged(made, *framed)["broken"] == ["honest peers 2 are fenced"]
    blame = EventRow(1, 4, "crdt", "security", {"reason": "bad_signature", "device": made.device(2).hex()})
    events = [*(row(made, peer) for peer in made.honest), blame]
    assert convergence(DONE, events, made)["broken"] == ["honest devices were blamed: bad_signature 1"]


def test_damage_is_the_same_everywhere() -> None:
    made = world(liars=1)
    fenced = [row(made, peer, line(made, 11, fenced=1)) for peer in made.honest]
    fenced[4] = row(made, 4, line(made, 11, sequence=2, fenced=1))
    assert judged(made, *fenced)["broken"] == ["not the same operations of fenced devices count everywhere"]


def test_replicas_that_nobody_could_write_to_prove_nothing() -> None:
    made = world()
    refused = msgspec.structs.replace(DONE[0], outcome="refused")
    rows = [row(made, peer) for peer in made.honest]
    assert convergence((*DONE, refused), rows, made)["broken"] == []
    assert convergence((*DONE, refused, refused), rows, made)["broken"] == ["1 of 3 writes were carried out"]
    assert convergence((), rows, made)["broken"] == ["0 of 0 writes were carried out"]


def test_who_removed_nearly_everybody_agrees_with_itself_in_vain() -> None:
    made = world()
    owner = row(made, 0, *(line(made, peer, role=0) for peer in range(1, 12)))
    assert judged(made, owner)["broken"] == ["1 of 12 honest peers that are up can be compared"]


def test_devices_that_no_peer_has_are_puppets() -> None:
    made = world()
    puppet = f"{'0' * SHORT}:1:aa:0:1:1:0"
    figures = judged(made, *(row(made, peer, puppet) for peer in made.honest))
    assert figures["damage"] == [{"peer": -1, "kind": "puppet", "device": "0" * SHORT, "counting": 0, "inert": 1}]


def test_who_came_up_at_the_last_moment_is_not_judged() -> None:
    made = world()
    made._schedules[9] = ((END - CATCH_UP_NS + 1, None),)
    assert judged(made, row(made, 9, digest="e"))["broken"] == []
    made._schedules[9] = ((END - CATCH_UP_NS, None),)
    assert len(judged(made, row(made, 9, digest="e"))["broken"]) == 1


# -- what is shown ----------------------------------------------------------------------------------------


def shown(figures: dict[str, Any]) -> str:
    console = Console(width=200)
    with console.capture() as screen:
        console.print(results_table(figures))
    return screen.get()


def test_results_say_whether_the_replicas_agree() -> None:
    text = shown(write(outcome(), None).summary)
    for name in ("writes", "grants", "revokes", "replicas", "  taken in", "  exchanges", "forged", "honest blamed"):
        assert f"\n{name} " in text
    assert "promises       all kept" in text
    assert write(outcome(), None).summary["broken"] == []


def test_broken_promises_are_exit_code_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lie(*arguments: Any) -> dict[str, Any]:
        return convergence(*arguments) | {"broken": ["the moon is made of bamboo"]}

    monkeypatch.setattr(summary, "convergence", lie)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    few = {**OPTIONS, "writes": 2, "grants": 0, "revokes": 0}
    Path("tiny.toml").write_text(tiny(workload__options=few).to_toml(), encoding="utf-8")
    result = CliRunner().invoke(app, ["run", "tiny.toml", "--inline"])
    assert result.exit_code == 1
    assert "broken promise: the moon is made of bamboo" in result.output
