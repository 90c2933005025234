"""Restate, if it is here: the npm package ``@restatedev/restate-server`` and its Python SDK.

``TITANIC_BENCH_RESTATE`` names the server's binary (default: ``restate-server`` on PATH) and
``TITANIC_BENCH_RESTATE_PYTHON`` an interpreter that has ``restate_sdk`` and ``hypercorn``. Everything is
as the packages come; data lies on the same disk as ours.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from bench.processes import answers, free_port, process

SERVICE = """
import restate

bench = restate.Service("bench")
BYTES = restate.serde.BytesSerde()


@bench.handler(accept="application/octet-stream", content_type="application/octet-stream",
               input_serde=BYTES, output_serde=BYTES)
async def echo(ctx: restate.Context, body: bytes) -> bytes:
    return body


app = restate.app([bench])
"""


def start(stack: ExitStack, folder: Path) -> str | None:
    """The ingress URL of a running Restate with an ``echo`` handler, or None and a line why not."""
    binary = os.environ.get("TITANIC_BENCH_RESTATE") or shutil.which("restate-server")
    if binary is None:
        print("bench: no restate-server here; runs against it are left out", file=sys.stderr)
        return None
    python = os.environ.get("TITANIC_BENCH_RESTATE_PYTHON", sys.executable)
    ingress, admin, node, handler = free_port(), free_port(), free_port(), free_port()
    (folder / "restate_service.py").write_text(SERVICE)
    ports = {
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_LOG_FILTER": "warn",
    }
    log = folder / "restate.log"
    sdk = [python, "-m", "hypercorn", "-b", f"127.0.0.1:{handler}", "restate_service:app"]
    stack.enter_context(process(sdk, lambda: True, log, env={"PYTHONPATH": str(folder)}))
    stack.enter_context(process([binary], answers(f"http://127.0.0.1:{admin}/health"), log, env=ports))
    body = json.dumps({"uri": f"http://127.0.0.1:{handler}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        return f"http://127.0.0.1:{ingress}"
