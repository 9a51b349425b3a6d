"""Breakers end to end: REST, lifecycle, the real dispatcher and two processes of a sender; none lost, none twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from libs import config
from libs.alerts import Alert
from libs.bus import Bus
from libs.clock import SystemClock
from libs.envelope import Delivery
from libs.pg import single_connection
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.reference_time import reference_clock
from libs.rpc import Credential
from libs.stops import StopBoard
from libs.subjects import ALERTS
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher
from services.dispatcher.settings import Settings as DispatcherSettings
from services.ingest.credentials import EXAMPLE_APNS
from services.lifecycle.rebuild import rebuild
from services.senders.breaker import BreakerBoard
from services.senders.contract import Accepted, Result, TryLater
from services.senders.credential_cache import CredentialCache
from services.senders.deliver import Pipeline
from services.senders.rate import Rates
from services.senders.settings import Sender as SenderSettings
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import connected, until
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]

REFUSED = TryLater("InvalidProviderToken", "credentials", data={"status": 403})
DOWN = TryLater("ServiceUnavailable", "outage", data={"status": 503})
CONCURRENCY = 4


class Provider:
    """As one process sees it: takes what nobody told it not to."""

    channel: ClassVar[str] = "apns"

    def __init__(self) -> None:
        self.trouble: dict[str, Result] = {}
        self.calls: list[tuple[str, str]] = []
        """(application, message)."""
        self.taken: list[str] = []

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        self.calls.append((application_id, delivery.message_id))
        await asyncio.sleep(0.005)
        trouble = self.trouble.get(application_id)
        if trouble is not None:
            return trouble
        self.taken.append(delivery.message_id)
        return Accepted(delivery.message_id)

    async def close(self) -> None:
        """It has nothing to close."""


class AnyCredential(CredentialCache):
    async def get(self, application_id: str, doubted: bool = False) -> Credential | None:
        return Credential(1, {})


class NoPolicies(PolicyBoard):
    async def of(self, application_id: str) -> Policy:
        return Policy()


class Process:
    """One process of the sender for APNs."""

    def __init__(self, bus: Bus) -> None:
        self.provider, clock = Provider(), SystemClock()
        own = SenderSettings("apns", slots=2, concurrency=CONCURRENCY)
        self.reference = reference_clock(bus, clock)
        self.board = BreakerBoard(bus, clock, self.reference, own)
        credentials, stops = AnyCredential(bus, "apns", clock), StopBoard(bus, clock)
        rates = Rates(bus, NoPolicies(bus, clock), "apns", clock, self.reference)
        self.pipelines = [
            Pipeline(
                *(bus, self.provider, credentials, self.board, stops, clock, self.reference),
                *(lane, own.region, own, rates),
            )
            for lane in ("critical", "normal", "bulk")
        ]

    @contextlib.asynccontextmanager
    async def runs(self) -> AsyncIterator["Process"]:
        await self.reference.synchronise()
        beside = [asyncio.create_task(each.reporter.run()) for each in self.pipelines]
        beside.append(asyncio.create_task(self.board.run()))
        working = [asyncio.create_task(each.consumer.run()) for each in self.pipelines]
        try:
            yield self
        finally:
            for each in self.pipelines:
                await each.consumer.stop()
            await asyncio.wait(working)
            for task in beside:
                task.cancel()


class Stage:
    """The platform with two processes of the sender."""

    def __init__(self, whole: Whole, processes: list[Process]) -> None:
        self.whole = whole
        self.processes = processes

    def trouble(self, shop: Tenant, result: Result | None) -> None:
        for process in self.processes:
            process.provider.trouble.pop(shop.application_id, None)
            if result is not None:
                process.provider.trouble[shop.application_id] = result

    def calls(self, shop: Tenant) -> int:
        made = [call for process in self.processes for call in process.provider.calls]
        return sum(application_id == shop.application_id for application_id, _ in made)

    def taken(self) -> Counter[str]:
        return Counter(message for process in self.processes for message in process.provider.taken)

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        async with single_connection(self.whole.database.admin_dsn) as c:
            return list(await c.fetch(query, *arguments))

    async def waits(self, shop: Tenant) -> Counter[str]:
        """What its unfinished messages wait for."""
        rows = await self.rows(
            "SELECT coalesce(d.reason, 'nothing') AS reason FROM lifecycle.messages AS m"
            " LEFT JOIN lifecycle.due AS d ON d.message_id = m.id"
            " WHERE m.application_id = $1 AND m.status IN ('pending', 'errored')",
            shop.application_id,
        )
        return Counter(row["reason"] for row in rows)

    async def until_waiting(self, shop: Tenant, only: Callable[[Counter[str]], bool] = lambda _: True) -> Counter[str]:
        """Nothing of the application is under way any more."""
        found: Counter[str] = Counter()

        async def quiet() -> bool:
            nonlocal found
            found = await self.waits(shop)
            return found["nothing"] == 0 and only(found)

        await until(quiet, seconds=30)
        return found

    async def alerts(self) -> list[str]:
        js = self.whole.bus.js
        count = (await self.whole.bus.stream_state(ALERTS)).state.last_seq
        found = [await js.get_msg(ALERTS, seq=number + 1) for number in range(count)]
        return [msgspec.json.decode(each.data or b"", type=Alert).kind for each in found]


@pytest.fixture
async def stage(whole: Whole, nats_settings: config.Nats, key_ring_file: Path) -> AsyncIterator[Stage]:
    settings = DispatcherSettings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    async with (
        running("dispatcher", dispatcher.start, settings),
        connected(nats_settings, "sender 1") as first,
        connected(nats_settings, "sender 2") as second,
        Process(first).runs() as one,
        Process(second).runs() as other,
    ):
        yield Stage(whole, [one, other])


async def device(shop: Tenant) -> str:
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token()})
    return str(made.data["subscription_id"])


async def send(shop: Tenant, count: int, **more: object) -> list[str]:
    items = [{"subscription_id": await device(shop), "title": "Hello", **more}] * count
    answer = await shop.post("/messages/batch", {"messages": items})
    return [each["message_id"] for each in answer.data["results"]]


PROBE_SOON = "UPDATE lifecycle.breakers SET probe_at = now() + interval '1.5 seconds', probed_at = NULL"
"""The processes hear of it before, as they do of every probe's time."""
RETRY_NOW = "UPDATE lifecycle.due SET due_at = now() WHERE reason LIKE 'retry:%'"


