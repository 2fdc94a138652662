"""What can be wrong with a member of a group, or with anybody who wants to be one."""

from typing import Final

from protocols.errors import LocalError, ProtocolError
from protocols.mls.rules import RULES

DETAIL_SIZE_MAX: Final = 240
"""Characters of a detail. Some show what a peer wrote, which may be megabytes."""


class MlsError(ProtocolError):
    """A message breaks RFC 9420, or the policy of this group; nothing was changed.

    ``reason`` is the identifier of the rule, as listed in ``protocols.mls.rules``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in RULES:
            raise LocalError(f"{reason!r} is no rule of protocols.mls.rules")
        super().__init__(reason, detail if len(detail) <= DETAIL_SIZE_MAX else detail[:DETAIL_SIZE_MAX] + "...")
