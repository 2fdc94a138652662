"""How a command of the command line ends: what all of them share.

Whatever goes wrong is one line on standard error. Exit codes: 0 all is well; 1 the answer is no (vectors failed, runs
differ, a promise was broken), or a handler has a bug; 2 what was asked for cannot be done; 3 a shard died; 130
interrupted.
"""

# ruff: noqa: PLC0415 - only what is needed is imported, so that --help is there at once
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

EXIT_NO = 1
EXIT_UNUSABLE = 2
EXIT_SHARD_LOST = 3
EXIT_INTERRUPTED = 130

Debug = Annotated[bool, typer.Option("--debug", help="On an error, show where in the code it came from.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]


def print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one line and an exit code."""
    from protocols.errors import LocalError, SpacePandaError, StorageError

    try:
        yield
    except KeyboardInterrupt:
        if debug:
            raise
        typer.echo("interrupted before it was done", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if debug:
            raise
        line = " ".join(str(error).split())
        if isinstance(error, LocalError | StorageError):
            code = EXIT_UNUSABLE
        elif isinstance(error, SpacePandaError):
            from cluster.exchange import ShardLostError

            code = EXIT_SHARD_LOST if isinstance(error, ShardLostError) else EXIT_NO
        else:
            code = EXIT_NO
            line = f"a bug of SpacePanda: {type(error).__name__}: {line} (--debug shows where)"
        raise typer.Exit(fail(line, code)) from None


def fail(line: str, code: int) -> int:
    typer.echo(f"error: {line}", err=True)
    return code
