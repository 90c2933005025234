"""A small typed client of the HTTP API, on httpx: :class:`Client` and :class:`AsyncClient`.

with Client("http://127.0.0.1:8080") as titanic:
    job = titanic.submit("wordcount", b"to be or not to be")
    reply = titanic.wait(job.id)
    titanic.close_job(job.id)
"""

from gateway.client.clients import AsyncClient, Client
from gateway.client.values import (
    Accepted,
    ClientError,
    Job,
    JobFailedError,
    Options,
    Page,
    Problem,
    ProblemError,
    Reply,
    UnreachableError,
)

__all__ = (
    "Accepted",
    "AsyncClient",
    "Client",
    "ClientError",
    "Job",
    "JobFailedError",
    "Options",
    "Page",
    "Problem",
    "ProblemError",
    "Reply",
    "UnreachableError",
)
