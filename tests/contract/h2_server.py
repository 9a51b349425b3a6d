"""A provider's HTTP/2 + TLS front that misbehaves on command, for the contract suites of transport and senders.

Written on `h2`, a stack independent of the clients under test (hyper). Serves in the test's own event loop.
"""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes


@dataclass
class Request:
    """One request as the server saw it, complete with its body."""

    connection: "Connection"
    stream_id: int
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.headers[":path"]


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Answer | None]
"""Decides each complete request; None leaves it unanswered (for ever, or until `Connection.answer`)."""


class Connection(asyncio.Protocol):
    """One accepted connection; its methods are the faults."""

    def __init__(self, server: "H2Server") -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.open: dict[int, Request] = {}
        self.max_streams = 0
        self.last_stream_id = 2**31 - 1
        self.peak = 0
        self.refused = 0
        self.highest_served = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections.append(self)
        # h2 would end the connection for one stream too many; a provider refuses the stream. So h2 knows no limit, and
        # ours goes out beside it.
        self.h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
        self.h2.initiate_connection()
        self.flush()
        self.limit_streams(self.server.max_streams)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            self.server.protocol_errors.append(error)
            events = []
        for event in events:
            self._on(event)
        self.flush()

    def _on(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            headers = cast("list[tuple[str, str]]", event.headers)
            self.open[event.stream_id] = Request(self, event.stream_id, dict(headers), b"")
            if event.stream_id > self.last_stream_id:
                del self.open[event.stream_id]
            elif len(self.open) > self.max_streams or self.server.refuse(self.open[event.stream_id]):
                del self.open[event.stream_id]
                self.refused += 1
                self.h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
        elif isinstance(event, DataReceived) and event.stream_id in self.open:
            self.open[event.stream_id].body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded) and event.stream_id in self.open:
            self._complete(self.open[event.stream_id])
        elif isinstance(event, StreamReset):
            self.open.pop(event.stream_id, None)

    def _complete(self, request: Request) -> None:
        self.peak = max(self.peak, len(self.open))
        self.highest_served = max(self.highest_served, request.stream_id)
        self.server.requests.append(request)
        answer = self.server.handler(request)
        if answer is not None:
            self.answer(request, answer)

    def answer(self, request: Request, answer: Answer) -> None:
        ended = self.lost or self.h2.state_machine.state is ConnectionState.CLOSED
        if self.open.pop(request.stream_id, None) is None or ended:
            return
        headers = [(":status", str(answer.status)), *answer.headers.items()]
        self.h2.send_headers(request.stream_id, headers, end_stream=not answer.body)
        if answer.body:
            self.h2.send_data(request.stream_id, answer.body, end_stream=True)
        self.flush()

    def flush(self) -> None:
        if not self.lost and (data := self.h2.data_to_send()):
            self.transport.write(data)

    def goaway(self, code: ErrorCodes = ErrorCodes.NO_ERROR, last_stream_id: int | None = None) -> None:
        """Streams after the last one named are ignored from now on; the others may still be answered."""
        # A raw frame: after its own GOAWAY h2 refuses to answer what is left to drain.
        self.last_stream_id = self.h2.highest_inbound_stream_id if last_stream_id is None else last_stream_id
        self.open = {stream: request for stream, request in self.open.items() if stream <= self.last_stream_id}
        self._write_frame(7, struct.pack(">II", self.last_stream_id, code))

    def limit_streams(self, limit: int) -> None:
        """Advertise MAX_CONCURRENT_STREAMS and refuse what exceeds it."""
        self.max_streams = limit
        self._write_frame(4, struct.pack(">HI", SettingCodes.MAX_CONCURRENT_STREAMS, limit))

    def _write_frame(self, kind: int, payload: bytes) -> None:
        self.flush()
        self.transport.write(struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload)

    def close(self) -> None:
        """FIN (after what is written)."""
        self.transport.close()

    def reset(self) -> None:
        """RST: the peer's next read fails."""
        raw = cast(socket.socket, self.transport.get_extra_info("socket"))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def black_hole(self) -> None:
        """Nothing is read or answered any more, though the connection stays open."""
        self.transport.pause_reading()


class H2Server:
    """`async with H2Server(handler, directory) as server`: TLS on a free port of 127.0.0.1.

    The CA is left in `directory`, unless the server shares another one's `tls`.
    """

    def __init__(
        self, handler: Handler, directory: Path, max_streams: int = 1000, tls: ssl.SSLContext | None = None
    ) -> None:
        self.handler = handler
        self.refuse: Callable[[Request], bool] = lambda _: False
        self.max_streams = max_streams
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.protocol_errors: list[Exception] = []
        self.ca_file = directory / "ca.pem"
        self.tls = tls or _certificates(directory)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._server.close()
        for connection in self.connections:
            connection.transport.abort()
        await self._server.wait_closed()


def _certificates(directory: Path) -> ssl.SSLContext:
    """A CA and a certificate for 127.0.0.1, written to `directory`; the context serves them with ALPN `h2`."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=ca_name,
            subject_name=subject,
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    leaf = builder(name, key.public_key()).add_extension(x509.SubjectAlternativeName([address]), False)
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    chain = directory / "server.pem"
    chain.write_bytes(
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.set_alpn_protocols(["h2"])
    return context
