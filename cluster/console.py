"""What a run looks like on a terminal: how far it is, and what came of it.

Progress goes to standard error and results to standard output, so a pipe gets results only. Without a terminal
there is no line to repaint: a line every few seconds says how far the run is.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from cluster.diff import Verdict
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.simulation import Progress as RunProgress

LINE_EVERY_S: Final = 5.0
"""Between two lines of progress where nothing can be repainted."""

Watch = Callable[[RunProgress], None]


def describe(scenario: Scenario, where: str) -> list[str]:
    """Two lines about a run that begins: its seed first, then what else decides it."""
    network = scenario.network
    options = [
        f"{scenario.start} start through {scenario.bootstraps} bootstraps",
        f"network {network.model}",
        f"loss {network.loss:g}",
        f"{len(network.partitions)} partitions" if network.partitions else "",
        f"churn {scenario.churn.model}",
        _asked(scenario),
        f"charge {scenario.charge}" if scenario.charge != "free" else "",
        f"{scenario.disk.kind} disks" if scenario.disk.kind != "none" else "",
        *(f"{each.count} {each.kind}" for each in scenario.adversaries),
    ]
    return [
        f"{scenario.name}: seed {scenario.seed}, {scenario.peers:,} peers, {_s(scenario.duration_s)} of "
        f"{scenario.time} time, {where}",
        ", ".join(each for each in options if each),
    ]


def _asked(scenario: Scenario) -> str:
    """What the peers have to do."""
    workload = scenario.workload
    if workload.kind != "put_get":
        return ", ".join([f"workload {workload.kind}", *(f"{k} {v}" for k, v in workload.options.items())])
    if workload.gets_per_peer:
        gets = f"{workload.gets_per_peer} gets per peer and {_s(workload.period_ns / NS_PER_S)}"
    else:
        gets = f"{workload.gets:,} gets"
    return f"{workload.puts:,} puts, {gets}"


@contextmanager
def progress(console: Console, verb: str = "") -> Iterator[Watch]:
    """Shows how far a run is, for as long as the block lasts."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task = bar.add_task(verb or "starting", total=None, state="")

        def show(now: RunProgress) -> None:
            bar.update(task, description=verb or "running", total=now.duration, completed=now.now, state=_state(now))

        yield show


def _lines(console: Console) -> Watch:
    shown = time.monotonic()

    def show(now: RunProgress) -> None:
        nonlocal shown
        if time.monotonic() - shown >= LINE_EVERY_S:
            shown = time.monotonic()
            console.print(_state(now), highlight=False)

    return show


def _state(now: RunProgress) -> str:
    eta = "" if now.eta_s is None else f", {now.eta_s:.0f} s to go"
    return (
        f"{now.now / NS_PER_S:.0f} of {now.duration / NS_PER_S:.0f} s, {now.up:,} peers up, "
        f"{now.events_per_s:,.0f} events/s{eta}"
    )


# -- results ----------------------------------------------------------------------------------------------


def _speed(summary: Mapping[str, Any]) -> str:
    """How much faster than the clock virtual time went."""
    if summary["time"] != "virtual" or not summary["wall_s"]:
        return ""
    return f", {summary['virtual_s'] / summary['wall_s']:,.1f} times as fast"


def results_table(summary: Mapping[str, Any]) -> Table:
    """The figures that a reader wants first; ``summary.json`` has all of them."""
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    lookups, puts = summary["lookups"], summary["puts"]
    rows = [
        (
            "time",
            f"{summary['virtual_s']:,.1f} s {summary['time']}, {summary['wall_s']:,.1f} s of wall time"
            f"{_speed(summary)}; {summary['ready_s']:,.1f} s before the first event",
        ),
        ("events", f"{summary['events']:,}, {summary['events_per_s'] or 0:,.0f} a second"),
        ("peers", f"{summary['peers']:,}, {summary['peers_up']:,} up at the end"),
        ("packets", f"{summary['packets']:,}, {_bytes(summary['bytes'])}; dropped: {_reasons(summary['drops'])}"),
        ("handshakes", f"{summary['handshakes']:,}; failed dials: {_reasons(summary['dials_failed'])}"),
    ]
    if puts["count"]:
        rows.append(("puts", f"{puts['count']:,}, {_percent(puts['success_ratio'])} stored{_unhappy(puts)}"))
    if lookups["count"]:
        rows.append(("gets", f"{lookups['count']:,}, {_percent(lookups['success_ratio'])} found{_unhappy(lookups)}"))
    for name, each in summary["phases"].items():
        if each["count"]:
            rows.append(
                (f"  {name} cut", f"{each['count']:,}, {_percent(each['success_ratio'])} found{_unhappy(each)}")
            )
    if lookups["hops"]:
        theory = "" if lookups["hops_theory"] is None else f"; theory {lookups['hops_theory']:.2f}"
        rows.append(("hops", _distribution(lookups["hops"], "{:.0f}", "{:.2f}") + theory))
        rows.append(("latency", _distribution(lookups["latency_ms"], "{:,.0f} ms", "{:,.0f} ms")))
    if summary["possession"]:
        rows.extend(_possession(summary["possession"]))
    if summary["convergence"]:
        rows.extend(_convergence(summary["convergence"]))
    if summary["journal"]:
        rows.append(("journal", _journal(summary["journal"])))
    rows += [
        ("security", _reasons(summary["security_events"])),
        ("memory", f"{_bytes(summary['peak_memory'])} at most" if summary["peak_memory"] else "not known"),
    ]
    if any(summary["time_share"].values()):
        rows.append(("time share", ", ".join(f"{k} {_percent(v)}" for k, v in summary["time_share"].items())))
    missing = "none: real time is not repeatable" if summary["time"] == "real" else "none: the run was interrupted"
    rows.append(("digest", summary["digest"] or missing))
    for row in rows:
        table.add_row(*row)
    return table


