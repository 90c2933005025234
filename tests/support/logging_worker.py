"""An echo that notes every body it was given in the file ``TITANIC_TEST_LOG``, a line of hex each."""

import os
from pathlib import Path


def work(body: bytes) -> bytes:
    """Note the body; the reply is the body."""
    with Path(os.environ["TITANIC_TEST_LOG"]).open("a") as log:
        log.write(body.hex() + "\n")
    return body
