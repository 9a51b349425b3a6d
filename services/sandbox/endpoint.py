"""The one TLS port that senders are given, and which front stands behind it.

Granian is fast but cannot be told to send GOAWAY in the middle of a connection; the h2 library can, and is slow. So
while a `goaway` rule is in force the h2 front has the port, else Granian. Both listen for a moment (SO_REUSEPORT), then
the old front takes leave of its connections by GOAWAY: the sender is never refused.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from services.sandbox import wire

STOP_GRACE = 2.0
"""Seconds for requests in flight when the sandbox stops; then their connections are cut."""


class Front(Protocol):
    async def start(self) -> None: ...
    async def drain(self) -> None: ...


class Endpoint:
    def __init__(self, host: str, port: int, usual: Callable[[], Front], goaway: Callable[[], Front]) -> None:
        self._host = host
        self._port = port
        self._makers = {False: usual, True: goaway}
        self._current: tuple[bool, Front] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._current is not None

    async def start(self) -> None:
        """Open the port with the usual front. Raises OSError if it is taken."""
        wire.refuse_taken(self._host, self._port)
        await self.use(goaway=False)

    async def use(self, *, goaway: bool) -> None:
        """Put the port in the hands of the front wanted; returns when it accepts and the other no longer does."""
        async with self._lock:
            old = self._current
            if old is not None and old[0] is goaway:
                return
            front = self._makers[goaway]()
            await front.start()
            self._current = (goaway, front)
            if old is not None:
                self._retire(old[1])
                await self._closed()

    async def stop(self) -> None:
        """Close the port, let requests in flight end for a moment, cut the rest."""
        async with self._lock:
            if self._current is not None:
                self._retire(self._current[1])
                self._current = None
        leaving = list(self._leaving)
        if not leaving:
            return
        _, late = await asyncio.wait(leaving, timeout=STOP_GRACE)
        if late:
            wire.cut(self._port)
            _, late = await asyncio.wait(late, timeout=STOP_GRACE)
        for task in late:
            task.cancel()

    async def _closed(self) -> None:
        """Wait, within reason, until only one front accepts connections."""
        for _ in range(400):
            if wire.listeners(self._port) < 2:
                return
            await asyncio.sleep(0.005)

    def _retire(self, front: Front) -> None:
        task = asyncio.create_task(front.drain())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
