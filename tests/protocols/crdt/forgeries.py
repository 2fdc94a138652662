"""Changes of every kind: any at all for Hypothesis, and one of each with what a forger would make of it."""

from typing import Final, cast

from hypothesis import strategies as st

from protocols.crdt.changes import (
    Accuse,
    Acknowledge,
    Add,
    Append,
    Assign,
    AssignMulti,
    Blob,
    Change,
    Clear,
    Delete,
    Edit,
    Genesis,
    Grant,
    Increment,
    Insert,
    Remove,
    Revoke,
    Role,
)
from protocols.messages import Message
from tests.strategies import messages_of

KINDS: Final = cast(tuple[type[Change], ...], Change.__args__)

FORGERIES: Final[tuple[tuple[Change, Change], ...]] = (
    (Assign(("a",), 1), Assign(("a",), 2)),
    (AssignMulti(("a",), "one"), AssignMulti(("a",), "two")),
    (Increment(("a",), 1), Increment(("a",), 10**9)),
    (Add(("a",), Blob(b"x")), Add(("a",), Blob(b"y"))),
    (Remove(("a",), True), Remove(("a",), 1)),
    (Append(("a",), "paid"), Append(("a",), "owed")),
    (Edit(("a",), (Insert(None, 0, False, "yes"),)), Edit(("a",), (Insert(None, 0, False, "no"),))),
    (Edit(("a",), (Delete(1, 0, 1),)), Edit(("a",), (Delete(1, 0, 100),))),
    (Clear(("a",)), Clear(("b",))),
    (Genesis(((bytes(32), Role.OWNER),), bytes(32), 64, 1), Genesis(((bytes(32), Role.OWNER),), bytes(32), 2**32, 1)),
    (Grant(b"d" * 32, Role.READER), Grant(b"d" * 32, Role.ADMIN)),
    (Revoke(b"d" * 32), Revoke(b"e" * 32)),
    (Accuse(b"one", b"two"), Accuse(b"one", b"three")),
    (Acknowledge(), Clear(("a",))),
)
"""What somebody wrote, and what somebody else would rather read."""


def changes() -> st.SearchStrategy[Change]:
    """Any change within its bounds."""
    return cast(st.SearchStrategy[Change], messages_of(*cast(tuple[type[Message], ...], KINDS)))
