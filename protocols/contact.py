"""Who a peer is and where it was reached.

A peer's place in the identifier space is a hash of its device key, so that it cannot be chosen without
making keys until one fits, and needs no field on the wire that somebody could lie in.

In one process ten thousand routing tables hold the same few thousand peers. So equal contacts and node
ids are made one object where they are kept (``shared``, and the memo of ``node_id``): both memos are of pure
functions and bounded, and what falls out of them only costs memory or a hash.
"""

from functools import lru_cache
from typing import Final

from protocols.identity import ids
from protocols.messages import Key32, Message, Uint64

ID_SIZE: Final = ids.ID_SIZE
ID_BITS: Final = 8 * ID_SIZE

_MEMO_SIZE: Final = 1 << 16  # the largest number of peers that one host is expected to know of


class Contact(Message, frozen=True, gc=False, tag="contact"):
    """A device and the endpoint at which it is said to be, or was, reached."""

    device: Key32
    endpoint: Uint64


@lru_cache(maxsize=_MEMO_SIZE)
def node_id(device: bytes) -> int:
    """The identifier of a device, as the number whose XOR with another is their distance."""
    return int(ids.NodeId.of(device))


@lru_cache(maxsize=_MEMO_SIZE)
def shared(contact: Contact) -> Contact:
    """The one object that stands for all contacts equal to this one."""
    return contact
