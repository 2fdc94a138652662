"""Units of a channel that nobody may take in: each is a bundle that is nearly right, with one thing wrong.

What a forger has is what any member has: a good key, everybody's operations with their signatures, and time. So it can
change what was signed, sign what is not its own, sign for elsewhere or with a key that nobody let in, lie in the header
about what follows, and sign operations of its own that break a rule. All of it for every type of change.

As in ``nonsense``, all randomness is handed in; so that a test can hold each forgery against a replica.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from cluster.nonsense import Draw, Entropy, mangle
from protocols.crdt.bundles import (
    BUNDLE,
    BUNDLE_COUNT_MAX,
    BUNDLE_SIZE_MAX,
    HEADER,
    SINGLE,
    SINGLE_SIZE_MAX,
    Seal,
    encode_bundle,
    encode_single,
)
from protocols.crdt.changes import (
    RUN_SIZE_MAX,
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
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.history import Held
from protocols.crdt.merkle import merkle_root
from protocols.crdt.operations import NOTHING, OperationIds, encode_change
from protocols.identity.signing import SIGNATURE_SIZE, Domain, SigningKey, sign

WORDS: Final = ("panda", "bamboo", "orbit", "airlock")
"""Where honest members write, too."""


class Tip(msgspec.Struct, frozen=True, array_like=True):
    """Where a chain ends, as far as the next operation has to know."""

    sequence: int = 0
    id: bytes = NOTHING
    clock: int = 0


Seen = tuple[bytes, int]
"""Another operation to depend on, and its clock."""


def written(
    key: SigningKey, channel: bytes, tip: Tip, changes: Sequence[Change], seen: Sequence[Seen], clock: int
) -> tuple[bytes, Tip]:
    """A well signed bundle at the end of a chain, and where that ends now. Nobody checks whether it may be written.

    Args:
        clock: of the first operation, unless what it depends on is later.
    """
    clock = max(clock, tip.clock + 1, *(each + 1 for _, each in seen), 1)
    operations, previous, depends = [], tip.id, tuple(sorted(each for each, _ in seen))
    ids = OperationIds(channel, key.public)
    for number, change in enumerate(changes):
        operation = ids.operation(
            tip.sequence + 1 + number, previous, depends, clock + number, change, encode_change(change)
        )
        operations.append(operation)
        previous, depends = operation.id, ()
    root = merkle_root([each.id for each in operations])
    unsigned = Seal(key.public, tip.sequence + 1, len(operations), root, b"")
    signature = sign(key, Domain.CRDT_BUNDLE, *unsigned.fields(channel))
    last = operations[-1]
    unit = encode_bundle(msgspec.structs.replace(unsigned, signature=signature), operations)
    return unit, Tip(last.sequence, last.id, last.clock)


def content(draw: Draw, entropy: Entropy) -> Change:
    """Something that a member may write, at places where others write, and like no other."""
    word, number = WORDS[draw(len(WORDS))], draw(1_000)
    changes: tuple[Change, ...] = (
        Assign(("crew", word, "rank"), -number),
        AssignMulti(("topic",), f"{word} {number}"),
        Increment(("votes", word), number * 10**6),
        Add(("tags",), f"{word} {number}"),
        Remove(("tags",), word),
        Append(("log",), Blob(entropy(24))),
        Edit(("minutes",), (Insert(None, 0, False, f"{word}! "),)),
        Clear(("crew", word)),
    )
    return changes[draw(len(changes))]


class Material(NamedTuple):
    """What a forger works with."""

    channel: bytes
    key: SigningKey
    """Its own, which is a member's."""
    tip: Tip
    """Where its chain ends."""
    held: Sequence[Held]
    """Operations of others, without the genesis; there is at least one."""
    units: Sequence[bytes]
    """Others' bundles, as they travel."""
    owner: bytes
    now: int
    """As a clock."""

    @property
    def root(self) -> Seen:
        """What every operation may depend on."""
        return self.channel, 1


Forgery = Callable[[Material, Draw, Entropy], bytes]


# -- in another's name, or with another key ---------------------------------------------------------------


