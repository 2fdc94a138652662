"""The targets by name. They are imported only when asked for, so that ``guided`` can instrument what they import."""

import importlib
from typing import Final, Protocol

TARGETS: Final = ("decoder", "group", "state")


class Target(Protocol):
    def run(self, data: bytes) -> None:
        """Whatever the bytes are, a promise holds; or this raises."""

    def seeds(self) -> list[bytes]:
        """Inputs to begin with, which reach most of what there is."""


def target(name: str) -> Target:
    module: Target = importlib.import_module(f"tests.fuzz.{name}")
    return module
