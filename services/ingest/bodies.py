"""Bodies of requests: of the right media type and coding, bounded in size and time, whole or piece by piece."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from libs.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from services.ingest.compression import ACCEPTED, Inflater
from services.ingest.exchange import Route
from services.ingest.settings import GatewayHttp

SMALL_BODY = 128 * 1024
"""Bytes that a request for one thing may have."""
JSON = "application/json"


class Bodies:
    """Reads the bodies of one route. All bounds are on what a body is after it was decompressed."""

    def __init__(self, route: Route, settings: GatewayHttp) -> None:
        self._limit = settings.max_body_bytes if route.size == "batch" else SMALL_BODY
        self._timeout = settings.body_timeout
        self._required = route.body_required
        self._accepted = route.media_types

    async def whole(self, request: web.Request) -> bytes:
        """Raises `InvalidRequest` without a body that is needed, `UnsupportedMediaType`, `BodyTooLarge`."""
        if not request.can_read_body and not self._required:
            return b"{}"
        inflater = self._opened(request)
        if (request.content_length or 0) > self._limit:
            raise BodyTooLarge(limit=self._limit)
        if request.content.is_eof():  # it came with the headers: there is nothing to wait for
            return await self._read(request, inflater)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._read(request, inflater)
        except (TimeoutError, web.RequestPayloadError, ConnectionError) as error:
            raise _broken_off(error) from None

    def pieces(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body as it comes, without end: the client is held up while nobody takes a piece, and may not pause long.

        Raises as `whole` does, before the first piece or between two.
        """
        return self._pieces(request, self._opened(request))

    async def _read(self, request: web.Request, inflater: Inflater | None) -> bytes:
        pieces: list[bytes] = []
        size = arrived = 0
        while chunk := await request.content.readany():
            arrived += len(chunk)
            if arrived > self._limit:  # members of a gzip that hold nothing go on for ever
                raise BodyTooLarge(limit=self._limit)
            for piece in (chunk,) if inflater is None else inflater.pieces(chunk):
                pieces.append(piece)
                size += len(piece)
                if size > self._limit:
                    raise BodyTooLarge(limit=self._limit)
        if inflater is not None:
            inflater.finish()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _pieces(self, request: web.Request, inflater: Inflater | None) -> AsyncIterator[bytes]:
        while chunk := await self._next(request):
            for piece in (chunk,) if inflater is None else inflater.pieces(chunk):
                yield piece
        if inflater is not None:
            inflater.finish()

    async def _next(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await request.content.readany()
        except (TimeoutError, web.RequestPayloadError, ConnectionError) as error:
            raise _broken_off(error) from None

    def _opened(self, request: web.Request) -> Inflater | None:
        if not request.can_read_body:
            raise InvalidRequest(reason="the body is missing")
        if request.headers.get(hdrs.CONTENT_TYPE) not in self._accepted:
            self._check_media_type(request)
        coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
        try:
            return None if coding == "identity" else Inflater(coding)
        except KeyError:
            raise UnsupportedMediaType(content_encoding=coding[:100], accepted=ACCEPTED) from None

    def _check_media_type(self, request: web.Request) -> None:
        given = request.content_type
        legible = given != JSON or (request.charset or "utf-8").lower() in ("utf-8", "utf8")
        if given not in self._accepted or not legible:
            raise UnsupportedMediaType(content_type=given[:100], accepted=", ".join(self._accepted))


def _broken_off(error: Exception) -> InvalidRequest:
    return InvalidRequest(reason=f"the body did not arrive {'in time' if isinstance(error, TimeoutError) else 'whole'}")
