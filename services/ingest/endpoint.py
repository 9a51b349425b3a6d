"""From an HTTP request to a handler and back: budget, key, scope, body, answer. Every route of the table runs this."""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import hdrs, web
from multidict import CIMultiDict
from prometheus_client import Counter

from libs import telemetry
from libs.errors import (
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    PermissionDenied,
    ResourceNotFound,
    ServiceUnavailable,
    SignalError,
    UnsupportedMediaType,
)
from libs.ids import new_id
from services.ingest.auth import HEADER as KEY_HEADER
from services.ingest.auth import Caller
from services.ingest.decode import Decoder, QueryDecoder
from services.ingest.errors import language_of, status_of
from services.ingest.exchange import Call, Gateway, Route
from services.ingest.render import failure, success
from services.ingest.settings import GatewayHttp

REQUEST_ID = "X-Request-Id"
SMALL_BODY = 128 * 1024
"""Bytes that a request for one thing may have."""
JSON = "application/json"
SERVER = "automata-signal"
"""Instead of the names and versions of our libraries."""

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_log = telemetry.logger("ingest")


class Budget:
    """How many requests of one size may be under way."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def __enter__(self) -> None:
        if self._left <= 0:
            raise ServiceUnavailable(reason="overloaded", retry_after=1)
        self._left -= 1

    def __exit__(self, *_: object) -> None:
        self._left += 1


class Meter:
    """Counts and times the answers of one route."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._duration = telemetry.histogram("http_request_duration_seconds", route=route)
        self._by_status: dict[int, Counter] = {}

    def observe(self, status: int, seconds: float) -> None:
        self._duration.observe(seconds)
        if status not in self._by_status:
            self._by_status[status] = telemetry.counter("http_requests_total", route=self._route, status=str(status))
        self._by_status[status].inc()


class Endpoint:
    """Answers one route."""

    def __init__(self, gateway: Gateway, route: Route, settings: GatewayHttp, budget: Budget) -> None:
        self._gateway = gateway
        self._route = route
        self._read_body = body_reader(route)
        self._read_query = QueryDecoder(route.query).decode if route.query is not None else None
        self._limit = settings.max_body_bytes if route.size == "batch" else SMALL_BODY
        self._body_timeout = settings.body_timeout
        self._budget = budget
        self._meter = Meter(f"{route.method} {route.path}")

    async def answer(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        request_id = request_id_of(request)
        try:
            with self._budget:
                response = await self._answer(request, request_id)
        except SignalError as error:
            if isinstance(error, InternalError):
                _log.error("dependency_failed", request_id=request_id, route=self._route.path)
            response = refusal(request, error, request_id)
        except Exception as error:  # what is unknown becomes 500 and says nothing of the inside
            _log.error("request_failed", request_id=request_id, route=self._route.path, exc_info=error)
            response = refusal(request, InternalError(), request_id)
        self._meter.observe(response.status, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, request_id: str) -> web.Response:
        headers = request.headers
        caller = await self._gateway.keys.identify(headers.get(KEY_HEADER))
        caller.require(self._route.scopes)
        body = await self._body(request)
        call: Call[Any] = Call(
            request_id=request_id,
            caller=caller,
            language=language_of(headers.get(hdrs.ACCEPT_LANGUAGE, "")),
            method=request.method,
            path=request.path,
            parameters=request.match_info,
            headers=headers,
            input=self._input(request, body, caller),
            body=body,
        )
        answer = await self._route.handler(self._gateway, call)
        return _response(answer.status, success(answer.data), request_id, answer.headers)

    def _input(self, request: web.Request, body: bytes, caller: Caller) -> Any:
        """The decoded body, else the decoded query. Raises `InvalidRequest`, `ValidationFailed`, `PermissionDenied`."""
        if self._read_body is None:
            return self._read_query(request.query) if self._read_query is not None else None
        found = self._read_body(body)
        owner = getattr(found, "application_id", None)  # SDKs send it along (SEQ-001)
        if owner is not None and owner.lower() != caller.application_id:
            raise PermissionDenied(application_id=owner)
        return found

    async def _body(self, request: web.Request) -> bytes:
        """Raises `InvalidRequest` without a body that is needed, `UnsupportedMediaType`, `BodyTooLarge`."""
        if self._read_body is None:
            return b""
        if not request.can_read_body:
            if self._route.body_required:
                raise InvalidRequest(reason="the body is missing")
            return b"{}"
        _check_media_type(request)
        if (request.content_length or 0) > self._limit:
            raise BodyTooLarge(limit=self._limit)
        try:
            async with asyncio.timeout(self._body_timeout):
                return await self._read(request)
        except TimeoutError:
            raise InvalidRequest(reason="the body did not arrive in time") from None
        except (web.RequestPayloadError, ConnectionError):
            raise InvalidRequest(reason="the body did not arrive whole") from None

    async def _read(self, request: web.Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := await request.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._limit:
                raise BodyTooLarge(limit=self._limit)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def body_reader(route: Route) -> Callable[[bytes], Any] | None:
    """What decodes the route's body; None where it has none."""
    if route.read is not None:
        return route.read
    return Decoder(route.body).decode if route.body is not None else None


def _check_media_type(request: web.Request) -> None:
    if request.headers.get(hdrs.CONTENT_TYPE) != JSON and (
        request.content_type != JSON or (request.charset or "utf-8").lower() not in ("utf-8", "utf8")
    ):
        raise UnsupportedMediaType(content_type=request.content_type[:100], accepted=JSON)
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(content_encoding=encoding[:100], accepted="identity")


def with_request_id(handler: HttpHandler) -> HttpHandler:
    """For answers that are made elsewhere, such as health."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        response.headers[REQUEST_ID] = request_id_of(request)
        response.headers[hdrs.SERVER] = SERVER
        return response

    return answer


async def no_such_path(request: web.Request) -> web.Response:
    return refusal(request, ResourceNotFound(path=request.path[:200]), request_id_of(request))


class WrongMethod:
    """Answers every method that a path does not have."""

    def __init__(self, allowed: list[str]) -> None:
        self._allowed = allowed

    async def answer(self, request: web.Request) -> web.Response:
        error = MethodNotAllowed(allowed=self._allowed)
        return refusal(request, error, request_id_of(request), {hdrs.ALLOW: ", ".join(self._allowed)})


def request_id_of(request: web.Request) -> str:
    """The caller's `X-Request-Id` if it is sane, else a new one."""
    given = request.headers.get(REQUEST_ID)
    return given if given is not None and _SANE_REQUEST_ID.fullmatch(given) else new_id()


def refusal(
    request: web.Request, error: SignalError, request_id: str, headers: dict[str, str] | None = None
) -> web.Response:
    status = status_of(error)
    extra = dict(headers or {})
    if status in (429, 503):
        extra[hdrs.RETRY_AFTER] = str(max(1, math.ceil(float(error.details.get("retry_after", 1)))))
    language = language_of(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return _response(status, failure(error, language), request_id, extra)


def _response(status: int, body: bytes, request_id: str, extra: Mapping[str, str]) -> web.Response:
    headers = CIMultiDict(extra)
    headers[hdrs.CONTENT_TYPE] = "application/json; charset=utf-8"
    headers[REQUEST_ID] = request_id
    headers[hdrs.SERVER] = SERVER
    return web.Response(status=status, body=body, headers=headers)
