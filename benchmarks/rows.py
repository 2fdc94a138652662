"""What every benchmark yields: rows that are one JSON object a line, with figures and what they stand beside."""

import json
from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]


def main(run: Callable[[], Iterator[Row]]) -> None:
    """Print rows as they come."""
    for row in run():
        print(json.dumps(row), flush=True)
