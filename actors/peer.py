"""What makes a peer: its actors, and which of them talks to which.

    packet → limiter → sessions → limiter → rpc → dht
             endpoint   decrypt    device,         (or whichever service owns the request's namespace)
             and bytes             kind

The protocols do not know each other; their actors meet here.
"""

from typing import Final

from actors.actor import Actor
from actors.dht_node import DhtNode
from actors.rate_limiter import RateLimiter
from actors.rpc import RpcActor
from actors.session_manager import SessionManager

SUBSYSTEMS: Final[tuple[type[Actor], ...]] = (RateLimiter, SessionManager, RpcActor, DhtNode)
"""The actors of an ordinary peer, in the order in which they start."""
