"""The checkers themselves: what is false is found, and what is true is not."""

from typing import Any, Final

import pytest

from actors.host import EventRow
from actors.identity import ATTEMPTS_MAX
from cluster.impostor import honest_claim
from cluster.invariants import honest_accused, possession
from cluster.operations import Row
from cluster.possession import channel, key_package
from cluster.scenario import Scenario
from cluster.world import World

WORLD: Final = World(
    Scenario.from_table(
        {"name": "x", "peers": 10, "duration_s": 300, "adversaries": [{"kind": "impostor", "count": 2}]}
    )
)
PROVER, ISSUER, OTHER, LIAR = 2, 3, 4, 8
ROW: Final = Row(PROVER, "proof", 20, 0, WORLD.device(ISSUER), 10, "ok", 0, 0)


def proven(device: int = PROVER, at: int = ISSUER, user: int | None = PROVER, **changes: bytes) -> EventRow:
    fields = {"channel": channel(0), "key_package": key_package(WORLD.scenario.seed, 0)} | changes
    return EventRow(
        15,
        at,
        "workload",
        "proven",
        {
            "device": WORLD.device(device).hex(),
            "user": "" if user is None else WORLD.user(user).public.hex(),
            "standing": "ok",
            **{name: value.hex() for name, value in fields.items()},
        },
    )


def claimed(at: int = ISSUER, issuer: int = ISSUER, user: int | None = None, device: int = LIAR) -> EventRow:
    """What an impostor proved honestly, or seemed to."""
    said = honest_claim(issuer, bytes(24))
    return proven(device, at, user, channel=said.channel, key_package=said.key_package)


def false_accepts(*events: EventRow) -> Any:
    return possession([ROW], events, WORLD)["false_accepts"]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [proven()],
        [proven(), proven()],  # its answer was lost, and it proved again
        [claimed()],
        [claimed(user=LIAR)],
        [claimed(), claimed(at=OTHER, issuer=OTHER)],
    ],
)
def test_what_is_true_is_not_held_against_anybody(events: list[EventRow]) -> None:
    assert false_accepts(*events) == 0


@pytest.mark.parametrize(
    "events",
    [
        [proven(at=OTHER)],
        [proven()] * (ATTEMPTS_MAX + 1),
        [proven(device=OTHER, user=OTHER)],
        [proven(user=OTHER)],
        [proven(channel=b"another")],
        [proven(key_package=bytes(32))],
        [proven(device=LIAR, user=LIAR)],
        [claimed(), claimed()],
        [claimed(at=OTHER)],
        [claimed(user=PROVER)],
        [claimed(device=PROVER)],
    ],
)
def test_every_sort_of_false_accept_is_found(events: list[EventRow]) -> None:
    assert false_accepts(*events) == 1


def test_device_that_nobody_has_is_a_false_accept() -> None:
    event = proven()
    assert false_accepts(event._replace(fields={**event.fields, "device": "00" * 32})) == 1


def test_proofs_to_liars_are_counted_apart() -> None:
    to_liar = Row(PROVER, "proof", 20, 1, WORLD.device(LIAR), 10, "refused", 0, 0, "wrong_issuer")
    refused = Row(PROVER, "proof", 20, 2, WORLD.device(ISSUER), 10, "refused", 0, 0, "timeout")
    figures = possession([ROW, to_liar, refused], [proven(), claimed()], WORLD)
    assert figures["proofs"]["outcomes"] == {"ok": 1, "refused": 1}
    assert figures["proofs"]["success_ratio"] == 0.5
    assert figures["proofs"]["refused"] == {"timeout": 1}
    assert figures["to_liars"] == {"wrong_issuer": 1}
    assert figures["convinced"] == 2
    assert figures["standing"] == {"ok": 2}


def test_only_honest_devices_count_as_wrongly_accused() -> None:
    def accusation(name: str, peer: int, **reason: str) -> EventRow:
        return EventRow(5, 1, "limiter", name, {"device": WORLD.device(peer).hex(), **reason})

    events = [
        accusation("security", LIAR, reason="replayed"),
        accusation("security", OTHER, reason="replayed"),
        accusation("breaker_opened", OTHER),
    ]
    unknown = EventRow(5, 1, "sessions", "security", {"device": "", "reason": "malformed"})
    assert honest_accused([*events, unknown], WORLD) == events[1:]
    assert possession([], [*events, unknown], WORLD)["honest_blamed"] == {"breaker_opened": 1, "replayed": 1}
