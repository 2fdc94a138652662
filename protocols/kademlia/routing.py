"""The routing table: k-buckets as ranges of one sorted list.

A bucket holds the contacts whose distance to this node has the same highest bit, which is to say those
that leave its identifier at the same bit: in a list sorted by identifier they stand next to each other. So
there are no bucket objects. A bucket is a slice found by bisection, an entry is a place in four parallel
arrays (25 bytes), and ten thousand tables fit in one process.

The same order answers ``closest`` exactly and without sorting what is not returned: the identifiers that
share a prefix are a slice too, so the walk halves the list towards the target, takes whole halves while they
are needed and sorts only those.

Who gets in (attack D3): a contact that has itself answered a call of ours, at that endpoint, and nobody else.
Hearsay and strangers who called us wait in the bucket's replacement cache, or are pinged. Who gets out (D8):
a contact that failed several calls in a row; a closed connection says nothing. Nobody else displaces an
old contact that still answers, since who has been up longest stays up longest (Kademlia §2.2). The table sends
nothing: it says who should be pinged.

A node must know all of its k nearest (§2.4), and they may lie in one bucket that is full. So a neighbour enters a full
bucket too, up to twice k, which stops who makes keys ever nearer.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Self

import msgspec

from protocols.contact import Contact, node_id, shared
from protocols.errors import LocalError


class TableState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    contacts: list[Contact]
    seen: list[int]
    failures: bytes
    replacements: list[tuple[int, list[Contact]]]


class RoutingTable:
    """The contacts that a node has reached, about ``k`` at each distance.

    ``group_shift``: endpoints equal above this bit are one network; no network may have more than
    ``group_bucket_max`` entries of a bucket and ``group_table_max`` of the table (attack D1).
    """

    __slots__ = ("_contacts", "_failures", "_group_bucket_max", "_group_shift", "_group_table_max", "_ids", "_own",
                 "_replacements", "_replacements_max", "_seen", "failures_max", "k")  # fmt: skip

    def __init__(
        self,
        own: int,
        *,
        k: int = 20,
        failures_max: int = 2,
        replacements_max: int = 8,
        group_shift: int | None = None,
        group_bucket_max: int = 2,
        group_table_max: int = 10,
    ) -> None:
        self._own = own
        self.k = k
        self.failures_max = failures_max
        self._replacements_max = replacements_max
        self._group_shift = group_shift
        self._group_bucket_max = group_bucket_max
        self._group_table_max = group_table_max
        self._ids: list[int] = []
        self._contacts: list[Contact] = []
        self._seen = array("q")  # when it last answered, or called from the endpoint where it had answered
        self._failures = bytearray()  # calls failed since
        self._replacements: dict[int, list[Contact]] = {}  # per bucket, the latest last

    @classmethod
    def from_contacts(cls, own: int, contacts: Iterable[Contact], now: int, *, k: int = 20) -> Self:
        """A table that takes these contacts on trust, in bulk; what does not fit its buckets is left out."""
        table = cls(own, k=k)
        table.fill(contacts, now)
        return table

    def fill(self, contacts: Iterable[Contact], now: int) -> None:
        """Enter contacts on trust into an empty table; the limits of networks are not applied to them."""
        if self._ids:
            raise LocalError("only an empty table is filled")
        sizes: dict[int, int] = {}
        entries: dict[int, Contact] = {}
        for contact in contacts:
            identifier = node_id(contact.device)
            bucket = self.bucket_of(identifier)
            size = sizes.get(bucket, 0)
            if bucket >= 0 and size < self.k and identifier not in entries:
                sizes[bucket] = size + 1
                entries[identifier] = shared(contact)
        self._ids = sorted(entries)
        self._contacts = [entries[identifier] for identifier in self._ids]
        self._seen = array("q", [now]) * len(self._ids)
        self._failures = bytearray(len(self._ids))

    # -- questions ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, device: bytes) -> Contact | None:
        """The entry of this device."""
        index = self._index(node_id(device))
        return None if index is None else self._contacts[index]

    def contacts(self) -> list[Contact]:
        return list(self._contacts)

    def closest(self, target: int, n: int) -> list[Contact]:
        """The ``n`` contacts nearest to ``target``, nearest first: exactly those that sorting all would give."""
        ids, contacts = self._ids, self._contacts
        nearest: list[Contact] = []
        low, high = 0, len(ids)
        # All of ids[low:high] agree up to the bit at which the first and the last differ, and split there.
        # The half that agrees with the target in that bit is nearer, as a whole.
        while high - low > n > 0:
            bit = (ids[low] ^ ids[high - 1]).bit_length() - 1
            middle = bisect_left(ids, ids[high - 1] >> bit << bit, low, high)
            ones_are_near = target >> bit & 1
            near_size = high - middle if ones_are_near else middle - low
            if near_size < n:
                near = range(middle, high) if ones_are_near else range(low, middle)
                nearest += [contacts[i] for _, i in sorted([(ids[i] ^ target, i) for i in near])]
                n -= near_size
                ones_are_near = not ones_are_near  # what is left to find is in the far half
            low, high = (middle, high) if ones_are_near else (low, middle)
        if n > 0:
            nearest += [contacts[i] for _, i in sorted([(ids[i] ^ target, i) for i in range(low, high)])]
        return nearest

    def bucket_of(self, identifier: int) -> int:
        """The number of the highest bit in which ``identifier`` differs from ours; -1 for ours."""
        return (identifier ^ self._own).bit_length() - 1

    def buckets(self) -> list[tuple[int, int]]:
        """The non-empty buckets and their sizes, nearest first."""
        sizes: dict[int, int] = {}
        for identifier in self._ids:
            bucket = self.bucket_of(identifier)
            sizes[bucket] = sizes.get(bucket, 0) + 1
        return sorted(sizes.items())

    def has_room(self, contact: Contact, reserved: int = 0) -> bool:
        """Whether this stranger could enter, were ``reserved`` places of its bucket taken already."""
        bucket = self.bucket_of(node_id(contact.device))
        if bucket < 0:
            return False
        low, high = self._range(bucket)
        size = high - low + reserved
        if size >= self.k and (size >= 2 * self.k or not self._is_neighbour(contact, bucket)):
            return False
        if self._group_shift is None:
            return True
        group = contact.endpoint >> self._group_shift
        in_group = [i for i, entry in enumerate(self._contacts) if entry.endpoint >> self._group_shift == group]
        in_bucket = sum(low <= i < high for i in in_group)
        return len(in_group) < self._group_table_max and in_bucket < self._group_bucket_max

    def oldest(self, bucket: int) -> tuple[Contact, int] | None:
        """The contact of a bucket that was heard of longest ago, and when that was."""
        low, high = self._range(bucket)
        if low == high:
            return None
        index = min(range(low, high), key=self._seen.__getitem__)
        return self._contacts[index], self._seen[index]

    # -- what happened ------------------------------------------------------------------------------

    def responded(self, contact: Contact, now: int) -> bool:
        """It answered a call that we made to it there. False if there is no room: it waits for some."""
        identifier = node_id(contact.device)
        index = self._index(identifier)
        if index is not None:
            if self._contacts[index] != contact:
                self._contacts[index] = shared(contact)  # it moved, and answered where it is now
            self._seen[index], self._failures[index] = now, 0
            return True
        if not self.has_room(contact):
            self.offer(contact)
            return False
        index = bisect_left(self._ids, identifier)
        self._ids.insert(index, identifier)
        self._contacts.insert(index, shared(contact))
        self._seen.insert(index, now)
        self._failures.insert(index, 0)
        self._forget_replacement(contact)
        return True

    def heard(self, contact: Contact, now: int) -> bool:
        """It called us from there. False for strangers, and for entries that seem to have moved."""
        index = self._index(node_id(contact.device))
        if index is None or self._contacts[index] != contact:
            return False
        self._seen[index] = now
        return True

    def failed(self, contact: Contact) -> bool:
        """A call to it, there, was not answered. True if that was one too many and it is out."""
        self._forget_replacement(contact)
        index = self._index(node_id(contact.device))
        if index is None or self._contacts[index] != contact:
            return False
        self._failures[index] += 1
        if self._failures[index] < self.failures_max:
            return False
        self._delete(index)
        return True

    def remove(self, contact: Contact) -> None:
        """It broke the protocol."""
        self._forget_replacement(contact)
        index = self._index(node_id(contact.device))
        if index is not None:
            self._delete(index)

    def offer(self, contact: Contact) -> None:
        """Keep a stranger for when its bucket has room; the one kept longest gives way to it."""
        self._forget_replacement(contact)
        bucket = self.bucket_of(node_id(contact.device))
        if bucket >= 0 and self._replacements_max:
            waiting = self._replacements.setdefault(bucket, [])
            waiting.append(shared(contact))
            del waiting[: -self._replacements_max]

    def replacement(self, bucket: int) -> Contact | None:
        """Who should be pinged now that the bucket has room: the latest stranger."""
        waiting = self._replacements.get(bucket)
        return waiting[-1] if waiting else None

    # -- inside -------------------------------------------------------------------------------------

    def _index(self, identifier: int) -> int | None:
        index = bisect_left(self._ids, identifier)
        return index if index < len(self._ids) and self._ids[index] == identifier else None

    def _delete(self, index: int) -> None:
        del self._ids[index], self._contacts[index], self._seen[index], self._failures[index]

    def _range(self, bucket: int) -> tuple[int, int]:
        first = (self._own >> bucket ^ 1) << bucket
        low = bisect_left(self._ids, first)
        return low, bisect_left(self._ids, first + (1 << bucket), low)

    def _is_neighbour(self, contact: Contact, bucket: int) -> bool:
        """Whether it is nearer to us than the k-th nearest that we know."""
        subtree = self._own >> bucket << bucket
        low = bisect_left(self._ids, subtree)
        if bisect_left(self._ids, subtree + (1 << bucket), low) - low >= self.k:
            return False  # k are nearer than anybody in its bucket
        nearest = self.closest(self._own, self.k)
        if len(nearest) < self.k:
            return False  # its bucket is full of those being pinged
        return node_id(contact.device) ^ self._own < node_id(nearest[-1].device) ^ self._own

    def _forget_replacement(self, contact: Contact) -> None:
        if not self._replacements:
            return
        bucket = self.bucket_of(node_id(contact.device))
        waiting = self._replacements.get(bucket, ())
        left = [stranger for stranger in waiting if stranger.device != contact.device]
        if left:
            self._replacements[bucket] = left
        else:
            self._replacements.pop(bucket, None)

    # -- state --------------------------------------------------------------------------------------

    def to_state(self) -> TableState:
        replacements = sorted(self._replacements.items())
        return TableState(list(self._contacts), list(self._seen), bytes(self._failures), replacements)

    def restore(self, state: TableState) -> None:
        self._contacts = [shared(contact) for contact in state.contacts]
        self._ids = [node_id(contact.device) for contact in state.contacts]
        self._seen = array("q", state.seen)
        self._failures = bytearray(state.failures)
        self._replacements = {bucket: [shared(c) for c in waiting] for bucket, waiting in state.replacements}
