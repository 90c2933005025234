"""With ``TITANIC_NATIVE=1`` the busiest files become native code (mypyc); without it, nothing is compiled."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from setuptools import setup

extensions = []
if os.environ.get("TITANIC_NATIVE") == "1":
    try:
        from mypyc.build import mypycify
    except ImportError:
        sys.exit(
            "TITANIC_NATIVE=1 needs mypyc: pip install mypy setuptools; pip install --no-build-isolation"
        )
    files = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["titanic"]["native"]
    level = os.environ.get("TITANIC_NATIVE_OPT", "2")  # of the C compiler; 0 builds in half the time
    extensions = mypycify(files, opt_level=level, debug_level="0", multi_file=True, group_name="titanic")

setup(ext_modules=extensions)
