"""Who may come in: rate limits for endpoints and peers, and circuit breakers for peers that misbehave.

A stranger's packet must cost less to refuse than to send, and refusing must need no memory that the
stranger controls: see ``buckets`` for how a flood of fresh keys is survived, ``breaker`` for how a peer
is cut off and comes back, ``door`` for what is charged to whom.
"""

from protocols.admission.breaker import BreakerPolicy, Breakers, BreakerState
from protocols.admission.buckets import NS_PER_S, BucketTable, Quota, Verdict
from protocols.admission.door import Admission, AdmissionPolicy
from protocols.admission.messages import Fault, Success

__all__ = [
    "NS_PER_S",
    "Admission",
    "AdmissionPolicy",
    "BreakerPolicy",
    "BreakerState",
    "Breakers",
    "BucketTable",
    "Fault",
    "Quota",
    "Success",
    "Verdict",
]
