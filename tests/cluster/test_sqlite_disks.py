"""Disks in real time: real files, found again by the next incarnation, gone with the run."""

from pathlib import Path
from typing import Any

import pytest

from actors.host import Host
from actors.journal import JournalActor
from cluster.population import Population
from cluster.real_time import SERVICES, Layout, simulate_real
from cluster.scenario import Scenario, load
from cluster.sqlite_disks import SqliteDisks
from cluster.world import World
from protocols.errors import LocalError
from protocols.journal.store import Batch, Row, StoreError, Table

ROW = Row(Table.GROUP, bytes(16), 1, b"data")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def inside(**overrides: Any) -> Scenario:
    values = {
        "peers": 3,
        "duration_s": 3,
        "placement": "packed",
        "join_window_s": 0.2,
        "workload.puts": 3,
        "workload.gets": 6,
        "workload.min_uptime_s": 0.2,
        "workload.put_until_s": 0.8,
        "workload.put_timeout_s": 1,
        "workload.get_timeout_s": 1,
        "disk.kind": "sqlite",
    }
    values.update({key.replace("__", "."): each for key, each in overrides.items()})
    return load("inside").with_overrides(values)


def test_the_next_incarnation_finds_what_was_written(folder: Path) -> None:
    disks = SqliteDisks()
    assert list(folder.iterdir()) == [], "nobody has opened one"
    disks.open(3).write(Batch((ROW,)), 0)
    disks.crash(3, 0)
    disks.crash(4, 0)
    assert list(disks.open(3).rows(Table.GROUP, bytes(16))) == [ROW]
    with pytest.raises(StoreError):
        disks.open(3)
    disks.close()
    disks.close()
    assert list(folder.iterdir()) == []


def test_it_is_no_part_of_a_checkpoint() -> None:
    with pytest.raises(LocalError):
        SqliteDisks().to_bytes(0)
    with pytest.raises(LocalError):
        SqliteDisks().restore(0, b"")


def test_a_host_closes_the_disk_of_a_peer_that_goes_down_and_opens_it_for_the_next(folder: Path) -> None:
    scenario = inside()
    population = Population(World(scenario), {})
    host = Host(lambda peer, incarnation: population.build(peer, 1), real_time=True, disks=population.disks)
    for _ in range(3):
        host.up(0)
        assert isinstance(host.actor(0, "journal"), JournalActor)
        host.run(1)
        host.down(0)
    assert isinstance(population.disks, SqliteDisks)
    population.disks.close()
    assert list(folder.iterdir()) == []


def test_peers_with_disks_put_and_get_by_the_clock_and_leave_no_file(folder: Path) -> None:
    outcome = simulate_real(inside(), inline=True)
    counters = outcome.counters()
    assert counters["journal_batches", ""] >= 3
    assert counters["kad_records_stored", ""] >= 3
    assert not any(name in ("peers_quarantined", "disks_failed") for name, _ in counters)
    rows = [row.fields["outcome"] for row in outcome.events if row.name in ("put", "get")]
    assert len(rows) == 9
    assert set(rows) <= {"ok", "local"}
    assert list(folder.iterdir()) == []


def test_the_journal_has_a_host_of_its_own_where_every_actor_has_one() -> None:
    layout = Layout(inside(placement="subsystem"), 0)
    services = (*SERVICES, "journal")
    assert layout.hosts == 3 * len(services)
    assert [layout.service(layout.home(1, service)) for service in services] == list(services)
    assert Layout(load("inside"), 0).hosts == 4 * len(SERVICES)
