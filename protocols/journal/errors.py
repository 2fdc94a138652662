"""What can be wrong with stored rows."""

from protocols.errors import StorageError


class JournalError(StorageError):
    """Stored rows are not those that this journal wrote; nothing was changed by finding out.

    Reasons: ``bad_roll``, ``bad_key``, ``bad_head``, ``bad_snapshot``, ``bad_group``, ``bad_counter``: a row of this
    sort was altered, or belongs to another key. ``missing``: rows are gone from the middle, or a whole stream is.
    ``spliced``: a row was written for another place or another epoch. ``truncated``: the end is gone. ``forked``:
    this is another history than the anchor's. ``version``: a later SpacePanda wrote it.
    """
