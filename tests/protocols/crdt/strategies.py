"""Changes of small documents, in which everything meets everything."""

from typing import Final

from hypothesis import strategies as st

from protocols.crdt.changes import (
    Add,
    Append,
    Assign,
    AssignMulti,
    Blob,
    Change,
    Clear,
    Delete,
    Edit,
    Increment,
    Insert,
    Remove,
)

PATHS: Final = (("a",), ("a", "b"), ("a", "b", "c"), ("b",))

paths: Final = st.sampled_from(PATHS)
values: Final = st.sampled_from((True, 1, "1", Blob(b"1"), None))

registers: Final = st.builds(Assign, paths, values)
multi_registers: Final = st.builds(AssignMulti, paths, values)
counters: Final = st.builds(Increment, paths, st.integers(-9, 9))
sets: Final = st.builds(Add, paths, values) | st.builds(Remove, paths, values)
timelines: Final = st.builds(Append, paths, values)
texts: Final = st.builds(
    Edit,
    paths,
    st.sampled_from(((Insert(None, 0, False, "ab"),), (Insert(None, 0, False, "xyz"), Delete(0, 1, 1)))),
)
clears: Final = st.builds(Clear, paths)

TYPES: Final[dict[str, st.SearchStrategy[Change]]] = {
    "registers": registers,
    "multi-value registers": multi_registers,
    "counters": counters,
    "sets": sets,
    "timelines": timelines,
    "texts": texts,
}


def content(*, texts: bool = True) -> st.SearchStrategy[Change]:
    """Of every type."""
    return st.one_of(clears, *(each for name, each in TYPES.items() if texts or name != "texts"))