def unsigned(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    return _in_name(made, draw, entropy, lambda seal: bytes(SIGNATURE_SIZE))


def signed_with_another_key(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    return _in_name(made, draw, entropy, lambda seal: sign(made.key, Domain.CRDT_BUNDLE, *seal.fields(made.channel)))


def signature_of_something_else(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """That of an operation which the victim did write."""
    return _in_name(made, draw, entropy, None)


def for_another_channel(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Well signed, and elsewhere perhaps as good as any."""
    return written(made.key, entropy(32), Tip(), [any_change(made, draw, entropy)], [made.root], made.now)[0]


def by_a_stranger(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Well signed, by nobody whom anybody let in."""
    return written(SigningKey(entropy(32)), made.channel, Tip(), [content(draw, entropy)], [made.root], made.now)[0]


def altered(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Another's bundle that is not as it was."""
    return mangle(made.units[draw(len(made.units))], draw, entropy)


def renamed(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Another's bundle as if it were ours."""
    unit = made.units[draw(len(made.units))]
    return unit[:1] + made.key.public + unit[1 + len(made.key.public) :]


# -- lies about what follows ------------------------------------------------------------------------------


def bomb(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """A few bytes that say they are very many operations, or very deep."""
    bodies = (
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 4_000,
        b"\x91\x93\x01\xdd\xff\xff\xff\xff",
        b"\x91\x93\x01\x90\xdf" * 9,
    )
    return _announced(made, BUNDLE, 1, bodies[draw(len(bodies))])


def wrong_count(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Another number of operations than there are, or than there may be."""
    count = (0, 2, BUNDLE_COUNT_MAX, BUNDLE_COUNT_MAX + 1, 255)[draw(5)]
    return _announced(made, BUNDLE, count, _body(made.now, content(draw, entropy)))


def oversized(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """A size that nobody would read, said or meant."""
    if draw(2):
        kind, size = ((BUNDLE, BUNDLE_SIZE_MAX), (SINGLE, SINGLE_SIZE_MAX), (BUNDLE, 2**32 - 2))[draw(3)]
        return HEADER.pack(kind, made.key.public, 1, NOTHING, 1, size + 1, entropy(SIGNATURE_SIZE)) + entropy(9)
    run = Insert(None, 0, False, "x" * RUN_SIZE_MAX)
    return _announced(made, BUNDLE, 1, _body(made.now, Edit(("minutes",), (run,) * 9)))


def another_encoding(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """The same operation in longer words, so it would have two sets of bytes."""
    rest = encode_change(content(draw, entropy))
    bodies = (
        b"\x91\x93\xcf" + (5).to_bytes(8, "big") + b"\x90" + rest,
        b"\x91\x93\x05\xdc\x00\x00" + rest,
        b"\x91\x93\x05\x92" + 2 * (b"\xc4\x20" + entropy(32)[:1] * 32) + rest,  # one dependency, twice
    )
    return _announced(made, BUNDLE, 1, bodies[draw(len(bodies))])


def wrong_path(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """An operation alone, with a path that leads elsewhere, is too short, or begins nowhere."""
    held = made.held[draw(len(made.held))]
    seal = msgspec.structs.replace(held.seal, count=BUNDLE_COUNT_MAX, first=held.sequence)
    operation = msgspec.structs.replace(held.operation, change=content(draw, entropy))
    unit = encode_single(seal, operation, [entropy(32) for _ in range(6 if draw(3) else 3)])
    return unit if draw(2) else unit[: HEADER.size] + bytes([BUNDLE_COUNT_MAX]) + unit[HEADER.size + 1 :]


# -- well signed, and against the rules -------------------------------------------------------------------


def out_of_order(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """A chain with a gap, or that goes on from somebody else's operation, or into the past."""
    held = made.held[draw(len(made.held))].operation
    sequence, clock = held.sequence if draw(2) else 7, held.clock
    change = content(draw, entropy)
    match draw(3):
        case 0:
            return written(made.key, made.channel, Tip(sequence, held.id, clock), [change], [], made.now)[0]
        case 1:
            return written(made.key, made.channel, Tip(sequence=3), [change], [made.root], made.now)[0]
        case _:  # its dependency is later than it says
            late = held.id, -clock
            return written(made.key, made.channel, Tip(), [change], [late], 1)[0]


def another_genesis(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    genesis = Genesis(((made.key.public, Role.OWNER),), entropy(32), 64, 1)
    return written(made.key, made.channel, made.tip, [genesis], [made.root][: draw(2)], made.now)[0]


def seizure(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """Rights that it has not: for itself, for a puppet, or taken from an owner."""
    changes: tuple[Change, ...] = (
        Grant(made.key.public, Role.OWNER),
        Grant(made.key.public, Role.ADMIN),
        Grant(entropy(32), Role.MEMBER),
        Revoke(made.owner),
        Revoke(made.held[draw(len(made.held))].operation.author),
    )
    return written(made.key, made.channel, made.tip, [changes[draw(5)]], [made.root], made.now)[0]


def framing(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """A proof that somebody equivocated, who did not."""
    held = made.held[draw(len(made.held))]
    operation, seal = held.operation, held.seal
    path = [entropy(32) for _ in range(draw(3))]
    header = b"".join(
        (
            seal.author,
            operation.sequence.to_bytes(8, "big"),
            bytes([0, 1]),
            operation.previous,
            operation.clock.to_bytes(8, "big"),
            bytes([len(operation.dependencies)]),
        )
    )
    sides = [header + entropy(32) + seal.signature + b"".join((*operation.dependencies, *path)) for _ in range(2)]
    change = Accuse(*sorted(sides) if draw(4) else (entropy(200), b""))
    return written(made.key, made.channel, made.tip, [change], [made.root], made.now)[0]


def bad_reference(made: Material, draw: Draw, entropy: Entropy) -> bytes:
    """An edit of characters that are not there, or that it has not seen."""
    edits: tuple[Insert | Delete, ...] = (
        Insert(entropy(32), 0, False, "x"),
        Insert(None, 0, True, "x"),
        Delete(entropy(32), 0, 1),
        Delete(made.channel, 0, 2**31),
        Insert(2**40, 3, False, "x"),
    )
    return written(made.key, made.channel, made.tip, [Edit(("minutes",), (edits[draw(5)],))], [made.root], made.now)[0]


FORGERIES: Final[tuple[Forgery, ...]] = (
    unsigned,
    signed_with_another_key,
    signature_of_something_else,
    for_another_channel,
    by_a_stranger,
    altered,
    renamed,
    bomb,
    wrong_count,
    oversized,
    another_encoding,
    wrong_path,
    out_of_order,
    another_genesis,
    seizure,
    framing,
    bad_reference,
)
"""All that a replica has to refuse."""


# -- inside -----------------------------------------------------------------------------------------------


def any_change(made: Material, draw: Draw, entropy: Entropy) -> Change:
    """Of any type at all."""
    author = made.held[draw(len(made.held))].operation.author
    others: tuple[Change, ...] = (
        Grant(made.key.public, Role.ADMIN),
        Revoke(author),
        Accuse(entropy(180), entropy(180)),
        Acknowledge(),
        Genesis(((made.key.public, Role.OWNER),), entropy(32), 64, 1),
    )
    return content(draw, entropy) if draw(13) < 8 else others[draw(len(others))]


def _in_name(made: Material, draw: Draw, entropy: Entropy, sign_as: Callable[[Seal], bytes] | None) -> bytes:
    """What another device would have written next, had it written that."""
    held = made.held[draw(len(made.held))]
    last, author = held.operation, held.operation.author
    change = any_change(made, draw, entropy)
    clock = min(max(last.clock + 1, made.now), CLOCK_MAX)
    ids = OperationIds(made.channel, author)
    operation = ids.operation(last.sequence + 1, last.id, (), clock, change, encode_change(change))
    seal = Seal(author, operation.sequence, 1, operation.id, b"")
    signature = held.seal.signature if sign_as is None else sign_as(seal)
    return encode_bundle(msgspec.structs.replace(seal, signature=signature), [operation])


def _announced(made: Material, kind: int, count: int, body: bytes) -> bytes:
    return HEADER.pack(kind, made.key.public, 1, NOTHING, count, len(body), bytes(SIGNATURE_SIZE)) + body


def _body(clock: int, change: Change) -> bytes:
    return msgspec.msgpack.encode([[clock, [], change]])
