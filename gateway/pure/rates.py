"""A rate limit: a bucket of tokens, and what RateLimit header fields say of it.

The fields are those of draft-ietf-httpapi-ratelimit-headers: a policy ``"key";q=BURST;w=SECONDS`` and its
state ``"key";r=LEFT;t=SECONDS``. The gateway processes of one port share their buckets (http/meter.py), so a
key's rate is what its record says however many there are; gateways on other machines count for themselves.
"""

from __future__ import annotations

from math import ceil

Fields = tuple[tuple[bytes, bytes], ...]


class Bucket:
    """Holds at most ``burst`` tokens and gains ``per_s`` each second; told the time."""

    __slots__ = ("_at_s", "_per_s", "_policy", "_tokens", "burst")

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        assert per_s > 0, "no limit is no bucket"
        self.burst = burst or max(1, ceil(per_s))
        self._per_s = per_s
        self._tokens = float(self.burst)
        self._at_s = now_s
        self._policy = b'"key";q=%d;w=%d' % (self.burst, max(1, ceil(self.burst / per_s)))

    @property
    def state(self) -> tuple[float, float]:
        """(tokens, the time they were counted at): all that changes."""
        return self._tokens, self._at_s

    def resume(self, tokens: float, at_s: float) -> None:
        """Go on from another bucket's state; what is above this one's burst is lost."""
        self._tokens, self._at_s = min(tokens, float(self.burst)), at_s

    def take(self, now_s: float, count: int = 1) -> float:
        """Take ``count`` tokens: 0.0 if they were there, else the seconds until they will be.

        More than the burst is taken when the bucket is full, as a debt: it would be refused for ever else.
        """
        self._tokens = min(float(self.burst), self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        needed = min(count, self.burst)
        if self._tokens >= needed:
            self._tokens -= count
            return 0.0
        return (needed - self._tokens) / self._per_s

    def fields(self) -> Fields:
        """``RateLimit-Policy`` and ``RateLimit`` as of the last :meth:`take`."""
        left = max(0, int(self._tokens))
        full_s = ceil((self.burst - self._tokens) / self._per_s)
        return ((b"ratelimit-policy", self._policy), (b"ratelimit", b'"key";r=%d;t=%d' % (left, full_s)))
