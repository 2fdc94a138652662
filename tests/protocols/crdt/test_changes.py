import msgspec
import pytest
from hypothesis import given
from msgspec import inspect

from protocols.crdt.bundles import OPERATION_SIZE_MAX
from protocols.crdt.changes import (
    AUTHORITY,
    DEPTH_MAX,
    EDITS_MAX,
    EVIDENCE_SIZE_MAX,
    KEY_SIZE_MAX,
    MEMBERS_MAX,
    RUN_SIZE_MAX,
    VALUE_SIZE_MAX,
    Accuse,
    Assign,
    Authority,
    Blob,
    Change,
    Clear,
    Delete,
    Edit,
    Genesis,
    Insert,
    Role,
    Value,
)
from protocols.crdt.operations import encode_change
from tests.protocols.crdt.forgeries import FORGERIES, KINDS, changes

DECODE = msgspec.msgpack.Decoder(Change).decode
KEY = "k" * KEY_SIZE_MAX
PATH = (KEY,) * DEPTH_MAX


@given(changes())
def test_every_change_is_read_as_it_was_written(change: Change) -> None:
    read = DECODE(encode_change(change))
    assert read == change
    assert type(read) is type(change)
    assert encode_change(read) == encode_change(change)


def test_each_kind_has_a_tag_of_its_own_for_good() -> None:
    assert [kind.__struct_config__.tag for kind in KINDS] == list(range(1, 14))
    assert {type(change) for change, _ in FORGERIES} == {*KINDS}
    assert Authority.__args__ == AUTHORITY


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_in_a_change_is_bounded(kind: type[Change]) -> None:
    assert unbounded(inspect.type_info(kind)) == []


def unbounded(kind: inspect.Type) -> list[str]:
    """The fields of a type whose size nothing limits, or that have more than one encoding."""
    match kind:
        case inspect.BytesType(max_length=limit) | inspect.StrType(max_length=limit):
            return [] if limit is not None else [type(kind).__name__]
        case inspect.VarTupleType():
            return unbounded(kind.item_type) if kind.max_length is not None else ["a tuple"]
        case inspect.TupleType():
            return [found for each in kind.item_types for found in unbounded(each)]
        case inspect.UnionType():
            return [found for each in kind.types for found in unbounded(each)]
        case inspect.StructType():
            return [f"{each.name}: {found}" for each in kind.fields for found in unbounded(each.type)]
        case inspect.IntType():
            return [] if kind.le is not None else ["an integer"]
        case inspect.BoolType() | inspect.NoneType() | inspect.EnumType():
            return []
        case _:
            return [type(kind).__name__]


@pytest.mark.parametrize(
    "change",
    [
        Assign((), 1),
        Assign(("",), 1),
        Assign((*PATH, "k"), 1),
        Assign((KEY + "k",), 1),
        Assign(("a",), "x" * (VALUE_SIZE_MAX + 1)),
        Assign(("a",), Blob(bytes(VALUE_SIZE_MAX + 1))),
        Assign(("a",), 2**63),
        Assign(("a",), 1.0),  # type: ignore[arg-type]
        Assign(("a",), {}),  # type: ignore[arg-type]
        Edit(("a",), ()),
        Edit(("a",), (Delete(1, 0, 1),) * (EDITS_MAX + 1)),
        Edit(("a",), (Insert(None, 0, False, ""),)),
        Edit(("a",), (Insert(None, 0, False, "x" * (RUN_SIZE_MAX + 1)),)),
        Edit(("a",), (Delete(1, 0, 0),)),
        Edit(("a",), (Delete(-1, 0, 1),)),
        Edit(("a",), (Delete(b"short", 0, 1),)),
        Genesis((), bytes(32), 64, 1),
        Genesis(((bytes(32), Role.OWNER),), bytes(31), 64, 1),
        Genesis(((bytes(32), 5),), bytes(32), 64, 1),  # type: ignore[arg-type]
        Genesis(((bytes(32), Role.OWNER),), bytes(32), 63, 1),
        Genesis(((bytes(32), Role.OWNER),), bytes(32), 64, 0),
        Accuse(bytes(EVIDENCE_SIZE_MAX + 1), b""),
    ],
)
def test_what_is_out_of_bounds_is_not_read(change: Change) -> None:
    with pytest.raises(msgspec.ValidationError):
        DECODE(encode_change(change))


@pytest.mark.parametrize("value", [True, 1, "1", Blob(b"1"), None, False, 0, ""])
def test_values_that_python_takes_for_equal_stay_what_they_are(value: Value) -> None:
    read = DECODE(encode_change(Assign(("a",), value)))
    assert isinstance(read, Assign)
    assert read.value == value
    assert type(read.value) is type(value)


def test_the_largest_of_what_has_to_be_written_whole_fits_an_operation() -> None:
    members = tuple((number.to_bytes(32, "big"), Role.MEMBER) for number in range(MEMBERS_MAX))
    for change in (
        Genesis(members, bytes(32), 2**32, 2**20),
        Accuse(bytes(EVIDENCE_SIZE_MAX), bytes(EVIDENCE_SIZE_MAX)),
        Assign(PATH, "\U0010ffff" * (VALUE_SIZE_MAX // 4)),
        Edit(PATH, (Insert(bytes(32), 2**63 - 1, True, "\U0010ffff" * RUN_SIZE_MAX),)),
        Clear(PATH),
    ):
        assert len(encode_change(change)) <= OPERATION_SIZE_MAX
