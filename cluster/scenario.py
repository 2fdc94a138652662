"""A scenario: everything that decides a run, in one TOML file.

A run is a function of its scenario and nothing else, so whatever can change a result has a key here, and
what is not here cannot be changed from outside. A key that does not exist, a value that cannot be, and
options that cannot be honoured together are errors that name the key: a simulator that ignores an option
answers a question that nobody asked.

Times are written in seconds, as people think; the program sees integer nanoseconds (``*_ns``), read from
the decimal digits and not from a binary fraction.
"""

import sys
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import tomli_w

from cluster.options import ScenarioError, join, read, set_path
from cluster.registry import (
    ADVERSARIES,
    CHURN_MODELS,
    NETWORKS,
    WORKLOADS,
    Registry,
    UnknownKindError,
    import_plugins,
    suggestion,
)
from cluster.sections import (
    NS_PER_S,
    PEERS_MAX,
    AdmissionSection,
    Adversaries,
    ChurnSection,
    DiskSection,
    Name,
    NetworkSection,
    Options,
    PositiveSeconds,
    Seconds,
    Section,
    TelemetrySection,
    WorkloadSection,
    nanoseconds,
)
from protocols.crdt.config import CrdtConfig
from protocols.crdt.messages import REQUESTS as CRDT_REQUESTS
from protocols.identity.messages import REQUESTS as IDENTITY_REQUESTS
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import REQUESTS as DHT_REQUESTS
from protocols.noise.interface import SessionConfig
from protocols.rpc.calls import RpcConfig

OUR_REQUESTS: Final = {
    "kad": tuple(DHT_REQUESTS.tags),
    "id": tuple(IDENTITY_REQUESTS.tags),
    "crdt": tuple(CRDT_REQUESTS.tags),
}
"""By namespace, the requests that our own services answer; a plugin's are not known here."""


class Scenario(Section, frozen=True, kw_only=True):
    """A whole scenario. Make one with ``load``, ``from_toml`` or ``from_table``, which check it."""

    name: Name
    description: str = ""
    """One line, for the list of scenarios."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 1
    peers: Annotated[int, msgspec.Meta(ge=1, le=PEERS_MAX)]
    duration_s: PositiveSeconds
    time: Literal["virtual", "real"] = "virtual"
    placement: Literal["packed", "peer", "subsystem"] = "packed"
    shards: Annotated[int, msgspec.Meta(ge=0, le=1_024)] = 0
    """Hosts that share the peers; 0 leaves it to the machine. No result depends on it."""
    start: Literal["cold", "warm"] = "cold"
    """cold: peers come up and join; warm: routing tables are built directly, as if they had."""
    join_window_s: Seconds | None = None
    """Peers of a cold start come up spread over it; 60 by default."""
    bootstraps: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 5
    charge: Literal["free", "laptop"] = "free"
    plugins: tuple[str, ...] = ()
    network: NetworkSection = NetworkSection()
    churn: ChurnSection = ChurnSection()
    workload: WorkloadSection = WorkloadSection()
    disk: DiskSection = DiskSection()
    sessions: SessionConfig = SessionConfig()
    rpc: RpcConfig = RpcConfig()
    kademlia: KademliaConfig = KademliaConfig()
    crdt: CrdtConfig = CrdtConfig()
    admission: AdmissionSection = AdmissionSection()
    telemetry: TelemetrySection = TelemetrySection()
    adversaries: tuple[Adversaries, ...] = ()

    @property
    def duration_ns(self) -> int:
        return nanoseconds(self.duration_s)

    @property
    def settled_ns(self) -> int:
        """When all peers that start a cold run have come up; 0 in a warm one."""
        if self.start == "warm":
            return 0
        return nanoseconds(60.0 if self.join_window_s is None else self.join_window_s)

    @property
    def put_window_ns(self) -> tuple[int, int]:
        """When records are put: by default in the first 30 % of the time that is left once peers have joined."""
        workload = self.workload
        start = self.settled_ns + nanoseconds(workload.min_uptime_s)
        rest = self.duration_ns - nanoseconds(workload.get_timeout_s) - start
        return (
            start if workload.put_from_s is None else nanoseconds(workload.put_from_s),
            start + rest * 3 // 10 if workload.put_until_s is None else nanoseconds(workload.put_until_s),
        )

    @property
    def get_window_ns(self) -> tuple[int, int]:
        """When gets are asked: by default after the last put, until the last moment that leaves time to answer."""
        workload = self.workload
        start = self.put_window_ns[1] + nanoseconds(workload.put_timeout_s)
        end = self.duration_ns - nanoseconds(workload.get_timeout_s)
        return (
            start if workload.get_from_s is None else nanoseconds(workload.get_from_s),
            end if workload.get_until_s is None else nanoseconds(workload.get_until_s),
        )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Scenario":
        """The scenario that nested tables describe.

        Raises:
            ScenarioError: it has unknown keys, impossible values or combinations that cannot be honoured.
            PluginError: a plugin cannot be imported.
        """
        scenario = read(cls, table)
        import_plugins(scenario.plugins)
        _check(scenario)
        return scenario

    @classmethod
    def from_toml(cls, text: str, source: str = "") -> "Scenario":
        """The scenario that ``text`` describes; ``source`` is what an error calls it."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError("", f"{source or 'scenario'} is not TOML: {error}") from None
        return cls.from_table(table)

    def to_table(self) -> dict[str, Any]:
        """Every option with its value; what follows from others is left out."""
        table: dict[str, Any] = _without_none(msgspec.to_builtins(self))
        return table

    def to_toml(self) -> str:
        """The resolved scenario: ``from_toml`` gives it back, on any machine."""
        return tomli_w.dumps(self.to_table())

    def with_overrides(self, values: Mapping[str, Any]) -> "Scenario":
        """The same with other values under some paths, such as ``{"network.loss": 0.05}``."""
        table = self.to_table()
        for path, value in values.items():
            set_path(table, path, value)
        return self.from_table(table)


