"""Frequency caps, counted in windows that roll with Postgres' clock: exact, whoever asks, however often, together."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence

import msgspec
import pytest

from libs.errors import ValidationFailed
from libs.ids import new_id
from libs.pg import Pool, single_connection
from libs.policy import PERIOD_SECONDS, FrequencyCap, Period
from libs.rpc import Capped, ForgetSubjects, ReserveSends, SendToReserve
from services.lifecycle import queries_caps
from services.lifecycle.caps import Caps
from services.lifecycle.forget import Forgetter
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

APPLICATION, ANN, BOB = new_id(), new_id(), new_id()
HOUR_MS = 3_600_000
TWO_AN_HOUR = FrequencyCap(2, "hour")


@pytest.fixture
def pool_size() -> int:
    return 8


@pytest.fixture
def caps(pool: Pool) -> Caps:
    return Caps(pool, 4)


def to(subject: str = ANN, category: str = "info") -> SendToReserve:
    return SendToReserve(new_id(), subject, category)


async def reserve(
    caps: Caps, sends: Sequence[SendToReserve], *limits: FrequencyCap, application_id: str = APPLICATION
) -> list[Capped]:
    request = ReserveSends(application_id, list(limits or [TWO_AN_HOUR]), list(sends))
    return (await caps.reserve(request)).capped


async def age(database: Database, seconds: float, message_id: str | None = None) -> None:
    """As if what is counted had been sent so much earlier."""
    async with single_connection(database.admin_dsn) as c:
        await c.execute(
            """UPDATE lifecycle.reserved_sends SET at = at - $1 * interval '1 second'
            WHERE $2::uuid IS NULL OR message_id = $2""",
            seconds,
            message_id,
        )


async def sent_at_ms(database: Database, send: SendToReserve) -> int:
    async with single_connection(database.admin_dsn) as c:
        seconds = await c.fetchval(
            "SELECT extract(EPOCH FROM at)::float8 FROM lifecycle.reserved_sends WHERE message_id = $1",
            send.message_id,
        )
        return round(float(seconds) * 1000)


async def in_the_log(database: Database, send: SendToReserve, status: str) -> None:
    async with single_connection(database.admin_dsn) as c:
        await c.execute(
            """INSERT INTO lifecycle.messages (
                id, application_id, subscription_id, channel, lane, category, status, ttl, handoff_id)
            VALUES ($1, $2, $3, 'apns', 'normal', $4, $5, 60, uuidv7())
            ON CONFLICT (id) DO UPDATE SET status = excluded.status""",
            send.message_id,
            APPLICATION,
            send.subject_id,
            send.category,
            status,
        )


async def test_what_is_over_the_limit_is_told_with_rule_count_and_time(caps: Caps, database: Database) -> None:
    first, second, third = to(), to(), to()
    assert await reserve(caps, [first]) == []
    assert await reserve(caps, [second]) == []
    free_at_ms = await sent_at_ms(database, first) + HOUR_MS
    assert await reserve(caps, [third]) == [Capped(third.message_id, TWO_AN_HOUR, 2, free_at_ms)]
    assert await reserve(caps, [to(BOB)]) == [], "another person"
    assert await reserve(caps, [to()], application_id=new_id()) == [], "another application"


@pytest.mark.parametrize("period", ["hour", "day", "week"])
async def test_windows_roll(caps: Caps, database: Database, period: Period) -> None:
    once = FrequencyCap(1, period)
    await reserve(caps, [to()], once)
    await age(database, PERIOD_SECONDS[period] - 5)
    (capped,) = await reserve(caps, [to()], once)
    assert capped.free_at_ms == pytest.approx(time.time() * 1000 + 5_000, abs=4_000)
    await age(database, 6)
    assert await reserve(caps, [to()], once) == []


async def test_messages_of_one_envelope_count_one_after_another(caps: Caps, database: Database) -> None:
    sends = [to() for _ in range(4)] + [to(BOB)]
    before = time.time() * 1000
    capped = await reserve(caps, sends)
    assert [each.message_id for each in capped] == [each.message_id for each in sends[2:4]]
    assert {each.count for each in capped} == {2}
    for each in capped:
        assert each.free_at_ms == pytest.approx(before + HOUR_MS, abs=5_000)
    earlier = await sent_at_ms(database, sends[0])
    await age(database, 600, sends[0].message_id)
    (again,) = await reserve(caps, [to()])
    assert again.free_at_ms == earlier - 600_000 + HOUR_MS, "the first to leave"


async def test_after_a_limit_was_lowered_enough_must_leave(caps: Caps, database: Database) -> None:
    sends = [to() for _ in range(5)]
    await reserve(caps, sends, FrequencyCap(5, "hour"))
    for position, send in enumerate(sends):
        await age(database, 60 * (5 - position), send.message_id)
    (capped,) = await reserve(caps, [to()])
    assert (capped.count, capped.free_at_ms) == (5, await sent_at_ms(database, sends[3]) + HOUR_MS)


async def test_who_has_a_place_keeps_it(caps: Caps, database: Database) -> None:
    sends = [to(), to()]
    for _ in range(3):
        assert await reserve(caps, sends) == []
    assert len(await reserve(caps, [*sends, to()])) == 1
    await age(database, 1_800)
    assert await reserve(caps, sends) == []
    async with single_connection(database.admin_dsn) as c:
        assert await c.fetchval("SELECT count(*) FROM lifecycle.reserved_sends") == 2


async def test_who_comes_back_when_the_hour_of_its_place_is_over_asks_anew(caps: Caps, database: Database) -> None:
    """A breaker or a retry kept it: meanwhile another message took what is allowed now."""
    held, other = to(), to()
    once = FrequencyCap(1, "hour")
    assert await reserve(caps, [held], once) == []
    await age(database, 2 * 3_600)
    assert await reserve(caps, [other], once) == []
    (capped,) = await reserve(caps, [held], once)
    assert (capped.message_id, capped.count) == (held.message_id, 1)
    await age(database, 3_600)
    assert await reserve(caps, [held], once) == []
    assert len(await reserve(caps, [to()], once)) == 1, "its place is of now"


async def test_its_own_old_place_does_not_keep_a_message_out(caps: Caps, database: Database) -> None:
    message, once_a_day = to(), FrequencyCap(1, "day")
    await reserve(caps, [message], once_a_day)
    await age(database, 2 * 3_600)
    assert await reserve(caps, [message], once_a_day) == []
    async with single_connection(database.admin_dsn) as c:
        assert await c.fetchval("SELECT count(*) FROM lifecycle.reserved_sends") == 1


async def test_one_message_named_twice_has_one_place(caps: Caps, database: Database) -> None:
    send = to()
    assert await reserve(caps, [send, send, to()]) == []
    assert len(await reserve(caps, [to()])) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_what_came_to_nothing_does_not_count(caps: Caps, database: Database, status: str) -> None:
    sends = [to(), to()]
    await reserve(caps, sends)
    await in_the_log(database, sends[0], "successful")
    await in_the_log(database, sends[1], "pending")
    assert len(await reserve(caps, [to()])) == 1
    await in_the_log(database, sends[1], status)
    assert await reserve(caps, [to()]) == []
    assert len(await reserve(caps, [to()])) == 1


async def test_what_is_sent_again_by_hand_asks_anew(caps: Caps, pool: Pool, database: Database) -> None:
    failed, other = to(), to()
    once = FrequencyCap(1, "hour")
    await reserve(caps, [failed], once)
    await in_the_log(database, failed, "failed")
    assert await reserve(caps, [other], once) == []
    async with pool.connection() as c:
        await queries_caps.give_back(c, [failed.message_id])  # as a resend does
    assert [each.message_id for each in await reserve(caps, [failed], once)] == [failed.message_id]


async def test_a_cap_of_one_category_counts_that_alone(caps: Caps) -> None:
    ads, everything = FrequencyCap(1, "day", "ad"), FrequencyCap(3, "hour")
    assert await reserve(caps, [to(category="ad"), to()], ads, everything) == []
    (capped,) = await reserve(caps, [to(category="ad"), to()], ads, everything)
    assert (capped.cap, capped.count) == (ads, 1)
    (capped,) = await reserve(caps, [to()], ads, everything)
    assert (capped.cap, capped.count) == (everything, 3)


async def test_of_several_full_caps_the_one_that_drops_is_named_else_the_longest(caps: Caps) -> None:
    hour, day = FrequencyCap(1, "hour"), FrequencyCap(1, "day")
    await reserve(caps, [to()], hour, day)
    (capped,) = await reserve(caps, [to()], hour, day)
    assert capped.cap == day
    dropping = msgspec.structs.replace(hour, action="drop")
    (capped,) = await reserve(caps, [to()], dropping, day)
    assert capped.cap == dropping


async def test_nobody_asks_without_caps(caps: Caps, database: Database) -> None:
    assert (await caps.reserve(ReserveSends(APPLICATION, [], [to()]))).capped == []
    assert (await caps.reserve(ReserveSends(APPLICATION, [TWO_AN_HOUR], []))).capped == []
    with pytest.raises(ValidationFailed):
        await reserve(caps, [SendToReserve("x", ANN, "info")])
    with pytest.raises(ValidationFailed):
        await reserve(caps, [to()], application_id="1")


async def test_two_dispatchers_let_nobody_have_more_than_the_limit(pool: Pool, database: Database) -> None:
    """200 envelopes in any order, to people that they share, from two sides that know nothing of each other."""
    two, chance = (Caps(pool, 3), Caps(pool, 3)), random.Random(11)
    people, limit = [new_id() for _ in range(40)], FrequencyCap(7, "hour")

    async def envelope(caps: Caps) -> None:
        sends = [to(chance.choice(people)) for _ in range(chance.randint(1, 30))]
        capped = {each.message_id for each in await reserve(caps, sends, limit)}
        assert capped <= {send.message_id for send in sends}
        again = {each.message_id for each in await reserve(caps, sends, limit)}
        assert again == capped, "asked again the answer is the same"

    await asyncio.gather(*(envelope(two[n % 2]) for n in range(200)))
    async with single_connection(database.admin_dsn) as c:
        counts = await c.fetch("SELECT count(*) AS count FROM lifecycle.reserved_sends GROUP BY subject_id")
    assert [row["count"] for row in counts] == [7] * len(people)


async def test_what_is_counted_of_an_erased_person_is_forgotten(caps: Caps, pool: Pool, database: Database) -> None:
    subscription = new_id()
    await reserve(caps, [to(), to(subscription), to(BOB)])
    await reserve(caps, [to()], application_id=new_id())
    await Forgetter(pool).forget(ForgetSubjects(APPLICATION, ANN, [subscription]))
    async with single_connection(database.admin_dsn) as c:
        left = await c.fetch("SELECT application_id::text, subject_id::text FROM lifecycle.reserved_sends")
    assert sorted(row["subject_id"] for row in left) == sorted([ANN, BOB])
    assert {row["subject_id"] for row in left if row["application_id"] == APPLICATION} == {BOB}


async def test_what_no_window_reaches_is_deleted_in_bounded_steps(caps: Caps, pool: Pool, database: Database) -> None:
    await reserve(caps, [to(new_id()) for _ in range(50)])
    await age(database, PERIOD_SECONDS["week"] + 1)
    await reserve(caps, [to(new_id()) for _ in range(3)])
    async with pool.connection() as c:
        assert [await queries_caps.delete_old_sends(c, 20) for _ in range(4)] == [20, 20, 10, 0]
        assert await c.fetchval("SELECT count(*) FROM lifecycle.reserved_sends") == 3


async def test_an_envelope_of_500_is_counted_by_index_alone(caps: Caps, pool: Pool, database: Database) -> None:
    """Among 200,000 sends of the last week, with two caps, people near their limit among them: 8 to 20 ms on two cores
    that others use too."""
    people = [new_id() for _ in range(10_000)]
    async with single_connection(database.admin_dsn) as c:
        await c.execute(
            """INSERT INTO lifecycle.reserved_sends
            SELECT uuidv7(), $1::uuid, ($2::uuid[])[1 + n % 10000], 'info', now() - n * interval '3 seconds'
            FROM generate_series(1, 200000) AS n""",
            APPLICATION,
            people,
        )
        await c.execute("ANALYZE lifecycle.reserved_sends")
    limits = FrequencyCap(3, "day"), FrequencyCap(1_000, "week")
    took = []
    for start in range(0, 10_000, 500):
        sends = [to(person) for person in people[start : start + 500]]
        began = time.perf_counter()
        await reserve(caps, sends, *limits)
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < 0.15, took
    window = queries_caps.Window(APPLICATION, people[0], None, 86_400, 3)
    columns = [[value] for value in window]
    async with pool.connection() as c:
        rows = await c.fetch(f"EXPLAIN (ANALYZE) {queries_caps.COUNT_SENDS}", *columns, [1], int(time.time() * 1000))
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in "\n".join(line for line in plan.splitlines() if "never executed" not in line), plan
