"""The established sessions of a peer: found by index, counted by device, bounded, and each with its end.

Two sessions of one device may be alive: the newest is the one to send on, the older is readable until it idles
out, so that what is under way while a session is renewed, or in the rival of a simultaneous dial,
arrives. A third ends the oldest. A full table ends the session that has been silent longest among those that
others opened, and only then one of our own: device keys cost nothing, and a crowd of them must not end the
sessions that this peer chose.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from protocols.noise.contexts import AeadContexts
from protocols.noise.exchange import Agreed
from protocols.noise.interface import NS_PER_MS, SessionConfig, SessionDown
from protocols.noise.session import WINDOW_SIZE, Session

SESSIONS_PER_DEVICE_MAX: Final = 2
"""The one to send on and the one before it."""

SavedSession = tuple[Session, bytes]
"""A session whose window, an integer too large for the encoding, stands beside it."""


class SessionTable:
    __slots__ = ("_by_device", "_config", "_contexts", "by_index")

    def __init__(self, config: SessionConfig, contexts: AeadContexts) -> None:
        self._config = config
        self._contexts = contexts
        self.by_index: dict[int, Session] = {}
        self._by_device: dict[bytes, tuple[int, ...]] = {}  # the newest last

    def __len__(self) -> int:
        return len(self.by_index)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self.by_index.values()))

    def with_device(self, device: bytes) -> Session | None:
        """The session to send on."""
        indexes = self._by_device.get(device)
        return self.by_index[indexes[-1]] if indexes else None

    def add(
        self, index: int, agreed: Agreed, endpoint: int, now: int, *, initiator: bool
    ) -> tuple[Session, list[SessionDown]]:
        """The new session, and what had to end for it."""
        ended = []
        of_device = self._by_device.get(agreed.device, ())
        if len(of_device) >= SESSIONS_PER_DEVICE_MAX:
            ended.append(self.end(self.by_index[of_device[0]], "superseded"))
        elif len(self.by_index) >= self._config.sessions_max:
            least = min(self.by_index.values(), key=lambda session: (session.initiator, session.received_at))
            ended.append(self.end(least, "evicted"))
        session = Session(
            index=index,
            remote_index=agreed.remote_index,
            device=agreed.device,
            endpoint=endpoint,
            initiator=initiator,
            handshake_hash=agreed.handshake_hash,
            send_key=agreed.send_key,
            receive_key=agreed.receive_key,
            reject_at=now + self._config.reject_after_ms * NS_PER_MS,
            received_at=now,
        )
        self._insert(session)
        return session, ended

    def end(self, session: Session, reason: str) -> SessionDown:
        del self.by_index[session.index]
        left = tuple(index for index in self._by_device[session.device] if index != session.index)
        if left:
            self._by_device[session.device] = left
        else:
            del self._by_device[session.device]
        session.forget_keys(self._contexts)
        return SessionDown(session.index, session.device, reason)

    # -- ages -------------------------------------------------------------------------------------------

    def established_at(self, session: Session) -> int:
        return session.reject_at - self._config.reject_after_ms * NS_PER_MS

    def idle_at(self, session: Session) -> int:
        return session.received_at + self._config.idle_timeout_ms * NS_PER_MS

    def renew_at(self, session: Session) -> int:
        return self.established_at(session) + self._config.rekey_after_ms * NS_PER_MS

    # -- to bytes and back ------------------------------------------------------------------------------

    def saved(self) -> list[SavedSession]:
        return [
            (msgspec.structs.replace(session, window=0), session.window.to_bytes(WINDOW_SIZE // 8, "big"))
            for session in self.by_index.values()
        ]

    def restore(self, saved: list[SavedSession]) -> None:
        for session, window in saved:
            session.window = int.from_bytes(window, "big")
            self._insert(session)

    def _insert(self, session: Session) -> None:
        self.by_index[session.index] = session
        self._by_device[session.device] = (*self._by_device.get(session.device, ()), session.index)
