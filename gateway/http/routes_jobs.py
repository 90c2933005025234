"""The routes of jobs outside the hot path: status, list, batch, cancel and retry."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response

from core.pure import tsp
from gateway.errors import ProblemError
from gateway.http import operations
from gateway.http.exchange import instance_of, read_body
from gateway.http.hot import REPLAYED, demand
from gateway.http.node import wall_ms
from gateway.http.parts import Parts, admitted, header_values, key_of, service_of
from gateway.pure import negotiate, problems, submission
from gateway.pure.answers import problem_of, wrong_state
from gateway.pure.idempotency import fingerprint as print_of
from gateway.pure.keys import Scope
from gateway.pure.packing import Stored
from gateway.pure.query import BadParametersError, ParameterFault, list_options, no_options
from gateway.pure.views import encode_job, encode_page

BATCH_MAX_BYTES: Final = 32 * 1024 * 1024
CURSOR_BYTES_MAX: Final = 64

_NO_STORE: Final = {"cache-control": "no-store"}


class JobRoutes:
    """Endpoints over the shared parts; :meth:`add_to` makes routes of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._node = parts.node

    def add_to(self, api: FastAPI) -> None:
        """The routes; an id has no colon, so those with a verb are their own."""
        add = api.add_api_route
        batch_path = "/v1/services/{service}/jobs:batch"
        add(batch_path, self.batch, methods=["POST"], **operations.BATCH)
        add("/v1/jobs/{id:plain}:cancel", self.cancel, methods=["POST"], **operations.CANCEL)
        add("/v1/jobs/{id:plain}:retry", self.retry, methods=["POST"], **operations.RETRY)
        add("/v1/jobs", self.list, methods=["GET"], **operations.LIST)
        add("/v1/jobs/{id:plain}", self.get, methods=["GET"], **operations.STATUS)
        # HEAD is GET without the body (RFC 9110, 9.3.2); it is no operation of its own.
        add("/v1/jobs/{id:plain}", self.get, methods=["HEAD"], include_in_schema=False)

    async def get(self, request: Request) -> Response:
        """``job.get``."""
        caller = admitted(request, Scope.READ)
        key = key_of(request)
        no_options(request.scope["query_string"])
        headers = {"cache-control": "no-cache"}
        wait_s = negotiate.wait_s(header_values(request, "prefer"))
        answer: list[bytes] | None = None
        waits = self._parts.waits
        if wait_s and not waits.full:
            bounded_s = min(wait_s, self._parts.settings.wait_max_s)
            headers["preference-applied"] = f"wait={int(bounded_s)}"
            await request.body()  # what follows it is the client's leaving
            call = self._node.watch(tsp.STATUS, key, bounded_s, caller.sees)
            answer = await waits.until(call, request.receive)
        if answer is None:
            answer = await self._node.look(tsp.STATUS, key, caller.sees)
        if answer[0] != tsp.OK:
            raise problem_of(answer)
        body = encode_job(tsp.decode_status(answer[1]))
        tag = negotiate.etag(body)
        headers["etag"] = tag.decode("ascii")
        if negotiate.etag_matches(header_values(request, "if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def list(self, request: Request) -> Response:
        """``job.list``."""
        caller = admitted(request, Scope.READ)
        options = list_options(request.scope["query_string"])
        head = tsp.ListHead(
            options.service, options.state, options.limit, _cursor(options.cursor), caller.sees
        )
        page = await self._node.ask(tsp.LIST, head, tsp.decode_page)
        headers = dict(_NO_STORE)
        if page.cursor:
            query = urlencode({**request.query_params, "cursor": page.cursor.hex()})
            headers["link"] = f'</v1/jobs?{query}>; rel="next"'
        return Response(encode_page(page), media_type="application/json", headers=headers)

    async def cancel(self, request: Request) -> Response:
        """``job.cancel``."""
        return await self._act(request, tsp.CANCEL, "cancelled")

    async def retry(self, request: Request) -> Response:
        """``job.retry``."""
        return await self._act(request, tsp.RETRY, "retried")

    async def _act(self, request: Request, service: bytes, done: str) -> Response:
        caller = admitted(request, Scope.SUBMIT)
        key = key_of(request)
        no_options(request.scope["query_string"])
        was_done, status = await self._node.act(service, key, caller.sees)
        if not was_done:
            raise wrong_state(status, done)
        return Response(encode_job(status), media_type="application/json", headers=_NO_STORE)

    async def batch(self, request: Request) -> Response:
        """``job.batch``: every line that can be a job is stored, in one commit."""
        scope, headers = request.scope, dict(request.scope["headers"])
        hot = self._parts.hot
        service = service_of(self._parts, request)
        content_type = submission.content_type_of(headers)
        if content_type.partition(b";")[0].strip().lower() != submission.BATCH_TYPE:
            raise ProblemError(problems.UNSUPPORTED_TYPE, "The body of a batch is application/x-ndjson.")
        options = hot.options(scope["query_string"])
        caller = admitted(request, Scope.SUBMIT, service.text)
        body = await read_body(request.receive, headers.get(b"content-length"), BATCH_MAX_BYTES)
        hello = await self._node.introduced()
        lines = submission.batch_lines(body, hello.batch_max_count)
        await hot.admit(caller, service.text, len(lines), sum(map(len, lines)))
        self._parts.guard.charge(caller, len(lines) - 1)
        binding = submission.binding_of(headers, caller, service.name)
        demanded = headers.get(b"titanic-durability")
        if demanded is not None:
            demand(demanded, await self._node.offers(demanded.decode("latin-1")))
        limit = hot.body_max_bytes
        refused = {
            at: submission.too_large(len(line), limit) for at, line in enumerate(lines) if len(line) > limit
        }
        meta = submission.request_meta(
            service.name,
            submission.LINE_TYPE,
            options,
            caller,
            headers,
            now_ms=wall_ms(),
            binding=binding,
            fingerprint=print_of(scope["query_string"], content_type, (body,)) if binding else b"",
        )
        taken = [line for at, line in enumerate(lines) if at not in refused]
        stored = await self._node.batch(meta, taken) if taken else None
        if demanded is not None and stored is not None:
            await self._keep_demand(demanded, stored)
        hot.submitted_bytes += sum(map(len, taken))
        answer = submission.encode_lines(refused, stored, service.json, instance_of(scope))
        return _batch_answer(answer, stored)

    async def _keep_demand(self, demanded: bytes, stored: Stored) -> None:
        """The pair may have lost a node since: what is worth less than was demanded is not kept."""
        try:
            demand(demanded, stored.durability)
        except ProblemError:
            made = [line.key for line in stored.lines if line.status == int(tsp.OK) and not line.replayed]
            for key in made if stored.lines else stored.keys:
                await self._node.close(key)
            raise


def _batch_answer(body: bytes, stored: Stored | None) -> Response:
    headers = dict(_NO_STORE)
    if stored is not None:
        headers |= {"titanic-durability": stored.durability, "titanic-epoch": str(stored.epoch)}
        accepted = [line for line in stored.lines if line.status == int(tsp.OK)]
        if accepted and all(line.replayed for line in accepted):
            headers[REPLAYED[0].decode()] = REPLAYED[1].decode()
    response = Response(body, status_code=202, headers=headers)
    response.headers["content-type"] = submission.BATCH_TYPE.decode()
    return response


def _cursor(text: str) -> bytes:
    try:
        cursor = bytes.fromhex(text)
    except ValueError:
        cursor = None
    if cursor is None or len(cursor) > CURSOR_BYTES_MAX or cursor.hex() != text:
        fault = ParameterFault("cursor", "is not a cursor that this server made")
        raise BadParametersError([fault])
    return cursor
