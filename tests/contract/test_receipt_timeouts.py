"""What an app does not confirm in time has failed, where its application asks for that; a late receipt still counts."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from libs.bus import Bus, Handler
from libs.clock import FakeClock
from libs.envelope import Outcome
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.pg import Pool
from libs.rpc import Applications, ApplicationView, ListApplications
from services.lifecycle import queries_expiry, receipts
from services.lifecycle.receipts import ASK_SECONDS, ReceiptTimeouts
from tests.contract.aged_log import APPLICATION, AgedLog, now
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ASKED = 72
LONG_AGO = timedelta(hours=ASKED, minutes=30)


class Applicants:
    """The application service's list."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.asked = 0

    def verbs(self) -> dict[str, tuple[type[ListApplications], Handler]]:
        return {"list_applications": (ListApplications, self.list)}

    async def list(self, request: ListApplications) -> Applications:
        self.asked += 1
        ids = sorted(i for i in self.settings if request.after is None or i > request.after)[: request.limit]
        return Applications([ApplicationView(i, "Shop", "default", self.settings[i], False, False, 0) for i in ids])


@pytest.fixture
async def applicants(bus: Bus) -> Applicants:
    found = Applicants()
    found.settings[APPLICATION] = {"receipt_timeout_hours": ASKED}
    await bus.serve("application", found.verbs())
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def timeouts(pool: Pool, bus: Bus, clock: FakeClock, log: AgedLog, applicants: Applicants) -> ReceiptTimeouts:
    """Of a system in which the application has asked for a long time."""
    found = ReceiptTimeouts(pool, bus, clock)
    await found.round()
    await log.owner("UPDATE lifecycle.receipt_cursors SET last_id = lifecycle.first_id_at(now() - interval '30 days')")
    return found


async def all_rounds(timeouts: ReceiptTimeouts) -> None:
    async with asyncio.timeout(20):
        while await timeouts.round():
            pass


async def later(log: AgedLog, clock: FakeClock, message_id: str, age: timedelta) -> None:
    """As if everything had happened so much earlier: the clock moves, or the rows do."""
    clock.advance(age.total_seconds())
    for table, column, key in (
        ("messages", "sent_at", "id"),
        ("message_events", "occurred_at", "message_id"),
        ("receipts_awaited", "look_at", "message_id"),
    ):
        earlier = f"{column} = {column} - interval '{age.total_seconds()} s'"
        await log.owner(f"UPDATE lifecycle.{table} SET {earlier} WHERE {key} = '{message_id}'")


async def test_no_receipt_in_time_fails_the_message_and_says_why(log: AgedLog, timeouts: ReceiptTimeouts) -> None:
    at = now() - LONG_AGO
    message_id = await log.message(at, ("sent", at))
    await all_rounds(timeouts)
    await all_rounds(timeouts)
    row = await log.row(message_id)
    assert (row["status"], row["reason"]) == ("failed", "receipt_timeout")
    (event,) = await log.events(message_id, "failed")
    assert (event["attempt"], event["key"]) == (1, "receipt_timeout")
    assert event["data"] == {"hours": ASKED, "sent_at_ms": round(at.timestamp() * 1000)}


async def test_a_receipt_after_the_timeout_still_wins(log: AgedLog, timeouts: ReceiptTimeouts) -> None:
    at = now() - LONG_AGO
    message_id = await log.message(at, ("sent", at))
    await all_rounds(timeouts)
    await log.report(Outcome(message_id, "received", 0, "", 0))
    assert await log.status(message_id) == "received"
    await all_rounds(timeouts)
    assert await log.status(message_id) == "received"


