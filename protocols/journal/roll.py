"""The roll: which streams there are, so that one cannot disappear whole.

One row under the root key, rewritten when a stream is made or removed.
"""

from typing import Annotated, Final

import msgspec

from protocols.journal.errors import JournalError
from protocols.journal.keys import Entropy, JournalKeys
from protocols.journal.messages import Name
from protocols.journal.store import Store, Table

STREAMS_MAX: Final = 8192
"""Two for each of 4,000 channels. The roll is written whole: at most 800 kB, when a channel is joined or left."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Annotated[list[Name], msgspec.Meta(max_length=STREAMS_MAX)])


def roll_row(keys: JournalKeys, names: list[bytes], entropy: Entropy) -> bytes:
    return keys.wrap(Table.ROLL, b"", 0, _ENCODER.encode(names), entropy)


def read_roll(keys: JournalKeys, store: Store) -> list[bytes]:
    """The names of the streams, oldest first.

    Raises:
        JournalError: ``version`` or ``bad_roll``.
    """
    data = store.row(Table.ROLL, b"", 0)
    if data is None:
        return []
    try:
        names: list[bytes] = _DECODER.decode(keys.unwrap(Table.ROLL, b"", 0, data))
    except msgspec.DecodeError as error:
        raise JournalError("bad_roll", f"the roll holds no names: {error}") from None
    return names
