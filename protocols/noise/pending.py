"""Datagrams of a handshake that await their answer, with what is needed to make something of it."""

import msgspec


class Pending(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False, eq=False):
    """A datagram that is repeated, byte for byte, after waits that double, until ``deadline``."""

    datagram: bytes
    repeat_at: int
    deadline: int
    sends: int

    def __repr__(self) -> str:
        # The fields hold ephemeral keys.
        return f"{type(self).__name__}(sent {self.sends} times)"

    @property
    def wake_at(self) -> int:
        return min(self.repeat_at, self.deadline)


class Dialling(Pending, gc=False, eq=False):
    """An initiator's INIT."""

    device: bytes
    endpoint: int
    handshake: bytes
    renewal: bool
    """It renews a session, and nobody waits to hear that it failed."""
    cookies: int = 0


class HalfOpen(Pending, gc=False, eq=False):
    """A responder's RESPONSE, to somebody who has proved nothing yet."""

    source: int
    remote_index: int
    ephemeral: bytes
    """INIT's, which with source and index tells its repetitions from a rival's INITs."""
    handshake: bytes
    early_data: list[bytes]
    """Datagrams that overtook FINAL."""


class Unconfirmed(Pending, gc=False, eq=False):
    """An initiator's FINAL, until the responder proves to have the session."""

    ephemeral: bytes
    """RESPONSE's, by which its repetitions are known."""
