"""The load generator: HTTP/1.1 keep-alive connections that write prepared bytes and read just enough of the answer.

It shares the machine with what it measures, so its price is part of every figure: about 20 µs of CPU a request, a
third of a general client's. wrk cannot give each message a body of its own.
"""

import asyncio
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

import msgspec

NO_CONTENT = 204
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Answer(msgspec.Struct, frozen=True, gc=False):
    status: int
    body: bytes
    retry_after: float | None = None
    """Seconds."""


class Connection(asyncio.Protocol):
    """One request at a time. Raises `ConnectionError` when the server closes, `ValueError` for an unsized answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connect to the host and port of `url` (plain http)."""
        parts = urlsplit(url)
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname or "", parts.port or 80)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            self._transport.close()

    async def exchange(self, request: bytes) -> Answer:
        """Send a whole request, as `prepare` makes it, and wait for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed by the server")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            answer = _complete(self._buffer)
        except ValueError as error:
            self._fail(error)
            return
        if answer is not None and self._answer is not None and not self._answer.done():
            self._buffer.clear()
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("closed by the server"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def prepare(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of one request."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def get(url: str) -> bytes:
    """One GET on a connection of its own. Raises `ConnectionError` where the answer is not 200."""
    async with await Connection.open(url) as connection:
        answer = await connection.exchange(prepare("GET", url, {}))
    if answer.status != 200:
        raise ConnectionError(f"GET {url}: {answer.status}")
    return answer.body


def _complete(buffer: bytearray) -> Answer | None:
    end = buffer.find(_END)
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower() + b"\r\n"
    status, start = int(head[9:12]), end + len(_END)
    length = 0 if status == NO_CONTENT else _length(head)
    if len(buffer) < start + length:
        return None
    return Answer(status, bytes(buffer[start : start + length]), _retry_after(head))


def _length(head: bytes) -> int:
    at = head.find(_LENGTH)
    if at < 0:
        raise ValueError("an answer without Content-Length")
    return int(head[at + len(_LENGTH) : head.index(b"\r\n", at)])


def _retry_after(head: bytes) -> float | None:
    _, found, rest = head.partition(b"\r\nretry-after:")
    return float(rest.partition(b"\r\n")[0]) if found else None
