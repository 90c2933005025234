"""Damage, splits and hanging disks of a pair of real nodes (D3, R2, P7, P8)."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from gateway.composition.pair_ask import ask
from tests.support.pair import PATIENCE_S, SERVICE, Pair, wired
from tests.support.processes import Processes, free_port, run, until

FILE = "titanic.ring"
BODIES = [b"body of job %04d" % number + bytes(range(256)) for number in range(40)]


def submit(url: str, body: bytes) -> str:
    """The path of a job that was acknowledged."""
    answer = httpx.post(f"{url}/v1/services/{SERVICE}/jobs", content=body, timeout=40)
    assert answer.status_code == 202, answer.text
    path: str = answer.headers["location"]
    return path


def reply(url: str, job: str) -> bytes:
    """The reply of a job, waited for."""
    answer = httpx.get(f"{url}{job}/reply", headers={"Prefer": "wait=20"}, timeout=40)
    assert answer.status_code == 200, answer.text
    return answer.content


def flip(path: Path, at: int) -> None:
    """One bit of a file is another, whoever has it open."""
    file = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(file, 1, at)
        assert byte, "a byte of the file"
        os.pwrite(file, bytes((byte[0] ^ 1,)), at)
    finally:
        os.close(file)


def places(path: Path, what: bytes) -> list[int]:
    """Where ``what`` is in a file."""
    image = path.read_bytes()
    found, at = [], image.find(what)
    while at >= 0:
        found.append(at)
        at = image.find(what, at + 1)
    return found


def check_clean(pair: Pair) -> None:
    """Both nodes end in order, the passive first, and ``store check`` finds nothing."""
    active = pair.until_paired()
    for number in (1 - active, active):
        assert pair.nodes[number].stop() == 0, pair.nodes[number].errors[-2_000:]
    for number in (0, 1):
        checked = run("store", "check", str(pair.data(number) / FILE), deadline_s=60)
        assert checked.returncode == 0, checked.stdout.decode()


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("damaged", ["active", "passive"])
def test_flipped_bits_of_a_running_node_are_mended_from_the_other(
    damaged: str, family: Processes, tmp_path: Path
) -> None:
    """A reader gets the right bytes, never the wrong ones; the file is whole afterwards."""
    pair = Pair(family, tmp_path)
    url = pair.serve()
    jobs = {submit(url, body): body for body in BODIES}
    assert all(reply(url, job) == body for job, body in jobs.items())
    active = pair.until_paired()
    victim = active if damaged == "active" else 1 - active
    path = pair.data(victim) / FILE
    for number, body in enumerate(BODIES):
        for at in places(path, body):
            flip(path, at + number)
    if damaged == "passive":
        pair.handover()  # whoever was passive is read from now on
        until("the roles are switched", lambda: pair.paired() == victim + 1, deadline_s=PATIENCE_S)
    assert all(reply(url, job) == body for job, body in jobs.items())
    assert pair.nodes[victim].errors.count("is mended from the peer") >= len(BODIES)
    assert all(len(places(path, body)) >= 1 for body in BODIES)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_damaged_request_waits_for_the_right_bytes(family: Processes, tmp_path: Path) -> None:
    """A worker is handed what was submitted, although the active's copy was bad when its turn came."""
    pair = Pair(family, tmp_path)
    _, url = family.gateway(pair.both)
    jobs = {submit(url, body): body for body in BODIES[:5]}
    path = pair.data(pair.until_paired()) / FILE
    for body in BODIES[:5]:
        (at,) = places(path, body)
        flip(path, at + 3)
    pair.serve()
    assert all(reply(url, job) == body for job, body in jobs.items())
    check_clean(pair)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_scrub_of_a_passive_mends_what_nobody_reads(family: Processes, tmp_path: Path) -> None:
    """A bit of a sealed chunk of the passive: its scrub finds it, and the active has the record."""
    pair = Pair(family, tmp_path)
    passive = 1 - pair.until_paired()
    _, url = family.gateway(pair.both)
    for number in range(4):  # more than a chunk
        submit(url, b"%d" % number + b"big" * 2_000_000)
    pair.kill(passive)
    path = pair.data(passive) / FILE
    at = places(path, b"0" + b"big" * 1_000)[0] + 2_000_000
    flip(path, at)
    pair.nodes[passive] = pair.start(passive)
    until(
        "the record is mended",
        lambda: "is mended from the peer" in pair.nodes[passive].errors,
        deadline_s=PATIENCE_S,
    )
    check_clean(pair)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("damaged", [0, 1], ids=["the last active", "the passive"])
