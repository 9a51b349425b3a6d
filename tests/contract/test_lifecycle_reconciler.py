"""The reconciler's search outlives the process: the next one goes on where the last one stopped (R6)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nats.js.api import StreamInfo

from libs.bus import Bus
from libs.config import Database as DatabaseSettings
from libs.envelope import DispatchEnvelope, Outcome
from libs.ids import new_id
from libs.pg import Pool, connect_pool
from libs.subjects import dispatch, send, stream_of
from services.lifecycle import queries
from services.lifecycle.handoff import Publisher
from services.lifecycle.reconcile import Reconciler
from tests.contract.aged_log import AgedLog, now
from tests.contract.streams_harness import Tap, drained, impatient, stored, tapped
from tests.databases import Database
from tests.waiting import until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

DISPATCH, SEND = stream_of("DISPATCH", "normal"), stream_of("SEND", "normal")
TO_SENDERS = send("normal", "apns", "local")
KEPT = "SELECT count(*) FROM lifecycle.reconciliations"
STAGE = "SELECT stage FROM lifecycle.reconciliations WHERE last_seq IS NOT NULL"
MEMBERS = "SELECT handoff_ids FROM lifecycle.reconciliations"
FIRST_OF_SEND, SECOND_OF_SEND = 2, 3
"""Stages: DISPATCH was passed twice before."""


@pytest.fixture
async def tap(bus: Bus) -> AsyncIterator[Tap]:
    """The sender: what it holds keeps SEND from being passed."""
    async with tapped(bus, SEND, TO_SENDERS) as found:
        yield found


class Killed(BaseException):
    """The process is gone, in the middle of what it did."""


class ShortLived(Bus):
    """Of a process that is killed when it has asked NATS so many times."""

    def __init__(self, bus: Bus, questions: int) -> None:
        super().__init__(bus.client, bus.settings)
        self._left = questions

    async def stream_state(self, stream: str, subjects: str | None = None) -> StreamInfo:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return await super().stream_state(stream, subjects)


async def lost(log: AgedLog) -> tuple[str, list[str]]:
    """A hand-off that counts as published and never reached NATS."""
    handoff_id = new_id()
    ids = [await log.message(handoff_id=handoff_id) for _ in range(3)]
    await log.handoff(handoff_id, ids, now() + timedelta(days=1))
    return handoff_id, ids


async def to_senders(bus: Bus) -> None:
    await bus.publish(TO_SENDERS, b"a delivery", msg_id=new_id())


def reconciler(bus: Bus, pool: Pool) -> Reconciler:
    return Reconciler(pool, bus, Publisher(bus, 1), "normal", 0)


async def reached(log: AgedLog, stage: int) -> None:
    async def there() -> bool:
        return bool(await log.fetchval(STAGE) == stage)

    await until(there, f"wait {stage} has begun")


@contextlib.asynccontextmanager
async def living(reconciler: Reconciler) -> AsyncIterator[asyncio.Task[bool]]:
    """Killed at the end, wherever it is."""
    with impatient():
        task = asyncio.create_task(reconciler.round())
        yield task
        task.cancel()
        await asyncio.wait({task})


async def killed_waiting_for_send(bus: Bus, pool: Pool, log: AgedLog) -> None:
    """A sender holds what is in SEND, and the reconciler that waits for it dies."""
    await to_senders(bus)
    async with living(reconciler(bus, pool)):
        await reached(log, FIRST_OF_SEND)


async def repairs(log: AgedLog, ids: list[str]) -> list[int]:
    """How often each was handed off again."""
    return [len(await log.events(i, "routed")) for i in ids]


async def test_what_was_lost_is_found_though_no_process_sees_more_than_one_wait_through(
    bus: Bus, log: AgedLog, pool: Pool
) -> None:
    handoff_id, ids = await lost(log)
    async with tapped(bus, DISPATCH, dispatch("normal")) as dispatcher:
        for _ in range(8):
            with contextlib.suppress(Killed), impatient():
                await reconciler(ShortLived(bus, 3), pool).round()
        async with asyncio.timeout(5):
            envelope = await dispatcher.next(DispatchEnvelope)
    assert envelope.marked
    assert {item.message_id for item in envelope.items} == set(ids)
    assert await repairs(log, ids) == [1, 1, 1]
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs WHERE id = $1", handoff_id) == 0


async def test_the_next_process_waits_for_what_was_noted_and_not_for_what_came_since(
    bus: Bus, log: AgedLog, pool: Pool, tap: Tap
) -> None:
    handoff_id, ids = await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    await to_senders(bus)
    await lost(log)
    async with living(reconciler(bus, pool)) as task:
        await (await tap.raw()).ack()
        await reached(log, SECOND_OF_SEND)
        assert await stored(bus, SEND) == 1
        assert [str(i) for i in await log.fetchval(MEMBERS)] == [handoff_id], "none is added to a search"
        await (await tap.raw()).ack()
        assert await task, "there may be more"
    assert await repairs(log, ids) == [1, 1, 1]
    assert await log.fetchval(KEPT) == 0


async def test_what_is_still_held_is_not_taken_for_lost_by_the_next_process(
    bus: Bus, log: AgedLog, pool: Pool, tap: Tap
) -> None:
    _, ids = await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    held = await tap.raw()
    for _ in range(3):
        with contextlib.suppress(Killed), impatient():
            await reconciler(ShortLived(bus, 1), pool).round()
    assert (await log.fetchval(STAGE), await repairs(log, ids)) == (FIRST_OF_SEND, [0, 0, 0])
    await held.ack()
    await drained(bus, SEND)


async def test_a_stream_that_was_made_anew_meanwhile_is_passed(bus: Bus, log: AgedLog, pool: Pool) -> None:
    """It has the same sequence numbers, and what it held is gone."""
    await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    await bus.js.delete_stream(SEND)
    await bus.ensure_streams()
    await to_senders(bus)
    async with living(reconciler(bus, pool)):
        await reached(log, SECOND_OF_SEND)


async def test_a_stream_that_is_gone_is_made_anew_and_passed(bus: Bus, log: AgedLog, pool: Pool) -> None:
    _, ids = await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    await bus.js.delete_stream(SEND)
    async with living(reconciler(bus, pool)) as task:
        await task
    assert await repairs(log, ids) == [1, 1, 1]


async def test_a_search_for_what_became_final_meanwhile_ends_without_another_wait(
    bus: Bus, log: AgedLog, pool: Pool
) -> None:
    handoff_id, ids = await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    await log.report(*(Outcome(i, "sent", 1, "call", 0) for i in ids))
    async with living(reconciler(bus, pool)) as task, asyncio.timeout(5):
        assert not await task, "SEND is not passed, and nobody waits for it"
    assert await log.fetchval(KEPT) == 0
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs WHERE id = $1", handoff_id) == 0
    assert await repairs(log, ids) == [0, 0, 0]


async def test_what_becomes_final_in_the_last_wait_is_not_handed_off_again(
    bus: Bus, log: AgedLog, pool: Pool, tap: Tap
) -> None:
    _, ids = await lost(log)
    await to_senders(bus)
    async with living(reconciler(bus, pool)) as task:
        await reached(log, FIRST_OF_SEND)
        await log.report(*(Outcome(i, "sent", 1, "call", 0) for i in ids[1:]))
        await (await tap.raw()).ack()
        await task
    assert await repairs(log, ids) == [1, 0, 0]
    assert await log.fetchval(KEPT) == 0


async def test_two_that_search_at_once_repair_once(bus: Bus, log: AgedLog, pool: Pool, tap: Tap) -> None:
    """The old leader has not heard yet that there is a new one."""
    _, ids = await lost(log)
    await to_senders(bus)
    async with living(reconciler(bus, pool)) as old:
        await reached(log, FIRST_OF_SEND)
        async with living(reconciler(bus, pool)) as new:
            await (await tap.raw()).ack()
            await asyncio.gather(old, new)
    assert await repairs(log, ids) == [1, 1, 1]
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs") == await stored(bus, DISPATCH) == 1
    assert await log.fetchval(KEPT) == 0


async def test_two_that_have_passed_all_streams_repair_once(bus: Bus, log: AgedLog, pool: Pool) -> None:
    _, ids = await lost(log)
    both = [reconciler(bus, pool) for _ in range(2)]
    async with pool.connection() as c:
        search, _ = await both[0]._begin(c)
        assert await both[1]._begin(c) == (None, False), "of two that begin, one does"
    assert search is not None
    with impatient():
        await asyncio.gather(*(each._repair(search) for each in both))
    assert await repairs(log, ids) == [1, 1, 1]
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs") == 1


async def test_a_process_that_is_behind_leaves_the_search_to_the_one_that_is_further(
    bus: Bus, log: AgedLog, pool: Pool
) -> None:
    """Its own note would be of a later time, and longer to wait for."""
    await lost(log)
    behind = reconciler(bus, pool)
    async with pool.connection() as c:
        search, _ = await behind._begin(c)
    assert search is not None
    await killed_waiting_for_send(bus, pool, log)
    assert not await behind._pass_streams(search)
    assert await log.fetchval(STAGE) == FIRST_OF_SEND


async def test_a_search_of_another_epoch_is_begun_anew(bus: Bus, log: AgedLog, pool: Pool) -> None:
    """After a failover or a restore: what is in the streams is looked for, whatever was passed before."""
    handoff_id, ids = await lost(log)
    await killed_waiting_for_send(bus, pool, log)
    await log.owner("UPDATE lifecycle.reconciliations SET stage = 5, last_seq = 0")
    late = await log.fetchval("SELECT id FROM lifecycle.reconciliations")
    await log.owner("INSERT INTO lifecycle.epochs (epoch) SELECT max(epoch) + 1 FROM lifecycle.epochs")
    async with living(reconciler(bus, pool)):
        await reached(log, FIRST_OF_SEND)
    assert await log.fetchval("SELECT id FROM lifecycle.reconciliations") != late
    assert [str(i) for i in await log.fetchval(MEMBERS)] == [handoff_id]
    assert await repairs(log, ids) == [0, 0, 0]


async def test_a_process_that_outlived_its_epoch_does_not_end_its_search(bus: Bus, log: AgedLog, pool: Pool) -> None:
    _, ids = await lost(log)
    late = reconciler(bus, pool)
    async with pool.connection() as c:
        search, _ = await late._begin(c)
    assert search is not None
    await log.owner("INSERT INTO lifecycle.epochs (epoch) SELECT max(epoch) + 1 FROM lifecycle.epochs")
    assert not await late._pass_streams(search)
    await late._repair(search)
    assert await repairs(log, ids) == [0, 0, 0]


async def test_nothing_is_written_while_nothing_is_lost(bus: Bus, log: AgedLog, pool: Pool) -> None:
    await log.owner("REVOKE INSERT, UPDATE, DELETE ON lifecycle.reconciliations FROM automata_lifecycle")
    assert not await reconciler(bus, pool).round()
    _, ids = await lost(log)
    assert not await Reconciler(pool, bus, Publisher(bus, 1), "normal", 60).round(), "too young to be looked for"
    await log.report(*(Outcome(i, "sent", 1, "call", 0) for i in ids))
    assert not await reconciler(bus, pool).round()
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs") == 0


async def test_who_waits_for_a_stream_holds_no_connection(bus: Bus, log: AgedLog, database: Database) -> None:
    await lost(log)
    await to_senders(bus)
    settings = DatabaseSettings(url=database.dsn("lifecycle"), pool=1)
    only = await connect_pool(settings, prepare=queries.SET_EPOCH)
    async with living(reconciler(bus, only)):
        await reached(log, FIRST_OF_SEND)
        async with asyncio.timeout(2), only.connection() as c:
            assert await c.fetchval("SELECT true")
    await only.close()