def load(file_or_name: str | Path) -> Scenario:
    """A shipped scenario by its name, or any from its file; its plugins are found on the path or beside the file.

    Raises:
        ScenarioError: there is no such scenario, or it is not valid.
    """
    given = str(file_or_name)
    if isinstance(file_or_name, str) and "/" not in given and not given.endswith(".toml"):
        names = [entry.name for entry in _shipped_files()]
        if f"{given}.toml" not in names:
            known = [each.removesuffix(".toml") for each in names]
            raise ScenarioError("", f"no scenario is called {given!r}{suggestion(given, known)}")
        return Scenario.from_toml(_shipped_text(given), given)
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError("", f"scenario file {given!r} cannot be read: {error}") from None
    folder = str(Path(given).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a scenario's plugins may lie beside it
    return Scenario.from_toml(text, given)


def shipped() -> list[tuple[str, str]]:
    """The name of every scenario that comes with SpacePanda, and what it is about."""
    names = [entry.name.removesuffix(".toml") for entry in _shipped_files()]
    return [(name, str(tomllib.loads(_shipped_text(name)).get("description", ""))) for name in names]


def parse_value(text: str) -> Any:
    """A value as the command line gives it: TOML, or else the bare word as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _shipped_files() -> list[Any]:
    folder = resources.files("cluster") / "scenarios"
    return sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=lambda each: each.name)


def _shipped_text(name: str) -> str:
    return (resources.files("cluster") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_without_none(each) for each in value]
    return value


# -- what no single value shows ---------------------------------------------------------------------------


def _check(scenario: Scenario) -> None:
    if scenario.time == "virtual" and scenario.placement != "packed":
        raise ScenarioError("placement", f"{scenario.placement!r} needs time = 'real'; virtual time runs 'packed'")
    if scenario.time == "real" and scenario.charge != "free":
        raise ScenarioError("charge", f"{scenario.charge!r} is virtual CPU time; real time charges nothing")
    if scenario.bootstraps > scenario.peers:
        raise ScenarioError("bootstraps", f"{scenario.bootstraps} of {scenario.peers} peers cannot be bootstraps")
    if scenario.shards > scenario.peers:
        raise ScenarioError("shards", f"{scenario.shards} shards cannot share {scenario.peers} peers")
    if scenario.settled_ns >= scenario.duration_ns:
        key = "duration_s" if scenario.join_window_s is None else "join_window_s"
        joined_s = scenario.settled_ns / NS_PER_S
        raise ScenarioError(key, f"{scenario.duration_s:g} s of run end before all have joined ({joined_s:g} s)")
    if scenario.start == "warm" and scenario.join_window_s is not None:
        raise ScenarioError("join_window_s", "has no meaning with start = 'warm': all peers have joined")
    if scenario.shards and scenario.placement != "packed":
        raise ScenarioError("shards", f"has no meaning with placement = {scenario.placement!r}")
    liars = sum(each.count for each in scenario.adversaries)
    if liars > scenario.peers - scenario.bootstraps:
        raise ScenarioError(
            "adversaries", f"{liars} adversaries, but only {scenario.peers - scenario.bootstraps} peers to be"
        )
    _check_kind(NETWORKS, "network.model", scenario.network.model, scenario.network.options)
    _check_kind(CHURN_MODELS, "churn.model", scenario.churn.model, scenario.churn.options)
    _check_kind(WORKLOADS, "workload.kind", scenario.workload.kind, scenario.workload.options)
    for index, each in enumerate(scenario.adversaries):
        _check_kind(ADVERSARIES, f"adversaries.{index}.kind", each.kind, each.options)
    _check_churn(scenario.churn)
    _check_disk(scenario)
    _check_network(scenario)
    for request in scenario.admission.costs:
        tags = OUR_REQUESTS.get(request.partition(".")[0])
        if tags is not None and request not in tags:
            raise ScenarioError(f"admission.costs.{request}", f"no request is of this kind{suggestion(request, tags)}")
    if scenario.workload.ttl_s > scenario.kademlia.record_ttl_max_s:
        raise ScenarioError(
            "workload.ttl_s", f"is above kademlia.record_ttl_max_s, {scenario.kademlia.record_ttl_max_s}"
        )
    _check_workload(scenario)


def _check_kind(registry: Registry[Any], path: str, name: str, options: Options) -> None:
    try:
        kind = registry.find(name)
    except UnknownKindError as error:
        raise ScenarioError(path, str(error)) from None
    where = join(path.rpartition(".")[0], "options")
    if kind.options is not None:
        read(kind.options, options, where)
    elif options:
        raise ScenarioError(join(where, next(iter(options))), f"{registry.sort} {name!r} has no options")


def _check_churn(churn: ChurnSection) -> None:
    for key, value, models in (
        ("mean_session_s", churn.mean_session_s, ("exponential", "weibull")),
        ("shape", churn.shape, ("weibull",)),
    ):
        if value is None and churn.model in models:
            raise ScenarioError(f"churn.{key}", f"is missing; churn.model = {churn.model!r} needs it")
        if value is not None and churn.model not in models:
            raise ScenarioError(f"churn.{key}", f"has no meaning with churn.model = {churn.model!r}")
    if churn.mean_downtime_s is not None and churn.model == "none":
        raise ScenarioError("churn.mean_downtime_s", "has no meaning with churn.model = 'none'")


def _check_disk(scenario: Scenario) -> None:
    disk = scenario.disk
    if disk.kind != "simulated":
        for key in disk.__struct_fields__:
            if key != "kind" and getattr(disk, key) != getattr(DiskSection(), key):
                raise ScenarioError(f"disk.{key}", f"has no meaning with disk.kind = {disk.kind!r}")
    needs = {"none": scenario.time, "simulated": "virtual", "sqlite": "real"}[disk.kind]
    if scenario.time != needs:
        raise ScenarioError("disk.kind", f"{disk.kind!r} needs time = {needs!r}")
    if disk.torn and not disk.sync_ms:
        raise ScenarioError("disk.torn", "has no meaning with disk.sync_ms = 0: no batch is ever being written")


def _check_network(scenario: Scenario) -> None:
    network = scenario.network
    if network.access_floor_s > network.access_median_s:
        raise ScenarioError("network.access_floor_s", f"is above access_median_s = {network.access_median_s}")
    if network.model == "none":
        if scenario.time == "virtual":
            raise ScenarioError("network.model", "'none' needs time = 'real'; in virtual time a packet takes some time")
        for key in network.__struct_fields__:
            if key != "model" and getattr(network, key) != getattr(NetworkSection(), key):
                raise ScenarioError(f"network.{key}", "has no meaning with network.model = 'none'")
    if network.model == "regions" and network.latency_s is not None:
        raise ScenarioError("network.latency_s", "has no meaning with network.model = 'regions'")
    names = NETWORKS.find(network.model).make(scenario).names if network.partitions else ()
    for index, cut in enumerate(network.partitions):
        path = f"network.partitions.{index}"
        if cut.until_s <= cut.from_s:
            raise ScenarioError(f"{path}.until_s", f"{cut.until_s} is not after from_s = {cut.from_s}")
        if cut.from_s >= scenario.duration_s:
            raise ScenarioError(f"{path}.from_s", f"{cut.from_s} is not before the end, {scenario.duration_s}")
        if bool(cut.regions) == bool(cut.groups):
            raise ScenarioError(path, "needs either 'regions' or 'groups'")
        if cut.groups and len(cut.groups) < 2:
            raise ScenarioError(f"{path}.groups", "one group is cut off from nothing; use 'regions'")
        seen: list[str] = []
        for region in cut.regions or [each for group in cut.groups for each in group]:
            key = f"{path}.{'regions' if cut.regions else 'groups'}"
            if region not in names:
                raise ScenarioError(key, f"there is no region {region!r}{suggestion(region, names)}")
            if region in seen:
                raise ScenarioError(key, f"names {region!r} twice")
            seen.append(region)
        if cut.regions and len(cut.regions) == len(names):
            raise ScenarioError(f"{path}.regions", "names all regions, which leaves nothing to be cut off from")


def _check_workload(scenario: Scenario) -> None:
    workload = scenario.workload
    if workload.kind != "put_get":
        for key in ("puts", "gets", "gets_per_peer"):
            if workload.kind in ("none", "possession", "convergence") and getattr(workload, key):
                raise ScenarioError(f"workload.{key}", f"has no meaning with workload.kind = {workload.kind!r}")
        return
    if workload.gets and workload.gets_per_peer:
        raise ScenarioError("workload.gets_per_peer", "and workload.gets cannot both be set")
    if workload.period_s is not None and not workload.gets_per_peer:
        raise ScenarioError("workload.period_s", "has no meaning without workload.gets_per_peer")
    if not workload.puts:
        if workload.gets or workload.gets_per_peer:
            raise ScenarioError("workload.puts", "is 0, so there is nothing to get")
        return
    windows = [("put", scenario.put_window_ns, workload.put_timeout_s)]
    if workload.gets or workload.gets_per_peer:
        windows.append(("get", scenario.get_window_ns, workload.get_timeout_s))
    for name, (start, end), timeout_s in windows:
        given = f"workload.{name}_until_s" if getattr(workload, f"{name}_until_s") else "duration_s"
        if end <= start:
            raise ScenarioError(given, f"leaves no time for {name}s, which could start at {start / NS_PER_S:g} s")
        if end + nanoseconds(timeout_s) > scenario.duration_ns:
            raise ScenarioError(
                given, f"{name}s until {end / NS_PER_S:g} s with {timeout_s:g} s to finish end after the run does"
            )
        if start < scenario.settled_ns:
            raise ScenarioError(
                f"workload.{name}_from_s", f"{start / NS_PER_S:g} is before all peers are up (join_window_s)"
            )
    if len(windows) == 2 and windows[1][1][0] < windows[0][1][0] + nanoseconds(workload.put_timeout_s):
        raise ScenarioError("workload.get_from_s", "comes before the first record can have been stored")
