"""Where the published test vectors are: beside the project, or where ``SPACEPANDA_VECTORS`` says."""

import json
import os
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
