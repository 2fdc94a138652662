"""What a module may not do if a run is to be repeatable, as far as its syntax shows it.

A core is given its time and its entropy. One that reads them for itself still works, passes its tests, and
makes two runs of one seed differ on some other day; so what could read them is not there. The same for the
order of a set of bytes, which is another in every process, and for fractions of a second in binary.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

CLOCKS: Final = ("time", "datetime", "calendar", "sched", "timeit")
ENTROPY: Final = ("random", "secrets", "uuid", "os")
CONCURRENCY: Final = ("asyncio", "threading", "concurrent", "multiprocessing", "subprocess", "queue", "signal", "ray")
OUTSIDE: Final = ("socket", "select", "ssl", "http", "urllib", "io", "pathlib", "shutil", "tempfile", "sqlite3", "sys")
UNSAFE: Final = ("pickle", "marshal", "shelve", "ctypes", "gc", "weakref")

CALLS: Final = ("open", "hash", "id", "input", "print", "eval", "exec", "__import__")
"""Builtins that touch the world, or whose answer is another in every process."""

DRAWS: Final = ("urandom", "getrandom", "randombytes", "token_bytes", "random", "perf_counter_ns", "monotonic_ns")
"""However they are imported: libsodium and OpenSSL have entropy of their own."""

ORDERING: Final = ("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "next", "reversed", "dict", "bytes")
"""Builtins that show the order in which a set has its members; ``sorted``, ``len`` and ``set`` do not."""

SET_METHODS: Final = ("union", "intersection", "difference", "symmetric_difference")


class Rules(NamedTuple):
    """What a package forbids."""

    modules: tuple[str, ...]
    floats: bool
    """Whether fractions are forbidden too."""


RULES: Final = {
    "protocols": Rules((*CLOCKS, *ENTROPY, *CONCURRENCY, *OUTSIDE, *UNSAFE), floats=True),
    "actors": Rules((*CLOCKS, *ENTROPY, *CONCURRENCY, *OUTSIDE, *UNSAFE), floats=False),
}


class Violation(NamedTuple):
    """A line that breaks a rule."""

    line: int
    what: str


def violations(source: str, rules: Rules) -> list[Violation]:
    """Every line of a module that breaks its package's rules, in order."""
    tree = ast.parse(source)
    sets = _set_names(tree)
    found: list[Violation] = []
    for node in ast.walk(tree):
        found += [Violation(getattr(node, "lineno", 0), what) for what in _node(node, rules, sets)]
    return sorted(set(found))


def _node(node: ast.AST, rules: Rules, sets: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"imports {each.name}" for each in names if each.name.partition(".")[0] in rules.modules)
        case ast.ImportFrom(module=str(module), names=names):
            if module.partition(".")[0] in rules.modules:
                yield f"imports {module}"
            yield from (f"imports {module}.{each.name}" for each in names if each.name in DRAWS)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield f"calls {name}()"
        case ast.Call(func=ast.Attribute(attr=name)) if name in DRAWS:
            yield f"calls {name}()"
        case ast.Call(func=ast.Attribute(attr="generate"), args=[], keywords=[]):
            yield "calls generate() without entropy"
        case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[]) if _is_set(value, sets):
            yield "pops from a set"
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in ORDERING:
            yield from (f"{name}() of a set" for each in arguments if _is_set(each, sets))
        case ast.Call(func=ast.Attribute(attr="join"), args=[each]) if _is_set(each, sets):
            yield "join() of a set"
        case ast.For(iter=iterated) | ast.comprehension(iter=iterated) if _is_set(iterated, sets):
            yield "iterates over a set"
        case ast.Starred(value=value) if _is_set(value, sets):
            yield "unpacks a set"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()) if rules.floats:
            yield "divides into a fraction"
        case ast.Constant(value=float()) if rules.floats:
            yield "has a fraction"
        case ast.Name(id="float") if rules.floats:
            yield "has a fraction"
        case _:
            pass


def _is_set(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether an expression is visibly a set."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in SET_METHODS:
            return _is_set(value, names)
        case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return _is_set(left, names) or _is_set(right, names)
        case ast.Name(id=name):
            return name in names
        case ast.Attribute(attr=name):
            return f".{name}" in names
        case _:
            return False


def _set_names(tree: ast.AST) -> frozenset[str]:
    """Names and attributes (with a dot before them) that are annotated as sets, or given one, in this module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        match node:
            case ast.AnnAssign(target=target, annotation=annotation) if _says_set(annotation):
                targets = [target]
            case ast.arg(arg=name, annotation=ast.expr() as annotation) if _says_set(annotation):
                found.add(name)
            case ast.Assign(targets=several, value=value) if _is_set(value, frozenset(found)):
                targets = several
            case _:
                pass
        for each in targets:
            if isinstance(each, ast.Name):
                found.add(each.id)
            elif isinstance(each, ast.Attribute):
                found.add(f".{each.attr}")
    return frozenset(found)


def _says_set(annotation: ast.AST) -> bool:
    match annotation:
        case ast.Name(id="set" | "frozenset" | "Set" | "AbstractSet"):
            return True
        case ast.Subscript(value=ast.Name(id="Final"), slice=inner):
            return _says_set(inner)
        case ast.Subscript(value=value):
            return _says_set(value)
        case _:
            return False


def files(root: Path, packages: Iterable[str]) -> list[Path]:
    """Every module of these packages, relative to ``root``."""
    return sorted(each.relative_to(root) for package in packages for each in (root / package).rglob("*.py"))
