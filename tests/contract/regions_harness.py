"""Sender processes of several regions in this process, on a real NATS; a lifecycle that knows what was reported."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from libs import presence
from libs.bus import Bus
from libs.clock import SystemClock
from libs.config import Nats
from libs.envelope import Delivery, Outcome, OutcomeEnvelope, SendEnvelope, encode
from libs.ids import new_id
from libs.presence import Alive
from libs.rpc import AskTime, Known, KnownOutcomes, Now
from libs.service import Runtime
from libs.subjects import SENDERS, outcome, send
from services.senders import __main__ as sender_main
from services.senders import takeover
from services.senders.contract import Result
from services.senders.settings import Sender as SenderSettings
from services.senders.settings import Settings
from tests.contract.sender_harness import CHANNEL, OUTCOME, Peers, StrictSender
from tests.contract.streams_harness import APPLICATION, Tap, connected, drained, impatient, quick, until
from tests.in_process import running

AFTER = 1.0
"""Seconds of silence after which a region is taken over here."""


class Provider(StrictSender):
    """Of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = 0.0
        """Seconds that each call takes."""

    async def _answer(self, delivery: Delivery) -> Result:
        await asyncio.sleep(self.pause)
        return await super()._answer(delivery)


class Field:
    """Several senders, and what the providers and lifecycle saw of them."""

    def __init__(self, bus: Bus, nats: Nats) -> None:
        self.bus = bus
        self.peers = Peers()
        self.outcomes: list[Outcome] = []
        self.providers: list[tuple[str, Provider]] = []
        """Each process started: its region, and whom it called."""
        self.settled: set[str] = set()
        """Messages that lifecycle knows from before."""
        self._nats = nats
        self._tap = Tap(bus, OUTCOME, outcome("normal", CHANNEL, "*"), "recorder")

    async def open(self) -> None:
        await self.peers.serve_application(self.bus)
        await self.bus.serve("lifecycle", {"known_outcomes": (KnownOutcomes, self._known), "now": (AskTime, self._now)})
        await self._tap.open()

    async def record(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                self.outcomes += (await self._tap.next(OutcomeEnvelope)).items

    async def _known(self, question: KnownOutcomes) -> Known:
        await drained(self.bus, OUTCOME)
        settled = self.settled | {
            item.message_id for item in self.outcomes if item.kind in ("sent", "failed", "expired")
        }
        self.peers.asked.append(question)
        return Known(sorted(settled & question.attempts.keys()))

    async def _now(self, _: AskTime) -> Now:
        return Now(int(SystemClock().time() * 1000))

    @contextlib.asynccontextmanager
    async def sender(self, region: str, **settings: object) -> AsyncIterator[tuple[Runtime, Provider]]:
        chosen = {"slots": 4, "takeover_after": AFTER} | settings
        own = Settings(SenderSettings(CHANNEL, region, **chosen), quick(self._nats))  # type: ignore[arg-type]
        async with running("sender", sender_main.start, own) as runtime:
            yield runtime, self.providers[-1][1]

    def make(self, settings: Settings, _: Runtime) -> Provider:
        provider = Provider()
        self.providers.append((settings.sender.region, provider))
        return provider

    async def give(self, region: str, items: list[Delivery], size: int = 10) -> None:
        for start in range(0, len(items), size):
            part = items[start : start + size]
            envelope = SendEnvelope(new_id(), APPLICATION, "normal", CHANNEL, region, part, False)
            await self.bus.publish(send("normal", CHANNEL, region), encode(envelope), msg_id=new_id())

    def calls(self) -> Counter[str]:
        return Counter(call for _, provider in self.providers for call in provider.calls)

    def called_from(self, region: str) -> set[str]:
        return {call for home, provider in self.providers if home == region for call in provider.calls}

    async def sent(self, items: list[Delivery]) -> dict[str, Outcome]:
        """Waits until lifecycle was told of each that it was sent."""
        wanted = {item.message_id for item in items}

        def found() -> dict[str, Outcome]:
            return {item.message_id: item for item in self.outcomes if item.kind == "sent"}

        await until(lambda: wanted <= found().keys(), 30)
        return {message_id: outcome for message_id, outcome in found().items() if message_id in wanted}

    def each_was_called_once(self, items: list[Delivery]) -> None:
        calls = self.calls()
        assert {item.message_id: calls[item.message_id] for item in items} == {item.message_id: 1 for item in items}
        kinds = Counter((item.message_id, item.kind) for item in self.outcomes)
        assert set(kinds.values()) <= {1}

    @contextlib.asynccontextmanager
    async def somebody_says(self, word: Alive) -> AsyncIterator[None]:
        """As a sender process elsewhere."""

        async def speak() -> None:
            while True:
                await self.bus.client.publish(SENDERS, msgspec.msgpack.encode(word))
                await asyncio.sleep(presence.EVERY_SECONDS)

        speaking = asyncio.create_task(speak())
        try:
            yield
        finally:
            speaking.cancel()
            await asyncio.wait({speaking})


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Presence and takeover at ten times their speed."""
    with impatient(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "EVERY_SECONDS", 0.1)
        patch.setattr(presence, "LOST_SECONDS", 1.0)
        patch.setattr(takeover, "LOOK_SECONDS", 0.1)
        patch.setattr(takeover, "STEADY_SECONDS", 0.3)
        yield


@contextlib.asynccontextmanager
async def field_on(nats: Nats) -> AsyncIterator[Field]:
    async with connected(quick(nats), "peers") as bus:
        field = Field(bus, nats)
        await field.open()
        recording = asyncio.create_task(field.record())
        with soon(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sender_main, "make_sender", field.make)
            yield field
        recording.cancel()
        await asyncio.wait({recording})
