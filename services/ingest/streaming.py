"""Answers without a known end, such as exports: sent piece by piece, as fast as the client takes them."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from aiohttp import hdrs, web
from aiohttp.web_response import ContentCoding
from multidict import CIMultiDict

from libs import telemetry
from services.ingest.responses import wants_gzip

_AT_ONCE = struct.pack("ii", 1, 0)
"""Lingering on, for 0 seconds."""
_log = telemetry.logger("ingest")


async def send(
    request: web.Request, status: int, stream: AsyncIterator[bytes], headers: CIMultiDict[str], timeout: float
) -> web.StreamResponse:
    """Sends `stream` to its end, which is reached or seen to be missing: what fails midway cuts the connection.

    `timeout`: seconds that the client has to take a piece. Raises what the stream raises before its first piece.
    """
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(stream, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        first = await anext(stream, None)
        response = web.StreamResponse(status=status, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return response
        if wants_gzip(request):
            response.enable_compression(ContentCoding.gzip)
        await response.prepare(request)
        try:
            await _write(response, first, stream, timeout)
        except Exception as error:
            if not isinstance(error, TimeoutError | ConnectionError):  # neither is our failure: the client went away
                resource = request.match_info.route.resource  # its template: a path may hold an external id
                _log.error("stream_failed", route=resource.canonical if resource else "", exc_info=error)
            _cut(request)
        return response


async def _write(response: web.StreamResponse, first: bytes | None, rest: AsyncIterator[bytes], timeout: float) -> None:
    piece = first
    while piece is not None:
        async with asyncio.timeout(timeout):
            await response.write(piece)
        piece = await anext(rest, None)
    async with asyncio.timeout(timeout):
        await response.write_eof()


def _cut(request: web.Request) -> None:
    """By RST: without a length or chunks (HTTP/1.0, as some proxies speak it) an ordinary close is a good end."""
    transport = request.transport
    if transport is not None and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        transport.abort()
