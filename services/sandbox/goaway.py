"""The front while a `goaway` rule is in force: HTTP/2 by the h2 library, which can say GOAWAY where it wants.

It costs about ten times the CPU of the usual front, and is there only as long as such a rule is.
"""

import asyncio
import ssl
from collections import Counter
from typing import Any, cast

from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from msgspec import Struct, field

from services.sandbox.credentials import TlsFiles
from services.sandbox.exchange import Outcome, Reply, Request, Verdict
from services.sandbox.faults import Rule
from services.sandbox.providers import MAX_BODY, Providers
from services.sandbox.rsgi import MAX_CONNECTIONS, TOO_LARGE, HungRequests
from services.sandbox.settings import Sandbox

LINGER = 2.0
"""Seconds a drained connection waits for its client to close it: closing first could destroy the last answers."""


class _Stream(Struct):
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


class GoawayFront:
    def __init__(self, providers: Providers, settings: Sandbox, tls: TlsFiles, hung: HungRequests) -> None:
        self.providers = providers
        self.hung = hung
        self.max_streams = settings.max_streams
        self.connections: set[Connection] = set()
        self._address = (settings.host, settings.tls_port)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(tls.cert, tls.key)
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        self._server: asyncio.Server | None = None
        self.http1 = web.Server(self._handle_http1, access_log=None, handler_cancellation=True)
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Return once the port accepts connections, beside the other front's. Raises OSError."""
        host, port = self._address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), host, port, ssl=self._tls, reuse_port=True, backlog=1024
        )

    async def drain(self) -> None:
        """Stop accepting, send GOAWAY on every connection, and return when the last one has ended."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.go_away()
            connection.end_if_drained()
        await self.http1.shutdown(LINGER)
        while self.connections:
            self._ended.clear()
            await self._ended.wait()

    def forget(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self._ended.set()

    async def _handle_http1(self, received: web.BaseRequest) -> web.StreamResponse:
        """FCM and its token endpoint by HTTP/1.1, which Google's own client library speaks."""
        headers = {name.lower(): value for name, value in received.headers.items()}
        body = await received.read()
        request = Request(received.method, received.path, received.host, headers, body, "", "1.1")
        outcome = self.providers.receive(request)
        await asyncio.sleep(outcome.delay)
        if outcome.fate == "hang" and self.hung.take():
            try:
                await asyncio.Event().wait()
            finally:
                self.hung.give_back()
        if outcome.fate != "answer" and received.transport is not None:
            received.transport.abort()
        reply = outcome.reply
        return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


