"""Whether this is the compiled build; see ``setup.py`` and decision 0006."""

from __future__ import annotations

from typing import Final

COMPILED: Final = not __file__.endswith(".py")
"""Whether the busiest modules are native code here."""

BUILD: Final = "compiled" if COMPILED else "interpreted"
"""The same in a word, for people."""
