"""What the actors of one peer are made with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocols.admission import AdmissionPolicy
from protocols.contact import Contact
from protocols.crdt.config import CrdtConfig
from protocols.identity import DeviceCertificate, DeviceIdentity
from protocols.journal import Head, Store
from protocols.kademlia.config import KademliaConfig
from protocols.noise.contexts import AeadContexts
from protocols.noise.interface import SessionConfig
from protocols.rpc.calls import RpcConfig

ROUTES: Final = {"kad": "dht", "id": "identity", "crdt": "crdt"}
"""The namespace of a request's tag to the service that answers it."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of which a peer has a replica."""

    genesis: bytes
    """Its first bundle, which all members know."""
    members: tuple[Contact, ...]
    """Where devices are that are members, or may become it; the peer itself may be among them."""


@dataclass(frozen=True, slots=True)
class PeerSetup:
    """What the actors of one peer are made with. The policies are shared by the peers of a host."""

    identity: DeviceIdentity
    endpoint: int
    certificate: DeviceCertificate | None = None
    """Of the user whose device it is. The user's own key stays out of the peer."""
    bootstrap: tuple[Contact, ...] = ()
    admission: AdmissionPolicy = AdmissionPolicy()  # noqa: RUF009 - frozen
    sessions: SessionConfig = SessionConfig()  # noqa: RUF009 - frozen
    rpc: RpcConfig = RpcConfig()  # noqa: RUF009 - frozen
    kademlia: KademliaConfig = KademliaConfig()  # noqa: RUF009 - frozen
    crdt: CrdtConfig = CrdtConfig()  # noqa: RUF009 - frozen
    channels: tuple[Channel, ...] = ()
    routes: dict[str, str] = field(default_factory=lambda: ROUTES)
    contacts: tuple[Contact, ...] = ()
    """Contacts to start with instead of joining: a warm start."""
    store: Callable[[], Store] | None = field(default=None, compare=False)
    """Opens what this peer's journal is written to; None for a peer that keeps nothing."""
    journal_key: bytes = field(default=b"", repr=False)
    """The journal's root key."""
    journal_anchors: Mapping[bytes, Head] = field(default_factory=dict)
    """How far its streams went, by name, as the keystore remembers it: they have to go at least that far."""
    imported: bool = False
    """Whether the keystore came from an export and nobody has confirmed since how far this device was: no stream is
    clean then."""
    aead: AeadContexts = field(default_factory=AeadContexts, compare=False)
