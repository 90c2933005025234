"""A child process ends when its parent does, however the parent ends: ``kill -9`` included.

The parent holds the write end of a pipe that it never writes to. The child reads the other end; the
end of file says that the parent is gone. Unlike PR_SET_PDEATHSIG this works on every Unix and does
not depend on which thread of the parent made the child.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

LEASH_VARIABLE: Final = "TITANIC_LEASH_FD"
GRACE_S: Final = 10.0
"""How long an orphan may take to stop by itself."""


def hold_leash() -> bool:
    """In a child: end with SIGTERM when the parent is gone. False if nobody holds a leash.

    The variable and the descriptor are not handed on to processes that the child starts.
    """
    descriptor = os.environ.pop(LEASH_VARIABLE, "")
    if not descriptor.isdigit():
        return False
    os.set_inheritable(int(descriptor), False)
    threading.Thread(target=_watch, args=(int(descriptor),), name="leash", daemon=True).start()
    return True


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
