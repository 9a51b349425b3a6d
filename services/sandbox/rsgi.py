"""The usual front: Granian serves TLS and HTTP/2 in this very process and calls us for each request."""

import asyncio
from pathlib import Path
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, SSLProtocols, TaskImpl
from granian.http import HTTP2Settings
from granian.server.embed import Server

from services.sandbox import wire
from services.sandbox.credentials import TlsFiles
from services.sandbox.exchange import Outcome, Reply, Request
from services.sandbox.providers import MAX_BODY, Providers
from services.sandbox.settings import Sandbox

log = structlog.get_logger()

START_TIMEOUT = 20.0
MAX_CONNECTIONS = 4096
MAX_DISCARDED = 64 * MAX_BODY
"""Bytes of an oversized body that are read and dropped: some clients take no answer before they have sent it all."""
TOO_LARGE = Reply(413, [("content-type", "application/json")], b'{"reason":"PayloadTooLarge"}')


class HungRequests:
    """How many requests are being held without an answer, over all fronts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def take(self) -> bool:
        """Take a place; False when all are taken."""
        if self._held >= self._limit:
            return False
        self._held += 1
        return True

    def give_back(self) -> None:
        self._held -= 1


class GranianFront:
    def __init__(self, providers: Providers, settings: Sandbox, tls: TlsFiles, hung: HungRequests) -> None:
        self._providers = providers
        self._port = settings.tls_port
        self._hung = hung
        self._server = Server(
            self.handle,
            address=settings.host,
            port=settings.tls_port,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto,
            task_impl=TaskImpl.asyncio,
            websockets=False,
            backlog=1024,
            backpressure=MAX_CONNECTIONS,
            http2_settings=HTTP2Settings(max_concurrent_streams=settings.max_streams),
            log_enabled=False,
            ssl_cert=Path(tls.cert),
            ssl_key=Path(tls.key),
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the port accepts connections. Raises OSError if it does not."""
        before = wire.listeners(self._port)
        self._serving = asyncio.create_task(self._server.serve())
        for _ in range(int(START_TIMEOUT / 0.01)):
            if wire.listeners(self._port) > before:
                return
            if self._serving.done():
                break
            await asyncio.sleep(0.01)
        raise OSError(f"port {self._port} could not be opened")

    async def drain(self) -> None:
        """Stop accepting, send GOAWAY on every connection, and return when the last one has ended."""
        self._server.stop()  # type: ignore[no-untyped-call]
        if self._serving is not None:
            await self._serving

    async def handle(self, scope: Any, proto: Any) -> None:
        """One request, as RSGI hands it over."""
        headers = scope.headers
        body = await _read(headers.get("content-length"), proto)
        if body is None:
            proto.response_bytes(TOO_LARGE.status, TOO_LARGE.headers, TOO_LARGE.body)
            return
        request = Request(
            scope.method,
            scope.path,
            scope.authority or headers.get("host", ""),
            headers,
            body,
            scope.client,
            scope.http_version,
        )
        try:
            outcome = self._providers.receive(request)
        except Exception:
            log.exception("request_failed")
            raise  # The server answers 500.
        if (outcome.delay or outcome.fate != "answer") and not await self._misbehave(outcome, scope, proto):
            return
        reply = outcome.reply
        proto.response_bytes(reply.status, reply.headers, reply.body)

    async def _misbehave(self, outcome: Outcome, scope: Any, proto: Any) -> bool:
        """Do as a fault rule says; True if the request is to be answered after all."""
        if outcome.delay:
            await asyncio.sleep(outcome.delay)
        if outcome.fate == "answer":
            return True
        if outcome.fate == "hang" and self._hung.take():
            try:
                await proto.client_disconnect()
            finally:
                self._hung.give_back()
        else:
            wire.cut(self._port, scope.client)
        return False


async def _read(length: str | None, proto: Any) -> bytes | None:
    """The body; None when it is longer than anybody's limit."""
    if length is not None and length.isdigit() and int(length) <= MAX_BODY:
        whole: bytes = await proto()
        return whole
    body, size = bytearray(), 0
    async for chunk in proto:
        size += len(chunk)
        if size <= MAX_BODY:
            body += chunk
        elif size > MAX_DISCARDED:
            break
    return bytes(body) if size <= MAX_BODY else None
