"""One target under ``atheris``, in the process that libFuzzer takes over: ``python -m tests.fuzz.guided NAME ...``.

Only ``protocols.mls`` is instrumented: its branches are what is to be reached, not those of the codec of our
records or of the fuzzer itself. Its own codec, half of the work, is so for the target that is about it.
"""

import importlib
import sys

from tests.fuzz.targets import target

atheris = importlib.import_module("atheris")
"""By name, as it is not there on every platform."""


def main() -> None:
    name, *arguments = sys.argv[1:]
    exclude = [] if name == "decoder" else ["protocols.mls.codec"]
    with atheris.instrument_imports(include=["protocols.mls"], exclude=exclude):
        chosen = target(name)
    chosen.seeds()  # Builds the world before the clock of the first input runs.
    atheris.Setup([sys.argv[0], *arguments], chosen.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
