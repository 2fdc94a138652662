"""Names to things: how a scenario file says which model, workload or adversary it wants.

A study adds its own by registering them in a module that its scenario lists under ``plugins``; what
SpacePanda ships uses the same call. A registry names the modules where the shipped kinds live and imports
them at the first lookup, so scenario files can be checked without a list of imports kept somewhere by hand.

A kind may declare a struct of options; a scenario's ``options`` table is checked against it when the
scenario is read, and a kind without one takes none.
"""

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from protocols.errors import LocalError

T = TypeVar("T")


class UnknownKindError(LocalError):
    """Nothing is registered under this name."""


class PluginError(LocalError):
    """A module that the scenario lists cannot be imported here."""


class Kind(NamedTuple, Generic[T]):
    """What stands under a name."""

    make: T
    options: type[msgspec.Struct] | None


class Registry(Generic[T]):
    """The kinds of one sort of thing, by name."""

    def __init__(self, sort: str, *homes: str) -> None:
        self.sort: Final = sort
        """What to call such a thing in an error: "churn model"."""
        self._homes = homes
        self._kinds: dict[str, Kind[T]] = {}

    def register(self, name: str, options: type[msgspec.Struct] | None = None) -> Callable[[T], T]:
        """A decorator that puts a class or factory under ``name``.

        Raises:
            LocalError: the name is taken; nobody can tell which of the two a scenario means.
        """

        def add(make: T) -> T:
            if name in self._kinds:
                raise LocalError(f"{self.sort} {name!r} is registered twice")
            self._kinds[name] = Kind(make, options)
            return make

        return add

    def find(self, name: str) -> Kind[T]:
        """What is registered under ``name``.

        Raises:
            UnknownKindError: nothing is; the message names the nearest kind there is.
        """
        self._import_homes()
        kind = self._kinds.get(name)
        if kind is None:
            raise UnknownKindError(f"no {self.sort} is called {name!r}{suggestion(name, self._kinds)}")
        return kind

    def names(self) -> tuple[str, ...]:
        """Every name, in alphabetical order."""
        self._import_homes()
        return tuple(sorted(self._kinds))

    def _import_homes(self) -> None:
        for home in self._homes:
            importlib.import_module(home)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest right word, or all of them when none is near and they are few."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    if 0 < len(names) <= 12:
        return f"; there are: {', '.join(names)}"
    return ""


def import_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a scenario lists, so that they register what they bring.

    Raises:
        PluginError: a module is missing or fails while it is imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise PluginError(f"plugin {module!r} cannot be imported: {error}") from error
        except LocalError:
            raise
        except Exception as error:
            raise PluginError(f"plugin {module!r} fails while it is imported: {error!r}") from error


NETWORKS: Final[Registry[Callable[..., Any]]] = Registry("network model", "cluster.regions")
"""``make(scenario) -> Geography``."""

CHURN_MODELS: Final[Registry[Callable[..., Any]]] = Registry("churn model", "cluster.churn")
"""``make(scenario) -> Lifetimes | None``."""

WORKLOADS: Final[Registry[Any]] = Registry("workload", "cluster.workload", "cluster.possession", "cluster.convergence")
"""``WorkloadKind(plan, actor)``, and what peers know of users and channels, if they have any."""

ADVERSARIES: Final[Registry[Any]] = Registry(
    "adversary", "cluster.adversaries", "cluster.impostor", "cluster.crdt_adversaries", "cluster.crdt_liars"
)
"""The class of the actor that lies; what it is made with is said there."""
