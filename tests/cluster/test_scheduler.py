"""Windows: as long as the lookahead, never empty, and nothing of them shows."""

from typing import Any

import pytest

from actors.host import Host
from cluster.scheduler import Scheduler
from tests.actors.worlds import MS, Gossip, Poke, Recorder, Steady
from tests.cluster.test_exchange import exchanges, in_parallel

LATENCY = 3 * MS


class Watched(Host):
    """A host that remembers its windows."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.windows: list[tuple[int, int]] = []

    def run(self, until: int) -> int:
        handled = super().run(until)
        self.windows.append((until, handled))
        return handled


def gossip(peers: int, hosts: int, number: int, costs: Any = None) -> Watched:
    """The host ``number`` of ``hosts``, with its share of the peers."""
    host = Watched(
        lambda peer, incarnation: (peers, [Gossip]),
        seed=5,
        network=Steady(LATENCY),
        costs=costs,
        number=number,
        route=(lambda peer, _: peer % hosts) if hosts > 1 else None,
    )
    for peer in range(number, peers, hosts):
        host.schedule(peer, peer * 1_000)
    return host


def advance(hosts: list[Watched], stretches: list[int]) -> list[Scheduler]:
    if len(hosts) == 1:
        alone = Scheduler(hosts[0], LATENCY)
        for until in stretches:
            alone.advance(until)
        return [alone]
    with exchanges(len(hosts)) as ends:
        together = [Scheduler(host, LATENCY, end, len(hosts)) for host, end in zip(hosts, ends, strict=True)]
        for until in stretches:
            in_parallel([lambda each=each, until=until: each.advance(until) for each in together])  # type: ignore[misc]
    return together


@pytest.mark.parametrize("hosts", [2, 3])
@pytest.mark.parametrize("costs", [None, {"hash": (0, 2_000)}])
def test_windows_and_stretches_do_not_show_in_the_digest(hosts: int, costs: Any) -> None:
    alone = gossip(12, 1, 0, costs)
    advance([alone], [200 * MS])
    several = [gossip(12, hosts, number, costs) for number in range(hosts)]
    advance(several, [1, 50 * MS, 50 * MS + 1, 51 * MS, 200 * MS])
    digests = {peer: digest for host in several for peer, digest in host.digests().items()}
    assert digests == alone.digests()
    assert sum(host.handled for host in several) == alone.handled > 500


def test_no_window_is_empty_or_shorter_than_the_lookahead() -> None:
    hosts = [gossip(6, 2, number) for number in range(2)]
    schedulers = advance(hosts, [300 * MS])
    first, second = ([until for until, _ in host.windows] for host in hosts)
    assert first == second
    assert [scheduler.share.windows for scheduler in schedulers] == [len(first)] * 2
    handled = [a + b for (_, a), (_, b) in zip(hosts[0].windows, hosts[1].windows, strict=True)]
    # A peer that comes up is an event, and no message: those windows may have none.
    assert 0 not in handled[1:]
    assert len(first) <= 300 * MS // LATENCY


def test_an_hour_of_idling_is_one_window() -> None:
    def script(actor: Recorder, message: Any, ctx: Any) -> None:
        if message == Poke(1):
            ctx.transmit(1, b"x")

    hosts = []
    for number in range(2):
        host = Watched(
            lambda peer, _: (script, [Recorder]),
            network=Steady(LATENCY),
            number=number,
            route=lambda peer, _: peer,
        )
        host.schedule(number, 0)
        hosts.append(host)
    advance(hosts, [1])
    hosts[0]._peer(0).contexts["limiter"].after(3_600_000 * MS, Poke(1))
    schedulers = advance(hosts, [7_200_000 * MS])
    assert schedulers[0].share.windows == 2  # the timer, and the packet
    recorder = hosts[1].actor(1, "limiter")
    assert isinstance(recorder, Recorder)
    assert recorder.seen[-1] == (3_600_000 * MS + LATENCY, b"x")


def test_a_host_alone_runs_its_stretch_in_one_window() -> None:
    host = gossip(3, 1, 0)
    [scheduler] = advance([host], [10 * MS, 20 * MS])
    assert scheduler.share.windows == 2
    assert scheduler.share.handlers > 0
    assert scheduler.share.waiting == 0
