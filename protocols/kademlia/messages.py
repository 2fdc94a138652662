"""What Kademlia nodes say to each other, and what the other actors of a peer say to its node.

No message on the wire names its sender: that is the authenticated device of the session which carried it,
and a name inside could only disagree. VALUE brings contacts beside the record, unlike in the paper: a reader
who believed the first holder could be lied to, so it goes on to further holders and has to learn of them.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from protocols.contact import Contact
from protocols.errors import ProtocolError
from protocols.kademlia.records import TTL_MAX_S, Name, Record, Value
from protocols.messages import Codec, Key32, Message, Uint64

CONTACTS_MAX: Final = 64
"""The largest k that a configuration may ask for; keeps an answer below 4 KiB."""

Contacts = Annotated[tuple[Contact, ...], Meta(max_length=CONTACTS_MAX)]
Seconds = Annotated[int, Meta(ge=1, le=TTL_MAX_S)]
Service = Annotated[str, Meta(max_length=31)]


class KademliaError(ProtocolError):
    """A peer sent a request or an answer that no honest node would send."""


# -- requests and their responses -------------------------------------------------------------------


class Ping(Message, frozen=True, tag="kad.ping"):
    """Are you there?"""


class Pong(Message, frozen=True, tag="kad.pong"):
    """Yes."""


class FindNode(Message, frozen=True, tag="kad.find_node"):
    """Which nodes do you know nearest to this identifier?"""

    target: Key32


class Nodes(Message, frozen=True, tag="kad.nodes"):
    """The k nearest that the responder has itself reached, without the asker and the responder."""

    contacts: Contacts


class FindValue(Message, frozen=True, tag="kad.find_value"):
    """Which record do you hold under this key, and which nodes do you know nearest to it?"""

    key: Key32


class Found(Message, frozen=True, tag="kad.value"):
    """The paper's VALUE; ``Nodes`` is the answer of who holds no record."""

    record: Record
    remaining_s: Seconds
    contacts: Contacts


class Store(Message, frozen=True, tag="kad.store"):
    """Hold this record. What is left of its life travels along, or each hop would begin it anew."""

    record: Record
    remaining_s: Seconds


class Stored(Message, frozen=True, tag="kad.stored"):
    """``stale``: a newer one is, or was, held. ``quota``: of this owner. ``full``: of nearer records."""

    outcome: Literal["stored", "stale", "quota", "full"]


Request = Ping | FindNode | FindValue | Store
Response = Pong | Nodes | Found | Stored

REQUESTS: Final[Codec[Request]] = Codec(Ping, FindNode, FindValue, Store, size_max=4096)
RESPONSES: Final[Codec[Response]] = Codec(Pong, Nodes, Found, Stored, size_max=8192)


# -- inside a peer: commands of other services, and their results -----------------------------------


class Put(Message, frozen=True, tag="kad.put"):
    """Sign ``value`` under this device's ``name``, and place it at the k nodes nearest to its key."""

    service: Service
    token: Uint64
    name: Name
    value: Value
    ttl_s: Seconds


class PutDone(Message, frozen=True, tag="kad.put_done"):
    """``stored`` nodes, this one included if it is among the nearest, said that they hold the record."""

    token: Uint64
    key: Key32
    stored: int
    hops: int
    rpcs: int


class Get(Message, frozen=True, tag="kad.get"):
    """Find the newest record under ``key`` (see ``records.record_key``)."""

    service: Service
    token: Uint64
    key: Key32


class GetDone(Message, frozen=True, tag="kad.get_done"):
    """``local``: answered without asking anybody."""

    token: Uint64
    key: Key32
    found: bool
    record: Record | None
    hops: int
    rpcs: int
    local: bool


class Find(Message, frozen=True, tag="kad.find"):
    """Find the k live nodes nearest to ``target``."""

    service: Service
    token: Uint64
    target: Key32


class FindDone(Message, frozen=True, tag="kad.find_done"):
    token: Uint64
    target: Key32
    contacts: tuple[Contact, ...]
    hops: int
    rpcs: int


class Watch(Message, frozen=True, tag="kad.watch"):
    """Tell ``service`` with a ``Joined`` when the node has joined; at once, if it has."""

    service: Service


class Leave(Message, frozen=True, tag="kad.leave"):
    """Stop: whoever waits gets an answer now. Nobody is told; failed queries tell them."""


# -- inside a peer: what the node puts out ------------------------------------------------------------


class Query(Message, frozen=True, tag="kad.query"):
    """Make this call. ``lookup`` is the lookup it serves, 0 if none."""

    token: Uint64
    device: Key32
    endpoint: Uint64
    body: bytes
    timeout_ns: int
    lookup: int


class Reply(Message, frozen=True, tag="kad.reply"):
    """Deliver a result to the service that asked. ``lookup`` is the one that it ended, 0 if none."""

    service: Service
    result: PutDone | GetDone | FindDone
    lookup: int


class Joined(Message, frozen=True, tag="kad.joined"):
    """The node found its neighbourhood: ``contacts`` in its table, after ``rpcs`` calls."""

    contacts: int
    rpcs: int


class LookupEnded(Message, frozen=True, tag="kad.lookup_ended"):
    """A lookup that no service asked for (join, refresh, replicate) is over."""

    lookup: int
    purpose: str
    hops: int
    rpcs: int


class Misbehaved(Message, frozen=True, tag="kad.misbehaved"):
    """This authenticated device sent an answer that no honest node sends."""

    device: Key32
    reason: str
