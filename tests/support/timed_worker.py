"""An echo that notes when it did what: a line of JSON for each execution in the file ``TITANIC_TEST_LOG``."""

import json
import os
import time
from pathlib import Path

from core.pure.worker_job import WorkerJob


def work(job: WorkerJob) -> bytes:
    """Note the job; the reply is its body."""
    line = {"at": time.monotonic(), "job": job.id, "attempt": job.attempt, "body": job.body.hex()}
    with Path(os.environ["TITANIC_TEST_LOG"]).open("a") as log:
        log.write(json.dumps(line) + "\n")
    return job.body
