"""Which requests are new, and what was answered to those that are not.

Two questions that must not share an answer. *Is this a replay?* is decided by a window over the session's
monotone request ids: a bitmap and the highest id, a few dozen bytes that no flood can enlarge or flush.
*What did we answer?* is decided by a bounded cache. When the cache has forgotten, a replay is dropped:
at worst the caller times out with "perhaps". Deciding replays by a cache of seen ids (the obvious design)
means that whoever can fill the cache can have an old request executed again.
"""

from typing import Any, Final, Literal

WINDOW_IDS: Final = 256
"""Ids remembered below the highest. Callers keep their oldest open id within it, so an honest request is
never too old; four times the calls that one session may have open."""

REPLIES_MAX: Final = 1024
REPLIES_PER_SESSION_MAX: Final = 64
"""As many as calls may be open on one session: an honest caller retransmits only those."""
REPLY_BYTES_MAX: Final = 1024 * 1024

_MASK: Final = (1 << WINDOW_IDS) - 1


class IdWindow:
    """The ids seen on one session, as far back as ``WINDOW_IDS``."""

    __slots__ = ("bitmap", "highest")

    def __init__(self, highest: int = -1, bitmap: int = 0) -> None:
        self.highest = highest
        self.bitmap = bitmap
        """Bit ``i``: id ``highest - i`` was seen."""

    def check(self, identifier: int) -> Literal["new", "seen", "old"]:
        """``old``: below the window, so whether it was seen is no longer known."""
        behind = self.highest - identifier
        if behind < 0:
            return "new"
        if behind >= WINDOW_IDS:
            return "old"
        return "seen" if self.bitmap >> behind & 1 else "new"

    def mark(self, identifier: int) -> None:
        """Remember an id that ``check`` found to be new."""
        ahead = identifier - self.highest
        if ahead > 0:
            # A peer may jump by 2**60: it must not have us shift by that.
            self.bitmap = (self.bitmap << ahead | 1) & _MASK if ahead < WINDOW_IDS else 1
            self.highest = identifier
        else:
            self.bitmap |= 1 << -ahead


class ReplyCache:
    """The last answers, least recently used first; every operation is O(1).

    An answer is of use until its request's deadline, when the caller stops repeating it: a few seconds, 60 at most
    (``TIMEOUT_MS_LIMIT``). Older ones go, lazily, as others come.

    A session that floods evicts its own answers first, so it cannot flush those of others one by one; only
    many sessions together reach the common limits.
    """

    __slots__ = ("_replies", "_sessions", "size")

    def __init__(self) -> None:
        self._replies: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._sessions: dict[int, dict[int, None]] = {}
        self.size = 0
        """Bytes of the answers kept."""

    def __len__(self) -> int:
        return len(self._replies)

    def put(self, session: int, identifier: int, frame: bytes, until: int, now: int) -> None:
        """Keep the answer to a request that has none yet; nobody asks for it after ``until``."""
        self._forget_old(now)
        own = self._sessions.setdefault(session, {})
        if len(own) >= REPLIES_PER_SESSION_MAX:
            self._evict(session, next(iter(own)))
        self._replies[session, identifier] = (until, frame)
        self._sessions.setdefault(session, {})[identifier] = None
        self.size += len(frame)
        while len(self._replies) > REPLIES_MAX or self.size > REPLY_BYTES_MAX:
            self._evict(*next(iter(self._replies)))

    def find(self, session: int, identifier: int, now: int) -> bytes | None:
        """The answer, which becomes the most recently used."""
        self._forget_old(now)
        entry = self._replies.pop((session, identifier), None)
        if entry is None:
            return None
        self._replies[session, identifier] = entry
        own = self._sessions[session]
        del own[identifier]
        own[identifier] = None
        return entry[1]

    def forget_session(self, session: int) -> None:
        """The session is gone, and its ids with it."""
        for identifier in list(self._sessions.get(session, ())):
            self._evict(session, identifier)

    def _forget_old(self, now: int) -> None:
        while self._replies:
            key = next(iter(self._replies))
            if now <= self._replies[key][0]:
                break
            self._evict(*key)

    def _evict(self, session: int, identifier: int) -> None:
        _, frame = self._replies.pop((session, identifier))
        self.size -= len(frame)
        own = self._sessions[session]
        del own[identifier]
        if not own:
            del self._sessions[session]

    def state(self) -> list[Any]:
        """Plain data for ``from_state``; the order is part of it."""
        return [(session, number, until, frame) for (session, number), (until, frame) in self._replies.items()]

    @classmethod
    def from_state(cls, state: list[Any]) -> "ReplyCache":
        """The cache whose ``state`` this is."""
        cache = cls()
        for session, identifier, until, frame in state:
            cache._replies[session, identifier] = (until, frame)
            cache._sessions.setdefault(session, {})[identifier] = None
            cache.size += len(frame)
        return cache
