"""Where a delivery connects to: the address that was judged, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, SOCK_STREAM, gaierror
from typing import Any

import pytest

from gateway.http.callbacks import Deliverer, RefusedTargetError
from gateway.http.node import Node
from gateway.pure.webhooks import Network, headers, parse_network, parse_target
from tests.gateway.pure.test_webhooks import STATUS
from tests.support.receiver import Receiver, receiving


class Names(asyncio.SelectorEventLoop):
    """A loop whose names resolve as the test says, one answer after the other."""

    def __init__(self, *answers: Sequence[str]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[object] = []

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        self.asked.append(host)
        if not self.answers:
            raise gaierror(-2, "Name or service not known")
        return [
            (AF_INET6 if ":" in address else AF_INET, SOCK_STREAM, 6, "", (address, port))
            for address in self.answers.pop(0)
        ]


def deliverer(*allowed: Network) -> Deliverer:
    node = Node(timeout_s=1, patience_s=1)
    return Deliverer(node, lambda owner: (), allowed=allowed, timeout_s=5, agent="test")


def resolved(loop: Names, host: str, *allowed: Network) -> str:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(deliverer(*allowed).resolve(parse_target(f"http://{host}/")))


def test_a_name_that_resolves_inside_is_refused() -> None:
    """The name looks public; its address is not."""
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"):
        with pytest.raises(RefusedTargetError, match="not a public address"):
            resolved(Names([address]), "metadata.example")


def test_of_several_addresses_an_allowed_one_is_taken() -> None:
    """Those that are not allowed are passed over, never connected to."""
    assert resolved(Names(["10.0.0.1", "1.1.1.1"]), "mixed.example") == "1.1.1.1"


def test_a_name_without_an_address_is_a_failure_that_says_so() -> None:
    """Not an exception that ends the deliverer."""
    with pytest.raises(RefusedTargetError, match="cannot be resolved"):
        resolved(Names(), "nowhere.example")


def test_a_name_is_resolved_once_and_the_judged_address_connected_to() -> None:
    """DNS rebinding: a second answer that leads elsewhere is never asked for."""
    (loopback, *_) = parse_network("loopback")

    async def post(receiver: Receiver) -> int:
        target = parse_target(f"http://rebind.example:{receiver.port}/hook")
        return await deliverer(loopback)._post(
            target, headers(STATUS, (b"k" * 24,), target, b"{}", 1, "test"), b"{}"
        )

    with receiving() as receiver:
        loop = Names(["127.0.0.1"], ["10.0.0.1"])
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            assert runner.run(post(receiver)) == 200
        assert loop.asked.count("rebind.example") == 1
        assert loop.answers == [["10.0.0.1"]]
        assert receiver.posted[0].headers["host"] == f"rebind.example:{receiver.port}"
