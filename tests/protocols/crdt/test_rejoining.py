"""Who was away takes a snapshot from whoever has it, and believes only those who signed it."""

from collections.abc import Callable

import msgspec
import pytest

from protocols.crdt import rejoining, settling
from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import Mark, Page, Response, Same, Settled
from protocols.crdt.rejoining import Rejoining, lost, rejoined
from protocols.crdt.replica import Replica
from protocols.crdt.settling import NOTHING_SETTLED, Offer, owners_of
from protocols.crdt.snapshot import Sealed
from protocols.errors import LocalError
from tests.protocols.crdt.test_restoring import busy
from tests.protocols.crdt.test_settling import proposed
from tests.protocols.crdt.worlds import KEYS

CHANNEL = busy()
OFFER = Offer(proposed(CHANNEL, 0, 1).sealed)
STRANGER = Replica(CHANNEL.genesis)
OWNERS = owners_of(STRANGER)


def fetched(twist: Callable[[Response], Response] = lambda answer: answer) -> Sealed:
    """All the questions and answers."""
    asking = Rejoining(STRANGER.channel, KEYS[0].public, 5)
    while True:
        asking = Rejoining.from_bytes(asking.to_bytes())
        question = asking.request()
        answer = OFFER.mark if isinstance(question, Settled) else OFFER.page(question)
        sealed = asking.answer(twist(answer), OWNERS)
        if sealed is not None:
            return sealed


def test_snapshot_comes_in_pages_and_is_the_state_that_the_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejoining, "PAGE_SIZE", 300)
    monkeypatch.setattr(settling, "PAGE_SIZE", 300)
    replica = rejoined(STRANGER, fetched(), KEYS[3].public)
    assert replica.digest() == CHANNEL.replicas[0].digest()
    assert replica.is_open
    assert lost(CHANNEL.replicas[3], STRANGER, KEYS[3].public) > 0
    assert lost(STRANGER, replica, KEYS[3].public) == 0


def lies() -> dict[str, tuple[Callable[[Response], Response], str]]:
    def on(kind: type[Response], change: Callable[[Response], Response]) -> Callable[[Response], Response]:
        return lambda answer: change(answer) if isinstance(answer, kind) else answer

    def changed(**fields: object) -> Callable[[Response], Response]:
        return lambda answer: msgspec.structs.replace(answer, **fields)

    return {
        "something else": (lambda _: Same(), "bad_answer"),
        "nothing": (on(Mark, lambda _: NOTHING_SETTLED), "snapshot_gone"),
        "unsigned": (on(Mark, changed(signatures=())), "untrusted_snapshot"),
        "another digest": (on(Mark, changed(digest=bytes(32))), "bad_signature"),
        "gone": (on(Page, changed(size=0, data=b"")), "snapshot_gone"),
        "short page": (on(Page, changed(data=b"x")), "bad_answer"),
        "endless": (on(Page, changed(size=10**8)), "bad_answer"),
    }


@pytest.mark.parametrize("name", lies())
def test_who_lies_is_found_out_and_nothing_is_loaded(name: str) -> None:
    twist, reason = lies()[name]
    with pytest.raises(CrdtError, match=reason):
        fetched(twist)


def test_bytes_that_are_not_what_was_signed_are_refused() -> None:
    def twist(answer: Response) -> Response:
        if isinstance(answer, Mark):
            return answer
        assert isinstance(answer, Page)
        data = bytearray(answer.data)
        data[len(data) // 3] ^= 1
        return msgspec.structs.replace(answer, data=bytes(data))

    with pytest.raises(CrdtError, match="bad_snapshot"):
        fetched(twist)


def test_the_admins_who_were_known_and_still_are_have_to_have_signed() -> None:
    sealed = fetched()
    owner_only = tuple(each for each in sealed.signatures if each[0] == KEYS[0].public)
    with pytest.raises(CrdtError, match="untrusted_snapshot"):
        rejoined(STRANGER, msgspec.structs.replace(sealed, signatures=owner_only), KEYS[3].public)


def test_snapshot_older_than_what_is_settled_here_is_not_taken() -> None:
    sealed = fetched()
    replica = rejoined(STRANGER, sealed, KEYS[3].public)
    assert rejoined(replica, sealed, KEYS[3].public).digest() == replica.digest()
    assert replica.settled_sequences
    later = Replica.restored(CHANNEL.genesis, sealed)
    later._base.history.floor = tuple(each + 1 for each in later._base.history.floor)  # type: ignore[misc,union-attr]
    with pytest.raises(CrdtError, match="stale_snapshot"):
        rejoined(later, sealed, KEYS[3].public)


def test_state_that_is_none_is_refused() -> None:
    with pytest.raises(LocalError):
        Rejoining.from_bytes(b"\x91\x01")
