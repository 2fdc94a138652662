"""The alarm: one timer, moved only to earlier times."""

from typing import Any

from actors.alarm import Alarm
from actors.context import Context
from protocols.messages import Message
from tests.actors.worlds import Poke, Recorder, recorder, recorders


def story(*deadlines: int | None) -> list[Any]:
    """When a recorder's alarm rings that is given these deadlines, all at time 0."""
    alarm = Alarm()

    def rings(actor: Recorder, message: Message, ctx: Context) -> None:
        if message == Poke(0):
            for deadline in deadlines:
                alarm.set(deadline, Poke(1), ctx)
        else:
            alarm.rang()

    host = recorders(1, rings)
    host.run(1)
    host.tell(0, "limiter", Poke(0))
    host.run(10**9)
    assert alarm.timer == 0
    return [time for time, what in recorder(host, 0).seen if what == Poke(1)]


def test_alarm_rings_at_its_deadline_once() -> None:
    assert story(500) == [500]


def test_earlier_deadline_moves_it_and_later_one_does_not() -> None:
    assert story(500, 300) == [300]
    assert story(300, 500) == [300]


def test_no_deadline_asks_for_nothing_and_past_one_rings_at_once() -> None:
    assert story(None) == []
    assert story(-5) == [0]


def test_alarm_that_rang_can_be_set_again() -> None:
    alarm = Alarm()

    def rings(actor: Recorder, message: Message, ctx: Context) -> None:
        alarm.rang()
        if ctx.now < 300:
            alarm.set(ctx.now + 100, Poke(1), ctx)

    host = recorders(1, rings)
    host.run(1)
    host.tell(0, "limiter", Poke(1))
    host.run(10**9)
    assert [time for time, _ in recorder(host, 0).seen[1:]] == [0, 100, 200, 300]