@pytest.mark.parametrize(("trouble", "most_calls"), [(REFUSED, 2 * CONCURRENCY), (DOWN, 2 * (20 + CONCURRENCY))])
async def test_messages_wait_for_the_breaker_and_are_sent_once_when_it_closes(
    stage: Stage, trouble: TryLater, most_calls: int
) -> None:
    shop, neighbour = await stage.whole.tenant(), await stage.whole.tenant()
    stage.trouble(shop, trouble)
    sent = await send(shop, 300)
    theirs = await send(neighbour, 100)
    waits = await stage.until_waiting(shop)
    tried = stage.calls(shop)
    assert tried <= most_calls
    assert waits == {"breaker:apns": 300 - tried, f"retry:{trouble.retry_class}": tried}
    await until(lambda: set(theirs) <= stage.taken().keys())

    (found,) = (await shop.get("/application/breakers")).data["breakers"]
    assert (found["cause"], found["reason"], found["waiting"]) == (trouble.retry_class, trouble.reason, 300 - tried)
    held = (await shop.get(f"/messages/{sent[-1]}/events")).data
    assert [each["event_type"] for each in held["events"]] == ["created", "held"]
    assert held["events"][1]["data"]["breaker_reason"] == trouble.reason
    assert held["events"][1]["data"]["probe_at_ms"] > held["events"][1]["data"]["opened_at_ms"]

    stage.trouble(shop, None)
    await stage.rows(PROBE_SOON)
    await stage.rows(RETRY_NOW)
    await until(lambda: set(sent) <= stage.taken().keys(), seconds=40)
    await until(lambda: stage.taken().total() >= 400)
    assert set(stage.taken().values()) == {1}, "none twice"
    assert await stage.until_waiting(shop) == {}
    assert (await shop.get("/application/breakers")).data["breakers"] == []

    async def told() -> bool:
        return await stage.alerts() == ["breaker_opened", "breaker_closed"]

    await until(told)
    rebuilt = await rebuild(stage.whole.database.dsn("lifecycle"))
    assert rebuilt.checksum_before == rebuilt.checksum_after


