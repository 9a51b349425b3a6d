"""Whose turn it is when very much is due or waits: no application, no lane and no message is kept back by others'."""

import time
from datetime import timedelta

import pytest

from libs.envelope import Lane, Outcome
from libs.ids import new_id
from libs.pg import Pool
from services.lifecycle import handoff, queries, timekeeper, window
from services.lifecycle.handoff import Handoff, Publisher
from services.lifecycle.timekeeper import Timekeeper
from services.lifecycle.window import Window
from tests.contract.aged_log import APPLICATION, AgedLog, now

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

OTHER = new_id()
FILL = """
WITH made AS (
    INSERT INTO lifecycle.messages (id, application_id, subscription_id, channel, lane, category, ttl, handoff_id)
    SELECT uuidv7(), $1, gen_random_uuid(), 'apns', $2, 'info', 86400, gen_random_uuid()
    FROM generate_series(1, $3) RETURNING id, application_id, lane
), told AS (
    INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, data, sealed)
    SELECT id, 'created', 1, '', application_id, '{}', '\\x00' FROM made
)
INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)
SELECT id, application_id, lane, now() - $4::float8 * interval '1 second', $5 FROM made
"""


class Collected(Publisher):
    """What would be published."""

    def __init__(self) -> None:
        self.handoffs: list[Handoff] = []
        self.lanes_full: list[Lane] = []

    def full(self) -> list[Lane]:
        return self.lanes_full

    async def room(self, *_: Lane) -> None:
        pass

    def publish(self, handoffs: list[Handoff], _: float | None = None) -> None:
        self.handoffs += [each for each in handoffs if each.published]

    def taken(self) -> set[tuple[str, str]]:
        return {(each.application_id, each.lane) for each in self.handoffs}

    def ids(self) -> list[str]:
        return [item.message_id for each in self.handoffs for item in each.items]


@pytest.fixture
def published() -> Collected:
    return Collected()


async def due(
    pool: Pool, count: int, late: float, application_id: str = APPLICATION, lane: str = "normal", why: str = "scheduled"
) -> None:
    """Messages whose time came `late` seconds ago."""
    async with pool.connection() as c:
        await c.execute(FILL, application_id, lane, count, late, why)


async def wait(log: AgedLog, ids: list[str], why: str = "retry:network", seconds: float = 0) -> None:
    async with log.pool.connection() as c:
        rows = [(i, APPLICATION, "normal", int(seconds * 1000), why) for i in ids]
        await queries.insert_due(c, rows)


# the timekeeper -------------------------------------------------------------------------------------------------------


async def test_a_campaign_that_is_due_at_once_keeps_back_nobody_else(pool: Pool, published: Collected) -> None:
    """Longer overdue than all others, and more than a page of it."""
    await due(pool, 3 * timekeeper._PAGE, 60)
    await due(pool, 1, 0, OTHER)
    await due(pool, 1, 0, APPLICATION, "critical")
    assert await Timekeeper(pool, published).round()
    assert published.taken() == {(APPLICATION, "normal"), (APPLICATION, "critical"), (OTHER, "normal")}


async def test_no_lane_waits_for_the_publications_of_another(pool: Pool, published: Collected) -> None:
    for lane in ("bulk", "normal", "critical"):
        await due(pool, 2, 0, APPLICATION, lane)
    published.lanes_full = ["bulk"]
    await Timekeeper(pool, published).round()
    assert published.taken() == {(APPLICATION, "normal"), (APPLICATION, "critical")}
    published.lanes_full = []
    await Timekeeper(pool, published).round()
    assert (APPLICATION, "bulk") in published.taken()


async def test_of_more_applications_than_a_page_has_messages_the_urgent_and_the_oldest_go_first(
    pool: Pool, published: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timekeeper, "_PAGE", 4)
    applications = [new_id() for _ in range(9)]
    for place, application_id in enumerate(applications):
        await due(pool, 2, 60 - place, application_id)
    await due(pool, 2, 0, applications[8], "critical")
    keeper = Timekeeper(pool, published)
    assert await keeper.round()
    assert published.taken() == {(i, "normal") for i in applications[:3]} | {(applications[8], "critical")}
    while await keeper.round():
        pass
    await keeper.round()
    assert len(published.ids()) == 20


