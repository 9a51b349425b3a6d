"""What the dispatcher meets: streams, and a subscription service that obeys the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from libs import config
from libs.bus import Bus
from libs.config import Nats
from libs.envelope import Accepted, Content, DispatchEnvelope, Lane, Outcome, OutcomeEnvelope, SendEnvelope, encode
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.policy import Policy
from libs.rpc import (
    AskTime,
    Capped,
    GetPolicy,
    ListStops,
    Now,
    PolicyFound,
    Recipient,
    ReserveSends,
    Resolve,
    Resolved,
    SendsReserved,
    Stop,
    Stops,
)
from libs.seal import DataKey, KeyRing, associated
from libs.subjects import dispatch, outcome, send, stream_of
from services.dispatcher.settings import Dispatcher, Settings
from tests.contract.streams_harness import (
    APPLICATION,
    Tap,
    connected,
    quick,
)

DISPATCH = stream_of("DISPATCH", "normal")
SEND = stream_of("SEND", "normal")
SUBJECT = dispatch("normal")
TOKEN = "aa" * 32
NOW_MS = 1_800_000_000_000
FAR = 2**52


class Subscriptions:
    """The subscription service: recipients by id, and the keys that were not destroyed."""

    def __init__(self, ring: KeyRing) -> None:
        self.key, self.wrapped = ring.new_key()
        self.keys = {self.key.key_id: self.wrapped}
        self.recipients: dict[str, Recipient] = {}
        self.asked: list[Resolve] = []
        self.gate: asyncio.Event | None = None

    def add(
        self,
        kind: str = "iOSPush",
        *,
        status: int = 1,
        ad_consent: bool = True,
        key: DataKey | None = None,
        **more: Any,
    ) -> str:
        """The id of a new subscription. `more`: fields of its `Recipient`."""
        subscription_id = new_id()
        sealed = (key or self.key).seal(
            TOKEN.encode(), associated(APPLICATION, "subscriptions.sealed_token", subscription_id)
        )
        recipient = Recipient(
            subscription_id, kind, status, sealed, "token", 3, 77, True, self.key.key_id, "KR", ad_consent
        )
        self.recipients[subscription_id] = msgspec.structs.replace(recipient, **more)
        return subscription_id

    async def resolve(self, request: Resolve) -> Resolved:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        found = [self.recipients[i] for i in request.subscription_ids if i in self.recipients]
        return Resolved(found, {i: self.keys[i] for i in request.key_ids if i in self.keys})

    async def serve(self, bus: Bus) -> None:
        await bus.serve("subscription", {"resolve": (Resolve, self.resolve)})


class DispatcherHarness:
    def __init__(self, bus: Bus, ring: KeyRing) -> None:
        self.bus = bus
        self.subscriptions = Subscriptions(ring)
        self.stops: list[Stop] = []
        self.stops_asked = 0
        self.stops_away = False
        """True: the application service cannot tell."""
        self.now_ms: int | None = NOW_MS
        """None: nobody can tell the time."""
        self.policy = Policy()
        self.policies_away = False
        """True: the application service cannot tell them."""
        self.reserved: list[ReserveSends] = []
        self.full: dict[str, Capped] = {}
        """Messages that find a cap full."""
        self.lifecycle_away = False
        """True: nobody can say how much somebody got already."""
        self.sends = {channel: Tap(bus, SEND, send("normal", channel, "local"), channel) for channel in ("apns", "fcm")}
        self.outcomes = Tap(bus, stream_of("OUTCOME", "normal"), outcome("normal", "dispatch", "local"), "recorder")

    async def list_stops(self, _: ListStops) -> Stops:
        self.stops_asked += 1
        if self.stops_away:
            raise ServiceUnavailable(retry_after=1)
        return Stops(self.stops)

    async def now(self, _: AskTime) -> Now:
        if self.now_ms is None:
            raise ServiceUnavailable(retry_after=1)
        return Now(self.now_ms)

    async def get_policy(self, _: GetPolicy) -> PolicyFound:
        if self.policies_away:
            raise ServiceUnavailable(retry_after=1)
        return PolicyFound(self.policy)

    async def reserve_sends(self, request: ReserveSends) -> SendsReserved:
        self.reserved.append(request)
        if self.lifecycle_away:
            raise ServiceUnavailable(retry_after=1)
        return SendsReserved([self.full[s.message_id] for s in request.sends if s.message_id in self.full])

    async def open(self) -> None:
        for tap in (*self.sends.values(), self.outcomes):
            await tap.open()

    def accepted(self, subscription_id: str, *, category: str = "info", deadline_ms: int = FAR) -> Accepted:
        message_id = new_id()
        content = msgspec.msgpack.encode(Content(title="안녕", body=message_id))
        bound_to = associated(APPLICATION, "message_events.sealed", message_id)
        sealed = self.subscriptions.key.seal(content, bound_to)
        return Accepted(message_id, subscription_id, 1, sealed, deadline_ms, category)

    async def give(self, *items: Accepted, handoff_id: str = "", marked: bool = False, lane: Lane = "normal") -> None:
        envelope = DispatchEnvelope(handoff_id or new_id(), APPLICATION, lane, list(items), marked)
        await self.bus.publish(dispatch(lane), encode(envelope), msg_id=new_id())

    async def sent(self, channel: str = "apns") -> SendEnvelope:
        return await self.sends[channel].next(SendEnvelope)

    async def refused(self, count: int) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        while len(found) < count:
            found |= {item.message_id: item for item in (await self.outcomes.next(OutcomeEnvelope)).items}
        return found


def settings(nats: Nats, ring_file: Path, slots: int = 2) -> Settings:
    return Settings(config.Keys(str(ring_file)), quick(nats), dispatcher=Dispatcher(slots=slots))


@contextlib.asynccontextmanager
async def harness_on(nats: Nats, ring_file: Path, *, subscription: bool = True) -> AsyncIterator[DispatcherHarness]:
    """The dispatcher's peers, without a dispatcher."""
    async with connected(quick(nats), "peers") as bus:
        harness = DispatcherHarness(bus, KeyRing.load(ring_file))
        await bus.serve(
            "lifecycle", {"now": (AskTime, harness.now), "reserve_sends": (ReserveSends, harness.reserve_sends)}
        )
        await bus.serve(
            "application", {"stops": (ListStops, harness.list_stops), "policy": (GetPolicy, harness.get_policy)}
        )
        if subscription:
            await harness.subscriptions.serve(bus)
        await harness.open()
        yield harness
