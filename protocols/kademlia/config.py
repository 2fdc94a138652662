"""The settings of a Kademlia node. Where the paper gives a value it is the default."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocols.errors import LocalError
from protocols.kademlia.messages import CONTACTS_MAX
from protocols.kademlia.records import TTL_MAX_S

Count = Annotated[int, Meta(ge=1)]
Interval = Annotated[int, Meta(ge=0)]  # of an upkeep task; 0 turns it off

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS


class KademliaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    k: Annotated[int, Meta(ge=1, le=CONTACTS_MAX)] = 20
    alpha: Count = 3
    quorum: Count = 3
    """Holders whose records a reader compares before it believes the newest."""

    request_timeout_ms: Count = 5_000
    """A dead node costs this; a dial over the slowest path (1 s round trip) with one loss fits."""
    slow_after_ms: Count = 1_000
    """When another node is asked beside one that has not answered."""
    failures_max: Count = 2
    """Unanswered calls in a row that put a contact out. Each was retransmitted several times already."""
    replacements_max: Interval = 8
    stale_after_ms: Count = 15 * MINUTE_MS
    """A contact heard of since is not pinged when a newcomer wants its place (as in Mainline)."""
    pings_max: Count = 8
    """Strangers and old contacts being pinged at a time."""

    join_refreshes: Interval = 1
    """Lookups in far buckets that follow the lookup of oneself; each costs about 20 new sessions."""
    join_retry_ms: Count = 1_000
    join_retry_max_ms: Count = MINUTE_MS
    settle_ms: Interval = 20_000
    """When a node that joined looks itself up again: whoever joined at the same time was not to be found before."""
    refresh_ms: Interval = HOUR_MS
    republish_ms: Interval = HOUR_MS
    replicate_ms: Interval = HOUR_MS

    lookups_max: Count = 64
    """At a time; a command beyond fails at once."""
    records_max: Count = 1024
    owner_records_max: Count = 16
    published_max: Count = 256
    record_ttl_max_s: Annotated[int, Meta(ge=1, le=TTL_MAX_S)] = 48 * 3600
    corrections_max: Interval = 4
    """Nodes to which a reader sends the newest record because they should hold it and do not."""

    group_shift: Annotated[int, Meta(ge=0, le=63)] | None = None
    """Endpoints equal above this bit are one network (``routing``); None: no limits by network."""
    group_bucket_max: Count = 2
    group_table_max: Count = 10

    def __post_init__(self) -> None:
        if self.alpha > self.k or self.quorum > self.k:
            raise LocalError(f"alpha={self.alpha} and quorum={self.quorum} cannot exceed k={self.k}")
