"""AEAD contexts on loan: a bounded cache of keys made ready.

A context costs 2.4 kB and a microsecond to make; a session's keys cost 130 bytes. A host of ten thousand
peers with hundreds of thousands of sessions keeps the keys of all and the contexts of those that talk. It is a
cache and nothing else: no outcome depends on what is in it, so the peers of a host may share one.
"""

from collections import OrderedDict

from protocols.crypto import AeadContext
from protocols.errors import LocalError
from protocols.noise.symmetric import CHACHA_POLY

CONTEXTS_DEFAULT = 4096
"""10 MB: the sessions that talk at one time on one host."""


class AeadContexts:
    """The most recently used contexts, by key. A closed session's keys must be forgotten."""

    __slots__ = ("_contexts", "capacity")

    def __init__(self, capacity: int = CONTEXTS_DEFAULT) -> None:
        if capacity < 1:
            raise LocalError(f"a cache of {capacity} contexts")
        self.capacity = capacity
        self._contexts: OrderedDict[bytes, AeadContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def of(self, key: bytes) -> AeadContext:
        contexts = self._contexts
        context = contexts.get(key)
        if context is None:
            context = contexts[key] = CHACHA_POLY.context(key)
            if len(contexts) > self.capacity:
                contexts.popitem(last=False)
        else:
            contexts.move_to_end(key)
        return context

    def forget(self, key: bytes) -> None:
        self._contexts.pop(key, None)
