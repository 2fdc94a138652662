"""What can be wrong with an operation, or with what carries it."""

from protocols.errors import ProtocolError


class CrdtError(ProtocolError):
    """A bundle, an operation or a message about them breaks the rules; the replica is as it was."""
