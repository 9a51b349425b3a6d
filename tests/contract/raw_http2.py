"""An HTTP/2 client that shows what a server says on the wire, GOAWAY included."""

import asyncio
from typing import Any

import h2.config
import h2.connection
import h2.events

from tests.contract.sandbox_server import DEVICE, SandboxServer

PATH = f"/3/device/{DEVICE}"
BODY = b'{"aps":{"alert":"x"}}'


class PatientConnection(h2.connection.H2Connection):
    """Reads on after GOAWAY: answers to earlier streams may still come (RFC 9113 §6.8), which h2 does not allow."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        taken = super()._receive_goaway_frame(frame)
        self.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        return taken


class RawClient:
    """An HTTP/2 connection that keeps what the server said, GOAWAY and all, in order."""

    def __init__(self, sandbox: SandboxServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sandbox = sandbox
        self._reader = reader
        self._writer = writer
        self._h2 = PatientConnection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.last_stream: int | None = None
        self.closed = False

    @classmethod
    async def open(cls, sandbox: SandboxServer) -> "RawClient":
        sandbox.tls.set_alpn_protocols(["h2"])
        return cls(sandbox, *await asyncio.open_connection("127.0.0.1", sandbox.tls_port, ssl=sandbox.tls))

    async def send(self, count: int) -> list[int]:
        """So many pushes in one write; their stream ids."""
        streams = []
        for _ in range(count):
            stream = self._h2.get_next_available_stream_id()
            pseudo = {":method": "POST", ":path": PATH, ":scheme": "https", ":authority": "127.0.0.1"}
            self._h2.send_headers(stream, [*pseudo.items(), *self._sandbox.apns_headers().items()])
            self._h2.send_data(stream, BODY, end_stream=True)
            streams.append(stream)
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()
        return streams

    async def read(self) -> None:
        """Take in what comes next."""
        data = await asyncio.wait_for(self._reader.read(65536), 10)
        self.closed = not data
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                headers = {str(name): str(value) for name, value in event.headers or ()}
                self.status[event.stream_id or 0] = int(headers[":status"])
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id or 0)
            elif isinstance(event, h2.events.StreamReset):
                self.reset.add(event.stream_id or 0)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.last_stream = event.last_stream_id  # Of two the later counts: a graceful shutdown says two.
        self._writer.write(self._h2.data_to_send())

    async def until_closed(self) -> None:
        while not self.closed:
            try:
                await self.read()
            except OSError:  # Cut.
                self.closed = True

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # It was cut.
            return
