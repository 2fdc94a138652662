"""What may be known of a keystore: no secret is among it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from protocols.identity.ids import DeviceId, UserId
from protocols.identity.keystore import Argon2Parameters, Content, DeviceKeys, Header
from protocols.identity.keystore.sealed import VERSION


def user_id(content: Content, whole: bool = False) -> str:
    found = UserId.of(content.user_public)
    return bytes(found).hex() if whole else str(found)


def device_id(public: bytes, whole: bool = False) -> str:
    found = DeviceId.of(public)
    return bytes(found).hex() if whole else str(found)


def kdf_facts(parameters: Argon2Parameters) -> dict[str, Any]:
    return {
        "algorithm": "argon2id",
        "memory_kib": parameters.memory_kib,
        "passes": parameters.passes,
        "lanes": parameters.lanes,
    }


def facts(path: Path, header: Header, content: Content) -> dict[str, Any]:
    """All that may be known of a keystore."""
    return {
        "path": str(path),
        "version": VERSION,
        "generation": content.generation,
        "imported": content.imported,
        "kdf": kdf_facts(header.parameters),
        "user": {
            "id": user_id(content, whole=True),
            "key": content.user_public.hex(),
            "certifies": content.user_seed is not None,
        },
        "devices": [_device_facts(each) for each in content.devices],
        "retired": [
            {"id": device_id(each.public, whole=True), "key": each.public.hex(), "retired_at": _time(each.retired_at)}
            for each in content.archive
        ],
        "journal_streams": len(content.anchors),
    }


def _device_facts(keys: DeviceKeys) -> dict[str, Any]:
    certificate = keys.certificate
    return {
        "id": device_id(keys.public, whole=True),
        "key": keys.public.hex(),
        "network": _printable(keys.network_id),
        "created_at": _time(keys.created_at),
        "purposes": list(certificate.purposes) if certificate else [],
        "not_before": _time(certificate.not_before) if certificate else None,
        "not_after": _time(certificate.not_after) if certificate else None,
    }


def _printable(name: bytes) -> str:
    """Whoever made the keystore chose it: it must not steer the terminal."""
    text = name.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _time(ns: int) -> str:
    """UTC, to the second. What no calendar has is shown as it is."""
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return f"{ns} ns"


def tables(known: dict[str, Any]) -> list[RenderableType]:
    """``facts`` on a terminal."""
    kdf, user = known["kdf"], known["user"]
    summary = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    for name, value in (
        ("keystore", known["path"]),
        ("generation", f"{known['generation']}{', imported' if known['imported'] else ''}"),
        ("derivation", str(Argon2Parameters(kdf["memory_kib"], kdf["passes"], kdf["lanes"]))),
        ("user", f"{_short(user['id'])}{'' if user['certifies'] else ', whose key is elsewhere'}"),
        ("journal", f"{known['journal_streams']} streams" if known["journal_streams"] else "none"),
        ("retired", ", ".join(_short(each["id"]) for each in known["retired"]) or "none"),
    ):
        summary.add_row(name, Text(value))
    devices = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("device", "network", "for", "from", "until"):
        devices.add_column(title, no_wrap=title != "for", overflow="fold")
    for each in known["devices"]:
        purposes = ", ".join(each["purposes"]) or "not certified"
        days = (_day(each["not_before"]), _day(each["not_after"]))
        devices.add_row(*(Text(cell) for cell in (_short(each["id"]), each["network"], purposes, *days)))
    return [summary, Text(), devices]


def _short(digits: str) -> str:
    return digits[:16]


def _day(time: str | None) -> str:
    return (time or "").partition("T")[0]
