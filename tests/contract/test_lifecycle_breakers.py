"""Breakers in lifecycle: one state for all senders, one alert a transition, and what waits goes on, oldest first."""

import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from libs.alerts import Alert
from libs.bus import Bus
from libs.clock import FakeClock
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.ids import new_id
from libs.pg import Pool
from libs.rpc import ListBreakers, OpenBreaker, ReportBreaker
from libs.subjects import ALERTS, alerts
from services.lifecycle import queries, queries_handoff, queries_stops
from services.lifecycle.breakers import SETTLED_SECONDS, Alerts, Breakers
from services.lifecycle.release import PROBES, ROOM, Release

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

SHOP, OTHER = new_id(), new_id()
SECONDS = 30.0
DAY_MS = 86_400_000


@pytest.fixture
def pool_size() -> int:
    return 5


@pytest.fixture
def breakers(pool: Pool) -> Breakers:
    return Breakers(pool, SECONDS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def release(pool: Pool, bus: Bus, clock: FakeClock) -> Release:
    return Release(pool, bus, clock, SECONDS)


def failed(application_id: str = SHOP, **fields: Any) -> ReportBreaker:
    told = {"reason": "ServiceUnavailable", "retry_class": "outage", **fields}
    return ReportBreaker(application_id, "apns", "failed", **told)


def healed(application_id: str = SHOP) -> ReportBreaker:
    return ReportBreaker(application_id, "apns", "healed")


async def is_open(breakers: Breakers) -> list[OpenBreaker]:
    return (await breakers.list(ListBreakers())).breakers


async def later(pool: Pool, seconds: float) -> None:
    """As if so much time had gone by."""
    async with pool.connection() as c:
        await c.execute(
            "UPDATE lifecycle.breakers SET opened_at = opened_at - $1 * interval '1 second',"
            " probe_at = probe_at - $1 * interval '1 second', probed_at = probed_at - $1 * interval '1 second'",
            seconds,
        )


async def hold(pool: Pool, count: int, application_id: str = SHOP, reason: str = "breaker:apns") -> list[str]:
    """Messages that wait, the oldest first."""
    ids = [new_id() for _ in range(count)]
    async with pool.connection() as c:
        await queries.insert_due(c, [(each, application_id, "bulk", DAY_MS, reason) for each in reversed(ids)])
    return ids


async def due(pool: Pool) -> list[str]:
    """In the order in which the timekeeper takes them."""
    async with pool.connection() as c:
        return await queries_handoff.due_now(c, 100_000)


async def taken(pool: Pool) -> None:
    """By the timekeeper."""
    async with pool.connection() as c:
        await c.execute("DELETE FROM lifecycle.due WHERE due_at <= now()")


async def published(bus: Bus) -> list[Alert]:
    """All that lies on ALERTS."""
    count = (await bus.stream_state(ALERTS)).state.last_seq
    messages = [await bus.js.get_msg(ALERTS, seq=number + 1) for number in range(count)]
    for message in messages:
        assert message.subject == alerts(SHOP)
    return [msgspec.json.decode(message.data or b"", type=Alert) for message in messages]


# the state ------------------------------------------------------------------------------------------------------------


async def test_the_first_failure_opens_and_the_first_probe_waits(breakers: Breakers) -> None:
    await breakers.report(failed())
    (found,) = await is_open(breakers)
    assert (found.application_id, found.channel, found.reason) == (SHOP, "apns", "ServiceUnavailable")
    assert (found.retry_class, found.failures, found.half_open) == ("outage", 1, False)
    assert found.probe_at_ms - found.opened_at_ms == SECONDS * 1000


async def test_what_others_report_before_the_probe_changes_nothing(breakers: Breakers) -> None:
    await breakers.report(failed())
    before = await is_open(breakers)
    await asyncio.gather(*(breakers.report(failed(reason="other")) for _ in range(20)))
    assert await is_open(breakers) == before


async def test_each_probe_that_fails_doubles_the_pause_up_to_five_minutes(breakers: Breakers, pool: Pool) -> None:
    pauses = []
    for number in range(7):
        await breakers.report(failed(reason=f"failure {number}"))
        (found,) = await is_open(breakers)
        async with pool.connection() as c:
            pause = await c.fetchval("SELECT extract(EPOCH FROM probe_at - now())::float8 FROM lifecycle.breakers")
        pauses.append(round(pause, -1))
        await later(pool, pause + 1)
    assert pauses == [30, 60, 120, 240, 300, 300, 300]
    assert (found.failures, found.reason) == (7, "failure 6")


async def test_one_probe_that_is_taken_closes(breakers: Breakers) -> None:
    await breakers.report(failed())
    await breakers.report(healed())
    assert await is_open(breakers) == []


async def test_the_verdict_on_a_breaker_says_nothing_of_the_next_one(breakers: Breakers, pool: Pool) -> None:
    """Two processes probe at once: one closes it, the other's call takes longer."""
    await breakers.report(failed())
    (first,) = await is_open(breakers)
    await breakers.report(ReportBreaker(SHOP, "apns", "healed", opened_at_ms=first.opened_at_ms))
    await breakers.report(failed(opened_at_ms=first.opened_at_ms))
    assert await is_open(breakers) == [], "a single failure of a probe opens nothing"
    await breakers.report(failed())
    await later(pool, SECONDS + 1)
    (second,) = await is_open(breakers)
    await breakers.report(ReportBreaker(SHOP, "apns", "healed", opened_at_ms=first.opened_at_ms))
    await breakers.report(failed(reason="other", opened_at_ms=first.opened_at_ms))
    assert await is_open(breakers) == [second]
    await breakers.report(failed(reason="other", opened_at_ms=second.opened_at_ms))
    (longer,) = await is_open(breakers)
    assert (longer.failures, longer.reason) == (2, "other")
    await breakers.report(ReportBreaker(SHOP, "apns", "healed", opened_at_ms=second.opened_at_ms))
    assert await is_open(breakers) == []


async def test_a_credential_that_is_set_anew_is_tried_at_once(breakers: Breakers, pool: Pool, release: Release) -> None:
    for _ in range(5):
        await breakers.report(failed(retry_class="credentials"))
        await later(pool, 301)
    await breakers.report(failed(retry_class="credentials"))
    ids = await hold(pool, 10)
    await breakers.report(ReportBreaker(SHOP, "apns", "renewed"))
    await later(pool, SETTLED_SECONDS - 0.5)
    await release.round()
    assert await due(pool) == [], "before every sender has heard of it"
    await later(pool, 1.0)
    await release.round()
    assert await due(pool) == ids[:PROBES]


async def test_a_new_credential_is_no_reason_to_try_a_provider_that_is_out(breakers: Breakers) -> None:
    await breakers.report(failed())
    before = await is_open(breakers)
    await breakers.report(ReportBreaker(SHOP, "apns", "renewed"))
    await breakers.report(ReportBreaker(OTHER, "apns", "renewed"))
    assert await is_open(breakers) == before


async def test_closing_what_is_closed_changes_nothing(breakers: Breakers, pool: Pool, bus: Bus) -> None:
    await breakers.report(healed())
    await Alerts(pool, bus).round()
    assert await published(bus) == []


async def test_applications_and_channels_are_apart(breakers: Breakers) -> None:
    await breakers.report(failed())
    await breakers.report(failed(OTHER))
    await breakers.report(ReportBreaker(SHOP, "fcm", "failed", "UNAVAILABLE"))
    await breakers.report(healed())
    assert {(each.application_id, each.channel) for each in await is_open(breakers)} == {(OTHER, "apns"), (SHOP, "fcm")}
    assert len((await breakers.list(ListBreakers(OTHER))).breakers) == 1
    assert len((await breakers.list(ListBreakers(channel="fcm"))).breakers) == 1
    assert (await breakers.list(ListBreakers("nobody"))).breakers == []


async def test_what_cannot_be_an_application_is_refused(breakers: Breakers) -> None:
    with pytest.raises(ResourceNotFound):
        await breakers.report(failed("nobody"))


async def test_a_reason_is_kept_within_bounds(breakers: Breakers) -> None:
    await breakers.report(failed(reason="x\0" * 1000))
    (found,) = await is_open(breakers)
    assert found.reason == "x" * 200


async def test_the_waiting_are_counted_where_that_is_asked_for(breakers: Breakers, pool: Pool) -> None:
    await breakers.report(failed())
    await hold(pool, 3)
    await hold(pool, 1, OTHER)
    await hold(pool, 1, reason="emergency_stop:apns")
    counted = await breakers.list(ListBreakers(count_waiting=True))
    assert [each.waiting for each in counted.breakers] == [3]
    assert [each.waiting for each in await is_open(breakers)] == [0]


# alerts ---------------------------------------------------------------------------------------------------------------


async def test_a_transition_is_alerted_once_however_many_senders_report_it(
    breakers: Breakers, pool: Pool, bus: Bus
) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(breakers.report(failed()) for _ in range(10)))
        await later(pool, 31)
        await breakers.report(failed())
        await hold(pool, 2)
        await asyncio.gather(*(breakers.report(healed()) for _ in range(10)))
    for _ in range(2):
        await Alerts(pool, bus).round()
    opened, closed = await published(bus)
    assert [opened.kind, closed.kind] == ["breaker_opened", "breaker_closed"]
    assert (opened.application_id, opened.channel, opened.reason) == (SHOP, "apns", "ServiceUnavailable")
    assert (opened.retry_class, opened.failures, opened.waiting) == ("outage", 1, 0)
    assert (closed.failures, closed.waiting) == (2, 2)
    assert opened.opened_at == opened.occurred_at
    assert closed.opened_at < closed.occurred_at
    assert [(each["log_level"], each["event"]) for each in logs] == [
        ("warning", "breaker_opened"),
        ("warning", "breaker_closed"),
    ]


