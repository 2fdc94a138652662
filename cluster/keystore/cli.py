"""The commands. Nothing here prints a secret, also not with ``--json``."""

# ruff: noqa: PLC0415 - only what is needed is imported, so that --help is there at once
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cluster.command import Debug, Json, errors, print_json

if TYPE_CHECKING:
    from cluster.keystore.passphrase import Source
    from protocols.identity.certificates import Purpose
    from protocols.identity.keystore import Argon2Parameters, Content, DeviceKeys

NS_PER_MS: Final = 1_000_000
NS_PER_DAY: Final = 24 * 3600 * 10**9
FD_MAX: Final = 2**31 - 1
DEVICE_DIGITS_MIN: Final = 8
"""Of a device's id, to name it by: one in four billion is somebody else's."""

keystore = typer.Typer(help="Make, look at and change the file that a device's keys are in.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="The keystore.")]
Fd = Annotated[
    int | None,
    typer.Option("--passphrase-fd", metavar="N", min=0, max=FD_MAX, help="Read it from descriptor N: a line."),
]
Secret = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="F", readable=False, help="Read it from a file that is yours alone."),
]
NewFd = Annotated[
    int | None,
    typer.Option("--new-passphrase-fd", metavar="N", min=0, max=FD_MAX, help="Read the new one from descriptor N."),
]
NewSecret = Annotated[
    Path | None,
    typer.Option("--new-passphrase-file", metavar="F", readable=False, help="Read the new one from a file."),
]
Kdf = Annotated[
    str | None, typer.Option(metavar="MIB,PASSES,LANES", help="What a guess costs; `calibrate` finds it out.")
]
Network = Annotated[str, typer.Option(help="The network that the device is in.")]
Days = Annotated[int, typer.Option("--valid-days", min=1, max=36_500, help="How long the user certifies it.")]


@keystore.command()
def create(
    path: File,
    network: Network = "spacepanda",
    valid_days: Days = 365,
    kdf: Kdf = None,
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    debug: Debug = False,
) -> None:
    """Make a user and a first device, and seal their keys."""
    with errors(debug):
        import os
        import time

        from cluster.keystore import opening
        from cluster.keystore.facts import device_id, user_id
        from protocols.identity.keystore import Argon2Parameters, Content
        from protocols.identity.keystore.content import CONTENT_ENTROPY_SIZE

        parameters, name = _parameters(kdf) or Argon2Parameters(), _network(network)
        opening.require_free(path)
        source = _present(passphrase_fd, passphrase_file)
        with source.passphrase(f"that {path} is to have", confirm=True) as secret:
            now = time.time_ns()
            content = Content.generate(os.urandom(CONTENT_ENTROPY_SIZE), name, now, now + valid_days * NS_PER_DAY)
            opening.create(path, content, secret, parameters)
        typer.echo(f"created {path}: user {user_id(content)}, device {device_id(content.device_public)}")


@keystore.command()
def show(
    path: File, passphrase_fd: Fd = None, passphrase_file: Secret = None, json: Json = False, debug: Debug = False
) -> None:
    """Show whose keys are in it, for what and how long; and no secret."""
    with errors(debug):
        from rich.console import Console

        from cluster.keystore import opening
        from cluster.keystore.facts import facts, tables
        from protocols.identity.keystore import Role

        header, content = opening.look(path, Role.KEYSTORE, _present(passphrase_fd, passphrase_file))
        known = facts(path, header, content)
        if json:
            print_json(known)
        else:
            for table in tables(known):
                Console().print(table)


@keystore.command()
def passwd(
    path: File,
    kdf: Kdf = None,
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    new_passphrase_fd: NewFd = None,
    new_passphrase_file: NewSecret = None,
    debug: Debug = False,
) -> None:
    """Change the passphrase. An older copy of the file keeps the older one."""
    with errors(debug):
        import time

        from cluster.keystore import opening

        asked = _parameters(kdf)
        new = _new(new_passphrase_fd, new_passphrase_file)
        with (
            opening.opened(path, _present(passphrase_fd, passphrase_file)) as vault,
            new.passphrase(f"that {path} is to have", confirm=True) as secret,
        ):
            vault.change_passphrase(secret, asked or vault.parameters, time.time_ns())
        typer.echo(f"{path} has a new passphrase: generation {vault.content.generation}, {vault.parameters}")


