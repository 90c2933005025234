"""The OpenAPI document, and the command that writes it and the reference page of problems.

    python -m gateway.http.openapi [--check] openapi/openapi.json docs/reference/http-problems.md

A path that ends in ``.md`` gets the problems, any other the document. With ``--check`` nothing is written,
and the exit code is 1 if a file is not as it would be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gateway.http.app import create_app
from gateway.http.settings import GatewaySettings
from gateway.pure import problems


def openapi_document() -> dict[str, Any]:
    """The document that ``/openapi.json`` serves; it depends on no setting."""
    return create_app(GatewaySettings()).api.openapi()


def render_for(path: Path) -> str:
    """What the generated file at ``path`` must hold."""
    if path.suffix == ".md":
        return problems.markdown()
    return json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the given files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.http.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    stale = 0
    for path in options.paths:
        text = render_for(path)
        if options.check:
            if not path.is_file() or path.read_text("utf-8") != text:
                print(f"{path} is not up to date: run python -m gateway.http.openapi {path}", file=sys.stderr)
                stale += 1
        else:
            path.write_text(text, "utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
