"""The management services of RFC 8/MMI, and ours beyond it, through a whole broker."""

from __future__ import annotations

import pytest

from tests.support.broker_rig import BrokerRig, disconnect


def ask(rig: BrokerRig, service: bytes, *body: bytes) -> list[bytes]:
    """The body of the one answer."""
    (frames,) = rig.receive(b"C", b"", b"MDPC01", service, *body)
    assert frames[:4] == [b"C", b"", b"MDPC01", service]
    return frames[4:]


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"x" * 100_000])
@pytest.mark.parametrize("service", [b"mmi.service", b"mmi.workers"])
def test_any_name_may_be_asked_for(service: bytes, body: bytes) -> None:
    """What cannot be a service is not found."""
    assert ask(BrokerRig(), service, body) == [b"404"]


def test_mmi_service_answers_200_with_at_least_one_worker_else_404() -> None:
    """Waiting requests are no worker; a worker that left is none."""
    rig = BrokerRig()
    assert ask(rig, b"mmi.service", b"echo") == [b"404"]
    rig.ask(b"C2")
    assert ask(rig, b"mmi.service", b"echo") == [b"404"]
    rig.ready(b"W")
    assert ask(rig, b"mmi.service", b"echo") == [b"200"]
    rig.leave(b"W")
    assert ask(rig, b"mmi.service", b"echo") == [b"404"]


def test_mmi_service_finds_what_the_broker_answers_itself() -> None:
    """RFC 7 lets a broker integrate services; without a Titanic inside it has none."""
    assert ask(BrokerRig(internal=True), b"mmi.service", b"titanic.request") == [b"200"]
    assert ask(BrokerRig(), b"mmi.service", b"titanic.request") == [b"404"]
    assert ask(BrokerRig(), b"mmi.service", b"mmi.workers") == [b"200"]


@pytest.mark.parametrize("service", [b"mmi.", b"mmi.echo", b"mmi.service2", b"mmi.\xff"])
def test_unimplemented_mmi_services_must_result_in_501(service: bytes) -> None:
    """Whatever the rest of the name is."""
    assert ask(BrokerRig(), service, b"echo") == [b"501"]


def test_workers_that_register_in_the_mmi_namespace_must_be_disconnected() -> None:
    """Whether the service is implemented or not."""
    rig = BrokerRig()
    assert rig.ready(b"W", b"mmi.service") == [disconnect(b"W")]
    assert rig.ready(b"W", b"mmi.mine") == [disconnect(b"W")]
    assert rig.count("workers_refused") == 2
    assert ask(rig, b"mmi.service", b"mmi.mine") == [b"404"]


def test_an_02_client_gets_its_answer_as_one_final() -> None:
    """MMI is layered on either version."""
    sent = BrokerRig().receive(b"C", b"MDPC02", b"\x01", b"mmi.service", b"echo")
    assert sent == [[b"C", b"MDPC02", b"\x03", b"mmi.service", b"404"]]


def test_mmi_workers_counts_all_and_idle() -> None:
    """Two numbers in decimal text."""
    rig = BrokerRig()
    rig.ready(b"W1")
    rig.ready(b"W2")
    rig.ask(b"C2")
    assert ask(rig, b"mmi.workers", b"echo") == [b"200", b"2", b"1"]


def test_mmi_services_lists_by_prefix_in_order() -> None:
    """Workers, idle workers, waiting requests, waiting jobs, name."""
    rig = BrokerRig(durable=True)
    rig.ready(b"W1", b"image.resize")
    rig.ask(b"C1", service=b"image.resize")
    rig.ask(b"C2", service=b"image.resize")
    rig.backlog.put(b"image.resize", b"job", b"body")
    rig.ask(b"C3", service=b"image.crop")
    rig.ready(b"W2", b"echo")
    assert ask(rig, b"mmi.services", b"image.") == [b"200", b"0 0 1 0 image.crop", b"1 0 1 1 image.resize"]
    assert ask(rig, b"mmi.services", b"", b"image.crop") == [b"200", b"1 0 1 1 image.resize"]
    assert ask(rig, b"mmi.services", b"none") == [b"200"]


def test_mmi_services_comes_in_pages() -> None:
    """At most 256 at a time; the last name asks for the next page."""
    rig = BrokerRig()
    for number in range(600):
        rig.ready(b"W%d" % number, b"service-%03d" % number)
    names: list[bytes] = []
    sizes = []
    while True:
        page = ask(rig, b"mmi.services", b"service-", names[-1] if names else b"")[1:]
        if not page:
            break
        sizes.append(len(page))
        names += [row.split(b" ", 4)[4] for row in page]
    assert sizes == [256, 256, 88]
    assert names == [b"service-%03d" % number for number in range(600)]
