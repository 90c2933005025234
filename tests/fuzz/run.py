"""``make fuzz``: one target under atheris (libFuzzer) until it fails or is stopped.

``python -m tests.fuzz.run TARGET [SECONDS]``. A failing input is written to the current folder; put it into
``test_targets.py`` as a case of its own once it is understood.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main(target: str, seconds: str) -> None:
    """Never returns: libFuzzer ends the process."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: .venv/bin/pip install atheris (Linux, Python 3.11 to 3.13)")
    with atheris.instrument_imports(include=["core"]):
        from tests.fuzz.targets import TARGETS
    if target not in TARGETS:
        sys.exit(f"no target {target!r}; there are {', '.join(TARGETS)}")
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=2000"], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*[*sys.argv[1:3], *["broker", "60"][len(sys.argv[1:3]) :]])
