"""Fuzzing what is stored: bytes that came back from a disk, or from somebody who had it.

Stored state is sealed, so whoever alters it has the key already and this is no line of defence. It is one against
mistakes: a file cut short, of another version, or of another group has to say so. Promised: nothing but
``LocalError`` comes out, or ``MlsError`` where the bytes are structures of the wire; and who refuses a record is
as before.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from protocols.errors import LocalError
from protocols.messages import Codec, Message
from protocols.mls.client import KeyPackageBundle
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence, fork_evidence
from protocols.mls.framing import member
from protocols.mls.group import Group
from protocols.mls.message_keys import MessageKeys
from protocols.mls.records import RECORDS, STATES
from protocols.mls.send_ledger import SendLedger
from tests.fuzz.draws import Draws
from tests.fuzz.forging import Mallory
from tests.fuzz.mutations import Donors, mutated
from tests.fuzz.world import MALLORY, SERVICES, SUITES, World, entropy_of, world

EMPTY: Final = Donors(())


def run(data: bytes) -> None:
    draws = Draws(data)
    kind = draws.choice(KINDS)
    kind(world(draws.choice(SUITES)), draws)


def states(made: World, draws: Draws) -> None:
    """A group's, altered as bytes or field by field; then it is used as far as it goes."""
    state = _altered(made.members[draws.choice(("alice", "mallory"))].state, STATES, draws)
    try:
        group = Group.from_bytes(state, SendLedger(), services=SERVICES)
    except LocalError:
        return
    assert Group.from_bytes(group.to_bytes(), SendLedger(), services=SERVICES).to_bytes() == group.to_bytes()
    for message in made.messages[-8:]:
        try:
            group.receive(message)
        except (LocalError, MlsError):
            continue


def records(made: World, draws: Draws) -> None:
    """A journal in which some are altered, lost or repeated."""
    group = made.restored("alice")
    for record in made.records:
        choice = draws.below(8)
        if choice == 7:
            continue
        altered = _altered(record, RECORDS, draws) if choice in (4, 5) else record
        for _ in range(2 if choice == 6 else 1):
            _replay(group, altered)
    _replay(group, draws.rest())


def _replay(group: Group, record: bytes) -> None:
    before = group.to_bytes()
    try:
        group.replay(record)
    except LocalError as refused:
        if group.to_bytes() != before:
            raise AssertionError(f"a record was refused ({refused}) and the group is not as before") from refused


def ledgers(made: World, draws: Draws) -> None:
    try:
        ledger = SendLedger.from_bytes(_altered(made.members["alice"].ledger, None, draws))
    except LocalError:
        return
    again = SendLedger.from_bytes(ledger.to_bytes())
    assert again.to_bytes() == ledger.to_bytes()
    try:
        ledger.apply(draws.rest())
    except LocalError:
        assert again.to_bytes() == ledger.to_bytes()


def epochs(made: World, draws: Draws) -> None:
    _read(Epoch.from_bytes, _altered(made.restored("alice").current.to_bytes(), None, draws))


def message_keys(made: World, draws: Draws) -> None:
    group = made.restored("alice")
    keys = group._kept[group.current.authenticator].keys
    _read(MessageKeys.from_bytes, _altered(keys.to_bytes(), None, draws))


def key_packages(made: World, draws: Draws) -> None:
    _read(KeyPackageBundle.from_bytes, _altered(draws.choice(made.bundles).to_bytes(), None, draws))


def evidence(made: World, draws: Draws) -> None:
    """Two commits of Mallory's, altered: what is no proof is refused, whichever byte says so."""
    mallory = Mallory(made, made.restored("mallory"), draws)
    one, other = mallory.commit().authenticated, mallory.commit().authenticated
    if one.content.sender != member(MALLORY) or other.content.sender != member(MALLORY):
        return
    found = fork_evidence(mallory.epoch, one, other)
    if found is None:
        return
    data = _altered(found.to_bytes(), None, draws) if draws.chance(2) else found.to_bytes()
    proof = _read(ForkEvidence.from_bytes, data)
    if proof is None:
        return
    try:
        proof.verify()
    except MlsError:
        return


KINDS: Final[tuple[Callable[[World, Draws], None], ...]] = (
    states,
    records,
    ledgers,
    epochs,
    message_keys,
    key_packages,
    evidence,
)


def _read(read: Callable[[bytes], Any], data: bytes) -> Any:
    """What was stored. Whatever can be read is stored in a form of which that is true again."""
    try:
        value = read(data)
    except (LocalError, MlsError):
        return None
    state = value.to_bytes()
    assert read(state).to_bytes() == state, f"{state.hex()} is stored again as {read(state).to_bytes().hex()}"
    return value


def _altered(data: bytes, codec: Codec[Message] | None, draws: Draws) -> bytes:
    if codec is not None and draws.chance(2):
        try:
            return codec.encode(mutated_message(codec.decode(data), draws))
        except (msgspec.MsgspecError, LocalError, OverflowError):
            return data
    for _ in range(draws.below(4)):
        data = draws.altered(data)
    return data


def mutated_message(message: Message, draws: Draws) -> Message:
    """A record with fields of other values; those that break its types are refused by the codec."""
    return mutated(message, draws, EMPTY, 1 + draws.below(3), check=False)


def seeds() -> list[bytes]:
    draw = entropy_of("seeds")
    heads = [bytes((kind, suite)) for kind in range(len(KINDS)) for suite in range(len(SUITES))]
    return [*heads, *(head + draw(size) for head in heads for size in (8, 32, 128))]
