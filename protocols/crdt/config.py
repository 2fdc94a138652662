"""How replicas talk to each other."""

from typing import Annotated, Final

from msgspec import Meta, Struct

NS_PER_MS: Final = 10**6
NS_PER_S: Final = 10**9


class CrdtConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is new is told to a few members at once, who tell a few others; anti-entropy finds what that has missed."""

    fanout: Annotated[int, Meta(ge=0, le=64)] = 3
    """Members that a replica tells what is new to it. Three reach 94 % of all, and the others ask; none: all ask."""
    gossip_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 300
    """What becomes known meanwhile is told together: a push costs more than what it carries."""
    sync_interval_s: Annotated[int, Meta(ge=1, le=86_400)] = 20
    """Between two members that are asked whether they hold the same, on average. A cut that has healed is over after
    the first of them, for all: what it brought is news, and is told."""
    accuse_delay_s: Annotated[int, Meta(ge=1, le=3_600)] = 10
    """A fork is seen by all at about the same time. Whoever draws the shortest delay up to this says so, and few others
    do too. Whoever has to write meanwhile says it first."""
    acknowledge_after_s: Annotated[int, Meta(ge=1, le=7 * 86_400)] = 600
    """Who has written nothing for so long, and knows of something new, says that it has seen it: else nothing would
    ever be known to be seen by all (``stability``)."""
    silent_after_s: Annotated[int, Meta(ge=0, le=366 * 86_400)] = 14 * 86_400
    """A member that has acknowledged nothing for so long is removed by an admin, or nothing would be stable any more;
    it can be let in again. Two weeks: a holiday. 0: never."""
    compact_after: Annotated[int, Meta(ge=0)] = 0
    """Operations behind the stable frontier that are worth being let go of. 0: never; a whole history takes 2 bytes a
    keystroke, and can be checked by whoever comes."""
    confirmations: Annotated[int, Meta(ge=0, le=16)] = 3
    """Members that must have agreed with us, after an end that was not in order, before we write: one of them has what
    we wrote before, unless all are liars or have nothing of it. With fewer members, all of them."""

    @property
    def gossip_delay_ns(self) -> int:
        return self.gossip_delay_ms * NS_PER_MS

    @property
    def sync_interval_ns(self) -> int:
        return self.sync_interval_s * NS_PER_S

    @property
    def accuse_delay_ns(self) -> int:
        return self.accuse_delay_s * NS_PER_S

    @property
    def silent_after_ns(self) -> int:
        return self.silent_after_s * NS_PER_S

    @property
    def acknowledge_after_ns(self) -> int:
        return self.acknowledge_after_s * NS_PER_S
