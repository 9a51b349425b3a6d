"""Messages for later: they wait for their time, may be given another, and go on at it as if they had just come."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus import Bus
from libs.envelope import DispatchEnvelope, Outcome, decode
from libs.errors import MessageAlreadyProcessed, ResourceNotFound
from libs.ids import new_id
from libs.pg import single_connection
from libs.rpc import (
    Cancelled,
    CancelMessage,
    Empty,
    EventView,
    ForgetSubjects,
    MessageView,
    NewMessage,
    Rescheduled,
    RescheduleMessage,
    ResendMessage,
    Resent,
)
from services.lifecycle import queries
from services.lifecycle.rebuild import rebuild
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, SUBSCRIPTION, LifecycleHarness, lifecycle
from tests.databases import Database

HOUR_MS = 3_600_000


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    own = Lifecycle(publish_timeout=1.0, reconcile_after=60)
    async with lifecycle(database, bus, key_ring_file, scale=1, own=own) as harness:
        yield harness


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await check():
            await asyncio.sleep(0.02)


def now_ms() -> int:
    return int(time.time() * 1000)


def later(service: LifecycleHarness, in_ms: int = HOUR_MS, **more: Any) -> NewMessage:
    message = service.message(collapse_key=more.pop("collapse_key", None), ttl=more.pop("ttl", None))
    asked = {"asked": "09:00", "zone": "Asia/Seoul"}
    return msgspec.structs.replace(message, due_at_ms=now_ms() + in_ms, scheduled=asked, **more)


async def accepted(service: LifecycleHarness, in_ms: int = HOUR_MS, **more: Any) -> NewMessage:
    message = later(service, in_ms, **more)
    await service.accept(message)
    return message


async def reschedule(
    service: LifecycleHarness, message_id: str, due_at_ms: int, application_id: str = APPLICATION
) -> Rescheduled:
    request = RescheduleMessage(application_id, message_id, "key:k", due_at_ms, {"asked": "at once"})
    return await service.bus.call("lifecycle", "reschedule", request, Rescheduled)


async def cancel(service: LifecycleHarness, message_id: str) -> Cancelled:
    return await service.bus.call("lifecycle", "cancel", CancelMessage(APPLICATION, message_id, "key:k"), Cancelled)


async def as_if_waited(service: LifecycleHarness, message_id: str, hours: float = 2, overdue: float = 0) -> None:
    """Accepted `hours` ago for a time that came `overdue` hours ago."""
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute(
            "UPDATE lifecycle.message_events SET occurred_at = occurred_at - $2 * interval '1 h' WHERE message_id = $1",
            message_id,
            hours,
        )
        await c.execute(
            "UPDATE lifecycle.messages SET created_at = created_at - $2 * interval '1 h' WHERE id = $1",
            message_id,
            hours,
        )
        await c.execute(
            """UPDATE lifecycle.due
            SET since = since - $2 * interval '1 h', due_at = now() - $3 * interval '1 h' WHERE message_id = $1""",
            message_id,
            hours,
            overdue,
        )


def told(view: MessageView, kind: str) -> list[EventView]:
    return [event for event in view.events if event.kind == kind]


async def having(service: LifecycleHarness, message_id: str, kind: str) -> MessageView:
    async def recorded() -> bool:
        return bool(told(await service.get(message_id), kind))

    await until(recorded)
    return await service.get(message_id)


async def handed_off(bus: Bus, count: int) -> list[DispatchEnvelope]:
    subscription = await bus.js.pull_subscribe("signal.dispatch.normal", durable="dispatcher")
    found: list[DispatchEnvelope] = []
    async with asyncio.timeout(15):
        while sum(len(each.items) for each in found) < count:
            (raw,) = await subscription.fetch(1, timeout=15)
            found.append(decode(raw.data, DispatchEnvelope))
            await raw.ack()
    return found


async def deadline_in_s(service: LifecycleHarness, message_id: str) -> float:
    async with single_connection(service.database.dsn("lifecycle")) as c:
        (row,) = await queries.lock_messages(c, [message_id])
        return float(row["deadline_ms"] - row["now_ms"]) / 1000


async def same_after_rebuild(service: LifecycleHarness) -> None:
    rebuilt = await rebuild(service.database.dsn("lifecycle"))
    assert rebuilt.checksum_before == rebuilt.checksum_after
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute("DELETE FROM lifecycle.messages")
    assert (await rebuild(service.database.dsn("lifecycle"))).checksum_after == rebuilt.checksum_after


# acceptance -----------------------------------------------------------------------------------------------------------


async def test_a_scheduled_message_waits_for_its_time_and_says_why(service: LifecycleHarness) -> None:
    message, at_once = later(service), service.message()
    await service.accept(message, at_once)
    view = await service.get(message.message_id)
    assert (view.status, view.attempt, view.content) == ("pending", 1, message.content)
    assert (view.next_attempt_at_ms, view.next_attempt_reason) == (message.due_at_ms, "scheduled")
    assert [event.kind for event in view.events] == ["created", "scheduled"]
    (scheduled,) = told(view, "scheduled")
    assert (scheduled.key, scheduled.attempt) == ("1", 1)
    assert scheduled.data == {"asked": "09:00", "zone": "Asia/Seoul", "due_at_ms": message.due_at_ms}
    (envelope,) = await handed_off(service.bus, 1)
    assert [item.message_id for item in envelope.items] == [at_once.message_id], "one request, each in its own way"
    await same_after_rebuild(service)
    assert (await service.get(message.message_id)).next_attempt_reason == "scheduled", "a rebuild hands nothing off"
    assert (await service.bus.stream_state("DISPATCH_normal")).state.messages == 0


@pytest.mark.parametrize("in_ms", [-HOUR_MS, 0, 50])
async def test_a_time_that_has_come_is_now(service: LifecycleHarness, in_ms: int) -> None:
    message = await accepted(service, in_ms)
    (envelope,) = await handed_off(service.bus, 1)
    assert [item.message_id for item in envelope.items] == [message.message_id]
    assert [event.kind for event in (await service.get(message.message_id)).events] == ["created"]


async def test_a_request_that_fails_leaves_nothing_waiting(service: LifecycleHarness) -> None:
    known = await accepted(service)
    with pytest.raises(Exception, match="internal_server_error"):
        await service.accept(later(service), known)
    async with single_connection(service.database.admin_dsn) as c:
        assert await c.fetchval("SELECT count(*) FROM lifecycle.due") == 1


# its time comes -------------------------------------------------------------------------------------------------------


async def test_its_time_begins_the_first_attempt_and_the_ttl(service: LifecycleHarness) -> None:
    message = await accepted(service, ttl=100)
    await as_if_waited(service, message.message_id, hours=2)
    view = await having(service, message.message_id, "routed")
    (routed,) = told(view, "routed")
    assert (view.attempt, routed.attempt, routed.key, routed.reason) == (1, 1, "scheduled:1", "scheduled")
    assert routed.data["waited_for"] == "scheduled"
    assert routed.data["waited_ms"] == pytest.approx(2 * HOUR_MS, abs=5_000)
    assert 90 < await deadline_in_s(service, message.message_id) <= 100
    (envelope,) = await handed_off(service.bus, 1)
    (item,) = envelope.items
    assert (item.message_id, item.attempt, envelope.marked) == (message.message_id, 1, False)
    assert item.deadline_ms == pytest.approx(now_ms() + 100_000, abs=10_000)
    await service.report(Outcome(message.message_id, "sent", 1, "call", now_ms()))
    assert (await having(service, message.message_id, "sent")).status == "successful"
    await same_after_rebuild(service)


async def test_a_first_failure_after_it_is_the_first_of_its_class(service: LifecycleHarness) -> None:
    message = await accepted(service)
    await as_if_waited(service, message.message_id)
    await having(service, message.message_id, "routed")
    await service.report(Outcome(message.message_id, "errored", 1, "c", 0, "Reset", "network"))
    await having(service, message.message_id, "errored")
    view = await service.get(message.message_id)
    assert view.next_attempt_reason == "retry:network"
    assert view.next_attempt_at_ms is not None
    assert 23_000 < view.next_attempt_at_ms - now_ms() <= 36_000
    await same_after_rebuild(service)


async def test_the_ttl_counts_from_the_time_that_was_set_not_from_when_it_was_noticed(
    service: LifecycleHarness,
) -> None:
    late, too_late = await accepted(service, ttl=3_600 * 2), await accepted(service, ttl=1_800)
    for message in (late, too_late):
        await as_if_waited(service, message.message_id, hours=5, overdue=1)
    await having(service, late.message_id, "routed")
    assert await deadline_in_s(service, late.message_id) == pytest.approx(3_600, abs=30)
    view = await having(service, too_late.message_id, "expired")
    assert (view.status, view.reason, told(view, "routed")) == ("failed", "expired", [])
    assert told(view, "expired")[0].data["waited_for"] == "scheduled"


async def test_a_scheduled_message_may_be_overtaken(service: LifecycleHarness) -> None:
    old = await accepted(service, collapse_key="score")
    await service.accept(service.message(collapse_key="score"))
    await as_if_waited(service, old.message_id, hours=0.1)
    assert (await having(service, old.message_id, "superseded")).reason == "superseded"


async def test_what_is_to_come_later_still_overtakes_nobody(service: LifecycleHarness) -> None:
    """Tuesday's reminder is not dropped for Wednesday's, nor is a retry."""
    tuesday = await accepted(service, collapse_key="reminder")
    failing = service.message(collapse_key="reminder")
    await service.accept(failing)
    await service.report(Outcome(failing.message_id, "errored", 1, "c", now_ms(), "Reset", "network"))
    await having(service, failing.message_id, "errored")
    wednesday = await accepted(service, in_ms=25 * HOUR_MS, collapse_key="reminder")
    await as_if_waited(service, failing.message_id, hours=0.1)
    assert told(await having(service, failing.message_id, "retried"), "superseded") == []
    await service.report(Outcome(failing.message_id, "failed", 2, "c", now_ms(), "Gone"))
    await as_if_waited(service, wednesday.message_id, hours=26)
    await having(service, wednesday.message_id, "routed")
    await as_if_waited(service, tuesday.message_id, hours=2)
    assert (await having(service, tuesday.message_id, "superseded")).reason == "superseded"


async def test_each_of_two_reminders_goes_at_its_time(service: LifecycleHarness) -> None:
    first = await accepted(service, collapse_key="reminder")
    second = await accepted(service, in_ms=25 * HOUR_MS, collapse_key="reminder")
    for each in (first, second):
        await as_if_waited(service, each.message_id, hours=2)
        assert told(await having(service, each.message_id, "routed"), "superseded") == []


async def test_what_was_received_meanwhile_is_not_sent(service: LifecycleHarness) -> None:
    """Nobody can, but the timekeeper does not rely on that."""
    message = await accepted(service)
    await service.report(Outcome(message.message_id, "received", 0, "", now_ms()))

    async def gone() -> bool:
        return (await service.get(message.message_id)).status == "received"

    await until(gone)
    await as_if_waited(service, message.message_id)

    async def taken() -> bool:
        return (await service.get(message.message_id)).next_attempt_reason is None

    await until(taken)
    assert not told(await service.get(message.message_id), "routed")


# another time ---------------------------------------------------------------------------------------------------------


async def test_it_may_be_given_another_time(service: LifecycleHarness) -> None:
    message = await accepted(service)
    assert message.due_at_ms is not None
    new_time = message.due_at_ms + HOUR_MS
    assert await reschedule(service, message.message_id, new_time) == Rescheduled(new_time, 2)
    assert await reschedule(service, message.message_id, new_time + 1) == Rescheduled(new_time + 1, 3)
    view = await service.get(message.message_id)
    assert (view.next_attempt_at_ms, view.attempt) == (new_time + 1, 1)
    assert [event.key for event in told(view, "scheduled")] == ["1", "2", "3"]
    assert told(view, "scheduled")[1].data == {"asked": "at once", "due_at_ms": new_time, "actor": "key:k"}
    await same_after_rebuild(service)


async def test_a_past_time_is_now_and_the_whole_wait_does_not_count(service: LifecycleHarness) -> None:
    message = await accepted(service, HOUR_MS * 24, ttl=100)
    async with single_connection(service.database.admin_dsn) as c:  # three hours pass
        await c.execute("UPDATE lifecycle.messages SET created_at = created_at - interval '3 h'")
        await c.execute("UPDATE lifecycle.due SET since = since - interval '3 h'")
    answer = await reschedule(service, message.message_id, 5)
    assert answer.due_at_ms == pytest.approx(now_ms(), abs=5_000)
    routed = told(await having(service, message.message_id, "routed"), "routed")[0]
    assert (routed.key, routed.attempt) == ("scheduled:2", 1)
    assert routed.data["waited_ms"] == pytest.approx(3 * HOUR_MS, abs=5_000)
    assert 90 < await deadline_in_s(service, message.message_id) <= 101


async def test_only_what_waits_for_its_time_has_one_to_change(service: LifecycleHarness) -> None:
    on_its_way, retried, cancelled = service.message(), service.message(), await accepted(service)
    await service.accept(on_its_way, retried)
    await service.report(Outcome(retried.message_id, "errored", 1, "c", 0, "Reset", "network"))
    await having(service, retried.message_id, "errored")
    await cancel(service, cancelled.message_id)
    states = ((on_its_way, "pending"), (retried, "errored"), (cancelled, "cancelled"))
    for message, status in states:
        with pytest.raises(MessageAlreadyProcessed) as refused:
            await reschedule(service, message.message_id, now_ms() + HOUR_MS)
        assert refused.value.details["status"] == status
        assert not told(await service.get(message.message_id), "scheduled")[1:]
    assert (await service.get(retried.message_id)).next_attempt_reason == "retry:network"


async def test_a_strangers_and_an_unknown_message_are_not_found_and_spoil_nobody_elses(
    service: LifecycleHarness,
) -> None:
    mine = await accepted(service)
    assert mine.due_at_ms is not None
    stranger, unknown, own = await asyncio.gather(
        reschedule(service, mine.message_id, 5, new_id()),
        reschedule(service, new_id(), 5),
        reschedule(service, mine.message_id, mine.due_at_ms + 1),
        return_exceptions=True,
    )
    assert isinstance(stranger, ResourceNotFound)
    assert isinstance(unknown, ResourceNotFound)
    assert isinstance(own, Rescheduled)
    assert (await service.get(mine.message_id)).next_attempt_at_ms == mine.due_at_ms + 1


async def test_of_times_that_are_set_together_each_is_a_revision_and_the_last_one_stays(
    service: LifecycleHarness,
) -> None:
    message = await accepted(service)
    times = [now_ms() + HOUR_MS * (n + 2) for n in range(20)]
    answers = await asyncio.gather(*(reschedule(service, message.message_id, each) for each in times))
    assert {answer.revision for answer in answers} == set(range(2, 22))
    last = max(answers, key=lambda answer: answer.revision)
    assert (await service.get(message.message_id)).next_attempt_at_ms == last.due_at_ms


async def test_timekeeper_cancel_and_reschedule_at_once_leave_one_truth(service: LifecycleHarness) -> None:
    """60 messages become due while each of them is cancelled, and given another time."""
    messages = [later(service, 2_000) for _ in range(60)]
    await service.accept(*messages)
    due_in = (max(message.due_at_ms or 0 for message in messages) - now_ms()) / 1_000
    moments = random.Random(5)
    far = now_ms() + HOUR_MS

    async def attempt(call: Callable[[], Awaitable[object]]) -> bool:
        await asyncio.sleep(due_in + moments.uniform(-0.3, 0.5))
        try:
            await call()
        except MessageAlreadyProcessed:
            return False
        return True

    async def both(message_id: str) -> tuple[bool, bool]:
        cancelled, moved = await asyncio.gather(
            attempt(lambda: cancel(service, message_id)), attempt(lambda: reschedule(service, message_id, far))
        )
        return cancelled, moved

    results = await asyncio.gather(*(both(message.message_id) for message in messages))
    ends: Counter[str] = Counter()
    for message, (cancelled, moved) in zip(messages, results, strict=True):
        view = await service.get(message.message_id)
        kinds = [event.kind for event in view.events]
        sent = "routed" in kinds
        assert ("cancelled" in kinds) == cancelled
        assert (kinds.count("scheduled") == 2) == moved
        assert sent != cancelled, kinds
        assert view.next_attempt_reason is None
        ends[f"cancelled={cancelled} moved={moved}"] += 1
    assert ends["cancelled=False moved=False"], ends
    assert ends["cancelled=True moved=False"] + ends["cancelled=True moved=True"], ends


# cancel, resend, forget -----------------------------------------------------------------------------------------------


async def test_a_scheduled_message_can_be_cancelled_and_sent_again_at_once(service: LifecycleHarness) -> None:
    message = await accepted(service, ttl=100)
    await cancel(service, message.message_id)
    view = await service.get(message.message_id)
    assert (view.status, view.next_attempt_reason) == ("cancelled", None)
    resend = ResendMessage(APPLICATION, message.message_id, "key:k", new_id())
    assert (await service.bus.call("lifecycle", "resend", resend, Resent)).attempt == 2
    (envelope,) = await handed_off(service.bus, 1)
    assert (envelope.items[0].message_id, envelope.items[0].attempt) == (message.message_id, 2)


async def test_what_waits_for_an_erased_person_is_never_sent(service: LifecycleHarness) -> None:
    message = await accepted(service)
    request = ForgetSubjects(APPLICATION, new_id(), [SUBSCRIPTION], [service.key.key_id])
    await service.bus.call("lifecycle", "forget", request, Empty)
    view = await service.get(message.message_id)
    assert (view.status, view.reason, view.next_attempt_reason) == ("failed", "content_erased", None)


# how fast -------------------------------------------------------------------------------------------------------------


async def test_two_thousand_messages_of_one_moment_are_picked_up_within_two_seconds(service: LifecycleHarness) -> None:
    moment = now_ms() + 3_000
    for _ in range(4):
        group = [msgspec.structs.replace(later(service), due_at_ms=moment) for _ in range(500)]
        await service.accept(*group)
    assert now_ms() < moment, "all wait before their time comes"

    async with single_connection(service.database.admin_dsn) as c:

        async def all_routed() -> bool:
            return not await c.fetchval("SELECT count(*) FROM lifecycle.due")

        await until(all_routed)
        lags = await c.fetch(
            """
            SELECT extract(EPOCH FROM occurred_at) * 1000 - $1 AS lag FROM lifecycle.message_events
            WHERE kind = 'routed' AND key = 'scheduled:1' ORDER BY 1""",
            moment,
        )
    assert len(lags) == 2_000
    assert lags[0]["lag"] >= 0, "none before its time"
    assert lags[1_900]["lag"] < 2_000
