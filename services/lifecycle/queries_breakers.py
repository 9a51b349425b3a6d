"""SQL of the lifecycle service for circuit breakers, and for the alerts that tell of them."""

from collections.abc import Sequence

import msgspec

from libs.alerts import Alert
from libs.pg import Connection, Row
from libs.rpc import OpenBreaker

Way = tuple[str, str]
"""(application id, channel)."""
MOST = 10_000
"""Breakers that one answer names, and messages that are counted for one of them."""
MOST_COUNTED = 500
"""Breakers of an answer that counts messages too."""
LONGEST = 10
"""The pause before a probe doubles up to so many times the first one."""

_TIMES = """
    application_id, channel, reason, retry_class, failures, opened_at,
    (extract(EPOCH FROM opened_at) * 1000)::bigint AS opened_at_ms,
    (extract(EPOCH FROM probe_at) * 1000)::bigint AS probe_at_ms, probe_at <= now() AS half_open
"""
# Before its time no probe was made: what fails then was under way when the breaker opened, and tells nothing new. Nor
# does the probe of a breaker that was closed since ($6, as in CLOSE).
FAIL = f"""
INSERT INTO lifecycle.breakers AS b (application_id, channel, reason, retry_class, probe_at)
SELECT $1, $2, $3, $4, now() + $5::double precision * interval '1 second'
WHERE $6::bigint IS NULL OR EXISTS (
    SELECT FROM lifecycle.breakers AS probed
    WHERE probed.application_id = $1 AND probed.channel = $2
        AND (extract(EPOCH FROM probed.opened_at) * 1000)::bigint = $6)
ON CONFLICT (application_id, channel) DO UPDATE
    SET reason = excluded.reason, retry_class = excluded.retry_class, failures = b.failures + 1, probed_at = NULL,
        probe_at = now() + $5::double precision * least(2 ^ least(b.failures, 10), {LONGEST}) * interval '1 second'
    WHERE b.probe_at <= now()
RETURNING {_TIMES}, now() AS at
"""  # noqa: S608 - made of constants
CLOSE = f"""
DELETE FROM lifecycle.breakers
WHERE application_id = $1 AND channel = $2
    AND ($3::bigint IS NULL OR (extract(EPOCH FROM opened_at) * 1000)::bigint = $3)
RETURNING {_TIMES}, now() AS at
"""  # noqa: S608 - made of constants
RENEW = """
UPDATE lifecycle.breakers
SET probe_at = least(probe_at, now() + $3::double precision * interval '1 second'), probed_at = NULL
WHERE application_id = $1 AND channel = $2 AND retry_class = 'credentials'
"""
OPEN_BREAKERS = f"""
SELECT {_TIMES} FROM lifecycle.breakers
WHERE ($1::uuid IS NULL OR application_id = $1) AND ($2::text IS NULL OR channel = $2)
ORDER BY opened_at, application_id, channel
LIMIT $3
"""  # noqa: S608 - made of constants
COUNT_WAITING = f"""
SELECT w.application_id, w.channel, counted.number AS waiting
FROM unnest($1::uuid[], $2::text[]) AS w (application_id, channel)
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM (
        SELECT FROM lifecycle.due AS d
        WHERE d.application_id = w.application_id AND d.reason = 'breaker:' || w.channel
            AND d.released_at IS NULL AND d.reason LIKE 'breaker:%'
        LIMIT {MOST}) AS waiting) AS counted
"""  # noqa: S608 - made of constants
STILL_OPEN = """
SELECT b.application_id, b.channel
FROM lifecycle.breakers AS b
JOIN unnest($1::uuid[], $2::text[]) AS w (application_id, channel) USING (application_id, channel)
"""
BEGIN_PROBES = """
UPDATE lifecycle.breakers AS b SET probed_at = now()
FROM unnest($1::uuid[], $2::text[]) AS w (application_id, channel)
WHERE b.application_id = w.application_id AND b.channel = w.channel AND b.probe_at <= now()
    AND (b.probed_at IS NULL OR b.probed_at < now() - $3::double precision * interval '1 second')
RETURNING b.application_id, b.channel
"""
COUNT_OPEN = "SELECT channel, count(*) AS open FROM lifecycle.breakers GROUP BY channel"
COUNT_ALL_WAITING = """
SELECT split_part(reason, ':', 2) AS channel, count(*) AS waiting FROM lifecycle.due
WHERE released_at IS NULL AND reason LIKE 'breaker:%'
GROUP BY 1
"""
INSERT_ALERT = "INSERT INTO lifecycle.alerts (application_id, alert) VALUES ($1, $2)"
OLDEST_ALERTS = "SELECT id, msg_id, alert FROM lifecycle.alerts ORDER BY id LIMIT $1"
DELETE_ALERTS = "DELETE FROM lifecycle.alerts WHERE id = ANY ($1::bigint[])"