async def test_others_are_left_as_they_are(log: AgedLog, timeouts: ReceiptTimeouts) -> None:
    at, stranger = now() - LONG_AGO, new_id()
    expected = {
        await log.message(at, ("sent", at), ("received", at)): "received",
        await log.message(at, ("sent", at), ("converted", at)): "converted",
        await log.message(at, ("failed", at)): "failed",
        await log.message(at, ("cancelled", at)): "cancelled",
        await log.message(at, ("sent", at), channel="sms"): "successful",
        await log.message(at, ("sent", at), application_id=stranger): "successful",
        await log.message(now() - timedelta(hours=ASKED - 1), ("sent", at + HOUR)): "successful",
    }
    await all_rounds(timeouts)
    assert {i: await log.status(i) for i in expected} == expected
    assert await log.fetchval("SELECT count(*) FROM lifecycle.receipts_awaited") == 0


async def test_what_was_sent_later_than_it_was_accepted_has_its_full_time(
    log: AgedLog, timeouts: ReceiptTimeouts, clock: FakeClock
) -> None:
    message_id = await log.message(now() - LONG_AGO, ("sent", now() - HOUR))
    await all_rounds(timeouts)
    assert await log.status(message_id) == "successful"
    await later(log, clock, message_id, timedelta(hours=ASKED - 2))
    await all_rounds(timeouts)
    assert await log.status(message_id) == "successful"
    await later(log, clock, message_id, 2 * HOUR)
    await all_rounds(timeouts)
    assert await log.status(message_id) == "failed"
    assert await log.fetchval("SELECT count(*) FROM lifecycle.receipts_awaited") == 0


async def test_what_is_not_sent_yet_is_remembered(log: AgedLog, timeouts: ReceiptTimeouts, clock: FakeClock) -> None:
    message_id = await log.message(now() - LONG_AGO, ttl=timedelta(days=30))
    await all_rounds(timeouts)
    await log.report(Outcome(message_id, "sent", 1, "c", int(now().timestamp() * 1000)))
    for _ in range(2):
        await later(log, clock, message_id, timedelta(hours=ASKED + 1))
        await all_rounds(timeouts)
    assert await log.status(message_id) == "failed"


async def test_a_message_that_was_sent_again_counts_from_its_last_sending(
    log: AgedLog, timeouts: ReceiptTimeouts, clock: FakeClock
) -> None:
    at = now() - LONG_AGO
    message_id = await log.message(at, ("sent", at), ("bounced", at), ("retried", at, 2), ("sent", now() - HOUR, 2))
    await all_rounds(timeouts)
    assert await log.status(message_id) == "successful"
    await later(log, clock, message_id, timedelta(hours=ASKED))
    await all_rounds(timeouts)
    assert await log.status(message_id) == "failed"
    assert [event["attempt"] for event in await log.events(message_id, "failed")] == [2]


async def test_an_attempt_that_nothing_came_of_does_not_leave_the_message_under_way(
    log: AgedLog, timeouts: ReceiptTimeouts
) -> None:
    at = now() - LONG_AGO
    message_id = await log.message(at, ("errored", at), ("retried", at, 2), ("sent", at))
    assert await log.status(message_id) == "successful"
    await all_rounds(timeouts)
    assert await log.status(message_id) == "failed"
    assert [event["attempt"] for event in await log.events(message_id, "failed")] == [1, 2]


async def test_an_id_from_before_its_acceptance_is_found_a_day_later(
    log: AgedLog, timeouts: ReceiptTimeouts, database: Database
) -> None:
    await log.message(now() - LONG_AGO, ("received", now()))
    await all_rounds(timeouts)
    at = now() - LONG_AGO - HOUR
    message_id = await log.message(at, ("sent", at))
    await all_rounds(timeouts)
    assert await log.status(message_id) == "successful", "the first walk is past it"
    older = now() - LONG_AGO - DAY
    other = await log.message(older, ("sent", older))
    await all_rounds(timeouts)
    assert await log.status(other) == "failed", "the second one is a day behind"


