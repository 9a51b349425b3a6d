"""What the subscription service makes of `failed` events that say: this address is dead."""

import contextlib
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.events import KINDS_HEADER, EventBatch, PublishedEvent, encode_batch, kinds_header
from libs.ids import new_id
from libs.pg import Connection, single_connection
from libs.subjects import DEAD, EVENTS
from libs.subjects import events as events_of
from services.subscription.__main__ import start
from services.subscription.settings import Settings
from tests.databases import Database
from tests.in_process import running
from tests.servers import NatsServer
from tests.waiting import until

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"


class World:
    """A running service with one subscription of SHOP."""

    def __init__(self, bus: Bus, admin: Connection, view: rpc.SubscriptionView) -> None:
        self.bus = bus
        self.admin = admin
        self.view = view

    def rejection(self, **changes: Any) -> PublishedEvent:
        data = {"disable": -10, "subscription_id": self.view.id, "token_version": 1, **changes}
        return event("failed", "Unregistered", data)

    async def tell(self, *events: PublishedEvent, application_id: str = SHOP, kinds: str | None = None) -> None:
        batch = EventBatch(application_id, list(events))
        headers = {KINDS_HEADER: kinds or kinds_header(batch)}
        await self.bus.publish(events_of(application_id), encode_batch(batch), msg_id=new_id(), headers=headers)

    async def status(self) -> int:
        request = rpc.GetSubscription(SHOP, self.view.id)
        found = await self.bus.call("subscription", "get", request, rpc.SubscriptionView)
        return found.subscription_status

    async def is_disabled(self) -> bool:
        return await self.status() == -10

    async def history(self) -> list[dict[str, Any]]:
        rows = await self.admin.fetch(
            "SELECT kind, actor, source, reason, data FROM subscription.subscription_events WHERE kind <> 'created'"
        )
        return [dict(row) for row in rows]

    async def was_reconnected(self) -> bool:
        return self.bus.reconnects > 0

    async def all_was_read(self) -> bool:
        """Everything on EVENTS is acknowledged."""
        consumer = await self.bus.js.consumer_info(EVENTS, "subscription_rejections")
        return not consumer.num_pending and not consumer.num_ack_pending


def event(kind: str, reason: str | None, data: dict[str, Any]) -> PublishedEvent:
    return PublishedEvent(1, "7", 1, new_id(), kind, 1, "k", datetime.now(UTC), reason, data)


@contextlib.asynccontextmanager
async def running_world(database: Database, ring_file: Path, nats: config.Nats) -> AsyncIterator[World]:
    settings = Settings(config.Database(database.dsn("subscription"), pool=4), config.Keys(str(ring_file)), nats)
    async with running("subscription", start, settings), single_connection(database.admin_dsn) as admin:
        bus = await Bus.connect(nats, "test")
        wish = rpc.CreateSubscription(SHOP, "iOSPush", "ab" * 32, "key:1")
        yield World(bus, admin, (await bus.call("subscription", "create", wish, rpc.Registered)).view)
        await bus.close()


@pytest.fixture
async def world(database: Database, key_ring_file: Path, nats_settings: config.Nats) -> AsyncIterator[World]:
    async with running_world(database, key_ring_file, nats_settings) as made:
        yield made


async def test_a_rejected_address_is_disabled_and_the_history_says_why(world: World) -> None:
    rejection = world.rejection(rejected_at_ms=world.view.created_at_ms + 1000)
    await world.tell(event("sent", None, {}), rejection)
    await until(world.is_disabled, "the subscription is disabled")
    assert await world.history() == [
        {
            "kind": "disabled",
            "actor": "provider",
            "source": "provider",
            "reason": "Unregistered",
            "data": {
                "from": 1,
                "status": -10,
                "token_version": 1,
                "message_id": rejection.message_id,
                "rejected_at_ms": world.view.created_at_ms + 1000,
            },
        }
    ]


