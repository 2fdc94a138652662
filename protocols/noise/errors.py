"""What can be wrong with a Noise peer."""

from protocols.errors import ProtocolError


class NoiseError(ProtocolError):
    """A peer's handshake or transport message, or the protocol it names, breaks Noise; nothing was changed.

    Reasons: ``decrypt_failed``, ``low_order_point``, ``message_too_long``, ``message_too_short``,
    ``nonce_exhausted``; of a device to seal to: ``bad_key_length``, ``bad_point``; of names: ``malformed_name``,
    ``unknown_pattern``, ``unknown_modifier``, ``unknown_algorithm``, ``invalid_pattern``.
    """
