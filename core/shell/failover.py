"""Calls to whichever node of a pair is active, across failovers.

Every question of this project may be asked twice (X2: ids are made by the caller), so a call that met a
dead or passive node is asked again at the other one, until the caller's time or the failover time is over.
While there are two nodes both are greeted all the time: the greeting is the vote that makes a failover
happen (P3), and carries the highest epoch seen, which keeps a node that fell behind from going on (P1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.pure.pair_heads import encode_vote
from core.shell.curve import ClientKeys
from core.shell.dealer import NodeDealer
from core.shell.link import TraceLine

GREET_EVERY_S: Final = 0.25
GREET_TIMEOUT_S: Final = 1.0
AGAIN_S: Final = 0.02


class PairDealer:
    """A NodeDealer for several nodes of which one is active. Same life: start, call, close.

    ``failover_wait_s``: how long a call waits while no node is active.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        keys: ClientKeys | None = None,
        trace: TraceLine | None = None,
        failover_wait_s: float = 30.0,
        by_libzmq: bool = False,
    ) -> None:
        if len(endpoints) < 2:
            raise ValueError("one endpoint is no pair")
        self.patient = True
        self.epoch = 0
        self.failovers_count = 0
        self._wait_s = failover_wait_s
        self._dealers = [
            NodeDealer((endpoint,), keys=keys, trace=trace, by_libzmq=by_libzmq) for endpoint in endpoints
        ]
        self._active = self._served = -1
        self._said = ["was not asked yet"] * len(endpoints)
        self._found = asyncio.Event()
        self._greeters: list[asyncio.Task[None]] = []

    @property
    def endpoint(self) -> str:
        """Where calls go now; the first node's if none is active."""
        return self._dealers[max(0, self._active)].endpoint

    @property
    def told(self) -> Callable[[list[bytes]], None] | None:
        """See NodeDealer: whichever node tells it."""
        return self._dealers[0].told

    @told.setter
    def told(self, told: Callable[[list[bytes]], None] | None) -> None:
        for dealer in self._dealers:
            dealer.told = told

    def start(self) -> None:
        """Connect to all nodes and begin to greet them; once."""
        for number, dealer in enumerate(self._dealers):
            dealer.start()
            self._greeters.append(asyncio.ensure_future(self._greet(number)))

    def close(self) -> None:
        """Every call still pending raises ServerUnreachableError."""
        for greeter in self._greeters:
            greeter.cancel()
        for dealer in self._dealers:
            dealer.close()

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """The body frames of the active node's answer, whichever that is by then.

        ServerUnreachableError when there has been no active node for ``failover_wait_s``, counted from now or
        from the moment that the one that was asked was lost; an active one has ``timeout_s`` to answer.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._wait_s
        lost = False
        while True:
            number = await self._node(ends_s)
            try:
                answer = await self._dealers[number].call(service, body, timeout_s)
            except ServerUnreachableError:
                if lost and loop.time() >= ends_s - AGAIN_S:
                    raise
            else:
                if not answer or answer[0] != tsp.PASSIVE:
                    return answer
            if not lost:
                lost, ends_s = True, loop.time() + self._wait_s
            self._lose(number)
            await asyncio.sleep(AGAIN_S)

    async def ask_all(
        self, service: bytes, body: Sequence[bytes], timeout_s: float
    ) -> list[tuple[str, list[bytes] | str]]:
        """Both nodes, whatever they are: where each is, and the body frames of its answer or why none."""
        answers = await asyncio.gather(*(dealer.ask(service, body, timeout_s) for dealer in self._dealers))
        return [(dealer.endpoint, answer) for dealer, answer in zip(self._dealers, answers, strict=True)]

    async def _node(self, end: float) -> int:
        while self._active < 0:
            try:
                async with asyncio.timeout_at(end):
                    await self._found.wait()
            except TimeoutError:
                said = "; ".join(
                    f"{dealer.endpoint} {words}"
                    for dealer, words in zip(self._dealers, self._said, strict=True)
                )
                raise ServerUnreachableError(
                    f"no node is active: {said}; see 'titanic pair status'"
                ) from None
        return self._active

    def _lose(self, number: int) -> None:
        if self._active == number:
            self._active = -1
            self._found.clear()

    def _find(self, number: int, epoch: int) -> None:
        if epoch < self.epoch:
            return
        self.epoch = epoch
        before, self._active = self._active, number
        self._found.set()
        if before not in (-1, number):
            self._dealers[before].fail_pending("the other node is active now")
        self.failovers_count += self._served not in (-1, number)
        self._served = number

    async def _greet(self, number: int) -> None:
        dealer, stamp_ms = self._dealers[number], 0
        while True:
            try:
                answer = await dealer.call(tsp.HELLO, (encode_vote(self.epoch, stamp_ms),), GREET_TIMEOUT_S)
                hello = tsp.decode_hello(answer[1])
            except (ServerUnreachableError, msgspec.MsgspecError, IndexError):
                # it may still be the active one: the other will say so
                self._said[number] = "does not answer"
            else:
                stamp_ms = hello.stamp_ms
                self._said[number] = f"is {hello.role} ({hello.state or 'ready'})"
                if hello.role != "passive":
                    self._find(number, hello.epoch)
                elif self._active == number:
                    dealer.fail_pending("the node is passive now")
                    self._lose(number)
            await asyncio.sleep(GREET_EVERY_S)
