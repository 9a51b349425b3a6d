"""Sending all again that a filter finds: a page at a time, each message once, nothing whose content is gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus import Bus
from libs.envelope import DispatchEnvelope, Lane, Outcome, decode
from libs.errors import ValidationFailed
from libs.ids import new_id
from libs.pg import single_connection
from libs.rpc import Cancelled, CancelMessage, ListMessages, NewMessage, ResendMany, ResendMessage, Resent, ResentMany
from services.lifecycle.rebuild import rebuild
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.databases import Database


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    own = Lifecycle(publish_timeout=1.0, reconcile_after=60)
    async with lifecycle(database, bus, key_ring_file, scale=1, own=own) as harness:
        yield harness


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await check():
            await asyncio.sleep(0.02)


async def statuses(service: LifecycleHarness) -> dict[str, int]:
    async with single_connection(service.database.admin_dsn) as c:
        rows = await c.fetch("SELECT status, count(*) AS count FROM lifecycle.messages GROUP BY 1")
        return {row["status"]: row["count"] for row in rows}


async def failed(service: LifecycleHarness, count: int, lane: Lane = "normal", **more: Any) -> list[NewMessage]:
    """Messages that their provider refused, oldest first."""
    messages = [msgspec.structs.replace(service.message(lane), **more) for _ in range(count)]
    before = (await statuses(service)).get("failed", 0)
    for start in range(0, count, 500):
        await service.accept(*messages[start : start + 500])
        part = messages[start : start + 500]
        await service.report(*(Outcome(m.message_id, "failed", 1, "call", 0, "Unregistered") for m in part), lane=lane)

    async def recorded() -> bool:
        return (await statuses(service)).get("failed", 0) == before + count

    await until(recorded)
    return messages


async def resend_many(service: LifecycleHarness, request_id: str = "", **wanted: Any) -> ResentMany:
    question = ListMessages(APPLICATION, **{"status": "failed", "limit": 1_000, **wanted})
    request = ResendMany(question, "key:k", request_id or new_id())
    return await service.bus.call("lifecycle", "resend_many", request, ResentMany, timeout=10)


async def attempts(service: LifecycleHarness) -> dict[str, int]:
    async with single_connection(service.database.admin_dsn) as c:
        rows = await c.fetch("SELECT id::text, attempt FROM lifecycle.messages")
        return {row["id"]: row["attempt"] for row in rows}


async def handed_off(bus: Bus, lane: Lane, attempt: int, count: int) -> set[str]:
    subscription = await bus.js.pull_subscribe(f"signal.dispatch.{lane}", durable="dispatcher")
    found: set[str] = set()
    async with asyncio.timeout(15):
        while len(found) < count:
            (raw,) = await subscription.fetch(1, timeout=15)
            items = decode(raw.data, DispatchEnvelope).items
            found |= {item.message_id for item in items if item.attempt == attempt}
            await raw.ack()
    return found


async def test_all_failed_ones_of_a_filter_are_sent_again(service: LifecycleHarness) -> None:
    template = new_id()
    wanted = await failed(service, 600, "bulk", why={"template_id": template, "template_version": 1})
    other = await failed(service, 3)
    answer = await resend_many(service, template_id=template)
    assert answer == ResentMany(600, 0, None)
    found = await attempts(service)
    assert {found[message.message_id] for message in wanted} == {2}
    assert {found[message.message_id] for message in other} == {1}
    assert await handed_off(service.bus, "bulk", 2, 600) == {message.message_id for message in wanted}
    view = await service.get(wanted[0].message_id)
    (again,) = [event for event in view.events if event.kind == "retried"]
    assert (again.attempt, again.reason, again.data["waited_for"], again.data["actor"]) == (
        2,
        "resend",
        "resend",
        "key:k",
    )
    assert await statuses(service) == {"pending": 600, "failed": 3}
    rebuilt = await rebuild(service.database.dsn("lifecycle"))
    assert rebuilt.checksum_before == rebuilt.checksum_after


async def test_pages_follow_each_other_and_leave_nothing_out(service: LifecycleHarness) -> None:
    await failed(service, 50)
    before, pages = None, []
    while True:
        answer = await resend_many(service, limit=20, before=before)
        pages.append(answer.resent)
        before = answer.next_before
        if before is None:
            break
    assert pages == [20, 20, 10]
    assert set((await attempts(service)).values()) == {2}


async def test_the_same_request_again_begins_nothing(service: LifecycleHarness) -> None:
    messages, request_id = await failed(service, 10), new_id()
    first, second = await asyncio.gather(resend_many(service, request_id), resend_many(service, request_id))
    assert first.resent + second.resent == 10
    facts = [Outcome(m.message_id, "failed", 2, "call-2", 0, "Unregistered") for m in messages]
    await service.report(*facts)

    async def failed_again() -> bool:
        return await statuses(service) == {"failed": 10}

    await until(failed_again)
    assert await resend_many(service, request_id) == ResentMany(0, 10, None)
    single = ResendMessage(APPLICATION, messages[0].message_id, "key:k", request_id)
    assert (await service.bus.call("lifecycle", "resend", single, Resent)).attempt == 2, "the same bookkeeping"
    assert set((await attempts(service)).values()) == {2}
    assert (await resend_many(service)).resent == 10, "another request"
    assert set((await attempts(service)).values()) == {3}


async def test_erased_content_is_skipped(service: LifecycleHarness) -> None:
    readable = await failed(service, 3)
    other = type(service.key)(new_id().replace("-", "").encode()[:16], b"k" * 32)
    erased = await failed(service, 2)
    async with single_connection(service.database.admin_dsn) as c:  # sealed under a key that was destroyed
        await c.execute(
            """UPDATE lifecycle.message_events SET sealed = $1::bytea || substring(sealed FROM 17)
            WHERE kind = 'created' AND message_id = ANY ($2::uuid[])""",
            other.key_id,
            [message.message_id for message in erased],
        )
    assert await resend_many(service) == ResentMany(3, 2, None)
    found = await attempts(service)
    assert [found[message.message_id] for message in readable] == [2, 2, 2]
    assert [found[message.message_id] for message in erased] == [1, 1]


async def test_cancelled_ones_are_sent_again_where_they_are_asked_for(service: LifecycleHarness) -> None:
    (refused,) = await failed(service, 1)
    message = service.message()
    await service.accept(message)
    await service.report(Outcome(message.message_id, "errored", 1, "c", 0, "Reset", "network"))

    async def errored() -> bool:
        return (await service.get(message.message_id)).status == "errored"

    await until(errored)
    await service.bus.call("lifecycle", "cancel", CancelMessage(APPLICATION, message.message_id, "key:k"), Cancelled)
    assert await resend_many(service, status="cancelled") == ResentMany(1, 0, None)
    assert await attempts(service) == {refused.message_id: 1, message.message_id: 2}


@pytest.mark.parametrize(
    "wanted",
    [{"status": None}, {"status": "pending"}, {"status": "successful"}, {"limit": 0}, {"limit": 1_001}],
)
async def test_what_is_no_question_about_the_failed_is_refused(
    service: LifecycleHarness, wanted: dict[str, Any]
) -> None:
    await failed(service, 1)
    with pytest.raises(ValidationFailed):
        await resend_many(service, **wanted)
    assert set((await attempts(service)).values()) == {1}


async def test_another_applications_messages_stay_as_they_are(service: LifecycleHarness) -> None:
    await failed(service, 2)
    stranger = ResendMany(ListMessages(new_id(), status="failed"), "key:k", new_id())
    assert await service.bus.call("lifecycle", "resend_many", stranger, ResentMany) == ResentMany(0, 0, None)
    assert set((await attempts(service)).values()) == {1}


async def test_a_message_sent_again_asks_for_its_place_under_a_cap_anew(service: LifecycleHarness) -> None:
    (message,) = await failed(service, 1)
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute(
            "INSERT INTO lifecycle.reserved_sends VALUES ($1, $2, $3, 'info', now())",
            message.message_id,
            APPLICATION,
            message.subscription_id,
        )
        await resend_many(service)
        assert await c.fetchval("SELECT count(*) FROM lifecycle.reserved_sends") == 0