async def test_a_credential_that_is_set_anew_is_tried_at_once(stage: Stage) -> None:
    shop = await stage.whole.tenant()
    stage.trouble(shop, REFUSED)
    sent = await send(shop, 50)
    waits = await stage.until_waiting(shop)
    stage.trouble(shop, None)
    await stage.rows("UPDATE lifecycle.breakers SET probe_at = now() + interval '5 minutes'")
    assert (await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS)).status == 201
    await until(lambda: stage.taken().total() >= waits["breaker:apns"], seconds=15)
    assert stage.taken().keys() <= set(sent)
    assert set(stage.taken().values()) == {1}


async def test_what_one_process_finds_holds_in_the_other(stage: Stage) -> None:
    shop = await stage.whole.tenant()
    one, other = stage.processes
    one.provider.trouble[shop.application_id] = REFUSED
    while not one.board.holds(shop.application_id):
        await send(shop, 1)
        await asyncio.sleep(0.05)
    await until(lambda: other.board.holds(shop.application_id), seconds=3)
    before = stage.calls(shop)
    await send(shop, 50)
    waits = await stage.until_waiting(shop, lambda found: found["breaker:apns"] >= 50)
    assert waits["breaker:apns"] in (50, 51), "one more where the last of the first was not called any more"
    assert stage.calls(shop) == before


async def test_a_probe_that_fails_keeps_all_others_waiting(stage: Stage) -> None:
    shop = await stage.whole.tenant()
    stage.trouble(shop, DOWN)
    await send(shop, 100)
    await stage.until_waiting(shop)
    before = stage.calls(shop)
    await stage.rows(PROBE_SOON)

    async def failed_again() -> bool:
        rows = await stage.rows("SELECT failures FROM lifecycle.breakers WHERE probe_at > now()")
        return [row["failures"] for row in rows] == [2]

    await until(failed_again)
    await stage.until_waiting(shop)
    assert 1 <= stage.calls(shop) - before <= len(stage.processes), "one a process"
    rows = await stage.rows("SELECT max(attempt) AS attempts, max(uncounted) AS uncounted FROM lifecycle.messages")
    assert [tuple(row) for row in rows] == [(2, 1)], "what was only held counts no attempt"
    assert await stage.alerts() == ["breaker_opened"]


async def test_what_expires_while_it_waits_is_told_so(stage: Stage) -> None:
    shop = await stage.whole.tenant()
    stage.trouble(shop, REFUSED)
    sent = await send(shop, 20, ttl=3600)
    await stage.until_waiting(shop)
    await stage.rows("UPDATE lifecycle.messages SET created_at = created_at - interval '1 hour'")
    await stage.rows("UPDATE lifecycle.due SET due_at = due_at - interval '1 hour' WHERE reason = 'breaker:apns'")

    async def expired() -> bool:
        return bool((await shop.get(f"/messages/{sent[-1]}")).data["status"] == "failed")

    await until(expired)
    timeline = (await shop.get(f"/messages/{sent[-1]}/events")).data["events"]
    assert [each["event_type"] for each in timeline] == ["created", "held", "expired"]
    assert timeline[-1]["data"]["waited_for"] == "breaker:apns"
