"""Cross-origin requests of browsers (Fetch standard §3.2): none by default. Never with credentials: there are no
cookies here, and a key travels in a header of its own."""

from collections.abc import Sequence

from aiohttp import hdrs, web
from yarl import URL

ANY = "*"
MAX_AGE = 600
"""Seconds that a browser remembers a preflight."""
REQUEST_HEADERS = (
    "Accept-Language, Content-Encoding, Content-Type, Idempotency-Key, If-Modified-Since, If-None-Match, X-API-Key, "
    "X-Request-Id, X-Subscription-Secret"
)
EXPOSED_HEADERS = (
    "Allow, ETag, Idempotency-Replayed, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "X-Request-Id"
)


def origins_of(text: str) -> frozenset[str]:
    """Origins such as `https://app.example.com`, apart by commas or spaces, or `*`. Raises `ValueError`."""
    origins = frozenset(text.replace(",", " ").split())
    for origin in origins - {ANY}:
        if ANY in origin or str(URL(origin).origin()) != origin:
            raise ValueError(f"{origin!r} is not scheme, host and port alone, in small letters")
    return origins


class Cors:
    """`bool()` says whether any origin is allowed."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def __bool__(self) -> bool:
        return bool(self._origins)

    def preflight(self, request: web.Request, methods: Sequence[str]) -> web.Response | None:
        """The answer to a browser that asks beforehand; None for any other request."""
        asks = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        if not asks or self._allowed(request) is None:
            return None
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(methods),
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: REQUEST_HEADERS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(MAX_AGE),
        }
        return web.Response(status=204, headers=headers)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Marks every answer, errors and streams too."""
        headers = response.headers
        if ANY not in self._origins:
            headers[hdrs.VARY] = ", ".join(filter(None, (headers.get(hdrs.VARY), hdrs.ORIGIN)))
        allowed = self._allowed(request)
        if allowed is not None:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS

    def _allowed(self, request: web.Request) -> str | None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return None
        if ANY in self._origins:
            return ANY
        return origin if origin in self._origins else None
