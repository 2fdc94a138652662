"""A shard: what it reports, and that two of them are one."""

from collections.abc import Iterator

import pytest

from cluster.shard import Report, Shard, decode_report, encode_report
from cluster.simulation import overall_digest, simulate
from tests.cluster.runs import small
from tests.cluster.test_exchange import in_parallel

S = 1_000_000_000
KEY = bytes(32)
TEXT = small(peers=20, duration_s=80, telemetry__sample=1.0).to_toml()


@pytest.fixture
def alone() -> Iterator[Shard]:
    shard = Shard(TEXT, 0, 1)
    shard.prepare([])
    yield shard
    shard.close()


def test_totals_grow_and_rows_are_reported_once(alone: Shard) -> None:
    reports = [decode_report(alone.advance(until * S)) for until in (20, 50, 80)]
    assert [report.now for report in reports] == [20 * S, 50 * S, 80 * S]
    assert [report.handled for report in reports] == sorted(report.handled for report in reports)
    first, last = ({(name, label): n for name, label, n in report.counters} for report in (reports[0], reports[-1]))
    assert first["packets_sent", ""] < last["packets_sent", ""]
    assert all(last[key] >= n for key, n in first.items())
    times = [event.time for report in reports for event in report.events]
    assert times == sorted(times)
    puts = [row.fields["number"] for report in reports for row in report.events if row.name in ("put", "get")]
    assert len(puts) == len(set(puts)) > 0
    spans = [row.span.span_id for report in reports for row in report.spans]
    assert len(spans) == len(set(spans)) > 0


def test_a_report_goes_to_bytes_and_back(alone: Shard) -> None:
    alone.advance(60 * S)
    alone._scheduler.advance(80 * S)
    report = alone.report(80 * S)
    assert isinstance(report, Report)
    assert report.events
    again = decode_report(encode_report(report))
    assert again == report
    assert encode_report(again) == encode_report(report)


def test_two_shards_are_one() -> None:
    shards = [Shard(TEXT, number, 2) for number in range(2)]
    addresses = [shard.listen(["127.0.0.1"] * len(shards), KEY) for shard in shards]
    try:
        hosted = in_parallel([lambda shard=shard: shard.prepare(addresses) for shard in shards])  # type: ignore[misc]
        assert 0 not in hosted
        for until in (1 * S, 33 * S, 80 * S):
            in_parallel([lambda shard=shard, until=until: shard.advance(until) for shard in shards])  # type: ignore[misc]
        digests = shards[0].digests() | shards[1].digests()
    finally:
        for shard in shards:
            shard.close()
    assert overall_digest(digests) == simulate(small(peers=20, duration_s=80), inline=True).digest