async def test_what_waits_for_somebody_or_is_not_due_takes_no_turn(pool: Pool, published: Collected) -> None:
    await due(pool, 600, 60)
    await due(pool, 600, -3_600, OTHER)
    await due(pool, 600, -(10**8), OTHER, "critical", "emergency_stop:apns")
    keeper = Timekeeper(pool, published)
    while await keeper.round():
        pass
    await keeper.round()
    assert published.taken() == {(APPLICATION, "normal")}
    assert len(published.ids()) == 600


async def test_messages_that_nobody_can_take_do_not_stand_before_others(pool: Pool, published: Collected) -> None:
    """A transaction has them; or the log was damaged, and their rows are gone."""
    await due(pool, 2 * timekeeper._PAGE, 60)
    async with pool.transaction() as c:
        await c.execute("SELECT FROM lifecycle.messages FOR NO KEY UPDATE")
        await due(pool, 1, 0, OTHER)
        assert not await Timekeeper(pool, published).round() or published.taken()
        assert published.taken() == {(OTHER, "normal")}


async def test_a_page_of_which_all_has_expired_is_followed_by_the_next_at_once(pool: Pool, log: AgedLog) -> None:
    await due(pool, timekeeper._PAGE + 1, 60, why="retry:network")
    await log.owner("UPDATE lifecycle.messages SET created_at = now() - interval '2 days'")
    assert await Timekeeper(pool, Collected()).round()


async def test_a_storm_of_retries_is_worked_off_at_three_thousand_a_second(pool: Pool, published: Collected) -> None:
    """Some 13,000 on an idle machine."""
    await due(pool, 12_000, 60, why="retry:outage")
    keeper = Timekeeper(pool, published)
    await keeper.round()
    began = time.perf_counter()
    while await keeper.round():
        pass
    assert len(published.ids()) >= 4_000, "the first window"
    assert 11_500 / (time.perf_counter() - began) > 3_000


# collapse keys --------------------------------------------------------------------------------------------------------


async def superseding(log: AgedLog) -> tuple[str, str]:
    """Two messages of one subscription and collapse key, the earlier one to be tried again now."""
    earlier, later = await log.message(now() - timedelta(minutes=1)), await log.message()
    await log.owner("UPDATE lifecycle.messages SET collapse_hash = '\\x01', subscription_id = application_id")
    await wait(log, [earlier])
    return earlier, later


async def test_a_later_message_replaces_one_that_is_to_be_tried_again(
    log: AgedLog, pool: Pool, published: Collected
) -> None:
    earlier, _ = await superseding(log)
    await Timekeeper(pool, published).round()
    assert (await log.row(earlier))["reason"] == "superseded"


async def test_a_message_for_next_month_replaces_nothing_today(log: AgedLog, pool: Pool, published: Collected) -> None:
    earlier, later = await superseding(log)
    await wait(log, [later], "scheduled", 30 * 86_400)
    await Timekeeper(pool, published).round()
    assert published.ids() == [earlier]


async def test_a_message_that_was_called_back_replaces_nothing(log: AgedLog, pool: Pool, published: Collected) -> None:
    earlier, later = await superseding(log)
    async with pool.connection() as c:
        await queries.append(c, [(later, "cancelled", 1, "", APPLICATION, 0, None, {})])
        await queries.update_projection(c, [later])
    await Timekeeper(pool, published).round()
    assert published.ids() == [earlier]


# the window -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "WINDOW", 10)
    monkeypatch.setattr(window, "WINDOW", 10)


async def waiting_campaign(
    log: AgedLog, handoffs: int = 3, size: int = 10, application_id: str = APPLICATION
) -> list[str]:
    """Hand-offs that wait for room, oldest first."""
    found = []
    for _ in range(handoffs):
        handoff_id = new_id()
        ids = [await log.message(handoff_id=handoff_id, application_id=application_id) for _ in range(size)]
        await log.handoff(handoff_id, ids, now() + timedelta(days=1), published=False, application_id=application_id)
        found += ids
    return found


