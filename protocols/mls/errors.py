"""What can be wrong with a member of a group, or with anybody who wants to be one."""

from protocols.errors import LocalError, ProtocolError
from protocols.mls.rules import RULES


class MlsError(ProtocolError):
    """A message breaks RFC 9420, or the policy of this group; nothing was changed.

    ``reason`` is the identifier of the rule, as listed in ``protocols.mls.rules``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in RULES:
            raise LocalError(f"{reason!r} is no rule of protocols.mls.rules")
        super().__init__(reason, detail)
