import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.conformance import Kind, MismatchError, register, registry, run_files
from protocols.errors import LocalError
from tests.cluster.conformance.documents import run, written
from tests.vectors import vector_path


@pytest.mark.parametrize("text", ["", "{", "[]", '{"vectors": []}', '{"vectors": [1]}', "[1]", "[{}]", "[" * 100000])
def test_file_that_is_no_vector_file_is_one_local_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LocalError, match=r"renamed\.txt"):
        run_files([path])


def test_missing_file_or_folder_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_run_file", lambda *_: pytest.fail("ran a file"))
    good = written(tmp_path, json.dumps([{"vlbytes_header": "00", "length": 0}]))
    for bad in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(LocalError, match=bad.name):
            run_files([good, bad])


def test_a_new_kind_is_one_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))

    def cases(document: Any) -> Iterator[tuple[str, Any]]:
        return ((str(number), number) for number in document["even"])

    def run_case(case: Any) -> None:
        if case % 2:
            raise MismatchError("odd")

    kind = Kind("even", lambda document: "even" in document, cases, run_case)
    register(kind)
    with pytest.raises(LocalError, match="even"):
        register(kind)
    result = run(tmp_path, {"even": [0, 1, 2]})
    assert (result.kind, result.passed, [case.case for case in result.failed]) == ("even", 2, ["1"])


def test_every_published_file_is_of_one_kind_and_every_kind_has_a_file() -> None:
    recognised = {"HPKE"}  # whose vectors are in a package of their own
    folders = vector_path("mls/messages.json").parent, vector_path("wycheproof/ed25519_test.json").parent
    paths = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    for path in [*paths, vector_path("noise/cacophony.json")]:
        document = json.loads(path.read_bytes())
        [kind] = [kind.name for kind in registry._KINDS.values() if kind.matches(document)]
        recognised.add(kind)
    assert recognised == registry._KINDS.keys()
