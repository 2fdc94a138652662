"""The id window against a set; the reply cache against its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from protocols.rpc.replay import (
    REPLIES_MAX,
    REPLIES_PER_SESSION_MAX,
    REPLY_BYTES_MAX,
    WINDOW_IDS,
    IdWindow,
    ReplyCache,
)


@given(st.lists(st.integers(0, 3 * WINDOW_IDS) | st.integers(0, 2**63 - 1), max_size=80))
def test_window_agrees_with_a_set_of_all_ids(identifiers: list[int]) -> None:
    window = IdWindow()
    seen: set[int] = set()
    for identifier in identifiers:
        if seen and identifier <= max(seen) - WINDOW_IDS:
            assert window.check(identifier) == "old"
            continue
        assert window.check(identifier) == ("seen" if identifier in seen else "new")
        if identifier not in seen:
            window.mark(identifier)
            seen.add(identifier)
            assert window.check(identifier) == "seen"
        assert window.bitmap.bit_length() <= WINDOW_IDS


def test_an_id_is_new_at_most_once_whatever_comes_between() -> None:
    window = IdWindow()
    window.mark(7)
    for identifier in range(8, 5000):
        assert window.check(7) != "new"
        window.mark(identifier)


def test_flood_on_one_session_leaves_the_answers_of_others() -> None:
    cache = ReplyCache()
    cache.put(1, 0, b"kept", 9, 0)
    for identifier in range(5000):
        cache.put(2, identifier, b"flood", 9, 0)
    assert len(cache) == REPLIES_PER_SESSION_MAX + 1
    assert cache.find(1, 0, 0) == b"kept"


def test_least_recently_used_answer_goes_first() -> None:
    cache = ReplyCache()
    for identifier in range(REPLIES_PER_SESSION_MAX):
        cache.put(1, identifier, b"x", 9, 0)
    assert cache.find(1, 0, 0) == b"x"
    cache.put(1, 1000, b"y", 9, 0)
    assert cache.find(1, 0, 0) == b"x"
    assert cache.find(1, 1, 0) is None


def test_cache_is_bounded_by_entries_and_by_bytes() -> None:
    cache = ReplyCache()
    for session in range(100):
        for identifier in range(REPLIES_PER_SESSION_MAX):
            cache.put(session, identifier, bytes(100), 9, 0)
    assert len(cache) == REPLIES_MAX
    for session in range(100):
        cache.put(session, 1000, bytes(16_000), 9, 0)
    assert cache.size <= REPLY_BYTES_MAX


def test_answers_are_dropped_when_nobody_asks_for_them_any_more() -> None:
    cache = ReplyCache()
    cache.put(1, 0, b"old", 5, 0)
    cache.put(1, 1, b"young", 9, 4)
    assert cache.find(1, 0, 5) == b"old"
    cache.put(1, 2, b"new", 12, 10)
    assert len(cache) == 1
    assert cache.find(1, 2, 10) == b"new"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.booleans()), max_size=120))
def test_cache_keeps_its_books(steps: list[tuple[int, int, bool]]) -> None:
    cache = ReplyCache()
    kept: dict[tuple[int, int], bytes] = {}
    for now, (session, identifier, put) in enumerate(steps):
        if put and (session, identifier) not in kept:
            kept[session, identifier] = bytes(identifier)
            cache.put(session, identifier, bytes(identifier), 1000, now)
        elif not put:
            cache.forget_session(session)
            kept = {key: frame for key, frame in kept.items() if key[0] != session}
        restored = ReplyCache.from_state(cache.state())
        assert restored.state() == cache.state()
        assert restored.size == cache.size == sum(len(entry[3]) for entry in cache.state())
    for (session, identifier), frame in kept.items():
        assert cache.find(session, identifier, len(steps)) in (frame, None)
