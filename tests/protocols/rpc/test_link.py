"""What a session costs when nothing happens, and the agenda against a sorted list."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from protocols.rpc.calls import MS, RpcConfig, Send
from protocols.rpc.frames import FRAMES
from protocols.rpc.link import RTO_MAX_NS, RTO_MIN_NS, Agenda, Link
from protocols.rpc.machine import Rpc
from tests.protocols.rpc.ends import BINDING, DEVICES, NAMESPACES, Ends, question

IDLE_MACHINE_BYTES = 800
IDLE_LINK_BYTES = 300
"""The link, and its entries in the two tables."""


class Chore:
    def __init__(self, due: int) -> None:
        self.number = 0
        self.due = due


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(0, 9)), max_size=200))
def test_agenda_agrees_with_a_sorted_list(steps: list[tuple[int, int, int]]) -> None:
    agenda: Agenda[Chore] = Agenda()
    for step, due, which in steps:
        chores = list(agenda.tasks.values())
        if step == 0 or not chores:
            agenda.add(Chore(due))
        elif step == 1:
            agenda.move(chores[which % len(chores)], due)
        else:
            agenda.drop(chores[which % len(chores)])
        expected = min(((chore.due, number) for number, chore in agenda.tasks.items()), default=None)
        assert agenda.next_due() == (expected[0] if expected else None)
        if expected:
            task = agenda.take_due(50)
            assert task is not None
            assert (task.due, task.number) == expected


def test_outdated_timers_do_not_pile_up() -> None:
    agenda: Agenda[Chore] = Agenda()
    for due in range(10_000):
        chore = Chore(10**9 + due)
        agenda.add(chore)
        agenda.drop(chore)
    assert len(agenda._heap) < 100


@given(st.lists(st.integers(1, 10**12), min_size=1))
def test_retransmission_timeout_stays_within_its_bounds(round_trips: list[int]) -> None:
    link = Link(1, DEVICES[0], 1, BINDING, 0)
    for rtt in round_trips:
        link.measured(rtt)
        assert RTO_MIN_NS <= link.rto <= RTO_MAX_NS


def test_steady_round_trip_is_learnt_as_rfc_6298_says() -> None:
    link = Link(1, DEVICES[0], 1, BINDING, 0)
    link.measured(400 * MS)
    assert (link.srtt, link.rttvar, link.rto) == (400 * MS, 200 * MS, 1200 * MS)
    link.measured(400 * MS)
    assert (link.srtt, link.rttvar, link.rto) == (400 * MS, 150 * MS, 1000 * MS)


def bytes_per(count: int, build: object) -> float:
    assert callable(build)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = build(count)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept
    return (after - before) / count


def test_idle_machine_and_idle_session_are_small() -> None:
    config = RpcConfig()
    assert bytes_per(1000, lambda n: [Rpc(config, NAMESPACES) for _ in range(n)]) < IDLE_MACHINE_BYTES

    devices = [bytes([index // 256, index % 256]) * 16 for index in range(1000)]
    rpc = Rpc(config, NAMESPACES)

    def connect(count: int) -> Rpc:
        for session in range(count):
            rpc.session_up(session, devices[session], 7, BINDING, 0)
        return rpc

    assert bytes_per(1000, connect) < IDLE_LINK_BYTES


def test_finished_calls_leave_little_behind() -> None:
    ends = Ends()

    def talk(count: int) -> Ends:
        for token in range(count):
            for end in (0, 1):
                (sent,) = ends.rpcs[end].call("dht", token, DEVICES[1 - end], 7, question(), 10**9, token)
                assert isinstance(sent, Send)
                peer = ends.rpcs[1 - end]
                frame = FRAMES.decode(sent.data)
                (incoming,) = peer.receive(2 - end, DEVICES[end], 7, frame, token)
                (reply,) = peer.respond(incoming.call, b"", token)  # type: ignore[union-attr]
                assert isinstance(reply, Send)
                ends.rpcs[end].receive(1 + end, DEVICES[1 - end], 7, FRAMES.decode(reply.data), token)
        return ends

    tracemalloc.start()
    talk(300)  # until the reply caches are full
    before = tracemalloc.get_traced_memory()[0]
    talk(2000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 10_000