@keystore.command()
def export(
    path: File,
    to: Annotated[Path, typer.Argument(metavar="EXPORT", readable=False, help="The file to make.")],
    kdf: Kdf = None,
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    new_passphrase_fd: NewFd = None,
    new_passphrase_file: NewSecret = None,
    debug: Debug = False,
) -> None:
    """Make a copy to carry elsewhere, under a passphrase of its own."""
    with errors(debug):
        from cluster.keystore import opening
        from protocols.identity.keystore import Role

        asked = _parameters(kdf)
        opening.require_free(to)
        header, content = opening.look(path, Role.KEYSTORE, _present(passphrase_fd, passphrase_file))
        new = _new(new_passphrase_fd, new_passphrase_file)
        with new.passphrase(f"that {to} is to have", confirm=True) as secret:
            opening.export(to, content, secret, asked or header.parameters)
        typer.echo(f"exported generation {content.generation} of {path} to {to}")


@keystore.command(name="import")
def import_(
    exported: Annotated[Path, typer.Argument(metavar="EXPORT", readable=False, help="What was exported.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="The keystore to make.")],
    kdf: Kdf = None,
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    new_passphrase_fd: NewFd = None,
    new_passphrase_file: NewSecret = None,
    debug: Debug = False,
) -> None:
    """Make a keystore of an export.

    Until others say how far its devices went where it came from, they send nothing that could repeat itself.
    """
    with errors(debug):
        import os

        from cluster.keystore import opening
        from cluster.keystore.facts import user_id
        from protocols.identity.keystore import Role
        from protocols.identity.keystore.content import JOURNAL_ROOT_SIZE

        asked = _parameters(kdf)
        opening.require_free(path)
        header, content = opening.look(exported, Role.EXPORT, _present(passphrase_fd, passphrase_file))
        content = content.from_elsewhere(os.urandom(JOURNAL_ROOT_SIZE))
        new = _new(new_passphrase_fd, new_passphrase_file)
        with new.passphrase(f"that {path} is to have", confirm=True) as secret:
            opening.create(path, content, secret, asked or header.parameters)
        typer.echo(f"imported {exported} to {path}: user {user_id(content)}, devices: {len(content.devices)}")


@keystore.command()
def verify(
    path: File, passphrase_fd: Fd = None, passphrase_file: Secret = None, json: Json = False, debug: Debug = False
) -> None:
    """Say whether it opens, and whether it is the last one that its journal knows, if it has one.

    It changes nothing, except that it settles a save that was interrupted.
    """
    with errors(debug):
        from cluster.keystore import opening
        from protocols.identity.keystore import Role

        source = _present(passphrase_fd, passphrase_file)
        journaled = opening.has_journal(path)
        if journaled:
            with opening.opened(path, source) as vault:
                content = vault.content
        else:
            _, content = opening.look(path, Role.KEYSTORE, source)
        for each in content.devices:
            if each.certificate is not None:
                each.certificate.verify()
        if json:
            print_json({"path": str(path), "generation": content.generation, "journal": journaled})
        else:
            said = "the last one that its journal knows" if journaled else "and no journal knows whether it is the last"
            typer.echo(f"{path} is whole: generation {content.generation}, {said}")


@keystore.command()
def add_device(
    path: File,
    network: Network = "spacepanda",
    valid_days: Days = 365,
    purpose: Annotated[list[str] | None, typer.Option(help="What it may do; everything by default.")] = None,
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    debug: Debug = False,
) -> None:
    """Make the keys of another device; certify it, if the user's key is here."""
    with errors(debug):
        import os
        import time

        from cluster.keystore import opening
        from cluster.keystore.facts import device_id
        from protocols.identity.device import IDENTITY_ENTROPY_SIZE
        from protocols.identity.keystore import DeviceKeys

        name, purposes = _network(network), _purposes(purpose)
        with opening.opened(path, _present(passphrase_fd, passphrase_file)) as vault:
            now = time.time_ns()
            keys = DeviceKeys.generate(os.urandom(IDENTITY_ENTROPY_SIZE), name, now)
            content = vault.content.add_device(keys)
            certifies = content.user_seed is not None
            if certifies:
                content = content.certify_device(keys.public, now, now + valid_days * NS_PER_DAY, purposes)
            vault.save(content, now)
        typer.echo(f"added device {device_id(keys.public)}{'' if certifies else ', which nobody certified yet'}")


@keystore.command()
def remove_device(
    path: File,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id, or how it begins.")],
    passphrase_fd: Fd = None,
    passphrase_file: Secret = None,
    debug: Debug = False,
) -> None:
    """Retire a device's keys. To revoke it is another matter: others have to be told."""
    with errors(debug):
        import time

        from cluster.keystore import opening
        from cluster.keystore.facts import device_id

        with opening.opened(path, _present(passphrase_fd, passphrase_file)) as vault:
            keys = _device(vault.content, device)
            now = time.time_ns()
            vault.save(vault.content.remove_device(keys.public, now), now)
        typer.echo(f"removed device {device_id(keys.public)}")


@keystore.command()
def calibrate(
    target_ms: Annotated[int, typer.Option(min=250, max=750, help="How long an unlock is to take.")] = 500,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find what a guess should cost on this machine, as --kdf takes it."""
    with errors(debug):
        from cluster.keystore.facts import kdf_facts
        from protocols.identity.keystore import calibrate

        found = calibrate(target_ms * NS_PER_MS, _measure)
        taken_ms = _measure(found) // NS_PER_MS
        if json:
            print_json(kdf_facts(found) | {"ms": taken_ms})
        else:
            kdf = f"{found.memory_kib // 1024},{found.passes},{found.lanes}"
            typer.echo(f"--kdf {kdf} ({found}) takes {taken_ms} ms here")


def _present(descriptor: int | None, file: Path | None) -> "Source":
    """Of the passphrase that a file has, or of its only one."""
    from cluster.keystore.passphrase import Source

    return Source("--passphrase", descriptor, file)


def _new(descriptor: int | None, file: Path | None) -> "Source":
    """Of the passphrase that the file to be made has."""
    from cluster.keystore.passphrase import Source

    return Source("--new-passphrase", descriptor, file)


def _measure(parameters: "Argon2Parameters") -> int:
    """Nanoseconds that an unlock takes: the better of two, as the first also takes the memory from the system."""
    import time

    from protocols.identity.keystore import Unlocked
    from protocols.identity.keystore.kdf import SALT_SIZE

    taken = []
    for _ in range(2):
        start = time.perf_counter_ns()
        Unlocked.derive(b"calibration", bytes(SALT_SIZE), parameters).lock()
        taken.append(time.perf_counter_ns() - start)
    return min(taken)


def _parameters(kdf: str | None) -> "Argon2Parameters | None":
    from protocols.errors import LocalError
    from protocols.identity.keystore import Argon2Parameters

    if kdf is None:
        return None
    try:
        memory_mib, passes, lanes = (int(each) for each in kdf.split(","))
    except ValueError:
        raise LocalError(f"--kdf takes MIB,PASSES,LANES such as 64,3,4, and not {kdf!r}") from None
    try:
        return Argon2Parameters(memory_mib * 1024, passes, lanes)
    except LocalError as error:
        raise LocalError(f"--kdf {kdf} is out of bounds: {error}") from None


def _network(network: str) -> bytes:
    from protocols.errors import LocalError
    from protocols.identity.device import NETWORK_ID_SIZE_MAX

    name = network.encode(errors="surrogateescape")
    if not 0 < len(name) <= NETWORK_ID_SIZE_MAX:
        raise LocalError(f"--network takes 1 to {NETWORK_ID_SIZE_MAX} bytes")
    return name


def _purposes(purposes: list[str] | None) -> "tuple[Purpose, ...]":
    from protocols.errors import LocalError
    from protocols.identity.certificates import ALL_PURPOSES, Purpose

    try:
        return tuple(sorted({Purpose(each) for each in purposes})) if purposes else ALL_PURPOSES
    except ValueError:
        raise LocalError(f"--purpose is one of {', '.join(ALL_PURPOSES)}") from None


def _device(content: "Content", digits: str) -> "DeviceKeys":
    from cluster.keystore.facts import device_id
    from protocols.errors import LocalError

    wanted = digits.lower()
    found = [each for each in content.devices if device_id(each.public, whole=True).startswith(wanted)]
    if len(wanted) < DEVICE_DIGITS_MIN or len(found) != 1:
        raise LocalError(f"no device has an id that begins with {digits!r}, in {DEVICE_DIGITS_MIN} digits or more")
    return found[0]
