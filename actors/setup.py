"""What the actors of one peer are made with."""

from dataclasses import dataclass, field
from typing import Final

from protocols.admission import AdmissionPolicy
from protocols.contact import Contact
from protocols.identity import DeviceIdentity
from protocols.kademlia.config import KademliaConfig
from protocols.noise.contexts import AeadContexts
from protocols.noise.interface import SessionConfig
from protocols.rpc.calls import RpcConfig

ROUTES: Final = {"kad": "dht"}
"""The namespace of a request's tag to the service that answers it."""


@dataclass(frozen=True, slots=True)
class PeerSetup:
    """What the actors of one peer are made with. The policies are shared by the peers of a host."""

    identity: DeviceIdentity
    endpoint: int
    bootstrap: tuple[Contact, ...] = ()
    admission: AdmissionPolicy = AdmissionPolicy()  # noqa: RUF009 - frozen
    sessions: SessionConfig = SessionConfig()  # noqa: RUF009 - frozen
    rpc: RpcConfig = RpcConfig()  # noqa: RUF009 - frozen
    kademlia: KademliaConfig = KademliaConfig()  # noqa: RUF009 - frozen
    routes: dict[str, str] = field(default_factory=lambda: ROUTES)
    contacts: tuple[Contact, ...] = ()
    """Contacts to start with instead of joining: a warm start."""
    aead: AeadContexts = field(default_factory=AeadContexts, compare=False)
