"""How an operation that is held is shown to others: with all of its bundle, or with its Merkle path.

What came alone keeps its path. What came in a whole bundle has none, as the bundle is here: it is the end of a chain
that leads to its first operation, whoever brought each of them.
"""

from protocols.crdt.bundles import Seal, encode_bundle
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.merkle import merkle_path, merkle_root
from protocols.errors import LocalError


def bundle_of(history: History, held: Held) -> tuple[Held, ...] | None:
    """All operations under the signature that ``held`` came with, in order; None if some are not here, or if they are
    too large for a bundle: then each came alone. It is looked for in the lane of ``held`` only, however many others an
    equivocator made: what came whole is all in the lane of its end."""
    seal = held.seal
    last = history.at(held.lane, seal.first + seal.count - 1)
    chain = [] if last is None else _back_from(history, last, seal.count)
    if len(chain) < seal.count:
        return None
    came_whole = all(each.seal is seal and each.path is None for each in chain)
    return tuple(chain) if came_whole or _makes(chain, seal) else None


def path_to(history: History, held: Held) -> tuple[bytes, ...]:
    """The Merkle path with which ``held`` travels alone.

    Raises:
        CrdtError: ``no_path``: it came with a bundle of which the rest is gone.
    """
    if held.path is not None:
        return held.path
    bundle = bundle_of(history, held)
    if bundle is None:
        raise CrdtError("no_path", "the rest of its bundle is not here")
    return merkle_path([each.id for each in bundle], held.sequence - held.seal.first)


def _back_from(history: History, last: Held, count: int) -> list[Held]:
    """So many operations along the back-links, in order; fewer where the others are not kept any more."""
    chain: list[Held] = []
    each: Held | None = last
    while each is not None and len(chain) < count:
        chain.append(each)
        each = history.operations.get(each.operation.previous)
    chain.reverse()
    return chain


def _makes(chain: list[Held], seal: Seal) -> bool:
    """Whether this is the bundle that was signed, and one that can be sent."""
    if merkle_root([each.id for each in chain]) != seal.root:
        return False
    try:
        encode_bundle(seal, [each.operation for each in chain])
    except LocalError:
        return False
    return True
