"""One job, one trace: from the HTTP client over gateway, node and worker, through the real processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Processes, run, until

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra 'otel' is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector:
    """Takes what OTLP exporters send over HTTP: ``spans`` are (service name, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    raw = gzip.decompress(raw)
                request = ExportTraceServiceRequest.FromString(raw)
                for resource in request.resource_spans:
                    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [(names["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def of(self, trace_id: str) -> dict[str, tuple[str, Any]]:
        """Name -> (service, span) of a trace."""
        return {span.name: (role, span) for role, span in self.spans if span.trace_id.hex() == trace_id}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a free port."""
    found = Collector()
    yield found
    found.stop()


def environment(collector: Collector) -> dict[str, str]:
    return {
        "TITANIC_OTEL": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "127.0.0.1",
    }


def test_a_job_is_one_trace(family: Processes, tmp_path: Path, collector: Collector) -> None:
    """Submit, attempt and worker are each the child of the one before; the fetch of the reply links to it."""
    env = environment(collector)
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    facts = family.start("serve", *command, env=env, cwd=tmp_path).facts()
    family.start("worker", "shout", "--exec", "printf %s $TRACEPARENT", "--nodes", facts["broker"], env=env)
    trace = f"00-{TRACE_ID}-{PARENT}-01"
    sent = httpx.post(f"{facts['http']}/v1/services/shout/jobs", content=b"x", headers={"traceparent": trace})
    links = sent.json()["links"]
    path = facts["http"] + links["reply"]
    reply = httpx.get(path, headers={"prefer": "wait=20"})
    assert reply.status_code == 200, reply.text
    wanted = {"POST /v1/services/{service}/jobs", "dispatch shout", "process shout"}
    until(f"all spans {collector.spans}", lambda: wanted <= set(collector.of(TRACE_ID)))
    spans = collector.of(TRACE_ID)
    submit = spans["POST /v1/services/{service}/jobs"]
    dispatch, process = spans["dispatch shout"], spans["process shout"]
    assert [submit[0], dispatch[0], process[0]] == ["titanic-gateway", "titanic-node", "titanic-worker"]
    assert submit[1].parent_span_id.hex() == PARENT
    assert dispatch[1].parent_span_id == submit[1].span_id
    assert process[1].parent_span_id == dispatch[1].span_id
    assert reply.text == f"00-{TRACE_ID}-{process[1].span_id.hex()}-01", "the command knows its span"
    ids = {
        pair.value.string_value
        for _, span in (submit, dispatch, process)
        for pair in span.attributes
        if pair.key == "titanic.job.id"
    }
    assert ids == {sent.json()["id"]}

    def fetched() -> Any:
        return [
            span
            for _, span in collector.spans
            if span.name == "GET /v1/jobs/{id}/reply"
            and any(link.trace_id.hex() == TRACE_ID for link in span.links)
        ]

    until("the fetch of the reply, linked to the job's trace", fetched)
    text = str(collector.spans)
    assert "authorization" not in text.lower()


def test_a_failed_attempt_says_why(family: Processes, tmp_path: Path, collector: Collector) -> None:
    """Both the attempt and what the worker did are marked as errors; no trace came with the submit."""
    env = environment(collector)
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    facts = family.start("serve", *command, env=env, cwd=tmp_path).facts()
    family.start("worker", "broken", "--exec", "exit 3", "--nodes", facts["broker"], env=env)
    httpx.post(
        f"{facts['http']}/v1/services/broken/jobs?attempts=1", content=b"x", headers={"prefer": "wait=20"}
    )

    def failed() -> Any:
        found = {span.name: span for _, span in collector.spans}
        return found if {"dispatch broken", "process broken"} <= set(found) else None

    found = until("both spans", failed)
    for name in ("dispatch broken", "process broken"):
        assert found[name].status.code == 2
        assert "exit code 3" in found[name].status.message
    assert found["dispatch broken"].trace_id == found["process broken"].trace_id


def test_off_nothing_is_imported() -> None:
    """Neither our own files nor the SDK are loaded unless tracing is on; FastAPI loads the API by itself."""
    modules = "gateway.cli.app, gateway.cli.workers, gateway.composition.gateway, gateway.composition.node"
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gateway.http.app" in loaded
    ours = ("core.shell.tracing", "gateway.http.tracing", "opentelemetry.sdk", "opentelemetry.exporter")
    assert not loaded & set(ours)


def test_on_and_not_installed_is_refused(tmp_path: Path) -> None:
    """With the words that install it."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('hidden')\n")
    from tests.support.processes import IMPORTS

    env = {"TITANIC_OTEL": "1", "PYTHONPATH": f"{tmp_path}:{IMPORTS['PYTHONPATH']}"}
    done = run("worker", "echo", "--nodes", "tcp://127.0.0.1:1", env=env)
    assert done.returncode == 2
    assert b"pip install 'titanic-jobs[otel]'" in done.stderr
