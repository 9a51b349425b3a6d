"""The lifecycle service in this process, on a real database and a real NATS, with the subscription service's edge."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from libs import config
from libs.bus import Bus
from libs.envelope import Content, Lane, Outcome, OutcomeEnvelope, encode
from libs.ids import new_id
from libs.rpc import Accept, AcceptReply, GetMessage, Idempotency, MessageView, NewMessage, Resolve, Resolved
from libs.seal import KeyRing
from libs.subjects import outcome
from services.lifecycle.__main__ import start
from services.lifecycle.settings import Lifecycle, Settings
from tests.databases import Database
from tests.in_process import running

APPLICATION = new_id()
SUBSCRIPTION = new_id()


class LifecycleHarness:
    """What a test may ask and tell the service."""

    def __init__(self, bus: Bus, ring: KeyRing, database: Database) -> None:
        self.bus = bus
        self.database = database
        self.key, self.wrapped = ring.new_key()

    def message(self, lane: Lane = "normal", *, collapse_key: str | None = None, ttl: int | None = None) -> NewMessage:
        return NewMessage(
            message_id=new_id(),
            subscription_id=SUBSCRIPTION,
            key_id=self.key.key_id,
            wrapped_key=self.wrapped,
            content=msgspec.msgpack.encode(Content(title="안녕", body="a secret body")),
            channel="apns",
            lane=lane,
            ttl=ttl,
            collapse_key=collapse_key,
            why={"subscription_status": 1},
        )

    async def accept(self, *messages: NewMessage, idempotency: Idempotency | None = None) -> AcceptReply:
        request = Accept(APPLICATION, "single", "key:test", list(messages), idempotency)
        return await self.bus.call("lifecycle", "accept", request, AcceptReply)

    async def get(self, message_id: str, application_id: str = APPLICATION) -> MessageView:
        return await self.bus.call("lifecycle", "get", GetMessage(application_id, message_id), MessageView)

    async def report(self, *items: Outcome, lane: Lane = "normal", application_id: str = APPLICATION) -> None:
        envelope = OutcomeEnvelope(application_id, lane, list(items))
        await self.bus.publish(outcome(lane, "apns", "local"), encode(envelope), msg_id=new_id())


@contextlib.asynccontextmanager
async def lifecycle(
    database: Database, bus: Bus, ring_file: Path, *, scale: float = 0.001, own: Lifecycle | None = None
) -> AsyncIterator[LifecycleHarness]:
    ring = KeyRing.load(ring_file)
    harness = LifecycleHarness(bus, ring, database)

    async def resolve(request: Resolve) -> Resolved:
        known = {harness.key.key_id: harness.wrapped}
        return Resolved([], {key_id: known[key_id] for key_id in request.key_ids if key_id in known})

    await bus.serve("subscription", {"resolve": (Resolve, resolve)})
    settings = Settings(
        database=config.Database(url=database.dsn("lifecycle"), pool=6),
        keys=config.Keys(ring_file=str(ring_file)),
        nats=bus.settings,
        lifecycle=own or Lifecycle(publish_timeout=1.0, reconcile_after=1.5),
        retry=config.Retry(scale=scale),
    )
    async with running("lifecycle", start, settings):
        yield harness
