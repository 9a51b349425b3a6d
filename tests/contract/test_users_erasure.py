"""A person is forgotten: at once, once, and again after a restore."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats.js.errors
import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.envelope import DispatchEnvelope, encode
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import single_connection
from libs.policy import QuietHours
from libs.subjects import ERASURES, dispatch, erasures, send, stream_of
from services.subscription.forgetting import Reach, passed
from tests.contract.users_harness import ACTOR, OTHER, SHOP, UsersHarness, serve_lifecycle, users
from tests.databases import Database
from tests.waiting import until

TOKEN = "cd" * 32


@pytest.fixture
async def people(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> AsyncIterator[UsersHarness]:
    async with users(database, key_ring_file, nats_settings, bus) as harness:
        yield harness


async def completed(people: UsersHarness, request_id: str) -> rpc.Erasure:
    async def is_completed() -> bool:
        return (await people.erasure(request_id)).status == "completed"

    await until(is_completed, "the erasure is completed")
    return await people.erasure(request_id)


async def published(people: UsersHarness) -> list[rpc.ErasureRecord]:
    """What lies on ERASURES."""
    count = (await people.bus.js.stream_info(ERASURES)).state.last_seq
    messages = [await people.bus.js.get_msg(ERASURES, seq=n + 1) for n in range(count)]
    return [msgspec.msgpack.decode(each.data or b"", type=rpc.ErasureRecord) for each in messages]


async def rows_of(people: UsersHarness, *ids: str) -> list[dict[str, object]]:
    rows = await people.admin.fetch(
        "SELECT * FROM subscription.subscriptions WHERE id = ANY ($1::uuid[]) ORDER BY id", ids
    )
    return [dict(row) for row in rows]


# at once --------------------------------------------------------------------------------------------------------------


async def test_the_rows_of_the_person_hold_nothing_more(people: UsersHarness) -> None:
    device = rpc.DeviceInfo(device_model="Galaxy", device_language="ko", country_code="KR", timezone="Asia/Seoul")
    phone = await people.device(
        token=TOKEN,
        device_info=device,
        tags={"plan": "gold"},
        installation_id="inst-1",
        quiet_hours=QuietHours("22:00", "07:00"),
    )
    found = await people.identify("user_1", phone)
    other = await people.device()
    (untouched,) = await rows_of(people, other)
    (before,) = await rows_of(people, phone)
    done = await people.erase("user_1", new_id())
    assert (done.status, done.subscriptions, done.user_id) == ("in_progress", 1, found.user_id)
    (row,) = await rows_of(people, phone)
    assert row["token_hash"] != before["token_hash"]
    assert len(bytes(row["token_hash"])) == 32  # type: ignore[call-overload]
    assert (row["sealed_token"], row["token_hint"], row["wrapped_key"]) == (b"", "", None)
    assert (row["device_info"], row["tags"], row["country"], row["language"]) == ({}, {}, None, None)
    assert (row["installation_id"], row["secret_hash"]) == (None, None)
    assert (row["timezone"], row["quiet_hours"]) == (None, None)
    assert row["archived_at"] is not None
    user = await people.admin.fetchrow("SELECT * FROM subscription.users WHERE id = $1", found.user_id)
    assert user is not None
    assert (user["external_id"], user["key_id"], user["last_active_at"]) == (None, None, None)
    assert user["erased_at"] is not None
    assert (await people.kinds(phone))[-1] == "erased"
    assert await rows_of(people, other) == [untouched]


async def test_all_keys_of_the_person_are_destroyed_and_no_others(people: UsersHarness) -> None:
    phone, tablet, others = await people.device(), await people.device(), await people.device()
    await people.identify("other", others)
    kept = await people.key_ids() - {await own_key(people, each) for each in (phone, tablet)}
    await people.identify("user_1", phone, tablet)
    await people.log_out(tablet)
    await people.identify("user_1", tablet)
    await people.erase("user_1", new_id())
    assert await people.key_ids() == kept


async def own_key(people: UsersHarness, subscription_id: str) -> bytes:
    found = await people.resolve(subscription_id)
    return found.recipients[0].key_id


async def test_archived_subscriptions_are_forgotten_too(people: UsersHarness) -> None:
    phone = await people.device(token=TOKEN)
    await people.identify("user_1", phone)
    await people.bus.call("subscription", "archive", rpc.ArchiveSubscription(SHOP, phone, ACTOR), rpc.Archived)
    (before,) = await rows_of(people, phone)
    await people.erase("user_1", new_id())
    (row,) = await rows_of(people, phone)
    assert (row["sealed_token"], row["archived_at"]) == (b"", before["archived_at"])


async def test_the_device_may_come_again_and_is_nobodys(people: UsersHarness) -> None:
    phone = await people.device(token=TOKEN, installation_id="inst-1")
    await people.identify("user_1", phone)
    await people.erase("user_1", new_id())
    again = await people.device(token=TOKEN, installation_id="inst-1")
    assert again != phone
    assert (await people.view(again)).user_id is None
    assert await people.token(again) == TOKEN


async def test_a_user_of_the_same_name_is_another_person(people: UsersHarness) -> None:
    first = await people.identify("user_1", await people.device())
    await people.erase("user_1", new_id())
    second = await people.identify("user_1", await people.device())
    assert second.created
    assert second.user_id != first.user_id


# once -----------------------------------------------------------------------------------------------------------------


async def test_an_erased_user_is_unknown(people: UsersHarness) -> None:
    phone = await people.device()
    found = await people.identify("user_1", phone)
    await people.erase("user_1", new_id())
    for name in ("user_1", found.user_id):
        for call in (people.user, people.devices, people.export):
            with pytest.raises(ResourceNotFound):
                await call(name)
        with pytest.raises(ResourceNotFound):
            await people.erase(name, new_id())
    with pytest.raises(ResourceNotFound):
        await people.view(phone)
    with pytest.raises(ResourceNotFound):
        await people.identify("user_2", phone)
    with pytest.raises(ResourceNotFound):
        await people.history(found.user_id)


async def test_the_same_request_finds_the_same_erasure(people: UsersHarness) -> None:
    request_id = new_id()
    await people.identify("user_1", await people.device())
    first = await people.erase("user_1", request_id)
    again = await people.erase("user_1", request_id)
    assert (again.request_id, again.requested_at_ms, again.user_id) == (
        request_id,
        first.requested_at_ms,
        first.user_id,
    )


async def test_of_many_requests_at_once_one_erases(people: UsersHarness) -> None:
    await people.identify("user_1", await people.device())
    same = new_id()
    results = await asyncio.gather(
        *(people.erase("user_1", request_id) for request_id in [same, same, same, new_id(), new_id()]),
        return_exceptions=True,
    )
    done = {each.request_id for each in results if isinstance(each, rpc.Erasure)}
    assert len(done) == 1
    assert all(isinstance(each, rpc.Erasure | ResourceNotFound) for each in results)
    assert await people.admin.fetchval("SELECT count(*) FROM subscription.erasures") == 1


async def test_another_application_knows_neither_user_nor_erasure(people: UsersHarness) -> None:
    found = await people.identify("user_1", await people.device())
    for name in ("user_1", found.user_id):
        with pytest.raises(ResourceNotFound):
            await people.erase(name, new_id(), OTHER)
    request_id = (await people.erase("user_1", new_id())).request_id
    for application_id, asked in ((OTHER, request_id), (SHOP, new_id()), (SHOP, "del-1")):
        with pytest.raises(ResourceNotFound):
            await people.erasure(asked, application_id)


async def test_the_id_of_another_applications_request_erases_nobody(people: UsersHarness) -> None:
    await people.identify("user_1")
    theirs = await people.identify("user_1", application_id=OTHER)
    request_id = (await people.erase("user_1", new_id())).request_id
    with pytest.raises(ValidationFailed):
        await people.erase("user_1", request_id, OTHER)
    assert (await people.user("user_1", OTHER)).user_id == theirs.user_id


# in the background ----------------------------------------------------------------------------------------------------


async def test_the_erasure_is_published_and_lifecycle_forgets_before_it_is_completed(people: UsersHarness) -> None:
    phone = await people.device()
    found = await people.identify("user_1", phone)
    request_id = (await people.erase("user_1", new_id())).request_id
    done = await completed(people, request_id)
    assert done.completed_at_ms is not None
    assert done.completed_at_ms >= done.requested_at_ms
    (record,) = await published(people)
    assert (record.application_id, record.request_id, record.user_id) == (SHOP, request_id, found.user_id)
    assert record.subscription_ids == [phone]
    assert len(record.key_ids) == 3  # the user's, the adopted one, the device's own
    (asked,) = people.forgotten
    assert (asked.user_id, asked.subscription_ids, asked.key_ids) == (found.user_id, [phone], record.key_ids)


async def test_what_a_stopped_process_left_is_finished_by_the_next(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    async with users(database, key_ring_file, nats_settings, bus, lifecycle=False) as people:
        await people.identify("user_1", await people.device())
        request_id = (await people.erase("user_1", new_id())).request_id

        async def is_published() -> bool:
            return bool(await published(people))

        await until(is_published, "the erasure lies on ERASURES")
        assert (await people.erasure(request_id)).status == "in_progress"
    async with users(database, key_ring_file, nats_settings, bus) as people:
        await completed(people, request_id)
        assert len(await published(people)) == 1


async def test_an_erasure_is_not_completed_while_opened_messages_are_under_way(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    """What the dispatcher has opened lies in SEND until a sender is through with it."""
    async with users(database, key_ring_file, nats_settings, bus, lifecycle=False) as people:
        await bus.publish(dispatch("bulk"), encode(DispatchEnvelope(new_id(), SHOP, "bulk", [])), msg_id=new_id())
        await people.identify("user_1", await people.device())
        request_id = (await people.erase("user_1", new_id())).request_id
        await serve_lifecycle(people)

        async def is_forgotten() -> bool:
            return bool(people.forgotten)

        await until(is_forgotten, "lifecycle was asked")
        await bus.publish(send("bulk", "apns", "local"), b"opened", msg_id=new_id())
        await bus.js.purge_stream(stream_of("DISPATCH", "bulk"))
        with pytest.raises(AssertionError):
            await until(lambda: _is_completed(people, request_id), "never", seconds=0.8)
        await bus.js.purge_stream(stream_of("SEND", "bulk"))
        await completed(people, request_id)


async def _is_completed(people: UsersHarness, request_id: str) -> bool:
    return (await people.erasure(request_id)).status == "completed"


@pytest.mark.parametrize(
    ("now", "through"),
    [
        ({"SEND_bulk": Reach("monday", 5, 9, empty=False)}, False),
        ({"SEND_bulk": Reach("monday", 9, 12, empty=False)}, False),
        ({"SEND_bulk": Reach("monday", 10, 12, empty=False)}, True),
        ({"SEND_bulk": Reach("monday", 13, 12, empty=True)}, True),
        ({"SEND_bulk": Reach("tuesday", 1, 2, empty=False)}, True),
        ({}, True),
    ],
)
def test_a_stream_is_passed_when_all_it_held_is_acknowledged(now: dict[str, Reach], through: bool) -> None:
    assert passed({"SEND_bulk": Reach("monday", 5, 9, empty=False)}, now) is through
    assert passed({"SEND_bulk": Reach("monday", 10, 9, empty=True)}, now)


# again, after a restore -----------------------------------------------------------------------------------------------


async def restored(people: UsersHarness, dump: dict[str, list[dict[str, object]]]) -> None:
    """The tables as they were when `dump` was made."""
    admin = people.admin
    for table in dump:
        await admin.execute(f"DELETE FROM subscription.{table}")
    for table, rows in reversed(dump.items()):
        for row in rows:
            names = [name for name in row if name not in ("country", "test", "language", "timezone")]
            places = ", ".join(f"${n + 1}" for n in range(len(names)))
            overriding = "OVERRIDING SYSTEM VALUE" if table == "subscription_events" else ""
            await admin.execute(
                f"INSERT INTO subscription.{table} ({', '.join(names)}) {overriding} VALUES ({places})",
                *(row[name] for name in names),
            )


async def dumped(people: UsersHarness) -> dict[str, list[dict[str, object]]]:
    tables = ("erasures", "subscription_events", "subscriptions", "users", "data_keys")
    return {
        table: [dict(row) for row in await people.admin.fetch(f"SELECT * FROM subscription.{table}")]
        for table in tables
    }


async def record_of(people: UsersHarness, name: str) -> rpc.ErasureRecord:
    request_id = (await people.erase(name, new_id())).request_id
    await completed(people, request_id)
    (record,) = [each for each in await published(people) if each.request_id == request_id]
    return record


async def test_after_a_restore_the_person_is_forgotten_again(people: UsersHarness) -> None:
    phone = await people.device()
    anonymous = (await people.key_for(phone)).seal(b"hello", b"bound")
    found = await people.identify("user_1", phone)
    to_user = (await people.key_for(phone)).seal(b"hello", b"bound")
    backup = await dumped(people)
    record = await record_of(people, "user_1")
    await restored(people, backup)
    assert await people.is_readable(to_user)
    assert await people.reapply(record) == 1
    assert [await people.is_readable(each) for each in (anonymous, to_user)] == [False, False]
    assert [row["sealed_token"] for row in await rows_of(people, phone)] == [b""]
    with pytest.raises(ResourceNotFound):
        await people.user(found.user_id)
    done = await completed(people, record.request_id)
    assert done.requested_at_ms == record.requested_at_ms
    users = "SELECT erased_at FROM subscription.users"
    erased_at, kinds = await people.admin.fetchval(users), await people.kinds(phone)
    assert await people.reapply(record, record) == 0
    assert (await people.admin.fetchval(users), await people.kinds(phone)) == (erased_at, kinds)


async def test_a_key_that_was_adopted_after_the_backup_goes_and_its_device_stays(people: UsersHarness) -> None:
    """In the backup the device was nobody's; later it was the person's, and then somebody else's."""
    first, moved = await people.device(token=TOKEN), await people.device(token="ef" * 32)
    await people.identify("earlier", moved)
    await people.log_out(moved)
    sealed = [(await people.key_for(each)).seal(b"hello", b"bound") for each in (first, moved)]
    backup = await dumped(people)
    for each in (first, moved):
        await people.identify("user_1", each)
        await people.identify("later", each)
    record = await record_of(people, "user_1")
    assert (record.subscription_ids, len(record.key_ids)) == ([], 3)
    await restored(people, backup)
    assert [await people.is_readable(each) for each in sealed] == [True, True]
    await people.reapply(record)
    assert [await people.is_readable(each) for each in sealed] == [False, False]
    assert [await people.token(each) for each in (first, moved)] == [TOKEN, "ef" * 32]
    kept = await people.admin.fetchval("SELECT key_ids FROM subscription.erasures WHERE id = $1", record.request_id)
    assert sorted(each.bytes for each in kept) == sorted(record.key_ids), "a still older backup needs them all"


