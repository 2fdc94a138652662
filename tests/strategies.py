"""Hypothesis strategies for messages, read from their types: a new message is tested without a line here."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any, Final

from hypothesis import reject
from hypothesis import strategies as st
from msgspec import inspect

from protocols.messages import Message

PACKAGES: Final = ("protocols", "actors", "cluster")

INTEGERS: Final = (-(2**63), 2**64 - 1)
"""What MessagePack can say; a field without bounds accepts all of it."""

LENGTH_MAX: Final = 2_000
"""Longer bytes find nothing that these do not, only later."""


class NotAMessageFieldError(TypeError):
    """A field's type has no one natural encoding, or is mutable."""


def modules() -> list[ModuleType]:
    """Every module of the three packages, imported."""
    found = [importlib.import_module(package) for package in PACKAGES]
    for package in tuple(found):
        names = [info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        found += map(importlib.import_module, names)
    return found


def message_types() -> list[type[Message]]:
    """Every message type of the three packages, in the order of their tags."""
    modules()
    found = list(Message.__subclasses__())
    for each in found:
        found += each.__subclasses__()
    ours = {each for each in found if each.__module__.partition(".")[0] in PACKAGES}
    return sorted(ours, key=lambda each: (str(each.__struct_config__.tag), each.__qualname__))


def messages_of(*types: type[Message]) -> st.SearchStrategy[Message]:
    """Instances of any of these types, within the bounds that their fields declare."""
    return st.one_of([_values(inspect.type_info(each)) for each in types])


def _values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(*_integer_bounds(kind))
        case inspect.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=_length(kind.min_length, kind.max_length))
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern)
        case inspect.StrType():
            readable = st.characters(codec="utf-8")
            return st.text(readable, min_size=kind.min_length or 0, max_size=_length(kind.min_length, kind.max_length))
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.UnionType():
            return st.one_of([_values(each) for each in kind.types])
        case inspect.VarTupleType():
            size_max = min(kind.max_length or 5, 5)
            return st.lists(_values(kind.item_type), min_size=kind.min_length or 0, max_size=size_max).map(tuple)
        case inspect.TupleType():
            return st.tuples(*[_values(each) for each in kind.item_types])
        case inspect.StructType() if kind.cls.__struct_config__.frozen:
            fields = {each.name: _values(each.type) for each in kind.fields}
            return st.fixed_dictionaries(fields).map(lambda values: _made(kind.cls, values))
        case inspect.Metadata():
            return _values(kind.type)
        case _:
            raise NotAMessageFieldError(f"{type(kind).__name__} in a message")


def _made(struct: type, values: dict[str, Any]) -> Any:
    """One that can be: some say in ``__post_init__`` what their fields' types cannot."""
    try:
        return struct(**values)
    except ValueError:
        reject()


def _integer_bounds(kind: inspect.IntType) -> tuple[int, int]:
    low = kind.ge if kind.ge is not None else INTEGERS[0] if kind.gt is None else kind.gt + 1
    high = kind.le if kind.le is not None else INTEGERS[1] if kind.lt is None else kind.lt - 1
    return low, high


def _length(low: int | None, high: int | None) -> int:
    return max(low or 0, min(LENGTH_MAX if high is None else high, LENGTH_MAX))


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """What an enemy or a bad line makes of ``data``: cut short, lengthened, bits flipped, bytes exchanged."""
    place = st.integers(0, max(0, len(data) - 1))
    flipped = st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(lambda at: _flip(data, at))
    replaced = st.tuples(place, st.binary(max_size=6)).map(lambda cut: data[: cut[0]] + cut[1] + data[cut[0] + 1 :])
    return st.one_of(
        st.integers(0, len(data)).map(lambda end: data[:end]),
        st.binary(min_size=1, max_size=20).map(lambda tail: data + tail),
        flipped if data else st.just(b""),
        replaced,
        st.tuples(place, place).map(lambda ends: data[: min(ends)] + data[max(ends) :]),
    )


def _flip(data: bytes, at: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, bit in at:
        changed[place] ^= 1 << bit
    return bytes(changed)
