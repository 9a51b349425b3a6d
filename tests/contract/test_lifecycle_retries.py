"""Retries by class (DECISIONS): when the next attempt comes, which count ends them, and what the timeline says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import get_args

import pytest

from libs.bus import Bus
from libs.envelope import LANES, Lane, Outcome
from libs.ids import new_id
from libs.pg import single_connection
from libs.retry import RetryClass, schedule_for, waits_for
from libs.rpc import MessageView, NewMessage, ResendMessage, Resent
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.databases import Database

CLASSES: tuple[RetryClass, ...] = get_args(RetryClass)


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    """Retries come as late as in earnest."""
    own = Lifecycle(publish_timeout=1.0, reconcile_after=60)
    async with lifecycle(database, bus, key_ring_file, scale=1, own=own) as harness:
        yield harness


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await check():
            await asyncio.sleep(0.02)


async def accepted(service: LifecycleHarness, lane: Lane = "normal") -> str:
    message = service.message(lane, ttl=7 * 86_400)
    await service.accept(message)
    return message.message_id


async def fails(
    service: LifecycleHarness,
    message_id: str,
    attempt: int,
    retry_class: RetryClass,
    *,
    lane: Lane = "normal",
    retry_after: float | None = None,
) -> MessageView:
    """One attempt ends in this class."""
    reason = f"{retry_class}-{attempt}"
    fact = Outcome(message_id, "errored", attempt, f"call-{attempt}", 0, reason, retry_class, retry_after)
    await service.report(fact, lane=lane)

    async def recorded() -> bool:
        events = (await service.get(message_id)).events
        return any(event.kind == "errored" and event.attempt == attempt for event in events)

    await until(recorded)
    return await service.get(message_id)


async def time_passes(service: LifecycleHarness, message_id: str, attempt: int) -> None:
    """The next attempt is due, and begins."""
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute("UPDATE lifecycle.due SET due_at = now() WHERE message_id = $1", message_id)

    async def begun() -> bool:
        return (await service.get(message_id)).attempt == attempt

    await until(begun)


async def after(service: LifecycleHarness, *classes: RetryClass, lane: Lane = "normal") -> tuple[str, MessageView]:
    """A message whose attempts ended so, one after another."""
    message_id = await accepted(service, lane)
    view = await service.get(message_id)
    for attempt, retry_class in enumerate(classes, start=1):
        if attempt > 1:
            await time_passes(service, message_id, attempt)
        view = await fails(service, message_id, attempt, retry_class, lane=lane)
    return message_id, view


async def delay_s(service: LifecycleHarness, message_id: str) -> float:
    """From when the failure was recorded to the next attempt, by Postgres' clock."""
    async with single_connection(service.database.admin_dsn) as c:
        found = await c.fetchval(
            "SELECT extract(EPOCH FROM due_at - since)::float8 FROM lifecycle.due WHERE message_id = $1", message_id
        )
        return float(found)


@pytest.mark.parametrize("lane", LANES)
async def test_the_next_attempt_lies_within_the_jitter_of_its_class(service: LifecycleHarness, lane: Lane) -> None:
    """60 messages of every class: all within a fifth of the table's delay, and not all at one moment."""
    messages = {each: [service.message(lane, ttl=86_400) for _ in range(60)] for each in CLASSES}
    await service.accept(*(message for group in messages.values() for message in group))

    def failure(message: NewMessage, retry_class: RetryClass) -> Outcome:
        return Outcome(message.message_id, "errored", 1, "call", 0, "x", retry_class)

    await service.report(*(failure(message, each) for each, group in messages.items() for message in group), lane=lane)
    async with single_connection(service.database.admin_dsn) as c:

        async def all_wait() -> bool:
            return bool(await c.fetchval("SELECT count(*) = 240 FROM lifecycle.due"))

        await until(all_wait)
        rows = await c.fetch(
            """SELECT reason, array_agg(extract(EPOCH FROM due_at - since)::float8) AS delays
            FROM lifecycle.due GROUP BY reason"""
        )
    found = {row["reason"]: row["delays"] for row in rows}
    assert set(found) == {waits_for(each) for each in CLASSES}
    for retry_class in CLASSES:
        schedule, delays = schedule_for(retry_class, lane), found[waits_for(retry_class)]
        low, high = (schedule.delays[0] * (1 + way * schedule.jitter) for way in (-1, 1))
        assert low - 0.002 <= min(delays) <= max(delays) <= high
        assert max(delays) - min(delays) > schedule.delays[0] * schedule.jitter / 2


@pytest.mark.parametrize("retry_class", CLASSES)
async def test_what_the_provider_asks_for_is_a_floor(service: LifecycleHarness, retry_class: RetryClass) -> None:
    asked, little = await accepted(service), await accepted(service)
    await fails(service, asked, 1, retry_class, retry_after=5_000)
    await fails(service, little, 1, retry_class, retry_after=1)
    assert 5_000 <= await delay_s(service, asked) <= 6_000
    first = schedule_for(retry_class, "normal").delays[0]
    assert 0.79 * first <= await delay_s(service, little) <= 1.21 * first


