"""What a group asks of its surroundings, and how long it keeps what it has."""

import msgspec

from protocols.mls.chunks import Run
from protocols.mls.credentials import Authenticate
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.staging import PskLookup, no_psks


class Services(msgspec.Struct, frozen=True):
    """What a group asks of its surroundings."""

    authenticate: Authenticate | None = None
    """The authentication service (§5.3.1); None takes every credential at its word, but from who comes back in a
    member's place: there the signature key has to be the old one."""
    policy: Policy = DEFAULT_POLICY
    psks: PskLookup = no_psks
    run: Run = map
    """``map``, or a thread pool's."""
    check_lifetimes: bool = False
    """Whether others' commits are held against our clock too, as §7.3 recommends. Members whose clocks differ then
    part ways over an Add, so where nobody orders commits that is left to the committer, who always checks."""


class Retention(msgspec.Struct, frozen=True):
    """How long epochs are kept to return to. It is forward secrecy that pays: until an epoch is dropped, whoever
    takes this device can read it and, from its init secret, everything that was committed on it."""

    epochs: int = 5
    """The current one and those before it. What branches off from these is kept with them."""
    age_ns: int | None = None