async def test_repetition_changes_nothing(world: World) -> None:
    rejection = world.rejection()
    await world.tell(rejection, rejection)
    await world.tell(rejection)
    await until(world.all_was_read, "all was read")
    assert await world.status() == -10
    assert len(await world.history()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"token_version": 2},
        {"subscription_id": "01990000-0000-7000-8000-00000000000f"},
        {"subscription_id": "nonsense"},
        {"disable": 1},
        {"disable": "-10"},
        {"disable": -40_000},
        {"token_version": 2**40},
        {"rejected_at_ms": 1_000},
        {"rejected_at_ms": -1},
    ],
    ids=str,
)
async def test_what_does_not_speak_of_the_present_address_changes_nothing(
    world: World, changes: dict[str, Any]
) -> None:
    await world.tell(world.rejection(**changes))
    await until(world.all_was_read, "all was read")
    assert await world.status() == 1
    assert await world.history() == []


async def test_another_application_cannot_disable_it(world: World) -> None:
    await world.tell(world.rejection(), application_id=OTHER)
    await until(world.all_was_read, "all was read")
    assert await world.status() == 1


@pytest.mark.parametrize("column", ["status = -2", "archived_at = now()"])
async def test_who_left_already_stays_as_they_left(world: World, column: str) -> None:
    await world.admin.execute(f"UPDATE subscription.subscriptions SET {column}")
    await world.tell(world.rejection())
    await until(world.all_was_read, "all was read")
    assert await world.history() == []


async def test_a_failure_without_a_dead_address_changes_nothing(world: World) -> None:
    await world.tell(event("failed", "PayloadTooLarge", {"subscription_id": world.view.id}))
    await until(world.all_was_read, "all was read")
    assert await world.status() == 1


async def test_a_batch_that_lists_no_failure_is_passed_over_undecoded(world: World) -> None:
    await world.bus.publish(events_of(SHOP), b"{", msg_id="1", headers={KINDS_HEADER: "created,sent"})
    await world.tell(world.rejection(), kinds="created,sent")
    await until(world.all_was_read, "all was read")
    assert await world.status() == 1
    assert (await world.bus.stream_state(DEAD)).state.messages == 0


async def test_a_batch_without_the_list_is_read(world: World) -> None:
    batch = EventBatch(SHOP, [world.rejection()])
    await world.bus.publish(events_of(SHOP), encode_batch(batch), msg_id="1")
    await until(world.is_disabled, "the subscription is disabled")


async def test_what_cannot_be_decoded_is_put_aside_and_the_next_is_read(world: World) -> None:
    await world.bus.publish(events_of(SHOP), b"poison", msg_id="1", headers={KINDS_HEADER: "failed"})
    await world.tell(world.rejection())
    await until(world.is_disabled, "the subscription is disabled")
    note = await world.bus.js.get_msg(DEAD, 1)
    assert b"poison" not in (note.data or b"")
    assert msgspec.json.decode(note.data or b"")["reason"] == "undecodable"


async def test_fields_of_a_later_release_pass(world: World) -> None:
    batch = msgspec.to_builtins(EventBatch(SHOP, [world.rejection(note="new")]))
    batch["events"][0]["region"] = batch["region"] = "kr"
    payload = msgspec.json.encode(batch)
    await world.bus.publish(events_of(SHOP), payload, msg_id="1", headers={KINDS_HEADER: "failed"})
    await until(world.is_disabled, "the subscription is disabled")


@pytest.mark.parametrize("wiped", [False, True], ids=["restarted", "restarted with an empty store"])
async def test_it_goes_on_after_nats_was_killed(
    database: Database, key_ring_file: Path, own_nats: NatsServer, wiped: bool
) -> None:
    settings = config.Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    async with running_world(database, key_ring_file, settings) as world:
        own_nats.end(signal.SIGKILL)
        if wiped:
            own_nats.wipe()
        own_nats.run()
        await until(world.was_reconnected, "the connection is back")
        await world.bus.ensure_streams()
        await world.tell(world.rejection())
        await until(world.is_disabled, "the subscription is disabled")


async def test_it_goes_on_with_a_stream_that_was_deleted_and_made_again(world: World) -> None:
    await world.bus.js.delete_stream(EVENTS)
    await world.bus.ensure_streams()
    await world.tell(world.rejection())
    await until(world.is_disabled, "the subscription is disabled", seconds=40)
