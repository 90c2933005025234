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
from bench.stable import Stable

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


HEADERS = {"content-type": "application/octet-stream"}


class Restate(Stable):
    """A running Restate with an ``echo`` handler; ``url`` is its ingress."""

    def __init__(self, pids: list[int], url: str) -> None:
        super().__init__(pids, self._serves)
        self.url = url

    def _serves(self) -> bool:
        asked = urllib.request.Request(f"{self.url}/bench/echo", b"awake", HEADERS, method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return bool(answer.read() == b"awake")
        except OSError:
            return False


def start(stack: ExitStack, folder: Path) -> Restate | None:
    """Restate, at rest; or None and a line why not."""
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
    ready = answers(f"http://127.0.0.1:{admin}/health")
    started = [
        stack.enter_context(process(sdk, lambda: True, log, env={"PYTHONPATH": str(folder)})),
        stack.enter_context(process([binary], ready, log, env=ports)),
    ]
    body = json.dumps({"uri": f"http://127.0.0.1:{handler}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        found = Restate([one.pid for one in started], f"http://127.0.0.1:{ingress}")
    stack.callback(found.resume)
    found.wake()
    found.rest()
    return found
