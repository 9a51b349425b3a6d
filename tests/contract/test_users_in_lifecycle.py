"""What lifecycle keeps about persons: sealed receipts, pages of their messages, and forgetting what waits for them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs import rpc
from libs.bus import Bus
from libs.envelope import Accepted, Content, Outcome
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import Connection, single_connection
from libs.seal import DataKey, KeyRing
from libs.subjects import EVENTS
from services.dispatcher.decide import decide
from services.lifecycle.forget import PAGE
from tests.contract.lifecycle_harness import APPLICATION, SUBSCRIPTION, LifecycleHarness, lifecycle
from tests.databases import Database
from tests.waiting import until

USER = new_id()
SECRET = "what-she-bought"


@pytest.fixture
async def log(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    async with lifecycle(database, bus, key_ring_file) as harness:
        yield harness


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    async with single_connection(database.admin_dsn) as connection:
        yield connection


@pytest.fixture
def other_key(key_ring_file: Path) -> tuple[DataKey, bytes]:
    """One that the subscription service does not give out: as if it were destroyed."""
    return KeyRing.load(key_ring_file).new_key()


async def accept(log: LifecycleHarness, key: tuple[DataKey, bytes] | None = None, **changes: Any) -> str:
    message = msgspec.structs.replace(log.message(), **changes)
    if key is not None:
        message = msgspec.structs.replace(message, key_id=key[0].key_id, wrapped_key=key[1])
    await log.accept(message)
    return message.message_id


# receipts -------------------------------------------------------------------------------------------------------------


async def convert(log: LifecycleHarness, message_id: str, data: dict[str, Any], **more: Any) -> rpc.ReceiptReply:
    receipt = rpc.Receipt(APPLICATION, message_id, "converted", "key:app", "bought", data, **more)
    return await log.bus.call("lifecycle", "receipt", receipt, rpc.ReceiptReply)


async def converted_of(log: LifecycleHarness, message_id: str) -> dict[str, Any]:
    (event,) = [each for each in (await log.get(message_id)).events if each.kind == "converted"]
    return event.data


async def test_what_an_app_attaches_is_sealed_and_shown(log: LifecycleHarness, admin: Connection) -> None:
    message_id = await accept(log)
    data = {"item": SECRET, "price": 12.5, "deep": {"list": [1, None, True]}}
    reply = await convert(log, message_id, data)
    assert reply.status == "converted"
    assert await converted_of(log, message_id) == {"action": "bought", "actor": "key:app", "data": data}
    rows = await admin.fetch("SELECT kind, data, sealed, key FROM lifecycle.message_events ORDER BY position")
    assert [row["kind"] for row in rows] == ["created", "received", "converted"]
    assert rows[2]["data"] == {"action": "bought", "actor": "key:app"}
    assert rows[2]["sealed"][:16] == log.key.key_id
    assert SECRET.encode() not in rows[2]["sealed"]


async def test_events_carry_nothing_of_it(log: LifecycleHarness) -> None:
    message_id = await accept(log)
    await convert(log, message_id, {"item": SECRET})

    async def are_published() -> bool:
        return any(b"converted" in each for each in await published(log.bus))

    await until(are_published, "the conversion is on EVENTS")
    assert not any(SECRET.encode() in each for each in await published(log.bus))


async def published(bus: Bus) -> list[bytes]:
    last = (await bus.js.stream_info(EVENTS)).state.last_seq
    return [(await bus.js.get_msg(EVENTS, seq=n + 1)).data or b"" for n in range(last)]


async def test_the_first_of_two_reports_stays(log: LifecycleHarness) -> None:
    message_id = await accept(log)
    for item in ("first", "second"):
        await convert(log, message_id, {"item": item})
    assert (await converted_of(log, message_id))["data"] == {"item": "first"}


async def test_nothing_attached_is_nothing_sealed(log: LifecycleHarness, admin: Connection) -> None:
    message_id = await accept(log)
    await convert(log, message_id, {})
    assert await converted_of(log, message_id) == {"action": "bought", "actor": "key:app"}
    assert await admin.fetchval("SELECT count(*) FROM lifecycle.message_events WHERE sealed IS NOT NULL") == 1


async def test_a_report_about_an_erased_person_counts_and_holds_nothing(
    log: LifecycleHarness, admin: Connection, other_key: tuple[DataKey, bytes]
) -> None:
    message_id = await accept(log, other_key)
    assert (await convert(log, message_id, {"item": SECRET})).status == "converted"
    assert "data" not in await converted_of(log, message_id)
    assert await admin.fetchval("SELECT count(*) FROM lifecycle.message_events WHERE sealed IS NOT NULL") == 1


async def test_once_the_key_is_destroyed_the_view_says_so(
    log: LifecycleHarness, other_key: tuple[DataKey, bytes]
) -> None:
    message_id = await accept(log)
    await convert(log, message_id, {"item": SECRET})
    log.key, log.wrapped = other_key
    view = await log.get(message_id)
    assert (view.content, view.status) == (None, "converted")
    assert await converted_of(log, message_id) == {"action": "bought", "actor": "key:app", "content_erased": True}


async def test_a_report_about_nothing_is_refused(log: LifecycleHarness) -> None:
    message_id = await accept(log)
    with pytest.raises(ResourceNotFound):
        await convert(log, new_id(), {"item": SECRET})
    with pytest.raises(ResourceNotFound):
        await convert(log, message_id, {"item": SECRET}, subscription_id=new_id())


# exporting ------------------------------------------------------------------------------------------------------------


async def export(log: LifecycleHarness, limit: int = 100, **changes: Any) -> list[rpc.MessageView]:
    """All pages."""
    found: list[rpc.MessageView] = []
    after: str | None = None
    while True:
        request = rpc.ExportMessages(APPLICATION, USER, [SUBSCRIPTION], [log.key.key_id], after, limit)
        request = msgspec.structs.replace(request, **changes)
        page = await log.bus.call("lifecycle", "export", request, rpc.MessagesExport)
        found += page.messages
        if page.next_after is None:
            return found
        after = page.next_after


async def test_a_persons_messages_come_whole_in_pages_oldest_first(
    log: LifecycleHarness, other_key: tuple[DataKey, bytes]
) -> None:
    before = [await accept(log) for _ in range(3)]
    theirs = [await accept(log, user_id=USER, subscription_id=new_id()) for _ in range(4)]
    others: dict[str, Any] = {"user_id": new_id()}
    for strange in (others, {"subscription_id": new_id()}, others | {"subscription_id": new_id()}):
        await accept(log, **strange)
    await accept(log, other_key)  # nobody's, on the same device, under a key that is not the person's
    await convert(log, theirs[0], {"item": SECRET})
    for limit in (1, 2, 3, 8, 100):
        found = await export(log, limit)
        assert [view.id for view in found] == before + theirs
    contents = {msgspec.msgpack.decode(view.content or b"", type=Content).body for view in found}
    assert contents == {"a secret body"}
    assert found[3].events[-1].data["data"] == {"item": SECRET}
    assert await export(log, application_id=new_id()) == []


async def test_a_page_fits_a_reply_however_much_is_in_its_messages(log: LifecycleHarness) -> None:
    content = msgspec.msgpack.encode(Content(body="x" * 700_000))
    ids = [await accept(log, user_id=USER, content=content) for _ in range(5)]
    assert [view.id for view in await export(log)] == ids


async def test_a_question_that_is_wrong_is_refused(log: LifecycleHarness) -> None:
    wrong: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": 501},
        {"user_id": "nobody"},
        {"subscription_ids": ["none"]},
        {"after": "there"},
        {"key_ids": [b"k"] * 10_001},
    ]
    for changes in wrong:
        with pytest.raises(ValidationFailed):
            await export(log, **changes)


# forgetting -----------------------------------------------------------------------------------------------------------


async def forget(log: LifecycleHarness, *subscriptions: str, application_id: str = APPLICATION) -> None:
    request = rpc.ForgetSubjects(application_id, USER, list(subscriptions), [log.key.key_id])
    await log.bus.call("lifecycle", "forget", request, rpc.Empty)


async def wait_for_retry(log: LifecycleHarness, admin: Connection, *ids: str) -> None:
    """They are in `due`, for an hour."""
    await log.report(*(Outcome(each, "errored", 1, "call", 0, reason="503", retry_class="outage") for each in ids))

    async def are_due() -> bool:
        return bool(await admin.fetchval("SELECT count(*) FROM lifecycle.due") == len(ids))

    await until(are_due, "the messages wait")
    await admin.execute("UPDATE lifecycle.due SET due_at = now() + interval '1 hour'")


async def test_what_waits_for_the_person_fails_and_nothing_else(
    database: Database, bus: Bus, key_ring_file: Path, admin: Connection, other_key: tuple[DataKey, bytes]
) -> None:
    async with lifecycle(database, bus, key_ring_file, scale=1) as log:
        anonymous = await accept(log)
        known = await accept(log, user_id=USER, subscription_id=new_id())
        strange = await accept(log, other_key, user_id=new_id())
        untouched = await accept(log, user_id=new_id(), subscription_id=new_id())
        await wait_for_retry(log, admin, anonymous, known, strange, untouched)
        await forget(log, SUBSCRIPTION, application_id=new_id())
        assert await admin.fetchval("SELECT count(*) FROM lifecycle.due") == 4
        for _ in range(2):
            await forget(log, SUBSCRIPTION)
            views = [await log.get(each) for each in (anonymous, known, strange, untouched)]
            assert [(view.status, view.reason) for view in views] == [
                ("failed", "content_erased"),
                ("failed", "content_erased"),
                ("errored", "503"),
                ("errored", "503"),
            ]
            kinds = [[event.kind for event in view.events] for view in views]
            assert kinds == [["created", "errored", "failed"]] * 2 + [["created", "errored"]] * 2
        left = await admin.fetch("SELECT message_id::text FROM lifecycle.due")
        assert {row["message_id"] for row in left} == {strange, untouched}


async def test_more_than_a_page_of_waiting_messages_is_settled(log: LifecycleHarness, admin: Connection) -> None:
    messages = [msgspec.structs.replace(log.message(), user_id=USER) for _ in range(PAGE + 20)]
    await log.accept(*messages)
    await admin.execute(
        "INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason) "
        "SELECT id, application_id, lane, now() + interval '1 hour', 'retry:outage' FROM lifecycle.messages"
    )
    await forget(log)
    rows = await admin.fetch("SELECT status, reason, count(*) FROM lifecycle.messages GROUP BY 1, 2")
    assert [tuple(row) for row in rows] == [("failed", "content_erased", PAGE + 20)]


async def test_answers_that_speak_of_the_person_are_forgotten(log: LifecycleHarness) -> None:
    device = new_id()

    async def remember(key: str, *subjects: str, application_id: str = APPLICATION) -> bytes | None:
        kept = rpc.Remember(application_id, rpc.Idempotency(key, b"f" * 32, key.encode()), list(subjects))
        return (await log.bus.call("lifecycle", "remember", kept, rpc.Replay)).answer

    other = new_id()
    rows: list[tuple[str, tuple[str, ...], str]] = [
        ("user", (USER,), APPLICATION),
        ("device", (device, new_id()), APPLICATION),
        ("stranger", (new_id(),), APPLICATION),
        ("nobody", (), APPLICATION),
        ("theirs", (USER,), other),
    ]
    for key, subjects, application_id in rows:
        assert await remember(key, *subjects, application_id=application_id) is None
    await forget(log, device)
    answers = {key: await remember(key, application_id=application_id) for key, _, application_id in rows}
    assert answers == {
        "user": None,
        "device": None,
        "stranger": b"stranger",
        "nobody": b"nobody",
        "theirs": b"theirs",
    }


async def test_who_cannot_be_anybody_is_refused(log: LifecycleHarness) -> None:
    with pytest.raises(ValidationFailed):
        await forget(log, "nobody")


def test_the_dispatcher_fails_what_cannot_be_opened_whoever_it_is_for() -> None:
    item = Accepted(new_id(), SUBSCRIPTION, 1, b"sealed", 2_000)
    refusal = decide(item, None, 1_000, erased=True)
    assert refusal is not None
    assert (refusal.kind, refusal.reason) == ("failed", "content_erased")
    late = decide(item, None, 2_000, erased=True)
    assert late is not None
    assert late.kind == "expired"
