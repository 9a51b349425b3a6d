"""`/openapi.json` and `/docs`: what the API is, for anybody who can reach the gateway, without internet or scripts."""

import asyncio
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
from aiohttp import ETag, hdrs, web

from libs.contract import openapi, openapi_page
from services.ingest.errors import TABLE
from services.ingest.exchange import Route
from services.ingest.responses import JSON, wants_gzip

DETAILS: dict[str, Any] = {
    "validation_error": {"fields": {"ttl": "must be at least 1"}},
    "invalid_request": {"fields": {"subscription_id": "is required"}},
    "authentication_failed": {"header": "X-API-Key"},
    "permission_denied": {"scopes": ["manage"]},
    "resource_not_found": {"id": "0199a1b2-0000-7000-8000-000000000002"},
    "method_not_allowed": {"allowed": ["GET"]},
    "payload_too_large": {"limit": 131_072},
    "rate_limit_exceeded": {"retry_after": 12},
    "service_unavailable": {"retry_after": 1},
    "duplicate_subscription": {"subscription_id": "0199a1b2-0000-7000-8000-000000000002"},
}
"""What errors carry in the documentation; those that are not here carry nothing there."""
_HTML = "text/html; charset=utf-8"


class Page(NamedTuple):
    body: bytes
    zipped: bytes
    etag: str
    headers: dict[str, str]


def document(routes: Sequence[Route], prefix: str, release: str) -> dict[str, Any]:
    """`proto/openapi.json`."""
    return openapi.document(release, routes, TABLE, DETAILS, prefix)


class Docs:
    """Answers both paths. The pages are made at the first request, beside the event loop, and kept."""

    def __init__(self, routes: tuple[Route, ...], prefix: str) -> None:
        self._routes = routes
        self._prefix = prefix

    def handlers(self) -> list[tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]:
        """Path and handler."""
        return [("/openapi.json", self._json), ("/docs", self._html)]

    async def _json(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, (await asyncio.to_thread(lambda: self._pages))[0])

    async def _html(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, (await asyncio.to_thread(lambda: self._pages))[1])

    @cached_property
    def _pages(self) -> tuple[Page, Page]:
        made = document(self._routes, self._prefix, version("automata-signal"))
        style = files("services.ingest").joinpath("docs.css").read_text("utf-8")
        safe = {"Content-Security-Policy": openapi_page.policy(style), "Referrer-Policy": "no-referrer"}
        html = openapi_page.render(made, style).encode()
        return (
            _page(msgspec.json.encode(made), {hdrs.CONTENT_TYPE: JSON}),
            _page(html, {hdrs.CONTENT_TYPE: _HTML, **safe}),
        )


def _page(body: bytes, headers: dict[str, str]) -> Page:
    # no-cache: ask again each time, and be told 304 until a release changes it.
    common = {hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING, "X-Content-Type-Options": "nosniff"}
    etag = hashlib.sha256(body).hexdigest()[:32]
    return Page(body, gzip.compress(body, mtime=0), etag, {**headers, **common})


def _answer(request: web.Request, page: Page) -> web.Response:
    known = request.if_none_match or ()
    if any(etag.value in (page.etag, "*") for etag in known):
        response = web.Response(status=304, headers=page.headers)
    elif wants_gzip(request):
        response = web.Response(body=page.zipped, headers={**page.headers, hdrs.CONTENT_ENCODING: "gzip"})
    else:
        response = web.Response(body=page.body, headers=page.headers)
    # Weak: the same page, zipped or not.
    response.etag = ETag(page.etag, is_weak=True)
    return response
