"""A consumer whose handler obeys the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from libs.bus import Bus
from libs.config import Nats
from libs.consume import Consumer, Held
from libs.envelope import Accepted, DispatchEnvelope, encode
from libs.ids import new_id
from libs.subjects import dispatch, stream_of
from tests.contract.streams_harness import APPLICATION, connected, quick
from tests.servers import NatsServer

SUBJECT = dispatch("normal")
STREAM = stream_of("DISPATCH", "normal")
DURABLE = "reader"


def envelope(*names: str) -> DispatchEnvelope:
    items = [Accepted(name, "subscription", 1, b"sealed", 0) for name in names]
    return DispatchEnvelope(new_id(), APPLICATION, "normal", items)


def names_of(found: DispatchEnvelope) -> list[str]:
    return [item.message_id for item in found.items]


class Reader:
    """A consumer and what it was given. `scripts` says what becomes of a message, by name; the others succeed."""

    def __init__(self, bus: Bus, slots: int = 4) -> None:
        self.handled: list[tuple[list[str], Held]] = []
        self.finished: list[str] = []
        self.buried: list[str] = []
        self.marked: set[str] = set()
        self.scripts: dict[str, Callable[[Held], Awaitable[None]]] = {}
        self.burial: Exception | None = None
        self.consumer = Consumer(
            bus,
            DispatchEnvelope,
            stream=STREAM,
            durable=DURABLE,
            subject=SUBJECT,
            slots=slots,
            handle=self._handle,
            bury=self._bury,
        )

    async def _handle(self, found: DispatchEnvelope, held: Held) -> None:
        self.handled.append((names_of(found), held))
        self.marked.update(names_of(found) if found.marked else ())
        for name in names_of(found):
            if name in self.scripts:
                await self.scripts[name](held)
        self.finished += names_of(found)

    async def _bury(self, found: DispatchEnvelope, _: Held) -> None:
        self.buried += names_of(found)
        if self.burial is not None:
            raise self.burial

    def deliveries_of(self, *names: str) -> list[int]:
        return [held.deliveries for found, held in self.handled if found == list(names)]

    def held(self, *names: str) -> Held:
        return next(held for found, held in self.handled if found == list(names))

    def fails(self, name: str, error: BaseException) -> None:
        async def fail(_: Held) -> None:
            raise error

        self.scripts[name] = fail

    def waits(self, name: str) -> asyncio.Event:
        gate = asyncio.Event()

        async def wait(_: Held) -> None:
            await gate.wait()

        self.scripts[name] = wait
        return gate


@contextlib.asynccontextmanager
async def reading(reader: Reader) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(reader.consumer.run())
    try:
        yield task
    finally:
        await reader.consumer.stop()
        for script in list(reader.scripts):
            del reader.scripts[script]
        await asyncio.wait({task}, timeout=10)


async def give(bus: Bus, *envelopes: DispatchEnvelope) -> None:
    for one in envelopes:
        await bus.publish(SUBJECT, encode(one), msg_id=new_id())


@contextlib.asynccontextmanager
async def reader_on(server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(quick(Nats(url=server.url, max_stream_bytes=64 * 1024**2)), "reader") as bus:
        yield bus
