"""When every peer is up.

A schedule is a function of the scenario, the seed and the peer's number alone, so that every shard, the
workload's plan and a test agree on it without asking each other, and no event of the run can move it.

A run starts in steady state: a peer is up with the probability that it is up at any moment, and what it
is doing then lasts for a *residual* time, longer than a fresh session, since long sessions are likelier
met (``sampling.Table.residual``). Fresh sessions at time zero would show a burst of departures that no
measured network has. In a cold start a peer's clock begins at its turn in the join window.

Downtimes are exponential. The crawls behind the presets saw sessions; how long a peer stays away they
hardly know.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from actors.randomness import Stream, derive_key
from cluster.registry import CHURN_MODELS
from cluster.sampling import Table, exponential, weibull
from cluster.sections import NS_PER_S, ChurnSection, exact, nanoseconds

if TYPE_CHECKING:
    from cluster.scenario import Scenario

Uptime = tuple[int, int | None]
"""From when until when a peer is up, in ns; ``None`` is the end of the run."""

LIFETIME_MIN_NS: Final = NS_PER_S
"""Shorter sessions and downtimes last a second. No crawler saw any, but a shape of 0.34 would make a tenth
of all sessions shorter than that, and some of them 0 ns."""

_CERTAIN: Final = 1 << 64


class Lifetimes(NamedTuple):
    """What a churn model says."""

    session: Table
    residual_session: Table
    downtime: Table
    residual_downtime: Table
    availability: int
    """The probability to be up at a moment, out of 2**64."""


class Preset(NamedTuple):
    """A Weibull law of session lengths that somebody measured."""

    shape: str
    mean_s: int


PRESETS: Final = {
    # Steiner et al., IMC 2007, as used for R/Kademlia (Heep): Weibull of scale 5,000 s.
    "kad": Preset("0.5", 10_000),
    # Stutzbach and Rejaie, IMC 2006: scales of 21.3, 42.4 and 41.9 minutes.
    "bittorrent-redhat": Preset("0.34", 7_125),
    "bittorrent-debian": Preset("0.38", 9_803),
    "bittorrent-flatout": Preset("0.59", 3_868),
    # Li et al., INFOCOM 2005: a shape of 1 is the exponential law.
    "p2psim": Preset("1", 3_600),
}


@CHURN_MODELS.register("none")
def none(scenario: "Scenario") -> Lifetimes | None:
    """Who has come up stays up."""
    return None


@CHURN_MODELS.register("exponential")
def exponential_sessions(scenario: "Scenario") -> Lifetimes | None:
    """Memoryless sessions of ``mean_session_s``."""
    mean_ns = nanoseconds(scenario.churn.mean_session_s or 0)
    return _lifetimes(scenario.churn, exponential(mean_ns), mean_ns)


@CHURN_MODELS.register("weibull")
def weibull_sessions(scenario: "Scenario") -> Lifetimes | None:
    """Sessions of ``mean_session_s`` and ``shape``."""
    mean_ns = nanoseconds(scenario.churn.mean_session_s or 0)
    return _lifetimes(scenario.churn, weibull(exact(scenario.churn.shape or 1), mean_ns), mean_ns)


def _register_preset(name: str, preset: Preset) -> None:
    def make(scenario: "Scenario") -> Lifetimes | None:
        mean_ns = preset.mean_s * NS_PER_S
        return _lifetimes(scenario.churn, weibull(Decimal(preset.shape), mean_ns), mean_ns)

    CHURN_MODELS.register(name)(make)


for _name, _preset in PRESETS.items():
    _register_preset(_name, _preset)


def _lifetimes(churn: ChurnSection, session: Table, mean_ns: int) -> Lifetimes:
    given = churn.mean_downtime_s
    downtime_ns = mean_ns // 9 if given is None else nanoseconds(given)
    downtime = exponential(max(downtime_ns, 1))
    availability = _CERTAIN * mean_ns // (mean_ns + downtime_ns)
    return Lifetimes(session, session.residual(), downtime, downtime, availability)


class Churn:
    """The schedules of one scenario."""

    __slots__ = ("_lifetimes", "_scenario")

    def __init__(self, scenario: "Scenario") -> None:
        self._scenario = scenario
        self._lifetimes: Lifetimes | None = CHURN_MODELS.find(scenario.churn.model).make(scenario)

    def schedule(self, peer: int) -> tuple[Uptime, ...]:
        """The uptimes of ``peer``, in order and apart; the n-th is its incarnation n."""
        scenario = self._scenario
        if peer < scenario.bootstraps:
            return ((0, None),)
        stream = Stream(derive_key(scenario.seed, "churn", peer))
        end = scenario.duration_ns
        now = stream.below(scenario.settled_ns) if scenario.settled_ns else 0
        lifetimes = self._lifetimes
        if lifetimes is None:
            return ((now, None),)
        uptimes: list[Uptime] = []
        if _bits(stream) < lifetimes.availability:
            length = lifetimes.residual_session.sample(_bits(stream))
        else:
            now += max(LIFETIME_MIN_NS, lifetimes.residual_downtime.sample(_bits(stream)))
            length = lifetimes.session.sample(_bits(stream))
        while now < end:
            down_at = now + max(LIFETIME_MIN_NS, length)
            uptimes.append((now, down_at if down_at < end else None))
            now = down_at + max(LIFETIME_MIN_NS, lifetimes.downtime.sample(_bits(stream)))
            length = lifetimes.session.sample(_bits(stream))
        return tuple(uptimes)


def up_since(schedule: tuple[Uptime, ...], time: int) -> int | None:
    """Since when a peer of this schedule has been up at ``time``; ``None`` if it is down then."""
    for up_at, down_at in schedule:
        if up_at <= time and (down_at is None or time < down_at):
            return up_at
    return None


def _bits(stream: Stream) -> int:
    return int.from_bytes(stream.entropy(8), "little")
