"""When a store will be full if it goes on as it does: a straight line through what it needed lately."""

from __future__ import annotations

from collections import deque
from typing import Final

SAMPLE_MS: Final = 5_000
WINDOW_MS: Final = 600_000
FIRST_MS: Final = 20_000
"""A shorter look says nothing yet."""
HORIZON_MS: Final = 366 * 86_400_000
"""What would take longer is not growing."""
assert SAMPLE_MS < FIRST_MS < WINDOW_MS, "several looks make a line"


class Growth:
    """What a store needs, looked at every five seconds, the last ten minutes of it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=WINDOW_MS // SAMPLE_MS)

    def look(self, now_ms: int, needed_bytes: int) -> None:
        """So many bytes are needed by jobs now; ``now_ms`` is monotonic."""
        self._seen.append((now_ms, needed_bytes))

    def per_minute(self) -> float | None:
        """Bytes more each minute, less than 0 when it shrinks; None: not looked at for long enough.

        The slope of the least squares, so that a sawtooth of work done and closed evens out.
        """
        seen = self._seen
        if not seen or seen[-1][0] - seen[0][0] < FIRST_MS:
            return None
        count = len(seen)
        mean_ms = sum(at_ms for at_ms, _ in seen) / count
        mean_bytes = sum(size for _, size in seen) / count
        spread = sum((at_ms - mean_ms) ** 2 for at_ms, _ in seen)
        common = sum((at_ms - mean_ms) * (size - mean_bytes) for at_ms, size in seen)
        return 60_000 * common / spread


def full_in_ms(needed_bytes: int, usable_bytes: int, per_minute: float | None) -> int | None:
    """When nothing more fits, from now; None: it does not grow, or nobody knows yet."""
    left_bytes = usable_bytes - needed_bytes
    if per_minute is None or per_minute <= 0:
        return None
    in_ms = max(0, round(60_000 * left_bytes / per_minute))
    return in_ms if in_ms <= HORIZON_MS else None
