"""Who may do what: recognises the caller of a request, holds it to its rate, and follows the key file.

A server without a key file is open; it may listen on loopback only (see composition). Once there has been a
file, the server never opens again by itself: a file that vanishes or breaks leaves the last good keys in
force, and that is logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Final

from starlette.types import Message, Scope, Send

from gateway.errors import KeyFileError, ProblemError
from gateway.http import keyfile
from gateway.http.meter import Meter
from gateway.pure import keys as api_keys
from gateway.pure import problems
from gateway.pure.keys import NOBODY, Caller, Keyring
from gateway.pure.rates import Bucket

POLL_S: Final = 1.0
"""A change of the key file is in force after this long at the most."""
CALLER: Final = "titanic.caller"  # in the scope of a request whose caller is known

_LOG: Final = logging.getLogger("titanic.gateway")
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="titanic"'),)
_INVALID: Final = ((b"www-authenticate", b'Bearer realm="titanic", error="invalid_token"'),)


class Guard:
    """The keys in force. ``closed`` says whether requests need one."""

    def __init__(self, path: Path | None, meter: Meter | None = None) -> None:
        """Read the file, if there is one; ``meter`` counts rates. KeyFileError if it cannot be used."""
        self._path = path
        self._stamp: keyfile.Stamp | None = None
        self._keyring: Keyring | None = None
        self._meter = meter
        self._buckets: dict[str, Bucket] = {}
        self.closed = False
        self.refused_count = 0
        if path is not None:
            self._stamp = keyfile.stamp(path)
            if self._stamp is not None:
                self._take(path)

    def _take(self, path: Path) -> None:
        self._keyring = Keyring(keyfile.read(path))
        self._buckets = {}  # whoever changes the keys grants everybody a full bucket
        self.closed = True

    def refresh(self) -> None:
        """Take the file if it has changed; what cannot be used changes nothing and is logged."""
        if self._path is None:
            return
        try:
            stamp = keyfile.stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            if stamp is not None:
                self._take(self._path)
                _LOG.info("the key file changed: %d keys are in force", len(self._keyring or ()))
            elif self.closed:
                _LOG.error("the key file %s is gone; the last keys stay in force", self._path)
        except KeyFileError as error:
            _LOG.error("the key file cannot be used, the last keys stay in force: %s", error)

    async def follow(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            self.refresh()

    # -- a request

    def identify(self, headers: Mapping[bytes, bytes]) -> Caller:
        """The caller. Raises ProblemError: 401 without a key that is known, 429 when its rate is used up."""
        if self._keyring is None:
            return NOBODY
        authorization = headers.get(b"authorization")
        if authorization is None:
            self.refused_count += 1
            detail = "This server needs an API key in Authorization."
            raise ProblemError(problems.UNAUTHENTICATED, detail, headers=_CHALLENGE)
        caller = self._keyring.identify(authorization, time.time_ns() // 1_000_000)
        if caller is None:
            self.refused_count += 1
            detail = "The API key in Authorization is not known here."
            raise ProblemError(problems.UNAUTHENTICATED, detail, headers=_INVALID)
        if caller.rate_per_s > 0:
            self.charge(caller, 1)
        return caller

    def signing(self, owner: str) -> tuple[bytes, ...] | None:
        """See :meth:`Keyring.signing`; jobs of a server without keys are nobody's."""
        if self._keyring is None or not owner:
            return ()
        return self._keyring.signing(owner, time.time_ns() // 1_000_000)

    def plain(
        self, headers: Mapping[bytes, bytes], scope: api_keys.Scope, service: str | None = None
    ) -> Caller | None:
        """The caller, if all there is to say is yes: a known key with the scope and without a rate.

        None: :meth:`identify` and :func:`need` have something to say, and say it. Nothing is counted here.
        """
        authorization = headers.get(b"authorization")
        if self._keyring is None or authorization is None:
            return None
        caller = self._keyring.identify(authorization, time.time_ns() // 1_000_000)
        if caller is None or caller.rate_per_s > 0 or caller.scope & scope != scope:
            return None
        return caller if service is None or caller.allows_service(service) else None

    def charge(self, caller: Caller, count: int) -> None:
        """Take so many requests from the caller's rate. Raises ProblemError (429)."""
        if caller.rate_per_s <= 0:
            return
        now_s = time.monotonic()
        bucket = self._buckets.get(caller.owner)
        if bucket is None:
            bucket = self._buckets[caller.owner] = Bucket(caller.rate_per_s, caller.burst, now_s)
        if self._meter is None:
            wait_s = bucket.take(now_s, count)
        else:
            wait_s = self._meter.take(caller.owner, bucket, now_s, count)
        if wait_s:
            detail = f"The key's rate of {caller.rate_per_s:g} requests per second is used up."
            headers = ((b"retry-after", b"%d" % max(1, ceil(wait_s))), *bucket.fields())
            raise ProblemError(problems.RATE_LIMITED, detail, headers=headers)

    def announcing(self, caller: Caller, send: Send) -> Send:
        """``send`` with the caller's RateLimit fields in every answer that has none."""
        bucket = self._buckets.get(caller.owner)
        if bucket is None:
            return send

        async def announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name == b"ratelimit" for name, _ in headers):
                    message = {**message, "headers": [*headers, *bucket.fields()]}
            await send(message)

        return announced


def need(caller: Caller, scope: api_keys.Scope, service: str | None = None) -> None:
    """Raises ProblemError (403) if the caller's key lacks the scope, or is bound to other services."""
    if caller.scope & scope != scope:
        name = next(name for name, value in api_keys.SCOPES.items() if value == scope)
        challenge = b'Bearer realm="titanic", error="insufficient_scope", scope="%b"' % name.encode()
        headers = ((b"www-authenticate", challenge),)
        raise ProblemError(problems.FORBIDDEN, f"The key lacks the scope {name!r}.", headers=headers)
    if service is not None and not caller.allows_service(service):
        raise ProblemError(problems.FORBIDDEN, f"The key is not bound to the service {service!r}.")


def unbound(caller: Caller) -> None:
    """Raises ProblemError (403) for a key that is bound to services, where a request concerns all of them."""
    if caller.services is not None:
        raise ProblemError(problems.FORBIDDEN, "The key is bound to services; this concerns all of them.")


def caller_of(scope: Scope) -> Caller:
    """The caller that was recognised when the request came in; KeyError is a defect and opens nothing."""
    caller: Caller = scope[CALLER]
    return caller
