"""A message through the whole platform: held by a rule, told why, and sent when the rule lets it."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs import config
from libs.envelope import Delivery, SendEnvelope
from libs.pg import single_connection
from libs.rpc import ApplicationView, UpdateApplication
from libs.subjects import send, stream_of
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher, Settings
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import Tap, connected, until
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]


@pytest.fixture
async def sends(whole: Whole, nats_settings: config.Nats, key_ring_file: Path) -> AsyncIterator[Tap]:
    """What the dispatcher gives to senders, of which none is there."""
    settings = Settings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    async with running("dispatcher", dispatcher.start, settings), connected(nats_settings, "tap") as bus:
        tap = Tap(bus, stream_of("SEND", "normal"), send("normal", "apns", "local"), "tap")
        await tap.open()
        yield tap


def around_now() -> dict[str, str]:
    """A window that is open, in UTC."""
    now = datetime.now(UTC)
    return {"start": f"{now - timedelta(hours=2):%H:%M}", "end": f"{now + timedelta(hours=2):%H:%M}"}


async def setting(whole: Whole, shop: Tenant, **settings: Any) -> None:
    changed = UpdateApplication(shop.application_id, "test", settings=settings)
    await whole.bus.call("application", "update_application", changed, ApplicationView)


async def device(shop: Tenant) -> str:
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token()})
    return str(made.data["subscription_id"])


async def message(shop: Tenant, subscription: str) -> str:
    sent = await shop.post("/messages", {"subscription_id": subscription, "title": "Hello"})
    return str(sent.data["message_id"])


async def events(shop: Tenant, message_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await shop.get(f"/messages/{message_id}/events")).data["events"]
    return found


async def the_held(shop: Tenant, message_id: str) -> dict[str, Any]:
    """The event that says so, once it is there."""

    async def is_held() -> bool:
        return [event["event_type"] for event in await events(shop, message_id)] == ["created", "held"]

    await until(is_held)
    return (await events(shop, message_id))[-1]


async def its_time_comes(whole: Whole) -> None:
    async with single_connection(whole.database.dsn("lifecycle")) as c:
        await c.execute("UPDATE lifecycle.due SET due_at = now()")


async def delivered(sends: Tap) -> Delivery:
    (delivery,) = (await sends.next(SendEnvelope)).items
    return delivery


async def test_quiet_hours_hold_a_message_past_its_ttl_and_let_it_go(whole: Whole, sends: Tap) -> None:
    shop = await whole.tenant()
    subscription = await device(shop)
    await shop.call("PATCH", f"/subscriptions/{subscription}", {"quiet_hours": around_now()})
    sent = await shop.post("/messages", {"subscription_id": subscription, "title": "Hello", "ttl": 3600})
    message_id = sent.data["message_id"]
    held = await the_held(shop, message_id)
    data = held["data"]
    assert (held["reason"], data["rule"], data["timezone"], data["timezone_from"]) == (
        "quiet_hours",
        "subscription",
        "UTC",
        "utc",
    )
    assert data["until_ms"] > (time.time() + 3600) * 1000
    await shop.call("PATCH", f"/subscriptions/{subscription}", {"quiet_hours": None})
    await its_time_comes(whole)
    delivery = await delivered(sends)
    assert (delivery.message_id, delivery.attempt) == (message_id, 2)
    assert [event["event_type"] for event in await events(shop, message_id)] == ["created", "held", "retried"]


async def test_what_the_application_set_drops_a_message_with_the_rule(whole: Whole, sends: Tap) -> None:
    shop = await whole.tenant()
    await setting(whole, shop, quiet_hours={**around_now(), "action": "drop"})
    message_id = await message(shop, await device(shop))

    async def has_failed() -> bool:
        return [event["event_type"] for event in await events(shop, message_id)] == ["created", "failed"]

    await until(has_failed)
    failed = (await events(shop, message_id))[-1]
    assert (failed["reason"], failed["data"]["rule"]) == ("quiet_hours", "application")


async def test_a_full_cap_holds_a_message_until_there_is_room(whole: Whole, sends: Tap) -> None:
    shop = await whole.tenant()
    await setting(whole, shop, frequency_caps=[{"limit": 1, "per": "hour"}])
    subscription = await device(shop)
    first = await message(shop, subscription)
    assert (await delivered(sends)).message_id == first
    second = await message(shop, subscription)
    held = await the_held(shop, second)
    told = {name: held["data"][name] for name in ("limit", "per", "category", "count")}
    assert (held["reason"], told) == ("frequency_cap", {"limit": 1, "per": "hour", "category": None, "count": 1})
    async with single_connection(whole.database.dsn("lifecycle")) as c:
        await c.execute("DELETE FROM lifecycle.reserved_sends WHERE message_id = $1", first)  # as if an hour had passed
    await its_time_comes(whole)
    delivery = await delivered(sends)
    assert (delivery.message_id, delivery.attempt) == (second, 2)