def scenarios_table(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("about")
    for row in rows:
        table.add_row(*row)
    return table


def print_verdict(console: Console, verdict: Verdict) -> None:
    """What ``diff`` found, the verdict first."""
    console.print("same" if verdict.same else "different", style="bold", highlight=False)
    for line in verdict.lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _s(seconds: float) -> str:
    return f"{seconds:g} s"


def _percent(ratio: float | None) -> str:
    return "none of which counts" if ratio is None else f"{100 * ratio:.4g} %"


def _journal(journal: Mapping[str, Any]) -> str:
    """What was written, and what came of it when peers came back."""
    return (
        f"{journal['records']:,} records, {_bytes(journal['bytes'])}; {journal['records_recovered']:,} recovered, "
        f"{journal['torn']:,} torn tails, failed disks: {_reasons(journal['disks_failed'])}"
    )


def _possession(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How honest proofs fared, and what came of the others."""
    proofs = figures["proofs"]
    lines = [
        (
            "proofs",
            f"{proofs['count']:,}, {_percent(proofs['success_ratio'])} accepted{_unhappy(proofs)}; refused: "
            f"{_reasons(proofs['refused'])}",
        )
    ]
    if proofs["latency_ms"]:
        lines.append(("  latency", _distribution(proofs["latency_ms"], "{:,.0f} ms", "{:,.0f} ms")))
    if figures["to_liars"]:
        lines.append(("  to liars", _reasons(figures["to_liars"])))
    lines.append(
        (
            "convinced",
            f"{figures['convinced']:,} times, {figures['false_accepts']:,} of them falsely; standing of the devices: "
            f"{_reasons(figures['standing'])}",
        )
    )
    checks = {reason: n for reason, n in figures["checks"].items() if reason != "accepted"}
    lines.append(("  or not", _reasons(checks)))
    lines.append(("honest blamed", _reasons(figures["honest_blamed"])))
    return lines


def _convergence(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whether replicas agree in the end, and what liars could do about it."""
    lines = [
        (kind, f"{each['count']:,}, {_percent(each['success_ratio'])} durable{_unhappy(each)}")
        for kind in ("writes", "grants", "revokes")
        if (each := figures[kind])["count"]
    ]
    traffic = figures["traffic"]
    lines += [
        (
            "replicas",
            f"{figures['replicas']:,} of honest members, {figures['digests']:,} "
            f"{'digest' if figures['digests'] == 1 else 'digests'}; {figures['operations']:,} operations, "
            f"{figures['inert']:,} of them inert",
        ),
        (
            "  taken in",
            f"{traffic['taken']:,} operations, {traffic['duplicates']:,} came again; units parked "
            f"{traffic['parked_units']:,}, refused: {_reasons(traffic['refused_units'])}",
        ),
        ("  exchanges", _reasons(traffic["exchanges"])),
    ]
    lines += [
        ("damage", f"peer {each['peer']} ({each['kind']}): {each['counting']:,} count, {each['inert']:,} inert")
        for each in figures["damage"]
    ]
    lines.append(("forged", f"{figures['forged']:,} held" if figures["forged"] else "none held"))
    lines.append(("honest blamed", _reasons(figures["honest_blamed"])))
    lines.append(("promises", "all kept" if not figures["broken"] else "; ".join(figures["broken"])))
    return lines


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:,.2f} GB"


def _reasons(table: Mapping[str, int]) -> str:
    most = sorted(table.items(), key=lambda each: -each[1])
    return ", ".join(f"{name or 'other'} {n:,}" for name, n in most) or "none"


def _unhappy(operations: Mapping[str, Any]) -> str:
    """What came of the others."""
    rest = {name: n for name, n in operations["outcomes"].items() if name != "ok"}
    return f" ({_reasons(rest)})" if rest else ""


def _distribution(values: Mapping[str, float], quantile: str, mean: str) -> str:
    quantiles = [f"{name.upper()} {quantile.format(values[name])}" for name in ("p50", "p90", "p99")]
    return ", ".join([*quantiles, f"mean {mean.format(values['mean'])}"])
