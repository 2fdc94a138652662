"""Whose fault was it?

Every error answers that first. A ``LocalError`` is our caller's: the code that holds the machine used
it wrongly. A ``ProtocolError`` is a remote peer's: bytes or messages that break the protocol. The actors
turn the second kind into a counted security event and go on; the first kind is a bug and stops the run. The third,
``StorageError``, is nobody's in the program: what was stored is not what we stored, or the disk failed.

Each protocol derives its own ``ProtocolError`` (``NoiseError``, ``RpcError``, ...), and every error
carries a ``reason``: a short, stable, machine-readable name that tests, counters and reports use. The
sentence beside it is for people. Neither ever contains a secret.
"""


class SpacePandaError(Exception):
    """The root of every error that SpacePanda raises on purpose."""


class LocalError(SpacePandaError):
    """The caller broke the contract of an interface; nothing was changed."""


class ProtocolError(SpacePandaError):
    """A peer broke the protocol; the machine that raised this is exactly as it was before the call."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ProtocolError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class StorageError(SpacePandaError):
    """What is stored is damaged, altered or not for us, or the disk failed; finding that out changed nothing."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["StorageError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)
