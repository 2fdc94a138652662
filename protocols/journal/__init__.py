"""What a peer must not lose: records in streams, sealed and chained, and exactly what was written or an error.

The problem: a peer that dies has to come back as it was, from a file that it cannot trust. So there are two layers.
A ``Store`` keeps rows and answers for accidents: a batch is there whole or not at all. A ``Journal`` answers for
people, and is pure: it seals what there is to record, chains it, and returns batches; told a store, it says what is
in there, or which row is not what was written.

``journal`` and ``stream`` are the verbs, ``recovery`` the way back, ``rows``, ``heads`` and ``roll`` the bytes, with
``keys`` to seal them. ``counters`` keeps what may never be used twice. ``messages`` is what actors say, and
``outbox`` what they wait with.

Not detected by the file alone: a file that was put back whole, or one stream of it, as it once was. If the copy was
made after an orderly close it even looks as if nothing had happened. Only a memory outside the file can tell: give
``open_stream`` an anchor, and be careful after an unclean end. Not erased: what file systems, flash and backups kept
of rows that are gone; but whoever finds those lacks their key, unless a copy of that was kept too.
"""

from protocols.journal.counters import Counters, Reservation
from protocols.journal.errors import JournalError
from protocols.journal.heads import Head, SignedHead, sign_head
from protocols.journal.journal import Journal
from protocols.journal.keys import ROOT_SIZE, Entropy, JournalKeys
from protocols.journal.messages import Entry, Record
from protocols.journal.recovery import Recovery
from protocols.journal.store import Batch, Removal, Row, Store, StoreError, Table
from protocols.journal.stream import FullError, Stream

__all__ = [
    "ROOT_SIZE",
    "Batch",
    "Counters",
    "Entropy",
    "Entry",
    "FullError",
    "Head",
    "Journal",
    "JournalError",
    "JournalKeys",
    "Record",
    "Recovery",
    "Removal",
    "Reservation",
    "Row",
    "SignedHead",
    "Store",
    "StoreError",
    "Stream",
    "Table",
    "sign_head",
]
