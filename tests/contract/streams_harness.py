"""What tests of the delivery path say to real streams, and read from them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from structlog.testing import capture_logs

from libs import consume
from libs.bus import Bus
from libs.config import Nats
from libs.dead import DeadLetter
from libs.envelope import E_, decode
from libs.subjects import DEAD
from tests.servers import NatsServer

ACK_WAIT = 2.0
APPLICATION = "01990000-0000-7000-8000-00000000000a"


def quick(settings: Nats) -> Nats:
    """Envelopes of a holder who is gone go to another soon."""
    return msgspec.structs.replace(settings, ack_wait=ACK_WAIT)


@contextlib.asynccontextmanager
async def connected(settings: Nats, name: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect(settings, name)
    await bus.ensure_streams()
    try:
        yield bus
    finally:
        await bus.close()


async def until(check: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancelled, and over: what still runs when its connection is closed disturbs the next test."""
    task.cancel()
    await asyncio.wait({task}, timeout=5)


async def stored(bus: Bus, stream: str) -> int:
    """Messages that lie in the stream: waiting or in somebody's hands."""
    return (await bus.stream_state(stream)).state.messages


async def drained(bus: Bus, stream: str, to: int = 0) -> None:
    """Waits until all but `to` messages in the stream were acknowledged."""

    async def reached() -> bool:
        return await stored(bus, stream) == to

    await until(reached)


async def consumer_of(bus: Bus, stream: str, durable: str) -> ConsumerInfo:
    info: ConsumerInfo = await bus.js.consumer_info(stream, durable)
    return info


class Tap:
    """Takes all that comes on a subject, as the next service would."""

    def __init__(self, bus: Bus, stream: str, subject: str, durable: str) -> None:
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self._durable = durable

    async def open(self) -> None:
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._bus.settings.ack_wait,
            max_ack_pending=1_000,
        )
        await self._bus.js.add_consumer(self._stream, config)
        self._subscription = await self._bus.js.pull_subscribe_bind(consumer=self._durable, stream=self._stream)

    async def raw(self, seconds: float = 15) -> Msg:
        """The next message, not yet acknowledged. Asks again and again: a fetch that spans a restart gets nothing."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return (await self._subscription.fetch(1, timeout=1))[0]
                except nats.errors.Error:
                    if self._bus.client.is_closed:  # asking again would be answered at once, for ever
                        raise

    async def next(self, kind: type[E_]) -> E_:
        message = await self.raw()
        await message.ack()
        return decode(message.data, kind)


@contextlib.asynccontextmanager
async def tapped(bus: Bus, stream: str, subject: str, durable: str = "tap") -> AsyncIterator[Tap]:
    tap = Tap(bus, stream, subject, durable)
    await tap.open()
    yield tap
    with contextlib.suppress(nats.errors.Error):
        await tap._subscription.unsubscribe()


async def deliver_to_the_dying(bus: Bus, stream: str, subject: str, durable: str, times: int) -> None:
    """The first envelope is taken and lost again `times` times, at once."""
    async with tapped(bus, stream, subject, durable) as tap:
        for _ in range(times):
            await (await tap.raw()).nak()


@contextlib.contextmanager
def frozen(server: NatsServer) -> Iterator[None]:
    """It keeps its connections, and does nothing."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Short pauses; and no tracebacks, which take long to draw."""
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(consume, "PAUSES", (0.05, 0.05))
        patch.setattr(consume, "FETCH_SECONDS", 0.3)
        yield


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    """All notes in DEAD, oldest first."""
    state = (await bus.stream_state(DEAD)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await bus.js.get_msg(DEAD, sequence)
        found.append(msgspec.json.decode(message.data or b"", type=DeadLetter))
    return found
