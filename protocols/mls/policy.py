"""What RFC 9420 leaves to the application: who is the same client, what may follow what, and what is welcome.

Every member must answer these questions alike, or one accepts a commit that another refuses and the group falls
apart. So they are functions of what the commit itself shows: no clock, no list that differs from member to
member. What may differ, a lifetime that has just run out, is asked separately (``now_s``).
"""

from collections.abc import Callable
from typing import Final

import msgspec

from protocols.mls.credentials import Credential
from protocols.mls.framing import Sender
from protocols.mls.proposals import Proposal


def same_credential(old: Credential, new: Credential) -> bool:
    """The strictest successor: nothing changes. Certificates that are renewed need another."""
    return old == new


class Policy(msgspec.Struct, frozen=True):
    """One group's answers; the defaults are those that need no knowledge of identities."""

    may_succeed: Callable[[Credential, Credential], bool] = same_credential
    """Whether a member with the first credential may go on with the second (§5.3.1), or join in its place by an
    external commit (§12.2): with a careless answer, anybody who has the group info removes whom he likes. Where no
    authentication service is asked, the latter has to keep its signature key too, as a name is no proof."""

    client: Callable[[Credential], bytes] | None = None
    """The client that a credential stands for, so that nobody is added twice (§12.2). None goes by signature
    keys alone, which is quick; otherwise the members are looked through at each Add."""

    accept: Callable[[Proposal, Sender], bool] | None = None
    """Whether this sender may have this proposal committed (§12.2: "additional rules"). None takes what is sound;
    but a committer then leaves out what others proposed and could break the group (``check_prudent``), and strangers
    who ask to be added keep nobody from speaking. With an answer, it is the application that decides on all that."""

    path_required: frozenset[int] = frozenset()
    """Which custom proposal types need a path (§12.4)."""

    lifetime_max_s: int | None = None
    """The longest lifetime of a key package (§7.2). Most peers publish some months, some 2^63 seconds; so there
    is no default that would keep out the one and not the other."""


DEFAULT_POLICY: Final = Policy()
