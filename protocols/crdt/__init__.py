"""Documents that many write, some of whom lie: operation-based CRDTs of which every operation is signed.

Begin with ``replica.py``, which is what an application holds and the one way in for operations, and ``changes.py``,
what operations can do. Then, from the wire to the document:

============  ========================================================================================================
question      modules
============  ========================================================================================================
what travels  ``operations`` and their ids; ``bundles`` and signatures, over ``merkle`` trees; ``proofs``; ``clock``
what is held  ``history``, the DAG, and what lies in the past of what; ``pending``, what waits; ``quota``
who may       ``authority``, roles and grants; ``resolution``, where some revoke others that had not seen it;
              ``evidence`` of equivocation; ``judgement``, which operations are taken in, and which of them count
what it is    ``document`` of ``maps``; ``registers``, ``sets`` (both made of ``cells``), ``counters``, ``timelines``;
              ``text`` over ``text_spans``, with ``drafts`` of what is being typed; ``state``, for its digest
what others   ``messages``; ``exchange`` and ``answering``, the two sides; ``reconciliation`` and ``narrowing``, by
lack          ranges of keyed hashes; ``outgoing``
what stays    ``archive``, the whole history in few bytes; ``stability``, ``compaction``, ``snapshot``, ``restoring``
a peer's      ``requests`` of its services, ``config``
============  ========================================================================================================

Nothing here trusts whoever delivers: not a peer, not a disk. Keys, time and nonces are arguments.
"""

from protocols.crdt.changes import (
    Acknowledge,
    Add,
    Append,
    Assign,
    AssignMulti,
    Blob,
    Change,
    Clear,
    Edit,
    Grant,
    Increment,
    Remove,
    Revoke,
    Role,
)
from protocols.crdt.document import Document
from protocols.crdt.errors import CrdtError
from protocols.crdt.replica import Receipt, Replica

__all__ = [
    "Acknowledge",
    "Add",
    "Append",
    "Assign",
    "AssignMulti",
    "Blob",
    "Change",
    "Clear",
    "CrdtError",
    "Document",
    "Edit",
    "Grant",
    "Increment",
    "Receipt",
    "Remove",
    "Replica",
    "Revoke",
    "Role",
]
