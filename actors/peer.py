"""What makes a peer: its actors, and which of them talks to which.

    packet → limiter → sessions → limiter → rpc → dht, identity, crdt
             endpoint   decrypt    device,         (or whichever service owns the request's namespace)
             and bytes             kind

The protocols do not know each other; their actors meet here.
"""

from typing import Final

from actors.actor import Actor
from actors.crdt_replica import CrdtReplica
from actors.dht_node import DhtNode
from actors.identity import Identity
from actors.journal import JournalActor
from actors.rate_limiter import RateLimiter
from actors.rpc import RpcActor
from actors.session_manager import SessionManager

_NETWORKED: Final[tuple[type[Actor], ...]] = (RateLimiter, SessionManager, RpcActor, DhtNode, CrdtReplica)

SUBSYSTEMS: Final[tuple[type[Actor], ...]] = (Identity, *_NETWORKED)
"""The actors of an ordinary peer, in the order in which they start: nothing happens before its keys are unlocked."""

DURABLE_SUBSYSTEMS: Final[tuple[type[Actor], ...]] = (Identity, JournalActor, *_NETWORKED)
"""Those of a peer that has a disk: the journal's key is one of its keys, and whoever follows may have records there."""