class Connection(asyncio.Protocol):
    """One client's HTTP/2 connection."""

    def __init__(self, front: GoawayFront) -> None:
        self._front = front
        config = H2Configuration(client_side=False, header_encoding="utf-8")
        self._h2 = H2Connection(config)
        self._streams: dict[int, _Stream] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._blocked: list[tuple[int, bytes]] = []
        self._counted: Counter[int] = Counter()
        self._highest = 0
        self._last: int | None = None
        self._held = 0
        self._lingering = False
        self._peer = ""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            other = self._front.http1()
            self._transport.set_protocol(other)
            other.connection_made(transport)
            return
        if len(self._front.connections) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        address, port = transport.get_extra_info("peername")[:2]
        self._peer = f"{address}:{port}"
        self._front.connections.add(self)
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._front.max_streams})
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._answering.values():
            task.cancel()
        for _ in range(self._held):
            self._front.hung.give_back()
        self._held = 0
        self._front.forget(self)

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._on(event)
        except H2Error:
            self._flush()
            self._transport.close()
            return
        self._flush()
        self.end_if_drained()

    def go_away(self, *, cut: bool = False) -> None:
        """Say GOAWAY: streams begun later stay unprocessed. Then drain, or `cut`: answers not yet written are lost."""
        if self._last is None:
            self._last = self._highest
            self._streams = {number: stream for number, stream in self._streams.items() if number <= self._last}
            if cut:
                self._h2.data_to_send()
            self._flush()
            # By h2's own call no answer could follow: it counts the connection as closed.
            frame = GoAwayFrame(0, self._last, ErrorCodes.NO_ERROR)
            if not self._transport.is_closing():
                self._transport.write(frame.serialize())
        if cut:
            self._transport.close()

    def _on(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            if self._last is not None and event.stream_id > self._last:
                return
            self._streams[event.stream_id] = _Stream(dict(cast("list[tuple[str, str]]", event.headers)))
        elif isinstance(event, DataReceived):
            self._take(event)
        elif isinstance(event, StreamEnded):
            self._serve(event.stream_id)
        elif isinstance(event, StreamReset):
            self._drop(event.stream_id)
        elif isinstance(event, WindowUpdated):
            blocked, self._blocked = self._blocked, []
            for blocked_id, body in blocked:
                self._send_body(blocked_id, body)

    def _take(self, event: DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body += event.data
        if len(stream.body) > MAX_BODY:
            del self._streams[event.stream_id]
            self._answer(event.stream_id, TOO_LARGE)

    def _serve(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._highest = max(self._highest, stream_id)
        request = self._request(stream)
        providers = self._front.providers
        verdict = providers.judge(request)
        if isinstance(verdict, Reply):
            self._answer(stream_id, verdict)
            return
        outcome = providers.conclude(request, verdict)
        due = self._due(verdict)
        if due is None or not due.close:
            self._end(stream_id, outcome)
        if due is not None:
            self.go_away(cut=due.close)

    def _request(self, stream: _Stream) -> Request:
        headers = stream.headers
        path = headers[":path"].partition("?")[0]
        shown = {name: value for name, value in headers.items() if not name.startswith(":")}
        authority = headers.get(":authority", "")
        return Request(headers[":method"], path, authority, shown, bytes(stream.body), self._peer)

    def _due(self, verdict: Verdict) -> Rule | None:
        """Count the request; the rule whose turn to say GOAWAY comes with it."""
        active = self._front.providers.goaway_rule(verdict)
        if active is None or active.rule.goaway is None or self._last is not None:
            return None
        self._counted[id(active)] += 1
        if self._counted[id(active)] % active.rule.goaway:
            return None
        active.met += 1
        return active.rule

    def _end(self, stream_id: int, outcome: Outcome) -> None:
        if outcome.delay:
            self._answering[stream_id] = asyncio.create_task(self._later(stream_id, outcome))
        elif outcome.fate == "answer":
            self._answer(stream_id, outcome.reply)
        elif outcome.fate == "hang" and self._front.hung.take():
            self._held += 1
        else:
            self._transport.abort()

    async def _later(self, stream_id: int, outcome: Outcome) -> None:
        await asyncio.sleep(outcome.delay)
        del self._answering[stream_id]
        try:
            self._end(stream_id, Outcome(outcome.reply, 0.0, outcome.fate))
        except H2Error:  # The client has taken its leave meanwhile.
            self._transport.close()
        self._flush()
        self.end_if_drained()

    def _drop(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._blocked = [(number, body) for number, body in self._blocked if number != stream_id]
        task = self._answering.pop(stream_id, None)
        if task is not None:
            task.cancel()

    def _answer(self, stream_id: int, reply: Reply) -> None:
        headers = [(":status", str(reply.status)), *reply.headers]
        self._h2.send_headers(stream_id, headers, end_stream=not reply.body)
        if reply.body:
            self._send_body(stream_id, reply.body)

    def _send_body(self, stream_id: int, body: bytes) -> None:
        if self._h2.local_flow_control_window(stream_id) < len(body):
            self._blocked.append((stream_id, body))
            return
        self._h2.send_data(stream_id, body, end_stream=True)

    def _flush(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())

    def end_if_drained(self) -> None:
        """After GOAWAY, close once every stream it still promised has ended."""
        busy = self._streams or self._answering or self._blocked or self._held
        if self._last is not None and not busy and not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(LINGER, self._transport.close)
