import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.transcript import DOMAIN_SIZE_MAX, MAGIC, transcript

# Small alphabets, so that different statements often join to the same bytes.
domains = st.text("ab/", min_size=1, max_size=3)
fields = st.lists(st.text("ab\0\1", max_size=3).map(str.encode), max_size=4)


@given(domains, fields, domains, fields)
def test_different_statements_have_different_bytes(
    domain: str, ours: list[bytes], other_domain: str, theirs: list[bytes]
) -> None:
    same = (domain, ours) == (other_domain, theirs)
    assert (transcript(domain, *ours) == transcript(other_domain, *theirs)) == same


@given(domains, fields)
def test_domain_and_fields_can_be_read_back(domain: str, ours: list[bytes]) -> None:
    rest = transcript(domain, *ours).removeprefix(MAGIC)

    def take() -> bytes:
        nonlocal rest
        size = int.from_bytes(rest[:4], "big")
        taken, rest = rest[4 : 4 + size], rest[4 + size :]
        return taken

    assert take().decode() == domain
    count, rest = int.from_bytes(rest[:4], "big"), rest[4:]
    assert [take() for _ in range(count)] == ours
    assert rest == b""


@given(domains, fields, domains, fields)
def test_no_transcript_is_the_start_of_another(
    domain: str, ours: list[bytes], other_domain: str, theirs: list[bytes]
) -> None:
    first, second = transcript(domain, *ours), transcript(other_domain, *theirs)
    assert first == second or not first.startswith(second)


@pytest.mark.parametrize("domain", ["", "a" * (DOMAIN_SIZE_MAX + 1), "dömän"])
def test_domain_that_is_not_short_ascii_is_refused(domain: str) -> None:
    with pytest.raises(LocalError):
        transcript(domain)


def test_moving_a_byte_between_fields_changes_the_transcript() -> None:
    assert transcript("d", b"ab", b"c") != transcript("d", b"a", b"bc")
    assert transcript("d", b"") != transcript("d")