async def test_those_that_wait_are_served_in_turn(
    log: AgedLog, pool: Pool, published: Collected, small_window: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while those that come first are through at once, and have room again."""
    monkeypatch.setattr(window, "_APPLICATIONS", 2)
    applications = sorted(new_id() for _ in range(5))
    for application_id in applications:
        await waiting_campaign(log, application_id=application_id)
    part, served = Window(pool, published, "normal"), []
    for _ in range(5):
        published.handoffs.clear()
        await part.round()
        for each in published.handoffs:
            served.append(each.application_id)
            done = [Outcome(item.message_id, "sent", 1, "call", 0) for item in each.items]
            await log.report(*done, application_id=each.application_id)
    assert served == applications * 2


async def test_what_comes_back_does_not_stand_behind_what_never_went(
    log: AgedLog, pool: Pool, published: Collected, small_window: None
) -> None:
    """A retry, or a message that its rate held back, does not wait for the whole campaign behind it once more."""
    earlier = [await log.message(now() - timedelta(minutes=1)) for _ in range(10)]
    await waiting_campaign(log)
    await wait(log, earlier, "rate_limit")
    await Timekeeper(pool, published).round()
    assert sorted(published.ids()) == sorted(earlier)


async def test_without_room_what_comes_back_is_the_first_to_have_it(
    log: AgedLog, pool: Pool, published: Collected, small_window: None
) -> None:
    under_way = [await log.message() for _ in range(10)]
    earlier = [await log.message(now() - timedelta(minutes=1)) for _ in range(10)]
    await wait(log, under_way)
    await Timekeeper(pool, published).round()
    campaign = await waiting_campaign(log)
    await wait(log, earlier)
    await Timekeeper(pool, published).round()
    assert sorted(published.ids()) == sorted(under_way), "there is no room"
    for done, next_ones in ((under_way, earlier), (earlier, campaign[:10])):
        published.handoffs.clear()
        await log.report(*(Outcome(i, "sent", 2, "call", 0) for i in done))
        await Window(pool, published, "normal").round()
        assert sorted(published.ids()) == sorted(next_ones)


async def test_whoever_was_full_of_messages_sent_back_is_looked_at_again(
    log: AgedLog, pool: Pool, published: Collected, small_window: None
) -> None:
    """Not each time, since counting them takes long."""
    held = [await log.message() for _ in range(10)]
    await wait(log, held, "rate_limit", 3_600)
    campaign = await waiting_campaign(log)
    part = Window(pool, published, "normal")
    await part.round()
    await log.owner("DELETE FROM lifecycle.due")
    for _ in range(window._SELDOM):
        assert published.ids() == []
        await part.round()
    await part.round()
    assert published.ids() == campaign[:10]


async def test_a_few_that_linger_do_not_count_for_all_that_went_with_them(
    log: AgedLog, pool: Pool, published: Collected, small_window: None
) -> None:
    """One message waits for a sender that is not there: the nine around it were sent long since."""
    handoff_id = new_id()
    ids = [await log.message(handoff_id=handoff_id) for _ in range(10)]
    await log.handoff(handoff_id, ids, now() + timedelta(days=1))
    campaign = await waiting_campaign(log)
    await log.report(*(Outcome(i, "sent", 1, "call", 0) for i in ids[1:]))
    part = Window(pool, published, "normal")
    await part.recount()
    await part.round()
    assert published.ids() == [], "those that work on it may be at it still"
    await log.owner("UPDATE lifecycle.handoffs SET created_at = now() - interval '1 minute' WHERE published")
    await part.recount()
    await part.round()
    assert published.ids() == campaign[:10]
    assert await log.fetchval("SELECT size FROM lifecycle.handoffs WHERE id = $1", handoff_id) == 1


async def test_an_id_of_no_time_comes_back_all_the_same(log: AgedLog, pool: Pool, published: Collected) -> None:
    odd = "ffffffff-ffff-4fff-bfff-ffffffffffff"
    await due(pool, 1, 0)
    await log.owner(
        "ALTER TABLE lifecycle.messages DISABLE TRIGGER ALL",
        f"UPDATE lifecycle.due SET message_id = '{odd}'",
        f"UPDATE lifecycle.messages SET id = '{odd}'",
        f"UPDATE lifecycle.message_events SET message_id = '{odd}'",
    )
    await Timekeeper(pool, published).round()
    assert published.ids() == [odd]
