"""Editing traces of real writers, published by josephg/editing-traces: typed, signed, checked at another replica, and
merged; the text has to come out as published."""

import gzip
import json
from typing import Any, Final

import pytest

from protocols.crdt.changes import Role
from protocols.crdt.drafts import Draft
from protocols.crdt.replica import Replica
from tests.protocols.crdt.worlds import KEYS
from tests.vectors import vector_path

PATH: Final = ("text",)
NOW: Final = 10**18
MS: Final = 10**6
KEYSTROKES: Final = 2048
"""Between seals, of one who types alone."""


def trace(name: str) -> Any:
    return json.loads(gzip.decompress(vector_path(f"crdt/{name}.json.gz").read_bytes()))


class Writer:
    """A device that types, and what it has heard of others."""

    def __init__(self, number: int, genesis: bytes) -> None:
        self.key: Final = KEYS[number]
        self.replica: Final = Replica(genesis)
        self.now = NOW
        self.heard: Final[set[int]] = set()
        self.draft: Draft | None = None

    def type(self, patches: list[tuple[int, int, str]]) -> None:
        if self.draft is None:
            self.draft = self.replica.draft(PATH)
        draft = self.draft
        for position, deleted, inserted in patches:
            if deleted:
                draft.delete(position, deleted)
            if inserted:
                draft.insert(position, inserted)

    def seal(self) -> tuple[bytes, ...]:
        self.now += MS
        self.draft = None
        return self.replica.seal(self.key, self.now)

    def hear(self, units: tuple[bytes, ...]) -> None:
        for unit in units:
            receipt = self.replica.receive(unit, b"", self.now)
            assert receipt.refused is None
            assert not receipt.parked

    @property
    def text(self) -> str:
        return str(self.replica.document.text(PATH))


def genesis(writers: int) -> bytes:
    roles = {key.public: Role.MEMBER for key in KEYS[:writers]}
    return Replica.found(KEYS[0], roles, nonce=bytes(32), now_ns=NOW).genesis


@pytest.mark.parametrize("name", ["sveltecomponent", "automerge-paper"])
def test_what_one_types_comes_out_at_another(name: str) -> None:
    published = trace(name)
    patches = [patch for each in published["txns"] for patch in each["patches"]]
    if published["startContent"]:
        patches.insert(0, [0, 0, published["startContent"]])
    channel = genesis(1)
    writer, reader = Writer(0, channel), Writer(1, channel)
    for start in range(0, len(patches), KEYSTROKES):
        writer.type(patches[start : start + KEYSTROKES])
        reader.hear(writer.seal())
    assert writer.text == published["endContent"]
    assert reader.text == published["endContent"]
    assert reader.replica.digest() == writer.replica.digest()


@pytest.mark.parametrize("name", ["friendsforever", "clownschool"])
def test_what_several_type_at_once_is_merged(name: str) -> None:
    """A device per writer, which hears before each transaction exactly what the transaction's parents had seen."""
    published = trace(name)
    transactions, agents = published["txns"], published["numAgents"]
    channel = genesis(agents)
    writers = [Writer(number, channel) for number in range(agents)]
    ends = sealed_after(transactions)
    units: dict[int, tuple[bytes, ...]] = {}
    for number, each in enumerate(transactions):
        writer = writers[each["agent"]]
        for other in missing(transactions, writer.heard, each["parents"]):
            if other in units:
                writer.hear(units[other])
        writer.type(each["patches"])
        writer.heard.add(number)
        if number in ends:
            units[number] = writer.seal()
    for writer in writers:
        for number, unit in units.items():
            if number not in writer.heard:
                writer.hear(unit)
        assert writer.text == published["endContent"]
        assert writer.replica.digest() == writers[0].replica.digest()


def sealed_after(transactions: list[Any]) -> set[int]:
    """The transactions after which their writer seals, as somebody hears them before it types on."""
    ends: set[int] = set()
    last: dict[int, int] = {}
    for number, each in enumerate(transactions):
        agent = each["agent"]
        if agent in last and each["parents"] != [last[agent]]:
            ends.add(last[agent])
        ends.update(parent for parent in each["parents"] if transactions[parent]["agent"] != agent)
        last[agent] = number
    return ends | set(last.values())


def missing(transactions: list[Any], heard: set[int], parents: list[int]) -> list[int]:
    """What lies in the past of ``parents`` and was not heard, causes first; it is heard then."""
    found: list[int] = []
    waiting = [each for each in parents if each not in heard]
    while waiting:
        each = waiting.pop()
        if each not in heard:
            heard.add(each)
            found.append(each)
            waiting += transactions[each]["parents"]
    return sorted(found)
