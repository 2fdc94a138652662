"""Where the published test vectors are: beside the project, or where ``SPACEPANDA_VECTORS`` says; or in a package."""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def vector_path(name: str) -> Path:
    folder = Path(os.environ.get("SPACEPANDA_VECTORS") or ROOT.parent / "shared" / "vectors")
    path = folder / name
    if not path.is_file():
        pytest.skip(f"published vectors {name} are not in {folder}: set SPACEPANDA_VECTORS")
    return path


def vectors(name: str) -> Any:
    return json.loads(vector_path(name).read_bytes())


def packaged_path(name: str) -> Path:
    """A file of the package ``cryptography_vectors``, which carries what RFCs and NIST published."""
    spec = find_spec("cryptography_vectors")
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is in the package cryptography_vectors, which is not installed")
    return Path(spec.origin).parent / name


def packaged_blocks(name: str) -> Iterator[dict[str, str]]:
    """The cases of such a file that is in NIST's notation: lines of ``key = value``, until a key comes again."""
    block: dict[str, str] = {}
    for line in packaged_path(name).read_text(encoding="ascii").splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("#") or not equals:
            continue
        if key in block:
            yield block
            block = {}
        block[key] = value
    yield block
