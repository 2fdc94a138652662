"""What anything of this package prints, a log keeps: no private key, no secret, no record is ever in it.

A story is told whole, and then everything that it left is printed: each object that the public ones lead to, as one
without a ``__repr__`` of its own prints what it is made of. A secret is found in any eight bytes of it, as a ``repr``
may show the beginning of something.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec
import pytest

from protocols.errors import LocalError, ProtocolError
from protocols.mls.client import KeyPackageBundle
from protocols.mls.committing import LeafChange
from protocols.mls.epoch import Epoch
from protocols.mls.external import make_external_commit
from protocols.mls.group import Group
from protocols.mls.joining import open_welcome
from protocols.mls.key_schedule import EpochSecrets
from protocols.mls.message_keys import MessageKeys, Opening
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Add, PreSharedKey, Remove
from protocols.mls.psk import ExternalPsk
from protocols.mls.ratchets import Ratchet
from protocols.mls.records import RECORDS, STATES
from protocols.mls.secret_tree import SecretTree
from protocols.mls.send_ledger import SendLedger
from protocols.mls.staging import StagedCommit
from protocols.mls.suite import SUITES, SignatureKeyPair
from tests.protocols.mls.forgery import forge_commit, forge_welcome
from tests.protocols.mls.room import NOW_NS, Room, altered, key_of, person, public, signed, text

WINDOW = 8
PUBLIC = frozenset({"epoch_authenticator"})


def secrets_of_epoch(epoch: Epoch) -> list[bytes]:
    names = [name for name in EpochSecrets.__struct_fields__ if name not in PUBLIC]
    secrets = [getattr(epoch.secrets, name) for name in names]
    return [*secrets, epoch.signature_private, epoch.private.leaf_private, *epoch.private.parents.values()]


def secrets_of_keys(keys: MessageKeys) -> list[bytes]:
    """The secret tree's, the ratchets', and the keys that were passed."""
    tree = keys._tree
    assert isinstance(tree, SecretTree)
    chains = list(keys._chains.values())
    kept = [pair for chain in chains for pair in chain.kept.values()]
    return [*(secret for _, secret in tree.nodes()), *(chain.secret for chain in chains), *kept]


def secrets_of_group(group: Group) -> list[bytes]:
    found = []
    for kept in group._kept.values():
        found += secrets_of_epoch(kept.epoch) + secrets_of_keys(kept.keys)
        found += [each for own in kept.own_updates.values() for each in msgspec.structs.astuple(own)]
        for staged in kept.staged.values():
            found += secrets_of_staged(staged)
    return found


def secrets_of_staged(staged: StagedCommit) -> list[bytes]:
    assert staged.next is not None
    assert staged.keys is not None
    return secrets_of_epoch(staged.next) + secrets_of_keys(staged.keys)


def reached(start: object) -> Iterator[object]:
    """An object of this package, and all that its fields lead to."""
    pending, seen = [start], dict[int, object]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, tuple | list) and not hasattr(each, "_fields"):
            pending += each
        elif isinstance(each, dict):
            pending += each.values()
        elif type(each).__module__.startswith("protocols.") or isinstance(each, BaseException):
            yield each
            names = [*getattr(each, "__struct_fields__", ()), *getattr(each, "__slots__", ())]
            pending += [getattr(each, name, None) for name in names]
            pending += getattr(each, "__dict__", {}).values()


def shown(value: object) -> str:
    return f"{value!r} {value}"


def leaks(secret: bytes, where: str) -> bool:
    """Whether a part of a secret is there, as bytes are printed or as hex."""
    parts = [secret[at : at + WINDOW] for at in range(0, len(secret) - WINDOW + 1, WINDOW)]
    return any(repr(part)[2:-1] in where or part.hex() in where.lower() for part in parts)


def assert_silent(values: Iterable[object], secrets: list[bytes], records: Iterable[bytes] = ()) -> None:
    """None of the values, nor what they lead to, shows a part of a secret, or a whole record."""
    secrets = [each for each in dict.fromkeys(secrets) if len(each) >= WINDOW]
    records = [each for each in records if each]
    for start in values:
        for each in reached(start):
            where = shown(each)
            assert not any(leaks(secret, where) for secret in secrets), where
            assert not any(repr(record)[2:-1] in where or record.hex() in where for record in records), where


@pytest.fixture(params=[1, 2])
def room(request: pytest.FixtureRequest) -> Room:
    room = Room.of("ada", "bob", "cyd", suite=SUITES[request.param])
    room.fill()
    return room


def test_nothing_of_a_groups_life_shows_a_secret(room: Room) -> None:
    """An own Update, messages, a commit with a Welcome, a join, a fork, a restart."""
    ada, bob = room["ada"], room["bob"]
    change = LeafChange(signature=room.suite.signature_key_pair(room.entropy))
    update = ada.propose_update(entropy=room.entropy, change=change)
    said = ada.send(b"hello", entropy=room.entropy, despite_proposals=True)
    ada.send(b"lost", entropy=room.entropy, despite_proposals=True)
    late = ada.send(b"skips one", entropy=room.entropy, despite_proposals=True)
    heard = [bob.receive(each.message) for each in (said, late, update)]
    room["cyd"].receive(update.message)
    dan = room.client("dan")
    psk = PreSharedKey(ExternalPsk(b"shared", bytes(room.suite.hash_size)))
    own = room.make("bob", Add(dan.key_package), psk, public=True)
    echo, received = bob.receive(own.message), ada.receive(own.message)
    assert isinstance(received.content, VerifiedCommit)
    staged = ada.stage(received.content, now_ns=NOW_NS)
    second = ada.receive(public(bob, signed(bob, Remove(0)))), ada.receive(forge_commit(bob).message)
    assert second[1].evidence is not None
    welcome = own.commit.welcomes[0].welcome
    opened = open_welcome(welcome, [dan.bundle], psks=room.services.psks)
    join = room.staged_join("dan", welcome)
    joined = Group.join(join, ledger=SendLedger(), now_ns=NOW_NS, services=room.services)
    outside = make_external_commit(ada.current.group_info(), person("eve", room.suite).bundle, entropy=room.entropy)

    secrets = secrets_of_group(ada) + secrets_of_group(bob) + secrets_of_group(joined) + secrets_of_staged(outside)
    secrets += [dan.bundle.init_private, dan.bundle.encryption_private, dan.bundle.signature_private]
    secrets += [change.signature.private] if change.signature else []
    secrets += [opened.psk_secret, opened.group_secrets.joiner_secret, opened.group_secrets.path_secret or b""]
    keys = [opening(room, "ada", "cyd", ratchet) for ratchet in Ratchet]
    secrets += [part for each in keys for part in (each.key.key, each.key.nonce)]

    moved = [bob.adopt(own.commit, now_ns=NOW_NS), ada.adopt(staged.commit, now_ns=NOW_NS)]
    secrets += secrets_of_group(ada)
    records = [*update.records, *said.records, own.record, staged.record]
    records += [each.record for each in (*heard, received, *second)] + [each.record for each in moved]
    state = ada.to_bytes()
    restored = Group.from_bytes(state, SendLedger.from_bytes(ada.ledger.to_bytes()), services=room.services)
    assert_silent(
        [
            *(ada, bob, joined, restored, ada.current, joined.current, ada.ledger, change),
            *(update, said, own, *heard, echo, received, staged, *second, *moved),
            *(own.commit, staged.commit, outside, opened, join, dan.bundle, dan.signature, *keys),
            *map(RECORDS.decode, filter(None, records)),
            STATES.decode(state),
        ],
        secrets,
        [*records, state],
    )


def opening(room: Room, name: str, of: str, ratchet: Ratchet) -> Opening:
    group = room[name]
    return group._kept[group.current.authenticator].keys.peek(room.leaf(of), ratchet, 3)


def test_what_a_commit_is_made_of_shows_no_secret(room: Room) -> None:
    """Path secrets, the commit secret and the joiner secret live as long as a call of ``commit``."""
    forged = forge_commit(room["ada"])
    assert forged.path is not None
    secrets = [*forged.path.path_secrets, forged.path.commit_secret, *forged.path.private.parents.values()]
    secrets += [forged.secrets.joiner_secret, forged.secrets.epoch.init_secret, forged.secrets.epoch.exporter_secret]
    assert_silent([forged.path, forged.secrets, forged.proposed], secrets)


def test_no_error_shows_a_secret(room: Room) -> None:
    ada, bob, dan = room["ada"], room["bob"], room.client("dan")
    own = room.make("bob", Add(dan.key_package), public=True)
    sealed = room.say("bob")
    update = ada.propose_update(entropy=room.entropy)
    key = key_of(bob, room.leaf("cyd"), text(b""), 0)
    secrets = secrets_of_group(ada) + secrets_of_group(bob) + [key.key, key.nonce]
    secrets += [dan.bundle.init_private, dan.bundle.encryption_private, dan.bundle.signature_private]
    state, stored = ada.to_bytes(), dan.bundle.to_bytes()
    false = public(bob, altered(own.commit.authenticated, confirmation_tag=bytes(32)))
    psk = ExternalPsk(b"secret", bytes(room.suite.hash_size))
    welcome = forge_welcome(room["cyd"], dan, psks=(psk,), known={psk: bytes(32)})
    keys = ada._kept[ada.current.authenticator].keys
    wrong = SignatureKeyPair(secrets[0][:-1], room.client("ada").signature.public)

    errors: list[BaseException] = []
    for call in (
        lambda: ada.receive(sealed[:-1] + bytes((sealed[-1] ^ 1,))),
        lambda: ada.receive(sealed[:-1]),
        lambda: room.stage("ada", false),
        lambda: room.staged_join("dan", welcome),
        lambda: room.staged_join("eve", own.commit.welcomes[0].welcome),
        lambda: ada.adopt(own.commit, now_ns=NOW_NS),
        lambda: bob.commit(entropy=room.entropy, now_ns=NOW_NS),
        lambda: bob.propose_update(entropy=room.entropy, change=LeafChange(signature=wrong)),
        lambda: keys.advance(Ratchet.HANDSHAKE, 2**40),
        lambda: keys.peek(room.leaf("bob"), Ratchet.APPLICATION, 2**40),
        lambda: ada.replay(secrets[0]),
    ):
        errors += raised(call)
    for data in mutants(state):
        errors += raised(partial(Group.from_bytes, data, SendLedger()))
    for record in (*update.records, own.record):
        for data in mutants(record):
            errors += raised(partial(Group.from_bytes(state, SendLedger()).replay, data))
    for data in mutants(stored):
        errors += raised(partial(KeyPackageBundle.from_bytes, data))
    assert len(errors) > 100
    assert_silent(errors, secrets, [state, stored, own.record, *update.records])


def raised(call: Callable[[], object]) -> list[BaseException]:
    """What a call raises, and whatever that was raised from."""
    found: list[BaseException] = []
    try:
        call()
    except (LocalError, ProtocolError) as error:
        cause: BaseException | None = error
        while cause is not None:
            found.append(cause)
            cause = cause.__cause__ or cause.__context__
    return found


def mutants(data: bytes) -> Iterator[bytes]:
    """Altered at fifty places, and cut off there."""
    for at in range(0, len(data), len(data) // 50 + 1):
        yield data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :]
        yield data[:at]