async def test_who_begins_to_ask_is_judged_from_then_on(
    log: AgedLog, pool: Pool, bus: Bus, applicants: Applicants, clock: FakeClock
) -> None:
    applicants.settings[APPLICATION] = {}
    timeouts = ReceiptTimeouts(pool, bus, clock)
    at = now() - LONG_AGO
    old = await log.message(at, ("sent", at))
    await all_rounds(timeouts)
    applicants.settings[APPLICATION] = {"receipt_timeout_hours": ASKED}
    await all_rounds(timeouts)
    assert applicants.asked == 1, "the list is kept for a minute"
    clock.advance(ASK_SECONDS)
    await all_rounds(timeouts)
    assert applicants.asked == 2
    assert await log.status(old) == "successful"


async def test_who_asks_no_more_is_judged_no_more(
    log: AgedLog, timeouts: ReceiptTimeouts, applicants: Applicants, clock: FakeClock
) -> None:
    waiting = await log.message(now() - LONG_AGO, ("sent", now() - HOUR))
    await all_rounds(timeouts)
    applicants.settings[APPLICATION] = {"receipt_timeout_hours": None}
    await later(log, clock, waiting, timedelta(hours=ASKED))
    await all_rounds(timeouts)
    assert await log.status(waiting) == "successful"
    for table in ("receipts_awaited", "receipt_cursors"):
        assert await log.fetchval(f"SELECT count(*) FROM lifecycle.{table}") == 0


async def test_all_applications_are_asked_for_and_bad_settings_are_none(
    log: AgedLog, pool: Pool, bus: Bus, applicants: Applicants, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_APPLICATIONS", 2)
    good = [new_id() for _ in range(4)]
    applicants.settings |= {i: {"receipt_timeout_hours": 1, "other": "x"} for i in good}
    applicants.settings |= {new_id(): {"receipt_timeout_hours": wrong} for wrong in ("soon", 0, 10**6, [1])}
    await all_rounds(ReceiptTimeouts(pool, bus, clock))
    async with pool.connection() as c:
        rows = await c.fetch("SELECT DISTINCT application_id::text FROM lifecycle.receipt_cursors")
    assert {row[0] for row in rows} == {*good, APPLICATION}


async def test_while_nobody_knows_who_asks_nothing_fails(pool: Pool, bus: Bus, clock: FakeClock) -> None:
    with pytest.raises(ServiceUnavailable):
        await ReceiptTimeouts(pool, bus, clock).round()


async def test_many_are_failed_in_pages_by_two_processes_at_once(
    log: AgedLog, timeouts: ReceiptTimeouts, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_PAGE", 3)
    at = now() - LONG_AGO
    ids = [await log.message(at + timedelta(seconds=n), ("sent", at)) for n in range(20)]
    reports = [log.report(Outcome(i, "received", 0, "", 0)) for i in ids[::4]]
    await asyncio.gather(all_rounds(timeouts), all_rounds(ReceiptTimeouts(pool, bus, FakeClock())), *reports)
    assert {await log.status(i) for i in ids[::4]} == {"received"}
    others = [i for n, i in enumerate(ids) if n % 4]
    assert {await log.status(i) for i in others} == {"failed"}
    assert {len(await log.events(i, "failed")) for i in others} == {1}


async def test_what_is_not_old_enough_is_not_even_looked_at(
    log: AgedLog, timeouts: ReceiptTimeouts, pool: Pool
) -> None:
    for _ in range(200):
        await log.message()
    async with pool.connection() as c:
        given = f"ARRAY['{APPLICATION}']::uuid[], ARRAY[{ASKED}]"
        await c.execute(f"PREPARE look (uuid[], integer[], integer) AS {queries_expiry.OPEN_WALKS}")
        rows = await c.fetch(f"EXPLAIN (ANALYZE) EXECUTE look ({given}, 20)")
    plan = "\n".join(row[0] for row in rows)
    assert "Removed by" not in plan, plan


async def test_what_was_put_away_meanwhile_is_forgotten(log: AgedLog, timeouts: ReceiptTimeouts, pool: Pool) -> None:
    async with pool.connection() as c:
        await queries_expiry.await_receipts(c, [(new_id(), APPLICATION, 0)])
    await all_rounds(timeouts)
    assert await log.fetchval("SELECT count(*) FROM lifecycle.receipts_awaited") == 0
