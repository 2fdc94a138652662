"""Outcomes: every planned operation is accounted for, and the rule of each figure is plain."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.host import EventRow
from cluster.operations import Content, Operation, Outcome, Row, during, outcomes, percentile, phases, summary
from cluster.scenario import Scenario, load
from cluster.world import World

S = 1_000_000_000
KEY = bytes(range(32))


def row(outcome: Outcome = "ok", latency: int = 100_000_000, hops: int = 2, asked_at: int = 0, rpcs: int = 5) -> Row:
    return Row(1, "get", asked_at + latency, 0, KEY, asked_at, outcome, hops, rpcs)


def test_success_ratio_counts_all_but_those_whose_asker_left_or_held_the_record() -> None:
    others: tuple[Outcome, ...] = ("local", "not_found", "wrong", "timeout", "interrupted", "interrupted")
    figures = summary([row() for _ in range(6)] + [row(each) for each in others])
    assert (figures["count"], figures["counted"], figures["success_ratio"]) == (12, 9, 6 / 9)
    assert figures["outcomes"]["interrupted"] == 2


def test_hops_and_latency_are_of_records_found_elsewhere() -> None:
    rows = [row(latency=i * 1_000_000, hops=i) for i in range(1, 101)]
    rows += [row("local", 0, 0), row("timeout", 30 * S, 0)]
    figures = summary(rows)
    assert figures["hops"] == {"p50": 50, "p90": 90, "p99": 99, "mean": 50.5}
    assert figures["latency_ms"] == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "mean": 50.5}


def test_nothing_gives_no_figures() -> None:
    figures = summary([])
    assert (figures["count"], figures["success_ratio"], figures["hops"]) == (0, None, None)


def test_puts_are_summed_up_apart() -> None:
    put = Row(1, "put", 5, 0, KEY, 0, "not_stored", 0, 0)
    assert summary([put, row()], "put")["outcomes"] == {"not_stored": 1}


@given(st.lists(st.integers(), min_size=1, max_size=50), st.integers(1, 100))
def test_percentile_is_the_least_value_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    result = percentile(sorted(values), percent)
    enough = [each for each in values if 100 * sum(other <= each for other in values) >= percent * len(values)]
    assert result == min(enough)


def test_uptime_takes_the_operations_that_fall_into_it() -> None:
    operations = tuple(Operation(i, "get", i * 10, i * 10 + 5, 0, KEY) for i in range(5))
    assert [each.number for each in during(operations, 10, 30)] == [1, 2]
    assert [each.number for each in during(operations, 30, None)] == [3, 4]


def test_content_is_a_function_of_seed_and_record() -> None:
    content = Content(1, 100, 60)
    assert len(content.value(3)) == 100
    assert content.value(3) == Content(1, 100, 60).value(3) != content.value(4) != Content(2, 100, 60).value(4)


def always_up(**overrides: Any) -> World:
    return World(Scenario.from_table({"name": "x", "peers": 9, "duration_s": 300, **overrides}))


def event(number: int, outcome: str, time: int) -> EventRow:
    fields: dict[str, int | str] = {
        "number": number,
        "key": KEY.hex(),
        "asked_at": 5,
        "outcome": outcome,
        "hops": 3,
        "rpcs": 4,
    }
    return EventRow(time, 2, "workload", "get", fields)


def test_event_becomes_a_row_and_others_are_passed_over() -> None:
    other = EventRow(3, 2, "dht", "joined", {})
    rows = outcomes({}, [other, event(7, "ok", 9)], always_up(), 100)
    assert rows == [Row(2, "get", 9, 7, KEY, 5, "ok", 3, 4)]


def test_refused_proof_becomes_a_row_with_its_reason() -> None:
    proof = event(7, "refused", 9)._replace(name="proof")
    refused = proof._replace(fields={**proof.fields, "reason": "timeout"})
    thought = EventRow(8, 2, "workload", "proven", {"device": KEY.hex()})
    rows = outcomes({}, [thought, refused], always_up(), 100)
    assert rows == [Row(2, "proof", 9, 7, KEY, 5, "refused", 3, 4, "timeout")]
    assert summary(rows, "proof")["outcomes"] == {"refused": 1}


def test_operation_without_event_is_interrupted_only_if_peer_or_run_went_down() -> None:
    world = always_up()
    world._schedules[3] = ((0, 15), (16, None))
    plan = {number: (Operation(number, "get", 10, 20, 0, KEY),) for number in (2, 3)}
    assert [each.outcome for each in outcomes(plan, [], world, 100)] == ["timeout", "interrupted"]
    assert [each.outcome for each in outcomes(plan, [], world, 15)] == ["interrupted", "interrupted"]
    assert outcomes(plan, [], world, 10) == []


def test_phases_split_gets_by_the_partitions() -> None:
    scenario = load("partition")  # cut from 360 s to 600 s; 30 s to answer
    rows = [row(asked_at=at * S) for at in (320, 340, 599, 600, 800)]
    assert {name: each["count"] for name, each in phases(rows, scenario).items()} == {
        "before": 1,
        "during": 2,
        "after": 2,
    }
    assert phases(rows, load("demo")) == {}


@pytest.mark.parametrize("value", [Operation(1, "put", 2, 3, 4, KEY), row(), Content(1, 2, 3)])
def test_operations_rows_and_content_travel_as_bytes(value: msgspec.Struct) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value)) == value
