"""Cancelling, sending again and remembering, on a real database: against the timekeeper, twice, together."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from libs.bus import Bus
from libs.config import Database as DatabaseSettings
from libs.envelope import Outcome
from libs.errors import IdempotencyKeyReused, InvalidMessageContent, MessageAlreadyProcessed, ResourceNotFound
from libs.ids import new_id
from libs.pg import connect_pool, single_connection
from libs.rpc import (
    Cancelled,
    CancelMessage,
    Idempotency,
    ListMessages,
    MessagePage,
    Receipt,
    ReceiptReply,
    Remember,
    Replay,
    ResendMessage,
    Resent,
)
from services.lifecycle import queries, queries_handoff
from services.lifecycle.rebuild import rebuild
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, SUBSCRIPTION, LifecycleHarness, lifecycle
from tests.databases import Database

TIMED_OUT = Outcome("", "errored", 1, "call", 0, reason="timeout", retry_class="network")
FAILED = Outcome("", "failed", 1, "call", 0, reason="Unregistered")


@pytest.fixture
async def patient(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    """Retries come as late as in earnest."""
    async with lifecycle(database, bus, key_ring_file, scale=1) as harness:
        yield harness


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await check():
            await asyncio.sleep(0.02)


async def after(service: LifecycleHarness, fact: Outcome, message_id: str | None = None) -> str:
    if message_id is None:
        message = service.message(ttl=100)
        await service.accept(message)
        message_id = message.message_id
    told = msgspec.structs.replace(fact, message_id=message_id)
    await service.report(told)

    async def recorded() -> bool:
        events = (await service.get(message_id)).events
        return any((event.kind, event.attempt, event.key) == (told.kind, told.attempt, told.key) for event in events)

    await until(recorded)
    return message_id


async def cancel(service: LifecycleHarness, message_id: str, application_id: str = APPLICATION) -> Cancelled:
    return await service.bus.call("lifecycle", "cancel", CancelMessage(application_id, message_id, "key:k"), Cancelled)


async def resend(service: LifecycleHarness, message_id: str, request_id: str = "", owner: str = APPLICATION) -> int:
    request = ResendMessage(owner, message_id, "key:k", request_id or new_id())
    return (await service.bus.call("lifecycle", "resend", request, Resent)).attempt


async def remember(service: LifecycleHarness, key: str, answer: bytes, fingerprint: bytes = b"f" * 32) -> bytes | None:
    request = Remember(APPLICATION, Idempotency(key, fingerprint, answer), [new_id()])
    return (await service.bus.call("lifecycle", "remember", request, Replay)).answer


# cancel ---------------------------------------------------------------------------------------------------------------


async def test_cancelled_or_sent_but_never_both(database: Database, bus: Bus, key_ring_file: Path) -> None:
    """The timekeeper takes messages that are due while all of them are cancelled."""
    own = Lifecycle(publish_timeout=1.0, reconcile_after=60)
    async with lifecycle(database, bus, key_ring_file, scale=0.001, own=own) as service:
        moments = random.Random(3)

        async def attempt(message_id: str) -> bool:
            await until(lambda: _is_errored(service, message_id))
            await asyncio.sleep(moments.uniform(0, 0.3))
            try:
                await cancel(service, message_id)
            except MessageAlreadyProcessed:
                return False
            return True

        happened: set[bool] = set()
        async with asyncio.timeout(40):
            while happened != {True, False}:  # on a busy machine one of them may always be the first
                messages = [service.message() for _ in range(60)]
                await service.accept(*messages)
                await service.report(*(msgspec.structs.replace(TIMED_OUT, message_id=m.message_id) for m in messages))
                cancelled = await asyncio.gather(*(attempt(message.message_id) for message in messages))
                happened |= set(cancelled)
                for message, was_cancelled in zip(messages, cancelled, strict=True):
                    kinds = [event.kind for event in (await service.get(message.message_id)).events]
                    assert (("cancelled" in kinds), ("retried" in kinds)) == (was_cancelled, not was_cancelled), kinds


async def _is_errored(service: LifecycleHarness, message_id: str) -> bool:
    return "errored" in {event.kind for event in (await service.get(message_id)).events}


async def test_together_and_twice_it_is_one_fact(patient: LifecycleHarness) -> None:
    message_id = await after(patient, TIMED_OUT)
    answers = await asyncio.gather(*(cancel(patient, message_id) for _ in range(20)))
    assert {answer.cancelled_at_ms for answer in answers} == {(await cancel(patient, message_id)).cancelled_at_ms}
    assert [event.kind for event in (await patient.get(message_id)).events].count("cancelled") == 1


async def test_one_strangers_question_spoils_nobody_elses(patient: LifecycleHarness) -> None:
    mine = await after(patient, TIMED_OUT)
    stranger, unknown, own = await asyncio.gather(
        cancel(patient, mine, new_id()), cancel(patient, new_id()), cancel(patient, mine), return_exceptions=True
    )
    assert isinstance(stranger, ResourceNotFound)
    assert isinstance(unknown, ResourceNotFound)
    assert isinstance(own, Cancelled)


# send again -----------------------------------------------------------------------------------------------------------


async def deadline_in_s(service: LifecycleHarness, message_id: str) -> float:
    async with single_connection(service.database.dsn("lifecycle")) as c:
        (row,) = await queries.lock_messages(c, [message_id])
        return float(row["deadline_ms"] - row["now_ms"]) / 1000


async def grow_older(service: LifecycleHarness, message_id: str) -> None:
    async with single_connection(service.database.admin_dsn) as c:
        for table, column in (("messages", "id"), ("message_events", "message_id")):
            moment = "created_at" if table == "messages" else "occurred_at"
            await c.execute(
                f"UPDATE lifecycle.{table} SET {moment} = {moment} - interval '1 hour' WHERE {column} = $1",
                message_id,
            )


async def test_ttl_and_retries_count_anew(patient: LifecycleHarness) -> None:
    message_id = await after(patient, FAILED)
    await grow_older(patient, message_id)
    assert await deadline_in_s(patient, message_id) < -3000
    assert await resend(patient, message_id) == 2
    assert 90 < await deadline_in_s(patient, message_id) <= 100
    await after(patient, msgspec.structs.replace(FAILED, attempt=2), message_id)
    assert await resend(patient, message_id) == 3
    assert 90 < await deadline_in_s(patient, message_id) <= 100
    throttled = Outcome("", "errored", 3, "busy", 0, reason="busy", retry_class="throttled")
    await after(patient, throttled, message_id)
    found = await patient.get(message_id)
    assert (found.status, found.next_attempt_reason) == ("errored", "retry:throttled"), "the first attempt of three"


async def test_a_rebuild_finds_the_same(patient: LifecycleHarness) -> None:
    user, template = new_id(), new_id()
    why = {"template_id": template, "template_version": 7, "template_locale": "ko"}
    message = msgspec.structs.replace(patient.message(), user_id=user, why=why)
    await patient.accept(message)
    await after(patient, FAILED, message.message_id)
    await resend(patient, message.message_id)
    view = await patient.get(message.message_id)
    assert (view.user_id, view.template_id, view.template_version) == (user, template, 7)
    rebuilt = await rebuild(patient.database.dsn("lifecycle"))
    assert (rebuilt.messages, rebuilt.checksum_before) == (1, rebuilt.checksum_after)
    async with single_connection(patient.database.admin_dsn) as c:
        await c.execute("DELETE FROM lifecycle.messages")
    assert (await rebuild(patient.database.dsn("lifecycle"))).checksum_after == rebuilt.checksum_after


async def test_the_same_request_together_is_one_attempt(patient: LifecycleHarness) -> None:
    message_id = await after(patient, FAILED)
    request_id = new_id()
    assert set(await asyncio.gather(*(resend(patient, message_id, request_id) for _ in range(8)))) == {2}
    await after(patient, msgspec.structs.replace(FAILED, attempt=2), message_id)
    assert await resend(patient, message_id, request_id) == 2, "told again, nothing is done"
    assert (await patient.get(message_id)).status == "failed"


async def test_what_may_not_be_sent_again(patient: LifecycleHarness) -> None:
    failed, waiting = await after(patient, FAILED), await after(patient, TIMED_OUT)
    with pytest.raises(ResourceNotFound):
        await resend(patient, failed, owner=new_id())
    with pytest.raises(ResourceNotFound):
        await resend(patient, new_id())
    with pytest.raises(MessageAlreadyProcessed):
        await resend(patient, waiting)
    patient.key = type(patient.key)(new_id().replace("-", "").encode()[:16], b"k" * 32)  # the old one was destroyed
    with pytest.raises(InvalidMessageContent):
        await resend(patient, failed)


# remember -------------------------------------------------------------------------------------------------------------


async def test_the_first_answer_stays(patient: LifecycleHarness) -> None:
    assert await remember(patient, "k", b"first") is None
    assert await remember(patient, "k", b"second") == b"first"
    with pytest.raises(IdempotencyKeyReused):
        await remember(patient, "k", b"third", b"g" * 32)


async def test_of_answers_that_come_together_one_is_kept(patient: LifecycleHarness) -> None:
    answers = await asyncio.gather(*(remember(patient, "k", b"%d" % n) for n in range(20)))
    kept = {answer for answer in answers if answer is not None}
    assert (answers.count(None), len(kept)) == (1, 1)
    others = await asyncio.gather(*(remember(patient, f"k{n}", b"x") for n in range(20)))
    assert set(others) == {None}


async def test_a_key_is_free_again_after_a_day(patient: LifecycleHarness) -> None:
    await remember(patient, "k", b"first")
    async with single_connection(patient.database.admin_dsn) as c:
        await c.execute("UPDATE lifecycle.idempotency_keys SET created_at = created_at - interval '25 hours'")
    assert await remember(patient, "k", b"second", b"g" * 32) is None


# receipts, lists, plans -----------------------------------------------------------------------------------------------


async def test_a_receipt_for_another_subscription_is_of_an_unknown_message(patient: LifecycleHarness) -> None:
    message_id = await after(patient, FAILED)

    async def report(subscription_id: str | None) -> ReceiptReply:
        receipt = Receipt(APPLICATION, message_id, "received", "key:k", subscription_id=subscription_id)
        return await patient.bus.call("lifecycle", "receipt", receipt, ReceiptReply)

    stranger, own = await asyncio.gather(report(new_id()), report(SUBSCRIPTION), return_exceptions=True)
    assert isinstance(stranger, ResourceNotFound)
    assert isinstance(own, ReceiptReply)


async def test_lists_find_by_user_and_template(patient: LifecycleHarness) -> None:
    user = new_id()
    message = msgspec.structs.replace(patient.message(), user_id=user)
    await patient.accept(message, patient.message())

    async def ids(question: ListMessages) -> list[str]:
        page = await patient.bus.call("lifecycle", "list", question, MessagePage)
        return [each.id for each in page.messages]

    assert await ids(ListMessages(APPLICATION, user_id=user)) == [message.message_id]
    assert await ids(ListMessages(APPLICATION, template_id=new_id())) == []
    assert len(await ids(ListMessages(APPLICATION))) == 2
    assert await ids(ListMessages(new_id(), user_id=user)) == []


async def test_what_is_due_is_claimed_by_index_alone(database: Database) -> None:
    """Also the look for later messages with the same collapse key: of one subscription, from that message on."""
    pool = await connect_pool(DatabaseSettings(url=database.dsn("lifecycle"), pool=1), prepare=queries.SET_EPOCH)
    async with single_connection(database.admin_dsn) as c:
        await c.execute(
            """
            INSERT INTO lifecycle.messages (
                id, application_id, subscription_id, channel, lane, category, ttl, handoff_id, collapse_hash)
            SELECT uuidv7(), $1::uuid, md5((n % 5000)::text)::uuid, 'apns', 'bulk', 'info', 60, uuidv7(), '\\x00'
            FROM generate_series(1, 50000) AS n
            """,
            APPLICATION,
        )
        await c.execute("ANALYZE lifecycle.messages")
        some = [str(row["id"]) for row in await c.fetch("SELECT id FROM lifecycle.messages LIMIT 50")]
    try:
        async with pool.transaction() as c:
            rows = await c.fetch(f"EXPLAIN (ANALYZE, FORMAT TEXT) {queries_handoff.LOCK_DUE_MESSAGES}", some)
        plan = "\n".join(row[0] for row in rows)
    finally:
        await pool.close()
    assert "Seq Scan" not in "\n".join(line for line in plan.splitlines() if "never executed" not in line), plan
    assert "subscription_id_id" in plan, plan