async def test_exhausted_says_the_last_reason_and_how_many_attempts_there_were(service: LifecycleHarness) -> None:
    _, view = await after(service, "throttled", "throttled", "throttled")
    assert (view.status, view.reason, view.next_attempt_reason) == ("failed", "throttled-3", None)
    (end,) = [event for event in view.events if event.kind == "failed"]
    assert (end.key, end.attempt, end.reason) == ("exhausted", 3, "throttled-3")
    assert end.data == {"retry_class": "throttled", "attempts": 3}
    told = [(event.kind, event.attempt, event.reason) for event in view.events]
    assert told == [
        ("created", 1, None),
        ("errored", 1, "throttled-1"),
        ("retried", 2, None),
        ("errored", 2, "throttled-2"),
        ("retried", 3, None),
        ("errored", 3, "throttled-3"),
        ("failed", 3, "throttled-3"),
    ]
    waits = [event.data["waited_for"] for event in view.events if event.kind == "retried"]
    assert waits == ["retry:throttled"] * 2


async def test_each_class_counts_its_own_attempts(service: LifecycleHarness) -> None:
    """A provider in trouble: an outage, then resets, then throttling. None of them uses up another's attempts."""
    message_id, view = await after(service, "outage", "outage", "outage", "network", "network")
    assert (view.status, view.next_attempt_reason) == ("errored", "retry:network")
    assert 0.79 * 120 <= await delay_s(service, message_id) <= 1.21 * 120, "the second reset, not the fifth attempt"
    for attempt in (6, 7):
        await time_passes(service, message_id, attempt)
        view = await fails(service, message_id, attempt, "throttled")
        assert view.status == "errored"
    await time_passes(service, message_id, 8)
    view = await fails(service, message_id, 8, "throttled")
    assert (view.status, view.reason) == ("failed", "throttled-8"), "the third of this class"
    (end,) = [event for event in view.events if event.kind == "failed"]
    assert (end.key, end.data["attempts"]) == ("exhausted", 3)


async def test_a_critical_message_does_not_wait_a_quarter_of_an_hour_in_an_outage(service: LifecycleHarness) -> None:
    message_id = await accepted(service, "critical")
    for attempt, delay in enumerate((30, 120, 300, 300), start=1):
        if attempt > 1:
            await time_passes(service, message_id, attempt)
        await fails(service, message_id, attempt, "outage", lane="critical")
        assert 0.79 * delay <= await delay_s(service, message_id) <= 1.21 * delay


async def test_a_resend_begins_every_count_anew(service: LifecycleHarness) -> None:
    message_id, view = await after(service, "throttled", "network", "throttled", "throttled")
    assert view.status == "failed"
    request = ResendMessage(APPLICATION, message_id, "key:k", new_id())
    assert (await service.bus.call("lifecycle", "resend", request, Resent)).attempt == 5
    view = await fails(service, message_id, 5, "throttled")
    assert view.status == "errored"
    await time_passes(service, message_id, 6)
    assert (await fails(service, message_id, 6, "throttled")).status == "errored"
    await time_passes(service, message_id, 7)
    view = await fails(service, message_id, 7, "throttled")
    assert (view.status, view.reason) == ("failed", "throttled-7")


async def test_a_wait_that_is_no_failure_uses_up_no_attempt(service: LifecycleHarness) -> None:
    message_id, _ = await after(service, "throttled", "throttled")
    await time_passes(service, message_id, 3)
    for attempt in (3, 4):
        held = Outcome(message_id, "held", attempt, f"q-{attempt}", 0, "quiet_hours", hold_until_ms=2**42)
        await service.report(held)

        async def waits() -> bool:
            return (await service.get(message_id)).next_attempt_reason == "quiet_hours"

        await until(waits)
        await time_passes(service, message_id, attempt + 1)
    view = await fails(service, message_id, 5, "throttled")
    assert (view.status, view.reason) == ("failed", "throttled-5"), "the third call"
    (end,) = [event for event in view.events if event.kind == "failed"]
    assert end.data["attempts"] == 3


async def test_two_thousand_retries_of_one_moment_are_picked_up_within_two_seconds(service: LifecycleHarness) -> None:
    for _ in range(4):
        messages = [service.message() for _ in range(500)]
        await service.accept(*messages)
        await service.report(*(Outcome(m.message_id, "errored", 1, "c", 0, "Busy", "outage") for m in messages))
    async with single_connection(service.database.admin_dsn) as c:

        async def waiting() -> bool:
            return bool(await c.fetchval("SELECT count(*) = 2000 FROM lifecycle.due"))

        await until(waiting)
        moment = await c.fetchval("UPDATE lifecycle.due SET due_at = now() RETURNING due_at")

        async def none_waits() -> bool:
            return not await c.fetchval("SELECT count(*) FROM lifecycle.due")

        await until(none_waits)
        lags = await c.fetch(
            """SELECT occurred_at - $1::timestamptz AS lag FROM lifecycle.message_events
            WHERE kind = 'retried' ORDER BY lag""",
            moment,
        )
    assert len(lags) == 2_000
    assert lags[1_900]["lag"].total_seconds() < 2
