"""An envelope that waits for its own application alone leaves its slot to the next one, and is done later (R11)."""

import asyncio
from collections.abc import Awaitable, Callable

from libs.bus import Bus
from libs.consume import Consumer, Held
from libs.envelope import Lane, SendEnvelope
from libs.subjects import send, stream_of

from .settings import Sender as SenderSettings

_BYTES = 16 * 1024**2
"""Of all that is parked in a lane."""


class ParkingConsumer(Consumer[SendEnvelope]):
    """Reads on while what it took is parked: at most `settings.parked` envelopes, held and beaten for like all."""

    def __init__(
        self,
        bus: Bus,
        lane: Lane,
        region: str,
        settings: SenderSettings,
        *,
        channel: str,
        handle: Callable[[SendEnvelope, Held], Awaitable[None]],
        bury: Callable[[SendEnvelope, Held], Awaitable[None]],
        account: Callable[[SendEnvelope, Held], Awaitable[object]],
    ) -> None:
        """`account` tells of whoever held an envelope before: the single messages that it is cut into cannot."""
        super().__init__(
            bus,
            SendEnvelope,
            stream=stream_of("SEND", lane),
            durable=f"{channel}_{region}",
            subject=send(lane, channel, region),
            slots=settings.slots,
            handle=handle,
            bury=bury,
        )
        self._account = account
        self._places = settings.parked
        self._in_slot: dict[Held, asyncio.Event] = {}
        self._parked: dict[Held, int] = {}
        self._working: set[asyncio.Task[None]] = set()

    def park(self, held: Held) -> None:
        """`held` waits for its turn, its rate, or answers. Where no place is free it keeps its slot."""
        left = self._in_slot.get(held)
        size = len(held.payload)
        if left is None or len(self._parked) >= self._places or sum(self._parked.values()) + size > _BYTES:
            return
        del self._in_slot[held]
        self._parked[held] = size
        left.set()

    async def _slot(self) -> None:
        await super()._slot()
        if self._working:
            await asyncio.wait(self._working)

    async def _split(self, envelope: SendEnvelope, held: Held) -> None:
        await self._account(envelope, held)
        await super()._split(envelope, held)

    async def _take(self, held: Held) -> None:
        self._held.add(held)  # before the work begins: `stop` may come in between
        left = self._in_slot[held] = asyncio.Event()
        work = asyncio.create_task(self._work(held, left))
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        try:
            await left.wait()
        except asyncio.CancelledError:
            work.cancel()
            raise

    async def _work(self, held: Held, left: asyncio.Event) -> None:
        try:
            await super()._take(held)
        finally:
            self._in_slot.pop(held, None)
            self._parked.pop(held, None)
            left.set()
