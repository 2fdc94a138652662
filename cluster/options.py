"""TOML tables to structs, with errors that a person can act on.

``msgspec`` checks types and bounds; this walks the tables for it, one field at a time, because a scenario
error must name the whole path of the key (``network.partitions.0.from_s``), show the value, and offer
the nearest key that exists, if need be in another table.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from cluster.registry import suggestion
from protocols.errors import LocalError

StructT = TypeVar("StructT", bound=msgspec.Struct)


class ScenarioError(LocalError):
    """A scenario asks for something that does not exist, cannot be, or cannot be done together."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        """The full path of the key at fault."""
        self.problem = problem

    def __reduce__(self) -> tuple[type["ScenarioError"], tuple[str, str]]:
        return type(self), (self.key, self.problem)


def read(
    struct: type[StructT], table: Mapping[str, Any], path: str = "", root: type[msgspec.Struct] | None = None
) -> StructT:
    """The struct that ``table`` describes; ``path`` is where the table stands in its file.

    Raises:
        ScenarioError: an unknown or missing key, or a value of the wrong type or out of bounds.
    """
    root = root or struct
    if not isinstance(table, Mapping):
        raise ScenarioError(path, f"{table!r} is not a table")
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in table:
        if key not in fields:
            raise ScenarioError(join(path, key), "no such option" + _nearest(key, path, fields, root))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            values[field.name] = _read_value(field.type, table[key], join(path, key), root)
        elif field.required:
            raise ScenarioError(join(path, key), "is missing")
    try:
        return struct(**values)
    except ScenarioError:
        raise
    except (LocalError, ValueError) as error:
        raise ScenarioError(path, str(error)) from error


def join(path: str, key: str | int) -> str:
    """The path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path else str(key)


def _read_value(expected: Any, value: Any, path: str, root: type[msgspec.Struct]) -> Any:
    if _is_struct(expected):
        return read(expected, value, path, root)
    arguments = get_args(expected)
    if get_origin(expected) is tuple and _is_struct(arguments[0]):
        if not isinstance(value, list | tuple):
            raise ScenarioError(path, f"{value!r} is not an array of tables")
        return tuple(read(arguments[0], each, join(path, i), root) for i, each in enumerate(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(path, f"{value} is not a number that a run can use")
    try:
        return msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at `")[0].replace("`", "")
        allowed = next((get_args(each) for each in (expected, *arguments) if _is_choice(each)), ())
        if allowed and isinstance(value, str):
            reason = f"not one of the choices{suggestion(value, allowed)}"
        raise ScenarioError(path, f"{value!r} is impossible: {reason[0].lower()}{reason[1:]}") from None


def _is_struct(expected: Any) -> bool:
    return isinstance(expected, type) and issubclass(expected, msgspec.Struct)


def _is_choice(expected: Any) -> bool:
    arguments = get_args(expected)
    return bool(arguments) and all(isinstance(each, str) for each in arguments)


def _nearest(key: str, path: str, siblings: Mapping[str, Any], root: type[msgspec.Struct]) -> str:
    if near := get_close_matches(key, list(siblings), n=1, cutoff=0.6):
        return f"; did you mean {join(path, near[0])!r}?"
    leaves: dict[str, str] = {}
    for candidate in paths(root):
        leaves.setdefault(candidate.rpartition(".")[2], candidate)
    if near := get_close_matches(key, list(leaves), n=1, cutoff=0.6):
        return f"; did you mean {leaves[near[0]]!r}?"
    return f"; there are: {', '.join(join(path, each) for each in siblings)}" if siblings else ""


def paths(struct: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    """Every key that a file of this struct may set, with its full path; ``0`` stands for any index."""
    for field in msgspec.structs.fields(struct):
        here = join(path, field.encode_name)
        arguments = get_args(field.type)
        if _is_struct(field.type):
            yield from paths(field.type, here)
        elif get_origin(field.type) is tuple and _is_struct(arguments[0]):
            yield from paths(arguments[0], join(here, 0))
        else:
            yield here


def set_path(table: dict[str, Any], path: str, value: Any) -> None:
    """Set ``a.b.0.c`` in nested tables, in place; tables on the way are made. Keys may be quoted, as in TOML.

    Raises:
        ScenarioError: the path leads through something that is no table, or past the end of an array.
    """
    keys = _keys(path)
    here: Any = table
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                raise ScenarioError(path, f"the array has {len(here)} entries; {key!r} is none of them")
            if last:
                here[int(key)] = value
            else:
                here = here[int(key)]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            else:
                here = here.setdefault(key, {})
        else:
            raise ScenarioError(path, f"{'.'.join(keys[:depth])!r} is a value, not a table")


def _keys(path: str) -> list[str]:
    try:
        here: Any = tomllib.loads(f"{path} = 0")
    except tomllib.TOMLDecodeError:
        raise ScenarioError("", f"{path!r} is no path of a key, which looks like network.loss") from None
    keys = []
    while isinstance(here, dict):
        [(key, here)] = here.items()
        keys.append(key)
    return keys