def test_a_hole_found_at_the_start_is_filled_by_the_other_node(
    damaged: int, family: Processes, tmp_path: Path
) -> None:
    """No exit 3: the log is cut at the hole, the rest comes from the peer, and then it may serve alone."""
    pair = Pair(family, tmp_path)
    assert pair.until_paired() == 0
    _, url = family.gateway(pair.both)
    jobs = {submit(url, body): body for body in BODIES}
    for node in pair.nodes:
        node.kill()
    path = pair.data(damaged) / FILE
    (at,) = places(path, BODIES[7])
    flip(path, at + 5)
    pair.nodes = [pair.start(0), pair.start(1)]
    assert pair.until_paired() == 1 - damaged, "a node with a hole does not lead"
    assert "the rest comes from the peer" in pair.nodes[damaged].errors
    assert list((pair.data(damaged) / "aside").glob("*damaged*")), "the file is kept as it was"
    pair.kill(1 - damaged)
    pair.serve()
    assert all(reply(url, job) == body for job, body in jobs.items())
    pair.nodes[1 - damaged] = pair.start(1 - damaged)
    check_clean(pair)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_who_went_on_alone_asks_for_what_its_peer_had(family: Processes, tmp_path: Path) -> None:
    """A hole from before it was alone: it waits for the peer, says so, mends the record, and leads."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    _, url = family.gateway(pair.both)
    jobs = {submit(url, body): body for body in BODIES[:20]}
    pair.kill(1 - active)
    jobs |= {submit(url, body): body for body in BODIES[20:]}
    pair.kill(active)
    path = pair.data(active) / FILE
    (at,) = places(path, BODIES[7])
    flip(path, at + 5)
    node = pair.nodes[active] = pair.start(active, ready=False)
    until("it says why it waits", lambda: "from the peer" in ask_error(pair, active), deadline_s=PATIENCE_S)
    assert httpx.get(f"{url}/readyz").status_code == 503
    pair.nodes[1 - active] = pair.start(1 - active)
    node.facts()
    assert "is mended from the peer" in node.errors
    assert pair.until_paired() == active
    pair.serve()
    assert all(reply(url, job) == body for job, body in jobs.items())
    check_clean(pair)


def ask_error(pair: Pair, number: int) -> str:
    """Why a node says nothing of itself."""
    answer = ask((pair.brokers[number],), None, "status")[pair.brokers[number]]
    return str(answer.get("error", ""))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_hole_in_what_only_this_node_has_is_refused(family: Processes, tmp_path: Path) -> None:
    """It acknowledged alone since: the other node cannot have it, so exit 3, and nothing is cut."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    pair.kill(1 - active)
    _, url = family.gateway(pair.both)
    for body in BODIES:
        submit(url, body)
    pair.kill(active)
    path = pair.data(active) / FILE
    flip(path, places(path, BODIES[7])[0] + 5)
    before = path.read_bytes()
    node = family.start(
        *("node", "--data", str(pair.data(active)), "--broker", pair.brokers[active], "--role"),
        *(("primary", "backup")[active], "--peer-bind", "tcp://127.0.0.1:0", "--peer", pair.brokers[1]),
    )
    assert node.wait() == 3, node.errors
    assert path.read_bytes() == before


HANGING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* A sync does not come back while there is a file "hang" beside the one that is synced. */
int fdatasync(int file) {
    static int (*real)(int);
    char link[64], path[PATH_MAX + 8];
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX);
    if (size > 0) {
        path[size] = 0;
        char *slash = strrchr(path, '/');
        if (slash) {
            strcpy(slash, "/hang");
            while (!access(path, F_OK)) usleep(10000);
        }
    }
    return real(file);
}
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, to make fdatasync hang")
def test_a_node_whose_disk_hangs_is_replaced(
    family: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: fdatasync of the active does not return; its process ends, the other serves, nothing is lost."""
    source, library = tmp_path / "hanging.c", tmp_path / "hanging.so"
    source.write_text(HANGING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    pair = Pair(family, tmp_path)
    url = pair.serve()
    jobs = {submit(url, body): body for body in BODIES[:10]}
    active = pair.until_paired()
    hang = pair.data(active) / "hang"
    hang.touch()
    for body in BODIES[10:20]:  # waits for the other node at the most
        jobs[submit(url, body)] = body
    assert pair.nodes[active].wait() == 1, pair.nodes[active].errors
    assert "the disk does not sync" in pair.nodes[active].errors
    pair.until_active(1 - active)
    assert all(reply(url, job) == body for job, body in jobs.items())
    hang.unlink()
    pair.nodes[active] = pair.start(active)
    check_clean(pair)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_both_sides_of_a_split_are_merged_and_each_job_is_named(family: Processes, tmp_path: Path) -> None:
    """P7: two islands with a gateway each; afterwards all jobs are there, and a file names them."""
    with wired(family, tmp_path) as pair:
        pair.until_paired()
        nobody = f"tcp://127.0.0.1:{free_port()}"
        gateways = [
            family.start("gateway", "--nodes", f"{broker},{nobody}", "--http", "127.0.0.1:0", "--json")
            for broker in pair.brokers
        ]
        urls = [gateway.facts()["http"] for gateway in gateways]
        for wire in pair.wires:
            wire.cut()
        # asked one by one: whoever asks both brings each the epoch of the other, and there is no split
        until("both serve", lambda: all(map(_is_active, pair.brokers)), deadline_s=PATIENCE_S)
        jobs = [{submit(url, body): body for body in BODIES[:8]} for url in urls]
        for wire in pair.wires:
            wire.heal()
        winner = pair.until_paired()
        url = pair.serve()
        for side in jobs:
            assert all(reply(url, job) == body for job, body in side.items())
        lines = [
            json.loads(line)
            for path in (pair.data(winner) / "merged").glob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        named = {line["job"] for line in lines if (line["service"], line["done"]) == (SERVICE, "accepted")}
        assert named == {job.rpartition("/")[2] for job in jobs[1 - winner]}
        assert "a split is healed: 8 jobs" in pair.nodes[winner].errors
        assert pair.status()[winner]["merged"]["accepted"] == 8
        check_clean(pair)


def _is_active(broker: str) -> bool:
    return bool(ask((broker,), None, "status")[broker].get("active"))
