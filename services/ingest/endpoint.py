"""From an HTTP request to a handler and back: budget, key, rate, scope, input, repetition, audit, answer. Every route
of the table runs this."""

import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from libs import telemetry
from libs.clock import Clock
from libs.errors import InternalError, PermissionDenied, SignalError
from services.ingest import streaming
from services.ingest.audit import Audit
from services.ingest.auth import Caller
from services.ingest.bodies import Bodies
from services.ingest.budget import Budget, Meter
from services.ingest.callers import Callers
from services.ingest.conditional import Conditions
from services.ingest.decode import MAX_NAMED, Decoder, QueryDecoder, refuse
from services.ingest.errors import Reason, language_of
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.idempotency import guard_of
from services.ingest.render import success
from services.ingest.repeats import Outcome, Rendered, Repeats, derived_id
from services.ingest.responses import head, refusal, request_id_of, whole
from services.ingest.settings import GatewayHttp

_log = telemetry.logger("ingest")


class Front(NamedTuple):
    """What all endpoints share."""

    callers: Callers
    repeats: Repeats
    audit: Audit
    conditions: Conditions
    clock: Clock


class Endpoint:
    """Answers one route."""

    def __init__(self, gateway: Gateway, front: Front, route: Route, settings: GatewayHttp, budget: Budget) -> None:
        self._gateway = gateway
        self._front = front
        self._route = route
        self._read_body = body_reader(route)
        reads_query = self._read_body is None and route.query is not None
        self._read_query = QueryDecoder(route.query).decode if route.query is not None and reads_query else None
        self._streams = self._read_body is None and route.size == "stream" and route.method != "GET"
        self._repeat = route.repeat if route.method == "POST" else None
        self._bodies = Bodies(route, settings)
        self._timeout = settings.body_timeout
        self._budget = budget
        self._meter = Meter(f"{route.method} {route.path}")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request_id_of(request)
        told: dict[str, str] = {}  # headers of the answer, whatever it will be
        response: web.StreamResponse
        try:
            with self._budget:
                response = await self._answer(request, request_id, told)
        except SignalError as error:
            if isinstance(error, InternalError):
                _log.error("dependency_failed", request_id=request_id, route=self._route.path)
            response = refusal(request, error, request_id, told)
        except Exception as error:  # what is unknown becomes 500 and says nothing of the inside
            _log.error("request_failed", request_id=request_id, route=self._route.path, exc_info=error)
            response = refusal(request, InternalError(), request_id, told)
        self._meter.observe(response.status, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, request_id: str, told: dict[str, str]) -> web.StreamResponse:
        caller = await self._front.callers.admit(request.headers, told)
        caller.require(self._route.scopes)
        with self._share(caller):
            return await self._admitted(request, request_id, caller, told)

    def _share(self, caller: Caller) -> AbstractContextManager[None]:
        """Anybody may hold up requests with the key of an app, and everybody streams, or waits on purpose."""
        shared = caller.bearer_only or self._route.size in ("stream", "slow")
        return self._budget.share(caller.application_id) if shared else nullcontext()

    async def _admitted(
        self, request: web.Request, request_id: str, caller: Caller, told: dict[str, str]
    ) -> web.StreamResponse:
        call = await self._call(request, request_id, caller)
        if self._repeat == "remembered":
            rendered = await self._once(request, call)
            if rendered is not None:
                told.update(rendered.headers)
                return whole(request, rendered.status, rendered.body, head(request_id, told))
        elif self._repeat == "pure":
            guard_of(call)  # a key that is none is wrong everywhere
        answer = await self._perform(request, call)
        told.update(answer.headers)
        if answer.stream is not None:
            headers = head(request_id, told, answer.content_type)
            return await streaming.send(request, answer.status, answer.stream, headers, self._timeout)
        response = whole(request, answer.status, success(answer.data), head(request_id, told))
        reads = self._route.method == hdrs.METH_GET
        return self._front.conditions.apply(request, response, answer.modified_ms) if reads else response

    async def _call(self, request: web.Request, request_id: str, caller: Caller) -> Call[Any]:
        if self._read_query is None:
            _refuse_query(request)
        body = await self._bodies.whole(request) if self._read_body is not None else b""
        stream: AsyncIterator[bytes] | None = self._bodies.pieces(request) if self._streams else None
        return Call(
            request_id=request_id,
            caller=caller,
            language=language_of(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")),
            method=request.method,
            path=request.path,
            parameters=request.match_info,
            headers=request.headers,
            input=self._input(request, body, caller),
            body=body,
            stream=stream,
        )

    def _input(self, request: web.Request, body: bytes, caller: Caller) -> Any:
        """The decoded body, else the decoded query. Raises `InvalidRequest`, `ValidationFailed`, `PermissionDenied`."""
        if self._read_body is None:
            return self._read_query(request.query) if self._read_query is not None else None
        found = self._read_body(body)
        owner = getattr(found, "application_id", None)  # SDKs send it along (SEQ-001)
        if owner is not None and owner.lower() != caller.application_id:
            raise PermissionDenied(application_id=owner)
        return found

    async def _once(self, request: web.Request, call: Call[Any]) -> Rendered | None:
        """The one answer under the call's Idempotency-Key; None without one."""
        guard = guard_of(call)
        if guard is None:
            return None
        application_id = call.caller.application_id
        named = dataclasses.replace(
            call, new_id=derived_id(application_id, guard, int(self._front.clock.time() * 1000))
        )

        async def perform() -> Outcome:
            answer = await self._perform(request, named)
            return Outcome(Rendered(answer.status, success(answer.data), dict(answer.headers)), answer.subjects)

        return await self._front.repeats.once(application_id, guard, perform)

    async def _perform(self, request: web.Request, call: Call[Any]) -> Answer:
        answer = await self._route.handler(self._gateway, call)
        if self._route.audit is not None:
            await self._front.audit.record(self._route.audit, call, answer, request)
        return answer


def body_reader(route: Route) -> Callable[[bytes], Any] | None:
    """What decodes the route's body; None where it has none."""
    if route.read is not None:
        return route.read
    return Decoder(route.body).decode if route.body is not None else None


def _refuse_query(request: web.Request) -> None:
    """A parameter that nobody reads is a mistake, as an unknown field is. Raises `ValidationFailed`."""
    if "?" in request.raw_path:
        refuse({name[:100]: Reason("unknown") for name in list(request.query)[:MAX_NAMED]})
