"""A hole in what only this node goes on from: the record comes from the peer before the store is opened.

A node that answered alone cannot cut its log at a hole and catch up (0032, 0033): what is behind the hole is
nowhere else. But what the peer had before the two were parted, it still has.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Final

from core.errors import PeerError
from core.pure.peer import Fetch, Fetched, Record, decode, encode, records_of
from core.shell.peer import PeerLink

log = logging.getLogger("titanic.pair")

ASK_EVERY_S: Final = 0.5
REMIND_EVERY_S: Final = 60.0
SESSION_BITS: Final = 62


class Repair:
    """Asks the peer for one record, over the link of the pair and with its keys."""

    def __init__(self, bind: str, peer: str, *, message_max_bytes: int, curve: Path | None) -> None:
        self._bind, self._peer = bind, peer
        self._message_max_bytes = message_max_bytes
        self._curve = curve
        self._session = secrets.randbits(SESSION_BITS) + 1

    async def ask(self, sequence: int) -> Record | None:
        """The peer's copy, waited for as long as it takes; None if the peer has no whole one."""
        answer: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()

        def on_message(frames: list[bytes]) -> None:
            try:
                message = decode(frames)
                if not isinstance(message, Fetched) or message.to_session != self._session or answer.done():
                    return
                found = [one for one in records_of(message.rows, frames) if one.sequence == sequence]
            except PeerError as error:
                log.warning("an answer of the peer cannot be read, and is asked for again: %s", error)
                return
            answer.set_result(found[0] if found else None)

        link = PeerLink(
            self._bind,
            self._peer,
            on_message,
            _nothing,
            _nothing,
            message_max_bytes=self._message_max_bytes,
            curve=self._curve,
        )
        try:
            link.start()
            await self._ask_until(answer, link, sequence)
            return answer.result()
        finally:
            link.close()

    async def _ask_until(self, answer: asyncio.Future[Record | None], link: PeerLink, sequence: int) -> None:
        remind_at = asyncio.get_running_loop().time()
        number = 0
        while not answer.done():
            number += 1
            link.send(encode(Fetch(self._session, number, (sequence,))))
            await asyncio.wait((answer,), timeout=ASK_EVERY_S)
            if not answer.done() and asyncio.get_running_loop().time() >= remind_at:
                remind_at += REMIND_EVERY_S
                log.error("waits for record %d from the peer at %s; start it", sequence, self._peer)


def _nothing() -> None:
    """Whether somebody listens there is no matter: the peer is asked until it answers."""
