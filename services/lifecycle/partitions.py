"""Weeks of the log: made ahead of time, and put away when they are over and done with (R12).

Nothing here waits for a lock for longer than an instant, since traffic would wait behind it: what cannot have its lock
now gives up, and the next round tries again.
"""

from libs import telemetry
from libs.pg import Connection, Pool

from . import queries_partitions as queries

AHEAD = 8
"""Weeks that are ready beyond the present one."""
_PAGE = 20_000
"""Messages that one transaction counts: some 50 ms."""
_log = telemetry.logger("partitions")


class Partitions:
    """In one process at a time, though two do no harm: they take turns."""

    def __init__(self, pool: Pool, retention_days: int) -> None:
        self._pool = pool
        self._retention_days = retention_days
        self._ahead = telemetry.gauge("weeks_ahead")
        self._oldest = telemetry.gauge("oldest_week_days")

    async def make_ahead(self) -> bool:
        """One table a transaction. Raises `ServiceUnavailable` while somebody holds what has to be locked."""
        async with self._pool.connection() as c:
            await self._measure(c)
            missing = await queries.missing(c, AHEAD)
        for row in missing:
            async with self._pool.transaction() as c:
                await queries.add(c, row["parent"], row["week"])
        return False

    async def put_away(self) -> bool:
        """A page is counted, or a counted week is detached. True when there is more to do at once."""
        if self._retention_days == 0:
            return False
        async with self._pool.connection() as c:
            week = await queries.next_over(c, self._retention_days)
            verdict = None if week is None else await queries.count(c, week, _PAGE)
        if week is None or verdict != "counted":
            return verdict in ("more", "open")
        async with self._pool.transaction() as c:
            verdict = await queries.archive(c, week)
        if verdict == "archived":
            _log.info("week_archived", week=week.isoformat())
        return verdict in ("archived", "open")

    async def _measure(self, c: Connection) -> None:
        found = await queries.extent(c)
        self._ahead.set(found["ahead"])
        self._oldest.set(found["oldest_days"])