async def test_an_erasure_of_somebody_the_backup_does_not_know_is_kept(people: UsersHarness) -> None:
    backup = await dumped(people)
    await people.identify("user_1", await people.device())
    record = await record_of(people, "user_1")
    await restored(people, backup)
    assert await people.reapply(record) == 1
    assert (await completed(people, record.request_id)).user_id == record.user_id


async def test_erasures_are_kept_for_ever(people: UsersHarness) -> None:
    config_ = (await people.bus.js.stream_info(ERASURES)).config
    assert (config_.max_age or 0, config_.subjects) == (0, [erasures("*")])
    with pytest.raises(nats.js.errors.NotFoundError):
        await people.bus.js.get_msg(ERASURES, seq=1)


async def test_too_many_records_at_once_are_refused(people: UsersHarness) -> None:
    record = rpc.ErasureRecord(SHOP, new_id(), new_id(), [], [], 0)
    with pytest.raises(ValidationFailed):
        await people.reapply(*[record] * 1001)


async def test_the_service_may_forget_but_not_rewrite_who_was_forgotten(
    people: UsersHarness, database: Database
) -> None:
    await people.identify("user_1")
    await people.erase("user_1", new_id())
    async with single_connection(database.dsn("subscription")) as own:
        for statement in ("DELETE FROM subscription.erasures", "UPDATE subscription.erasures SET user_id = id"):
            with pytest.raises(Exception, match="permission denied"):
                await own.execute(statement)
