"""The timeline of one message that met every rule: who reads it knows at each line why then, and why not before."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs import config
from libs.envelope import Delivery
from libs.pg import single_connection
from libs.rpc import ApplicationView, Credential, UpdateApplication
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher, Settings
from services.senders.contract import Result, TryLater
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import connected, until
from tests.contract.test_lifecycle_stops import Provider, delivering
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]


class Moody(Provider):
    """Fails as often as it is told to."""

    failures = 0

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        if self.failures:
            self.failures -= 1
            return TryLater("Reset", "network")
        return await super().send(delivery, credential, application_id)


@pytest.fixture
async def provider(whole: Whole, nats_settings: config.Nats, key_ring_file: Path) -> AsyncIterator[Moody]:
    settings = Settings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    async with (
        running("dispatcher", dispatcher.start, settings),
        connected(nats_settings, "sender") as bus,
        delivering(bus, found := Moody()),
    ):
        yield found


def around_now() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"start": f"{now - timedelta(hours=2):%H:%M}", "end": f"{now + timedelta(hours=2):%H:%M}"}


async def setting(whole: Whole, shop: Tenant, **settings: Any) -> None:
    changed = UpdateApplication(shop.application_id, "test", settings=settings)
    await whole.bus.call("application", "update_application", changed, ApplicationView)


async def timeline(shop: Tenant, message: str, language: str = "en") -> Any:
    return (await shop.get(f"/messages/{message}/events", headers={"Accept-Language": language})).data


async def its_time_comes(whole: Whole, hours: float) -> None:
    async with single_connection(whole.database.admin_dsn) as c:
        await c.execute(
            "UPDATE lifecycle.due SET due_at = now(), since = since - $1 * interval '1 hour'", hours)


async def test_story(whole: Whole, provider: Moody) -> None:
    shop = await whole.tenant()
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token(), "device_info": {"timezone": "Asia/Seoul"}})
    subscription = made.data["subscription_id"]

    async def kinds(message: str) -> list[str]:
        return [e["event_type"] for e in (await timeline(shop, message))["events"]]
    async def show(message, note):
        for l in ("en", "ko"):
            t = await timeline(shop, message, l)
            print("-----", note, l, t["status"], t.get("next_attempt_at"), "WHY:", t["why"])
            for e in t["events"]:
                print("   ", e["event_type"], e["attempt"], e["why"])

    await setting(whole, shop, frequency_caps=[{"limit": 1, "per": "day", "category": "info"}])
    first = (await shop.post("/messages", {"subscription_id": subscription, "title": "Hello"})).data["message_id"]
    async def sent1(): return "sent" in await kinds(first)
    await until(sent1)
    now = datetime.now(UTC)
    at = (now + timedelta(hours=20)).isoformat()
    message = (await shop.post("/messages", {"subscription_id": subscription, "title": "Hello", "scheduled_at": at, "send_at_local": "09:30"})).data["message_id"]
    await shop.post(f"/messages/{message}/reschedule", {"scheduled_at": at})
    await show(message, "scheduled")
    seoul = datetime.now(UTC) + timedelta(hours=9)
    await setting(whole, shop, quiet_hours={"start": f"{seoul - timedelta(hours=2):%H:%M}", "end": f"{seoul + timedelta(hours=2):%H:%M}"})
    import asyncio
    await asyncio.sleep(3)
    await its_time_comes(whole, 20)
    async def held(): return (await kinds(message))[-1] == "held"
    await until(held)
    await show(message, "quiet")
    await setting(whole, shop, quiet_hours=None)
    await asyncio.sleep(3)
    await its_time_comes(whole, 2)
    async def held2(): return (await kinds(message)).count("held") == 2
    await until(held2)
    await show(message, "capped")
    provider.failures = 1
    async with single_connection(whole.database.admin_dsn) as c:
        await c.execute("DELETE FROM lifecycle.reserved_sends")
    await its_time_comes(whole, 23)
    async def err(): return (await kinds(message)).count("errored") == 1
    await until(err)
    await show(message, "errored")
    await its_time_comes(whole, 0.01)
    async def sent(): return (await kinds(message)).count("sent") == 1
    await until(sent)
    await show(message, "sent")
