"""Acceptance, recording, retries, repairs and the relay, on a real database and a real NATS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from libs.bus import Bus
from libs.envelope import DispatchEnvelope, Outcome, decode
from libs.errors import IdempotencyKeyReused, ResourceNotFound
from libs.events import decode_batch
from libs.ids import new_id
from libs.pg import single_connection
from libs.rpc import (
    Accept,
    AcceptedMany,
    AcceptMany,
    Idempotency,
    Known,
    KnownOutcomes,
    MessageView,
    NewMessage,
    Receipt,
    ReceiptReply,
)
from libs.subjects import events as events_subject
from services.lifecycle.rebuild import rebuild
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.databases import Database


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    async with lifecycle(database, bus, key_ring_file) as harness:
        yield harness


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.05)


async def _envelopes(bus: Bus, lane: str, count: int) -> list[DispatchEnvelope]:
    """Takes what was handed off, as the dispatcher would."""
    subscription = await bus.js.pull_subscribe(f"signal.dispatch.{lane}", durable="dispatcher")
    found: list[DispatchEnvelope] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            (message,) = await subscription.fetch(1, timeout=15)
            found.append(decode(message.data, DispatchEnvelope))
            await message.ack()
    return found


def _sent(message_id: str, attempt: int = 1) -> Outcome:
    return Outcome(message_id, "sent", attempt, "call-1", 0, data={"provider": "apns"})


def _errored(message_id: str, retry_class: str = "network", attempt: int = 1) -> Outcome:
    return Outcome(message_id, "errored", attempt, f"call-{attempt}", 0, "Reset", retry_class)  # type: ignore[arg-type]


async def test_an_accepted_message_is_in_the_log_sealed_and_on_its_way(service: LifecycleHarness) -> None:
    message = service.message()
    reply = await service.accept(message)
    view = await service.get(message.message_id)
    assert (view.status, view.created_at_ms) == ("pending", reply.created_at_ms)
    assert view.content == message.content
    assert [event.kind for event in view.events] == ["created"]
    (envelope,) = await _envelopes(service.bus, "normal", 1)
    assert [item.message_id for item in envelope.items] == [message.message_id]
    async with single_connection(service.database.admin_dsn) as c:
        stored = await c.fetchval("SELECT string_agg(e::text, '') FROM lifecycle.message_events AS e")
    assert "secret body" not in stored
    assert b"secret body".hex() not in stored


async def test_another_applications_message_is_unknown(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    with pytest.raises(ResourceNotFound):
        await service.get(message.message_id, application_id=new_id())
    foreign = Receipt(new_id(), message.message_id, "received", "key:x")
    with pytest.raises(ResourceNotFound):
        await service.bus.call("lifecycle", "receipt", foreign, ReceiptReply)


async def test_the_same_idempotency_key_writes_once(service: LifecycleHarness) -> None:
    key = Idempotency("k", b"f", b"answer")
    assert (await service.accept(service.message(), idempotency=key)).replayed is None
    second = service.message()
    assert (await service.accept(second, idempotency=key)).replayed == b"answer"
    with pytest.raises(ResourceNotFound):
        await service.get(second.message_id)
    with pytest.raises(IdempotencyKeyReused):
        await service.accept(service.message(), idempotency=Idempotency("k", b"other", b""))


async def test_requests_that_travel_together_are_each_their_own(service: LifecycleHarness) -> None:
    first, again, other, bad = (service.message() for _ in range(4))
    await service.accept(bad)

    def request(message: NewMessage, key: Idempotency | None = None) -> Accept:
        return Accept(APPLICATION, "single", "key:test", [message], key)

    same, reused = Idempotency("k", b"f", b"answer"), Idempotency("k", b"other", b"")
    many = AcceptMany([request(first, same), request(again, same), request(other, reused), request(bad)])
    answer = await service.bus.call("lifecycle", "accept_many", many, AcceptedMany)
    replies = [verdict.reply and (verdict.reply.replayed or b"new") for verdict in answer.verdicts]
    faults = [verdict.fault and verdict.fault.code for verdict in answer.verdicts]
    assert replies == [b"new", b"answer", None, None]
    assert faults == [None, None, "idempotency_key_reused", "internal_server_error"]
    assert (await service.get(first.message_id)).status == "pending"
    with pytest.raises(ResourceNotFound):
        await service.get(again.message_id)


async def test_a_request_that_cannot_be_written_does_not_take_its_neighbours_along(service: LifecycleHarness) -> None:
    good, bad = service.message(), service.message()
    await service.accept(bad)
    results = await asyncio.gather(
        service.accept(good), service.accept(bad), service.accept(service.message()), return_exceptions=True
    )
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert (await service.get(good.message_id)).status == "pending"


async def _status(service: LifecycleHarness, message_id: str, status: str) -> MessageView:
    async def reached() -> bool:
        return (await service.get(message_id)).status == status

    await eventually(reached)
    return await service.get(message_id)


async def test_receipts_may_come_before_the_outcome_and_twice(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    receipt = Receipt(APPLICATION, message.message_id, "converted", "key:x", action="open")
    first = await service.bus.call("lifecycle", "receipt", receipt, ReceiptReply)
    assert (first.status, first.received_at_ms) == ("converted", first.converted_at_ms)
    await service.report(_sent(message.message_id), _sent(message.message_id))

    async def recorded() -> bool:
        return (await service.get(message.message_id)).sent_at_ms is not None

    await eventually(recorded)
    assert await service.bus.call("lifecycle", "receipt", receipt, ReceiptReply) == first
    view = await service.get(message.message_id)
    assert view.status == "converted"
    assert sorted(event.kind for event in view.events) == ["converted", "created", "received", "sent"]


async def test_a_temporary_failure_is_tried_again_and_ends_when_attempts_do(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    for attempt in range(1, 6):
        (envelope,) = await _envelopes(service.bus, "normal", 1)
        assert envelope.items[0].attempt == attempt
        await service.report(_errored(message.message_id, attempt=attempt))
    view = await _status(service, message.message_id, "failed")
    assert view.reason == "Reset"
    assert [event.kind for event in view.events].count("retried") == 4


async def test_a_retry_overtaken_by_a_newer_message_of_its_collapse_key_is_dropped(service: LifecycleHarness) -> None:
    old = service.message(collapse_key="score")
    await service.accept(old)
    await service.accept(service.message(collapse_key="score"))
    await service.report(_errored(old.message_id))
    assert (await _status(service, old.message_id, "failed")).reason == "superseded"


async def test_a_retry_past_the_deadline_expires_the_message(service: LifecycleHarness) -> None:
    message = service.message(ttl=1)
    await service.accept(message)
    await service.report(Outcome(message.message_id, "errored", 1, "c", 0, "Busy", "throttled", retry_after=60))
    assert (await _status(service, message.message_id, "failed")).reason == "expired"


async def test_facts_about_unknown_messages_do_not_spoil_their_batch(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    await service.report(_sent(new_id()), _sent(message.message_id))
    await _status(service, message.message_id, "successful")


async def test_lost_work_is_found_and_handed_off_again_marked(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    (first,) = await _envelopes(service.bus, "normal", 1)  # taken, and lost with its taker
    (second,) = await _envelopes(service.bus, "normal", 1)
    assert not first.marked
    assert second.marked
    assert [item.message_id for item in second.items] == [message.message_id]
    assert "routed" in [event.kind for event in (await service.get(message.message_id)).events]


async def test_work_lost_again_and_again_is_a_dead_letter(service: LifecycleHarness) -> None:
    message = service.message()
    await service.accept(message)
    await _envelopes(service.bus, "normal", 4)
    assert (await _status(service, message.message_id, "failed")).reason == "dead_letter"


async def test_a_backlog_is_not_lost_work(service: LifecycleHarness) -> None:
    """Nothing is repeated while the hand-off still waits in its stream, however long."""
    message = service.message()
    await service.accept(message)
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute("UPDATE lifecycle.handoffs SET created_at = now() - interval '1 hour'")

    async def two_rounds_later() -> bool:
        return (await service.bus.stream_state("DISPATCH_normal")).state.messages == 1

    await eventually(two_rounds_later)
    (envelope,) = await _envelopes(service.bus, "normal", 1)
    await service.report(_sent(message.message_id))
    await _status(service, message.message_id, "successful")
    assert not envelope.marked
    assert (await service.bus.stream_state("DISPATCH_normal")).state.last_seq == 1


async def test_outcomes_stored_before_the_question_are_known(service: LifecycleHarness) -> None:
    sent, unsent, waiting = (service.message() for _ in range(3))
    await service.accept(sent, unsent, waiting)
    await service.report(_sent(sent.message_id), _errored(waiting.message_id, "outage"))
    lost = Outcome(unsent.message_id, "errored", 1, "lost:1:2", 0, "sender_lost", data={"outcome": "unknown"})
    await service.report(lost)
    question = KnownOutcomes("normal", {m.message_id: 1 for m in (sent, unsent, waiting)})
    known = await service.bus.call("lifecycle", "known_outcomes", question, Known, timeout=10)
    assert set(known.settled) == {sent.message_id, waiting.message_id}


async def test_every_event_is_published_in_order_without_content(service: LifecycleHarness) -> None:
    messages = [service.message() for _ in range(50)]
    await service.accept(*messages)
    await service.report(*(_sent(message.message_id) for message in messages))
    subscription = await service.bus.js.pull_subscribe(events_subject(APPLICATION), durable="reader")
    found: dict[str, list[str]] = {}
    async with asyncio.timeout(20):
        while sum(map(len, found.values())) < 100:
            (raw,) = await subscription.fetch(1, timeout=15)
            assert b"secret" not in raw.data
            for event in decode_batch(raw.data).events:
                found.setdefault(event.message_id, []).append(event.kind)
    assert found == {message.message_id: ["created", "sent"] for message in messages}


async def test_the_projection_rebuilt_from_the_log_is_the_same(service: LifecycleHarness) -> None:
    messages = [service.message(collapse_key="k") for _ in range(30)]
    await service.accept(*messages)
    await service.report(*(_sent(message.message_id) for message in messages[:10]))
    await service.report(*(_errored(message.message_id, "outage") for message in messages[10:20]))
    await _status(service, messages[9].message_id, "successful")
    await _status(service, messages[19].message_id, "errored")
    dsn = service.database.dsn("lifecycle")
    untouched = await rebuild(dsn)
    assert (untouched.messages, untouched.checksum_before) == (30, untouched.checksum_after)
    async with single_connection(service.database.admin_dsn) as c:
        await c.execute("DELETE FROM lifecycle.messages")
    emptied = await rebuild(dsn)
    assert emptied.checksum_before != untouched.checksum_before
    assert emptied.checksum_after == untouched.checksum_before
