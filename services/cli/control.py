"""The supervisor's ear: a Unix socket in the data directory, one JSON line asked, one answered."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import msgspec

from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.supervisor import ProcessStatus

_MAX_LINE = 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    verb: Literal["status", "stop", "start", "down"]
    name: str = ""


class Reply(msgspec.Struct, frozen=True):
    error: str = ""
    processes: list[ProcessStatus] = []


Handler = Callable[[Request], Awaitable[Reply]]


class ControlServer:
    """Who may open the data directory may command its supervisor: the socket is 0600 in a directory of 0700."""

    def __init__(self, data: DataDir, handle: Handler) -> None:
        self._address = data.control_path()
        self._handle = handle
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._unlink()
        self._server = await asyncio.start_unix_server(self._serve, self._address, limit=_MAX_LINE)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._unlink()

    def _unlink(self) -> None:
        Path(self._address).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            try:
                request = msgspec.json.decode(await reader.readline(), type=Request)
                reply = await self._handle(request)
            except msgspec.MsgspecError as error:
                reply = Reply(error=f"not understood: {error}")
            except Failure as failure:
                reply = Reply(error=failure.message)
            writer.write(msgspec.json.encode(reply) + b"\n")
            await writer.drain()


async def ask(data: DataDir, request: Request, timeout: float) -> Reply:
    """Raises `Failure` when nobody answers, or the answer is an error."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(data.control_path(), limit=_MAX_LINE)
            with contextlib.closing(writer):
                writer.write(msgspec.json.encode(request) + b"\n")
                reply = msgspec.json.decode(await reader.readline(), type=Reply)
    except (OSError, msgspec.MsgspecError, TimeoutError):
        raise Failure(
            f"nothing answers in {data.path}", "start it with `automata up`, or name its directory with --data-dir"
        ) from None
    if reply.error:
        raise Failure(reply.error)
    return reply
