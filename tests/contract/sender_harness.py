"""The pipeline of one sender lane on a real NATS, with a provider, a lifecycle and an application service that obey."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar, Final

import nats.js.errors

from libs.bus import Bus
from libs.clock import Clock, FakeClock, ReferenceClock, SystemClock
from libs.config import Nats
from libs.envelope import Content, Delivery, Outcome, OutcomeEnvelope, SendEnvelope, decode, encode
from libs.errors import ResourceNotFound
from libs.ids import new_id
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.rpc import (
    Credential,
    GetCredential,
    GetPolicy,
    Known,
    KnownOutcomes,
    ListStops,
    PolicyFound,
    Stop,
    Stops,
)
from libs.stops import StopBoard
from libs.subjects import outcome, send, stream_of
from services.senders.breaker import BreakerBoard
from services.senders.contract import Accepted, Result
from services.senders.credential_cache import CredentialCache
from services.senders.deliver import Pipeline
from services.senders.rate import Rates
from services.senders.settings import Sender as SenderSettings
from tests.contract.streams_harness import APPLICATION, Tap, connected, consumer_of, quick, until

CHANNEL: Final = "apns"
REGION = "local"
DURABLE = f"{CHANNEL}_{REGION}"
SUBJECT = send("normal", CHANNEL, REGION)
SEND = stream_of("SEND", "normal")
OUTCOME = stream_of("OUTCOME", "normal")
OUTCOME_SUBJECT = outcome("normal", CHANNEL, REGION)
SECRET = {"key": "of the application"}

Answer = Result | BaseException | Callable[[Delivery], Awaitable[Result]]


class StrictSender:
    """Answers as told, by message id, else accepts. Refuses to be called wrongly."""

    channel: ClassVar[str] = CHANNEL

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None
        self.providers: dict[str, Callable[[Delivery], Awaitable[Result]]] = {}
        """By application: what answers instead."""
        self.called_at: dict[str, float] = {}

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        assert credential.secret == SECRET
        assert application_id
        self.calls.append(delivery.message_id)
        self.called_at[delivery.message_id] = time.monotonic()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self.providers.get(application_id, self._answer)(delivery)
        finally:
            self.under_way -= 1

    async def _answer(self, delivery: Delivery) -> Result:
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.get(delivery.message_id, Accepted(delivery.message_id))
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Result) else await answer(delivery)

    async def close(self) -> None:
        """It has nothing to close."""

    def times_called(self) -> set[int]:
        return set(Counter(self.calls).values())


class Peers:
    """lifecycle and application, as far as a sender asks them."""

    def __init__(self) -> None:
        self.settled: set[str] = set()
        self.asked: list[KnownOutcomes] = []
        self.poison: set[str] = set()
        self.credentials: dict[str, Credential] = {APPLICATION: Credential(1, SECRET)}
        self.credentials_asked = 0
        self.stops: list[Stop] = []
        self.policies: dict[str, Policy] = {}

    async def known_outcomes(self, question: KnownOutcomes) -> Known:
        self.asked.append(question)
        if self.poison & question.attempts.keys():
            raise ValueError("no such id")
        return Known(sorted(self.settled & question.attempts.keys()))

    async def credential(self, request: GetCredential) -> Credential:
        self.credentials_asked += 1
        if request.application_id not in self.credentials:
            raise ResourceNotFound(application_id=request.application_id)
        return self.credentials[request.application_id]

    async def list_stops(self, _: ListStops) -> Stops:
        return Stops(self.stops)

    async def policy(self, request: GetPolicy) -> PolicyFound:
        return PolicyFound(self.policies.get(request.application_id, Policy()))

    async def serve_lifecycle(self, bus: Bus) -> None:
        await bus.serve("lifecycle", {"known_outcomes": (KnownOutcomes, self.known_outcomes)})

    async def serve_application(self, bus: Bus) -> None:
        await bus.serve(
            "application",
            {
                "credential": (GetCredential, self.credential),
                "stops": (ListStops, self.list_stops),
                "policy": (GetPolicy, self.policy),
            },
        )


class SenderHarness:
    """One lane of one sender process."""

    def __init__(self, bus: Bus, settings: SenderSettings, clock: Clock | None = None) -> None:
        """`clock`: of the calls' durations, and of breakers."""
        self.bus = bus
        self.sender = StrictSender()
        self.peers = Peers()
        self.clock = FakeClock()

        async def ask() -> int:
            return int(SystemClock().time() * 1000)

        self.credentials = CredentialCache(bus, "apns", self.clock)
        calls_clock = clock or self.clock
        self.breakers = BreakerBoard(bus, calls_clock, ReferenceClock(calls_clock, ask), settings)
        self.reference = reference = ReferenceClock(SystemClock(), ask)
        self.stops = StopBoard(bus, SystemClock())
        self.rates = Rates(bus, PolicyBoard(bus, SystemClock()), CHANNEL, SystemClock(), reference)
        self.pipeline = Pipeline(
            bus,
            self.sender,
            self.credentials,
            self.breakers,
            self.stops,
            calls_clock,
            reference,
            "normal",
            REGION,
            settings,
            self.rates,
        )
        self.outcomes = Tap(bus, OUTCOME, OUTCOME_SUBJECT, "recorder")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.reference.synchronise()
        self._tasks = [
            asyncio.create_task(self.pipeline.consumer.run()),
            asyncio.create_task(self.pipeline.reporter.run()),
            asyncio.create_task(self.rates.run()),
        ]

    async def stop(self) -> None:
        """As `libs.service` stops a process."""
        await self.pipeline.consumer.stop()
        done, _ = await asyncio.wait(self._tasks[:1], timeout=15)
        for task in self._tasks[1:]:
            task.cancel()
        assert done, "the pipeline ended in time"

    async def give(self, *items: Delivery, application_id: str = APPLICATION, marked: bool = False) -> None:
        envelope = SendEnvelope(new_id(), application_id, "normal", CHANNEL, REGION, list(items), marked)
        await self.bus.publish(SUBJECT, encode(envelope), msg_id=new_id())

    async def reported(self, count: int) -> list[Outcome]:
        """The next outcomes, at least `count`."""
        found: list[Outcome] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                message = await self.outcomes.raw()
                await message.ack()
                found += decode(message.data, OutcomeEnvelope).items
        return found


