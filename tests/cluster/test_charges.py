import ast
from pathlib import Path

from cluster.charges import LAPTOP, TABLES
from tests.architecture import files

ROOT = Path(__file__).resolve().parents[2]


def charged() -> set[str]:
    """Every operation that an actor charges."""
    found = set()
    for module in files(ROOT, ["actors"]):
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="charge"), args=[ast.Constant(value=str(operation)), *_]):
                    found.add(operation)
                case ast.Call(func=ast.Attribute(attr="charge")):
                    raise AssertionError(f"{module}:{node.lineno} charges what cannot be looked up")
    return found


def test_what_actors_charge_is_what_the_table_has() -> None:
    """An operation that is not in it would stop a run; one that nobody charges is a figure that nobody checks."""
    assert charged() == LAPTOP.keys()


def test_costs_are_whole_nanoseconds_and_free_is_without_a_table() -> None:
    assert TABLES["free"] is None
    for fixed, each in LAPTOP.values():
        assert isinstance(fixed, int)
        assert isinstance(each, int)
        assert fixed >= 0 < each


def test_unlocking_a_keystore_takes_what_its_default_is_made_to_take() -> None:
    """64 MiB, three passes: between the 0.1 s that a start can wait for and half a second."""
    fixed, each = LAPTOP["argon2id"]
    assert 100_000_000 < fixed + each * 64 * 3 < 500_000_000
