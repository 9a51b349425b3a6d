"""The control API and the page, plain HTTP on a port of their own, so that browsers and curl need no certificate."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from services.sandbox import page
from services.sandbox.deliveries import Deliveries
from services.sandbox.endpoint import Endpoint
from services.sandbox.faults import Faults, RuleError, parse_rules
from services.sandbox.ledger import Ledger

log = structlog.get_logger()

CHUNK = 500
"""Deliveries written to a response at one time."""
SECURITY_HEADERS = {
    "Content-Security-Policy": page.CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Control:
    def __init__(self, faults: Faults, ledger: Ledger, deliveries: Deliveries, endpoint: Endpoint) -> None:
        self._faults = faults
        self._ledger = ledger
        self._deliveries = deliveries
        self._endpoint = endpoint

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_secure], client_max_size=1024 * 1024)
        app.add_routes(
            [
                web.get("/v1/deliveries", self.list_deliveries),
                web.delete("/v1/deliveries", self.reset),
                web.get("/v1/ledger", self.ledger),
                web.get("/v1/stats", self.stats),
                web.get("/v1/faults", self.list_faults),
                web.put("/v1/faults", self.put_faults),
                web.delete("/v1/faults", self.delete_faults),
                web.get("/livez", self.live),
                web.get("/readyz", self.ready),
                web.get("/", self.page),
                web.get("/page/news", self.news),
                web.get("/page.js", _asset("page.js", "text/javascript")),
                web.get("/page.css", _asset("page.css", "text/css")),
            ]
        )
        return app

    async def list_deliveries(self, request: web.Request) -> web.StreamResponse:
        """`message_id`, `token`: exact; `limit`: the newest so many; `accepted=false`: the refused ones instead."""
        query = request.query
        limit = _whole(query, "limit") if "limit" in query else None
        accepted = query.get("accepted", "true")
        if accepted not in ("true", "false"):
            raise _refused("accepted", "true or false")
        found = self._deliveries.find(query.get("message_id"), query.get("token"), limit, accepted=accepted == "true")
        pieces = (
            b",".join(kept.text for kept in found[start : start + CHUNK]) for start in range(0, len(found), CHUNK)
        )
        return await _stream(request, "application/json", _bracketed(pieces))

    async def reset(self, _request: web.Request) -> web.Response:
        """Forget every request: deliveries, counts, ledger."""
        self._deliveries.reset()
        self._ledger.reset()
        return web.Response(status=204)

    async def ledger(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, "application/x-ndjson", self._ledger.lines())

    async def stats(self, _request: web.Request) -> web.Response:
        return _json(self._ledger.stats())

    async def list_faults(self, _request: web.Request) -> web.Response:
        return _json(self._faults.listing())

    async def put_faults(self, request: web.Request) -> web.Response:
        """Replace all rules; in force when this returns."""
        try:
            rules = parse_rules(await request.read())
        except RuleError as error:
            raise _refused(error.field, error.text) from None
        self._faults.replace(rules)
        await self._endpoint.use(goaway=self._faults.wants_goaway)
        log.info("faults_set", rules=len(rules))
        return _json(self._faults.listing())

    async def delete_faults(self, _request: web.Request) -> web.Response:
        self._faults.replace([])
        await self._endpoint.use(goaway=False)
        log.info("faults_cleared")
        return web.Response(status=204)

    async def live(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        is_open = self._endpoint.is_open
        return _json({"status": "ok" if is_open else "starting"}, 200 if is_open else 503)

    async def page(self, _request: web.Request) -> web.Response:
        text = page.render_page(self._ledger, self._deliveries.since(0, page.SHOWN))
        return web.Response(text=text, content_type="text/html")

    async def news(self, request: web.Request) -> web.Response:
        """Rows after number `after`, and the counts, as HTML ready to be inserted."""
        after, newest = _whole(request.query, "after"), self._deliveries.newest
        kept = self._deliveries.since(0 if newest < after else after, page.SHOWN)
        counts = page.render_counts(self._ledger)
        return _json({"newest": newest, "counts": counts, "rows": page.render_rows(kept)})


@web.middleware
async def _secure(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(SECURITY_HEADERS)
        raise
    if not response.prepared:
        response.headers.update(SECURITY_HEADERS)
    return response


async def _stream(request: web.Request, kind: str, pieces: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind, **SECURITY_HEADERS})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        await asyncio.sleep(0)  # A long answer must not hold up the providers.
    await response.write_eof()
    return response


def _bracketed(pieces: Iterable[bytes]) -> Iterable[bytes]:
    opening = b"["
    for piece in pieces:
        yield opening + piece
        opening = b","
    yield b"[]" if opening == b"[" else b"]"


def _asset(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = page.asset(name)

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind)

    return serve


def _whole(query: Any, name: str) -> int:
    text = query.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise _refused(name, "a whole number")
    return int(text)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)


def _refused(field: str, text: str) -> web.HTTPUnprocessableEntity:
    body = msgspec.json.encode({"error": {"field": field, "message": text}})
    return web.HTTPUnprocessableEntity(body=body, content_type="application/json")