async def test_an_alert_whose_publisher_was_lost_is_published_by_the_next_and_lies_there_once(
    breakers: Breakers, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await breakers.report(failed())

    async def die(*_: object) -> None:
        raise ServiceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr("services.lifecycle.queries_breakers.delete_alerts", die)  # after the publish
        with pytest.raises(ServiceUnavailable):
            await Alerts(pool, bus).round()
    await Alerts(pool, bus).round()
    assert [alert.kind for alert in await published(bus)] == ["breaker_opened"]


async def test_what_is_open_and_what_waits_is_measured(breakers: Breakers, pool: Pool, bus: Bus) -> None:
    measuring = Alerts(pool, bus)

    async def measured() -> list[float | None]:
        await measuring.measure()
        names = ("automata_breaker_open", "automata_breaker_waiting")
        return [REGISTRY.get_sample_value(name, {"channel": "apns"}) for name in names]

    await breakers.report(failed())
    await breakers.report(failed(OTHER))
    ids = await hold(pool, 3)
    assert await measured() == [2, 3]
    await breakers.report(healed())
    await breakers.report(healed(OTHER))
    async with pool.connection() as c:
        await queries.delete_due(c, ids)
    assert await measured() == [0, 0]


# what waits -----------------------------------------------------------------------------------------------------------


async def test_while_it_is_open_nothing_is_released(breakers: Breakers, pool: Pool, release: Release) -> None:
    await breakers.report(failed())
    await hold(pool, 5)
    await release.round()
    assert await due(pool) == []


async def test_once_it_closed_and_every_sender_heard_it_they_go_on_oldest_first(
    breakers: Breakers, pool: Pool, release: Release, clock: FakeClock
) -> None:
    await breakers.report(failed())
    ids = await hold(pool, 50)
    await breakers.report(healed())
    await release.round()
    clock.advance(SETTLED_SECONDS - 0.1)
    await release.round()
    assert await due(pool) == []
    clock.advance(0.2)
    await release.round()
    assert await due(pool) == ids


async def test_an_opening_in_between_begins_the_wait_anew(
    breakers: Breakers, pool: Pool, release: Release, clock: FakeClock
) -> None:
    await hold(pool, 5)
    await release.round()
    await breakers.report(failed())
    clock.advance(SETTLED_SECONDS)
    await release.round()
    await breakers.report(healed())
    await release.round()
    assert await due(pool) == []


async def test_many_are_released_a_room_at_a_time_and_each_application_gets_its_share(
    pool: Pool, release: Release, clock: FakeClock
) -> None:
    many, few = await hold(pool, ROOM * 2), await hold(pool, 10, OTHER)
    await release.round()
    clock.advance(SETTLED_SECONDS)
    released: list[str] = []
    for _ in range(10):
        await release.round()
        found = await due(pool)
        assert len(found) <= ROOM
        assert released or set(few) <= set(found), "the few do not wait for the many"
        released += [each for each in found if each not in few]
        await taken(pool)
    assert released == many


async def test_when_its_time_has_come_the_oldest_few_are_released_as_probes(
    breakers: Breakers, pool: Pool, release: Release
) -> None:
    await breakers.report(failed())
    ids = await hold(pool, 10)
    await later(pool, SECONDS)
    for _ in range(3):
        await release.round()
    assert await due(pool) == ids[:PROBES]


async def test_probes_without_a_verdict_are_followed_by_others_after_a_third_of_the_pause(
    breakers: Breakers, pool: Pool, release: Release
) -> None:
    await breakers.report(failed())
    ids = await hold(pool, 10)
    await later(pool, SECONDS)
    await release.round()
    await taken(pool)
    await later(pool, SECONDS / 3 - 1)
    await release.round()
    assert await due(pool) == []
    await later(pool, 2)
    await release.round()
    assert await due(pool) == ids[PROBES : 2 * PROBES]


async def test_after_a_probe_that_failed_none_is_released_before_the_longer_pause_is_over(
    breakers: Breakers, pool: Pool, release: Release
) -> None:
    await breakers.report(failed())
    await hold(pool, 10)
    await later(pool, SECONDS)
    await release.round()
    await taken(pool)
    await breakers.report(failed())
    await later(pool, 2 * SECONDS - 1)
    await release.round()
    assert await due(pool) == []
    await later(pool, 2)
    await release.round()
    assert len(await due(pool)) == PROBES


async def test_a_probe_is_not_spent_while_nothing_waits(breakers: Breakers, pool: Pool, release: Release) -> None:
    await breakers.report(failed())
    await later(pool, SECONDS)
    await release.round()
    ids = await hold(pool, 1)
    await release.round()
    assert await due(pool) == ids


async def test_the_stops_being_unknown_holds_no_breakers_messages(
    pool: Pool, release: Release, clock: FakeClock
) -> None:
    ids = await hold(pool, 2)
    await hold(pool, 2, reason="emergency_stop:apns")
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            await release.round()
        clock.advance(SETTLED_SECONDS)
    assert await due(pool) == ids


async def test_other_waits_are_left_alone(pool: Pool, release: Release, clock: FakeClock) -> None:
    for reason in ("retry:outage", "scheduled", "quiet_hours"):
        await hold(pool, 2, reason=reason)
    for _ in range(2):
        await release.round()
        clock.advance(SETTLED_SECONDS)
    assert await due(pool) == []


async def test_what_waits_is_found_and_counted_by_the_index(pool: Pool) -> None:
    await hold(pool, 3000)
    await hold(pool, 3000, OTHER)
    async with pool.connection() as c:
        await c.execute("ANALYZE lifecycle.due")
        assert set(await queries_stops.held(c)) == {(SHOP, "breaker:apns"), (OTHER, "breaker:apns")}
        rows = await c.fetch(f"EXPLAIN (ANALYZE) {queries_stops.HELD}")
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
