"""Title, introduction and tags of the OpenAPI document."""

from __future__ import annotations

from typing import Final

TITLE: Final = "Titanic: durable jobs over HTTP"
SUMMARY: Final = "Post bytes, get an id once they are on disk, fetch the reply whenever it is there."
DESCRIPTION: Final = """\
Post the body of a job to a named service. The answer is `202` and an id, and it leaves the server only
**after the job is on disk**. A worker does the work, whenever one is there; delivery is *at least once*,
so workers are idempotent. Fetch the reply by id as often as you like, and close the job when you have it.

```sh
curl -i --data-binary @LICENSE http://127.0.0.1:8080/v1/services/wordcount/jobs   # 202 and Location
curl http://127.0.0.1:8080/v1/jobs/ID/reply            # 202 while there is none, then 200 and the reply
curl -X DELETE http://127.0.0.1:8080/v1/jobs/ID        # 204: closed
```

**Bodies are opaque.** Requests and replies are bytes with a `Content-Type`; nothing looks inside. Several
frames in one body travel as `application/vnd.titanic.frames+json`.

**Waiting.** `Prefer: wait=10` on a submit answers `200` with the reply itself if it comes in time; on reply
and status it is a long-poll. `Preference-Applied` says how long the server was willing to wait; without it,
it did not wait.

**Repeating.** A submit whose answer was lost is repeated with the same `Idempotency-Key`: it makes one job.

**Being told.** With `callback=URL` the end of a job is posted there, signed as Standard Webhooks has it, at
least once; the status of the job says how far that is.

**Errors** are problem documents (RFC 9457). The `type` of each leads to its explanation at
[/problems](/problems).

**Durability.** Every accepted job says in `Titanic-Durability` what its `202` is worth, and a client may
demand a level in the same header of its request.

**Keys.** A server with API keys wants one in `Authorization: Bearer <key-id>.<secret>`. A key has scopes:
`submit` (and cancel, retry and close what it submitted), `read` (see what it submitted), `admin` (everything,
of everybody). A job belongs to the key that made it; to another key it does not exist.

**Limits.** A request has 30 seconds to arrive, and a second more for every 16 KiB of body; its headers have
32 KiB. `RateLimit-Policy` and `RateLimit` tell a key with a rate how it stands.
"""

TAGS: Final = [
    {"name": "jobs", "description": "Submit work, look at it, fetch its reply, close it."},
    {"name": "services", "description": "Who works, what waits; pause and resume."},
    {
        "name": "operations",
        "description": "Is the server alive, is it ready, what happens, what does it count?",
    },
]
SECURITY: Final[list[dict[str, list[str]]]] = [{"key": []}, {}]
"""A key, or none: a server without keys needs none."""