async def fail(
    c: Connection, way: Way, reason: str, retry_class: str, seconds: float, probed_ms: int | None
) -> Row | None:
    """Opens the breaker (then `failures` is 1), or keeps it open for longer; None where it was not to be probed yet, or
    is not the one that opened at `probed_ms`."""
    return await c.fetchrow(FAIL, *way, reason, retry_class, seconds, probed_ms)


async def close(c: Connection, way: Way, probed_ms: int | None) -> Row | None:
    """None where it was not open, or is not the one that opened at `probed_ms`."""
    return await c.fetchrow(CLOSE, *way, probed_ms)


async def renew(c: Connection, way: Way, seconds: float) -> None:
    """One that a credential opened is to be probed in so many seconds at the latest."""
    await c.execute(RENEW, *way, seconds)


async def open_breakers(c: Connection, application_id: str | None, channel: str | None, most: int) -> list[OpenBreaker]:
    """The oldest first."""
    return [breaker(row) for row in await c.fetch(OPEN_BREAKERS, application_id, channel, most)]


def breaker(row: Row) -> OpenBreaker:
    fields = ("channel", "reason", "retry_class", "opened_at_ms", "probe_at_ms", "failures", "half_open")
    return OpenBreaker(application_id=str(row["application_id"]), **{name: row[name] for name in fields})


async def count_waiting(c: Connection, ways: Sequence[Way]) -> dict[Way, int]:
    """Messages that wait for each, counted up to `MOST`."""
    rows = await c.fetch(COUNT_WAITING, *zip(*ways, strict=True)) if ways else []
    return {_way(row): row["waiting"] for row in rows}


async def still_open(c: Connection, ways: Sequence[Way]) -> set[Way]:
    return {_way(row) for row in await c.fetch(STILL_OPEN, *zip(*ways, strict=True))}


async def begin_probes(c: Connection, ways: Sequence[Way], again: float) -> list[Way]:
    """Those that are to be probed now: their time has come, and no probe began within `again` seconds."""
    return [_way(row) for row in await c.fetch(BEGIN_PROBES, *zip(*ways, strict=True), again)]


def _way(row: Row) -> Way:
    return str(row["application_id"]), row["channel"]


async def count_open(c: Connection) -> dict[str, int]:
    """By channel."""
    return {row["channel"]: row["open"] for row in await c.fetch(COUNT_OPEN)}


async def count_all_waiting(c: Connection) -> dict[str, int]:
    """By channel, those of breakers that closed and that are not yet released included."""
    return {row["channel"]: row["waiting"] for row in await c.fetch(COUNT_ALL_WAITING)}


async def insert_alert(c: Connection, alert: Alert) -> None:
    await c.execute(INSERT_ALERT, alert.application_id, alert)


async def oldest_alerts(c: Connection, limit: int) -> list[tuple[int, str, Alert]]:
    """(id, name on the stream, alert)."""
    rows = await c.fetch(OLDEST_ALERTS, limit)
    return [(row["id"], str(row["msg_id"]), msgspec.convert(row["alert"], Alert)) for row in rows]


async def delete_alerts(c: Connection, ids: list[int]) -> None:
    await c.execute(DELETE_ALERTS, ids)
