"""Conditional reads (RFC 9110 §13): nobody is sent again what he has."""

import hashlib
from datetime import UTC, datetime

from aiohttp import ETag, hdrs, web

from libs.clock import Clock

VARY = "Accept-Encoding, Accept-Language, X-API-Key, X-Subscription-Secret"
CACHE_CONTROL = "private, no-cache"
"""May be kept by the caller alone, who asks each time whether it still holds."""
SETTLED_MS = 2_000
"""Age from which a change's second is over by anybody's clock: a younger date does not tell two changes apart."""
_ZIPPED = "-gzip"


class Conditions:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def apply(self, request: web.Request, response: web.Response, modified_ms: int | None) -> web.Response:
        """`response` with its validators, or 304 if the caller has it already."""
        body = response.body
        tag = hashlib.blake2b(body if isinstance(body, bytes) else b"", digest_size=16).hexdigest()
        # A strong ETag is one representation's alone: the compressed body has another.
        response.etag = ETag(tag + _ZIPPED if response.compression else tag)
        response.last_modified = modified = self._date(modified_ms)
        response.headers[hdrs.CACHE_CONTROL] = CACHE_CONTROL
        response.headers[hdrs.VARY] = VARY
        if not _has(request, (tag, tag + _ZIPPED, "*"), modified):
            return response
        headers = response.headers.copy()
        del headers[hdrs.CONTENT_TYPE]
        return web.Response(status=304, headers=headers)

    def _date(self, modified_ms: int | None) -> datetime | None:
        if modified_ms is None or self._clock.time() * 1000 - modified_ms < SETTLED_MS:
            return None
        return datetime.fromtimestamp(modified_ms // 1000, UTC)


def _has(request: web.Request, tags: tuple[str, ...], modified: datetime | None) -> bool:
    """If-None-Match goes before a date (§13.1.3), and compares weakly (§13.1.2)."""
    known = request.if_none_match
    if known is not None:
        return any(each.value in tags for each in known)
    since = request.if_modified_since
    return modified is not None and since is not None and modified <= since
