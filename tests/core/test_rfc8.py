"""RFC 8/MMI, every MUST and SHOULD by name; frames are written down from the RFC."""

from __future__ import annotations

import pytest

from tests.support.broker_rig import BrokerRig


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with default limits, no Titanic."""
    return BrokerRig()


def ask(rig: BrokerRig, service: bytes, body: bytes) -> bytes:
    """The status of the one answer to a 0.1 client."""
    (answer,) = rig.receive(b"C", b"", b"MDPC01", service, body)
    assert answer[:4] == [b"C", b"", b"MDPC01", service]
    assert len(answer) == 5
    return answer[4]


def test_rfc8_01_the_broker_must_handle_mmi_services_internally(rig: BrokerRig) -> None:
    """Answered at once, without any worker."""
    assert ask(rig, b"mmi.service", b"echo") == b"404"
    assert rig.broker.gauges["requests_waiting"] == 0


@pytest.mark.parametrize("service", [b"mmi.service", b"mmi.", b"mmi.anything"])
def test_rfc8_02_workers_that_register_in_the_namespace_must_be_disconnected(
    rig: BrokerRig, service: bytes
) -> None:
    """In both versions."""
    assert rig.receive(b"W", b"", b"MDPW01", b"\x01", service) == [[b"W", b"", b"MDPW01", b"\x05"]]
    assert rig.receive(b"V", b"MDPW02", b"\x01", service) == [[b"V", b"MDPW02", b"\x06"]]
    assert rig.broker.workers(service) == 0


def test_rfc8_03_mmi_service_must_answer_200_with_a_worker_and_404_without(rig: BrokerRig) -> None:
    """At least one registered worker, idle or busy; gone workers do not count."""
    rig.receive(b"W", b"", b"MDPW01", b"\x01", b"echo")
    assert ask(rig, b"mmi.service", b"echo") == b"200"
    rig.receive(b"D", b"", b"MDPC01", b"echo", b"hi")
    assert ask(rig, b"mmi.service", b"echo") == b"200"
    assert ask(rig, b"mmi.service", b"other") == b"404"
    rig.receive(b"W", b"", b"MDPW01", b"\x05")
    assert ask(rig, b"mmi.service", b"echo") == b"404"


@pytest.mark.parametrize("service", [b"mmi.", b"mmi.broker", b"mmi.service.more"])
def test_rfc8_04_unimplemented_services_must_result_in_501(rig: BrokerRig, service: bytes) -> None:
    """Every other name that begins with ``mmi.``."""
    assert ask(rig, service, b"echo") == b"501"