async def until_taken(harness: SenderHarness, envelopes: int) -> None:
    """So many are in the hands of the pipeline."""

    async def taken() -> bool:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            return (await consumer_of(harness.bus, SEND, DURABLE)).num_ack_pending == envelopes
        return False

    await until(taken)


def facts(outcomes: list[Outcome]) -> dict[str, tuple[str, str | None]]:
    """What became of each message: kind and reason."""
    return {item.message_id: (item.kind, item.reason) for item in outcomes}


def delivery(*, deadline_ms: int = 2**52, attempt: int = 1) -> Delivery:
    return Delivery(new_id(), new_id(), attempt, "token", 1, 0, False, deadline_ms, Content(body="hello"))


def deliveries(count: int) -> list[Delivery]:
    return [delivery() for _ in range(count)]


@contextlib.asynccontextmanager
async def sending(
    settings: Nats, own: SenderSettings | None = None, *, lifecycle: bool = True, clock: Clock | None = None
) -> AsyncIterator[SenderHarness]:
    """Running, with its peers served from another connection, and warm: what comes now is not suspect."""
    async with connected(quick(settings), "sender") as bus, connected(settings, "peers") as peers_bus:
        harness = SenderHarness(bus, own or SenderSettings(CHANNEL, slots=4), clock)
        await harness.peers.serve_application(peers_bus)
        if lifecycle:
            await harness.peers.serve_lifecycle(peers_bus)
        await harness.outcomes.open()
        await harness.start()
        await _warm(harness, lifecycle)
        try:
            yield harness
        finally:
            if harness.sender.gate is not None:
                harness.sender.gate.set()
            await harness.stop()


async def _warm(harness: SenderHarness, lifecycle: bool) -> None:
    if not lifecycle:
        return
    await harness.give(delivery())
    await harness.reported(1)
    harness.sender.calls.clear()
    harness.peers.asked.clear()
