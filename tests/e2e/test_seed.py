"""The test of the original pattern: client first, worker arbitrarily later, all of it separate processes."""

from pathlib import Path

from tests.support.processes import Processes, free_port, run, until


def test_worker_comes_later(family: Processes, tmp_path: Path) -> None:
    """Broker, Titanic, client; then a worker: the client gets its reply and exits happily."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    broker = family.start("broker", "--bind", endpoint, "--json", "-v")
    assert broker.facts()["broker"] == endpoint
    service = family.start("service", "--broker", endpoint, "--data", str(tmp_path / "data"), "--json", "-v")
    assert service.facts()["broker"] == endpoint
    body = tmp_path / "body.txt"
    body.write_bytes(b"hello, titanic")
    client = family.start("client", "--broker", endpoint, "request", "echo", str(body), "--wait", "-v")

    until("the client to be told to wait", lambda: "'300'" in client.errors)
    assert client.process.poll() is None
    worker = family.start("worker", "echo", "--nodes", endpoint, "-v")

    assert client.wait() == 0, client.errors
    assert client.process.stdout is not None
    assert client.process.stdout.read() == b"hello, titanic"

    job = client.errors.split("stored as ")[1].split()[0]
    again = run("client", "--broker", endpoint, "reply", job)
    assert (again.returncode, again.stdout) == (0, b"hello, titanic"), "asking twice gives the same bytes"
    assert run("client", "--broker", endpoint, "close", job).returncode == 0
    assert run("client", "--broker", endpoint, "reply", job).returncode == 1

    for name in ("titanic.request", "titanic.reply", "titanic.close"):
        assert f"READY service='{name}'" in service.errors, "the dialogue shows who registers"
    assert "REQUEST service='titanic.request'" in client.errors
    assert "REQUEST for=" in worker.errors
    assert "READY service='echo'" in broker.errors
    for process in (worker, service, broker):
        assert process.stop() == 0, process.errors


def test_jobs_survive_the_service(family: Processes, tmp_path: Path) -> None:
    """A kill -9 of the separate Titanic between request and reply loses nothing."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    data = str(tmp_path / "data")
    family.start("broker", "--bind", endpoint, "--json").facts()
    service = family.start("service", "--broker", endpoint, "--data", data, "--json")
    service.facts()
    stored = run("client", "--broker", endpoint, "request", "echo", body=b"once")
    assert stored.returncode == 0, stored.stderr
    job = stored.stdout.decode().strip()
    service.kill()
    family.start("service", "--broker", endpoint, "--data", data, "--json").facts()
    family.start("worker", "echo", "--nodes", endpoint)
    reply = run("client", "--broker", endpoint, "reply", job, "--wait", "60s", deadline_s=90)
    assert (reply.returncode, reply.stdout) == (0, b"once"), reply.stderr
