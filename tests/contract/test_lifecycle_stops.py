"""Emergency stops end to end: REST, the real dispatcher and the real pipeline of a sender; none lost, none twice."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from libs import config
from libs.bus import Bus
from libs.clock import SystemClock
from libs.envelope import Delivery
from libs.pg import single_connection
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.reference_time import reference_clock
from libs.rpc import Credential
from libs.stops import StopBoard
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher
from services.dispatcher.settings import Settings as DispatcherSettings
from services.lifecycle.rebuild import rebuild
from services.senders.breaker import BreakerBoard
from services.senders.contract import Accepted, Result
from services.senders.credential_cache import CredentialCache
from services.senders.deliver import Pipeline
from services.senders.rate import Rates
from services.senders.settings import Sender as SenderSettings
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import connected, until
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]


class Provider:
    """Takes everything, at about 100 messages a second, and notes when."""

    channel: ClassVar[str] = "apns"

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        self.calls.append((delivery.message_id, time.monotonic()))
        await asyncio.sleep(0.02)
        return Accepted(delivery.message_id)

    async def close(self) -> None:
        """It has nothing to close."""


class AnyCredential(CredentialCache):
    async def get(self, application_id: str, doubted: bool = False) -> Credential | None:
        return Credential(1, {})


class NoPolicies(PolicyBoard):
    async def of(self, application_id: str) -> Policy:
        return Policy()


@contextlib.asynccontextmanager
async def delivering(bus: Bus, provider: Provider) -> AsyncIterator[Provider]:
    clock = SystemClock()
    own = SenderSettings("apns", slots=2, concurrency=2)
    reference = reference_clock(bus, clock)
    await reference.synchronise()
    rates = Rates(bus, NoPolicies(bus, clock), "apns", clock, reference)
    pipelines = [
        Pipeline(
            bus,
            provider,
            AnyCredential(bus, "apns", clock),
            BreakerBoard(bus, clock, reference, own),
            StopBoard(bus, clock),
            clock,
            reference,
            lane,
            own.region,
            own,
            rates,
        )
        for lane in ("normal", "bulk")
    ]
    reporting = [asyncio.create_task(each.reporter.run()) for each in pipelines]
    working = [asyncio.create_task(each.consumer.run()) for each in pipelines]
    try:
        yield provider
    finally:
        for each in pipelines:
            await each.consumer.stop()
        await asyncio.wait(working)
        for task in reporting:
            task.cancel()


@pytest.fixture
async def provider(whole: Whole, nats_settings: config.Nats, key_ring_file: Path) -> AsyncIterator[Provider]:
    """The way to it is open: dispatcher and sender run."""
    settings = DispatcherSettings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    async with (
        running("dispatcher", dispatcher.start, settings),
        connected(nats_settings, "sender") as bus,
        delivering(bus, Provider()) as found,
    ):
        yield found


async def send(shop: Tenant, subscription: str, count: int, **more: object) -> list[str]:
    items = [{"subscription_id": subscription, "title": "Hello", **more}] * count
    answer = await shop.post("/messages/batch", {"messages": items})
    return [each["message_id"] for each in answer.data["results"]]


async def statuses(whole: Whole) -> Counter[str]:
    """How many messages are in which state; `held` are those that a stop holds."""
    async with single_connection(whole.database.dsn("lifecycle")) as c:
        rows = await c.fetch("""
            SELECT CASE WHEN d.reason LIKE 'emergency_stop:%' THEN 'held' ELSE m.status END AS status, count(*) AS count
            FROM lifecycle.messages AS m LEFT JOIN lifecycle.due AS d ON d.message_id = m.id GROUP BY 1""")
        return Counter({row["status"]: row["count"] for row in rows})


async def device(shop: Tenant) -> str:
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token()})
    return str(made.data["subscription_id"])


@pytest.mark.parametrize("channel", ["apns", None])
async def test_a_stop_under_load_holds_what_is_not_sent_and_its_release_sends_it_once(
    whole: Whole, provider: Provider, channel: str | None
) -> None:
    shop = await whole.tenant()
    subscription = await device(shop)
    sent = await send(shop, subscription, 500)
    await until(lambda: len(provider.calls) > 20)
    assert (await shop.post("/emergency-stops", {"channel": channel})).status == 201
    stopped_at = time.monotonic()
    sent += await send(shop, subscription, 30, priority="normal")  # acceptance goes on

    async def quiet() -> bool:
        found = await statuses(whole)
        return set(found) <= {"successful", "held"}

    await until(quiet, seconds=30)
    before = len(provider.calls)
    found = await statuses(whole)
    assert (found["held"] > 100, found["successful"]) == (True, before)
    assert max(at for _, at in provider.calls) < stopped_at + 2
    held = (await shop.get(f"/messages/{sent[-1]}/events")).data
    assert (held["status"], "next_attempt_at" in held) == ("pending", False)
    assert held["why"].startswith("Held back by an emergency stop")

    assert (await shop.call("DELETE", f"/emergency-stops/{channel or 'all'}")).status == 200

    async def all_sent() -> bool:
        return await statuses(whole) == {"successful": len(sent)}

    await until(all_sent, seconds=30)
    assert Counter(Counter(message for message, _ in provider.calls).values()) == {1: len(sent)}
    timeline = (await shop.get(f"/messages/{sent[-1]}/events")).data["events"]
    assert [event["event_type"] for event in timeline] == ["created", "held", "retried", "sent"]
    assert timeline[2]["why"].startswith("Attempt 2 began: the emergency stop was released")
    rebuilt = await rebuild(whole.database.dsn("lifecycle"))
    assert rebuilt.checksum_before == rebuilt.checksum_after


async def test_the_time_under_a_stop_does_not_count_towards_the_ttl(whole: Whole, provider: Provider) -> None:
    shop = await whole.tenant()
    await shop.post("/emergency-stops", {"channel": "apns"})
    (message,) = await send(shop, await device(shop), 1, ttl=3)

    async def held() -> bool:
        return (await statuses(whole))["held"] == 1

    await until(held)
    async with single_connection(whole.database.admin_dsn) as c:  # as if it had lasted for an hour
        await c.execute("UPDATE lifecycle.due SET since = since - interval '1 hour'")
        await c.execute("UPDATE lifecycle.messages SET created_at = created_at - interval '1 hour'")
    await shop.call("DELETE", "/emergency-stops/apns")
    await until(lambda: len(provider.calls) == 1)

    async def successful() -> bool:
        return bool((await shop.get(f"/messages/{message}")).data["status"] == "successful")

    await until(successful)


async def test_what_a_stop_holds_can_be_cancelled(whole: Whole, provider: Provider) -> None:
    shop = await whole.tenant()
    await shop.post("/emergency-stops", {"channel": None})
    message, other = await send(shop, await device(shop), 2)

    async def held() -> bool:
        return (await statuses(whole))["held"] == 2

    await until(held)
    assert (await shop.post(f"/messages/{message}/cancel")).status == 200
    await shop.call("DELETE", "/emergency-stops/all")
    await until(lambda: bool(provider.calls))
    assert [called for called, _ in provider.calls] == [other]
    assert (await shop.post(f"/messages/{message}/resend")).data["attempt"] == 2
    await until(lambda: len(provider.calls) == 2)


async def test_another_application_goes_on(whole: Whole, provider: Provider) -> None:
    shop, neighbour = await whole.tenant(), await whole.tenant()
    await shop.post("/emergency-stops", {"channel": None})
    await send(shop, await device(shop), 5)
    (theirs,) = await send(neighbour, await device(neighbour), 1)
    await until(lambda: len(provider.calls) == 1)
    assert provider.calls[0][0] == theirs
