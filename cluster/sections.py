"""The tables of a scenario file: what can be set, within which bounds, and what it is by default."""

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec

from protocols.admission import AdmissionPolicy, BreakerPolicy, Quota
from protocols.kademlia.records import TTL_MAX_S, VALUE_SIZE_MAX

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000

PEERS_MAX: Final = 1_000_000
"""Ten times what the largest runs are made for; at 50 kB each, 50 GB."""

SECONDS_MAX: Final = 1_000_000_000
"""Thirty years; their nanoseconds fit 63 bits with room for sums."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=SECONDS_MAX)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Kind = Annotated[str, msgspec.Meta(min_length=1)]
Options = dict[str, bool | int | float | str]


def exact(number: float) -> Decimal:
    """The number as it was written: 0.1, not the binary fraction beside it."""
    return Decimal(repr(number))


def nanoseconds(seconds: float) -> int:
    """The time as it was written, to the nearest nanosecond."""
    return int((exact(seconds) * NS_PER_S).to_integral_value())


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=False):
    """A table of the file."""


class Partition(Section, frozen=True, kw_only=True):
    """A cut that lasts from one time until another; packets sent meanwhile do not cross it."""

    from_s: Seconds
    until_s: PositiveSeconds
    regions: tuple[str, ...] = ()
    """These are cut off from all others."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Each of these is cut off from each other; regions in none of them reach everybody."""
    one_way: bool = False
    """Only what leaves ``regions``, or goes from an earlier group to a later one, is lost."""


class NetworkSection(Section, frozen=True, kw_only=True):
    """What happens to a datagram between two peers."""

    model: Kind = "regions"
    latency_s: PositiveSeconds | None = None
    """One way, of the model "constant", where it is 0.05 by default; "regions" has its own."""
    access_median_s: Seconds = 0.005
    """A peer's own line: log-normal over the peers, the same for all its packets, both ways."""
    access_sigma: Annotated[float, msgspec.Meta(ge=0, le=3)] = 0.6
    access_floor_s: Seconds = 0.001
    jitter_median_s: Seconds = 0.002
    """Added to every packet, log-normal; 0 for none."""
    jitter_sigma: Annotated[float, msgspec.Meta(ge=0, le=3)] = 0.8
    loss: Probability = 0.01
    duplicate: Probability = 0.001
    reorder: Probability = 0.005
    """The share of packets held back by up to ``reorder_delay_s``, so that later ones overtake them."""
    reorder_delay_s: PositiveSeconds = 0.05
    partitions: tuple[Partition, ...] = ()
    options: Options = {}

    @property
    def latency_ns(self) -> int:
        return nanoseconds(0.05 if self.latency_s is None else self.latency_s)


class ChurnSection(Section, frozen=True, kw_only=True):
    """How long peers stay, and how long they stay away. Bootstrap peers always stay."""

    model: Kind = "none"
    """none, exponential, weibull, or the name of a measured network."""
    mean_session_s: PositiveSeconds | None = None
    shape: Annotated[float, msgspec.Meta(ge=0.2, le=5)] | None = None
    mean_downtime_s: PositiveSeconds | None = None
    """Exponential; by default a ninth of the mean session, so 90 % of the peers are up at any time."""
    options: Options = {}


class WorkloadSection(Section, frozen=True, kw_only=True):
    """What the peers are asked to do. Times that are left out follow from the duration."""

    kind: Kind = "put_get"
    puts: Count = 0
    gets: Count = 0
    gets_per_peer: Count = 0
    """So many in every ``period_s`` in which the peer is up; instead of ``gets``, the number of all of them."""
    period_s: PositiveSeconds | None = None
    """300 by default."""
    put_from_s: Seconds | None = None
    put_until_s: PositiveSeconds | None = None
    get_from_s: Seconds | None = None
    get_until_s: PositiveSeconds | None = None
    put_timeout_s: PositiveSeconds = 30.0
    """Also how old a record must be before anybody asks for it."""
    get_timeout_s: PositiveSeconds = 30.0
    min_uptime_s: Seconds = 30.0
    """How long a peer must have been up before it puts or gets."""
    record_bytes: Annotated[int, msgspec.Meta(ge=1, le=VALUE_SIZE_MAX)] = 64
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=TTL_MAX_S)] = 86_400
    options: Options = {}

    @property
    def period_ns(self) -> int:
        return nanoseconds(300.0 if self.period_s is None else self.period_s)


class AdmissionSection(Section, frozen=True, kw_only=True):
    """What a peer grants to others, and when it cuts one off."""

    packet_bytes_per_s: Positive = 4_000_000
    """For each endpoint, before anybody knows who it is."""
    packet_bytes_burst: Positive = 8_000_000
    requests_per_s: Positive = 100
    """For each authenticated peer."""
    requests_burst: Positive = 200
    costs: dict[str, Positive] = {}
    """What a request of a kind ("kad.store") costs; others cost 1."""
    failures: Positive = 10
    """Faults that a peer made, not yet forgiven, that open its circuit breaker."""
    forgive_s: PositiveSeconds = 60.0
    open_s: PositiveSeconds = 30.0
    probes: Positive = 3

    def __post_init__(self) -> None:
        self.policy()

    def policy(self) -> AdmissionPolicy:
        """The policy that all peers of a run share."""
        return AdmissionPolicy(
            endpoint_bytes=Quota(self.packet_bytes_per_s, self.packet_bytes_burst),
            requests=Quota(self.requests_per_s, self.requests_burst),
            costs=self.costs,
            breaker=BreakerPolicy(
                failures=self.failures,
                forgive_ns=nanoseconds(self.forgive_s),
                open_ns=nanoseconds(self.open_s),
                probes=self.probes,
            ),
        )


class DiskSection(Section, frozen=True, kw_only=True):
    """What peers find again when they come back: with a disk, what their journals had made durable.

    Off by default: then a peer that goes down forgets everything but its keys, and a run has no actor, event or byte
    of memory more than it ever had.
    """

    kind: Literal["none", "simulated", "sqlite"] = "none"
    """simulated, in virtual time; sqlite, in real time, in files that go with the run. The other options are of the
    simulated one."""
    sync_ms: Milliseconds = 5.0
    """From when the disk gets to a batch until it is durable. A crash loses what is not."""
    torn: Probability = 0.0
    """That a crash leaves half of the batch that is being written, to be found and dropped."""
    sync_failure: Probability = 0.0
    """That a sync fails. No disk is used after that, so its peer goes down, and stays so until the end of this
    uptime."""
    size_mb: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64
    """A disk that is full fails."""


class TelemetrySection(Section, frozen=True, kw_only=True):
    """What is written down about a run; nothing here changes what it does."""

    sample: Probability = 0.01
    """The share of puts and gets whose traces are kept."""
    events: Probability = 1.0
    """The share of peers whose events are kept; what came of puts and gets always is."""


class Adversaries(Section, frozen=True, kw_only=True):
    """So many peers that lie in the same way."""

    kind: Kind
    count: Annotated[int, msgspec.Meta(ge=1, le=PEERS_MAX)]
    options: Options = {}
