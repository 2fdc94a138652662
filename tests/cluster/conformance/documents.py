"""Vector documents written to a file, as a user has them."""

import json
from pathlib import Path

from cluster.conformance import FileResult, run_files


def written(folder: Path, text: str) -> Path:
    """A file under a name that says nothing."""
    path = folder / "renamed.txt"
    path.write_text(text)
    return path


def run(folder: Path, document: object) -> FileResult:
    [result] = run_files([written(folder, json.dumps(document))])
    return result


def flipped(text: str) -> str:
    """Hex with its last bit changed."""
    return text[:-1] + f"{int(text[-1], 16) ^ 1:x}"
