"""Our gateway without its metrics, to see what they cost: ``observe`` counts nothing. No keys either."""

from __future__ import annotations

import sys

from gateway.cli.app import main
from gateway.http.metrics import Metrics


def observe(self: Metrics, method: str, route: str, status: int, seconds: float) -> None:
    """Count nothing."""


if __name__ == "__main__":
    Metrics.observe = observe  # type: ignore[method-assign]
    sys.exit(main())
