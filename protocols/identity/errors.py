"""What can be wrong with what somebody says about who they are."""

from protocols.errors import ProtocolError


class IdentityError(ProtocolError):
    """A certificate or a chain of them that does not show what it was shown for; nothing was changed.

    Reasons of a statement, whenever it is looked at: ``bad_certificate``, ``bad_request``, ``bad_revocation``,
    ``bad_link`` (not signed by the keys it names), ``bad_static_length``, ``bad_static`` (the device did not certify
    this session key), ``bad_bundle``, ``bad_leaf`` (nor these operations, nor this MLS key), ``wrong_user``,
    ``wrong_node``, ``wrong_scheme``; ``senseless`` (it cannot be meant, whoever signed it).

    Of a device, at a time and for a purpose: ``unknown_user``, ``unknown_device``, ``revoked``, ``rotated``,
    ``not_yet_valid``, ``expired``, ``wrong_purpose``. Of a roster: ``full``.
    """
