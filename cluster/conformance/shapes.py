"""What the MLS working group's files have in common: an array of cases, most with a cipher suite, bytes in hex."""

from collections.abc import Callable, Iterator
from typing import Any

from cluster.conformance.registry import UnsupportedError
from protocols.mls.errors import MlsError
from protocols.mls.suite import CipherSuite, cipher_suite

octets = bytes.fromhex


def cases_with(*fields: str) -> Callable[[Any], bool]:
    """Recognises an array whose first case has these fields."""

    def matches(document: Any) -> bool:
        match document:
            case [dict() as first, *_]:
                return all(field in first for field in fields)
        return False

    return matches


def numbered(document: Any) -> Iterator[tuple[str, Any]]:
    """Each case by its place and suite."""
    for number, case in enumerate(document):
        suite = case.get("cipher_suite") if isinstance(case, dict) else None
        yield f"{number}" if suite is None else f"{number}: cipher suite {suite}", case


def suite_of(case: dict[str, Any]) -> CipherSuite:
    """The suite that a case is of, or ``UnsupportedError``."""
    try:
        return cipher_suite(case["cipher_suite"])
    except MlsError as error:
        raise UnsupportedError(str(error)) from None
