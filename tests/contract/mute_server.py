"""A TCP port in front of a server, which can fall silent: what was sent is taken, and nothing comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class MuteServer:
    """Passes bytes on until it is `mute`: connections stay open then, and new ones are taken."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._mute = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        """That were ever made."""

    def fall_silent(self) -> None:
        self._mute.set()

    def speak(self) -> None:
        """To new connections; what was said to it meanwhile is lost."""
        self._mute.clear()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        sinks = [writer]
        try:
            if self._mute.is_set():
                await self._swallow(reader)
                return
            there, back = await asyncio.open_connection(*self._target)
            sinks.append(back)
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        finally:
            for sink in sinks:
                sink.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if self._mute.is_set():
                    await self._swallow(source)
                    break
                sink.write(data)
                await sink.drain()
        sink.close()

    async def _swallow(self, source: asyncio.StreamReader) -> None:
        while await source.read(65_536):
            pass


@contextlib.asynccontextmanager
async def before(host: str, port: int) -> AsyncIterator[MuteServer]:
    mute = MuteServer(host, port)
    server = await asyncio.start_server(mute.accept, "127.0.0.1", 0)
    mute.port = server.sockets[0].getsockname()[1]
    try:
        yield mute
    finally:
        server.close()
        await mute.end()
