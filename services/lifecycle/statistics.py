"""Tables that are empty at one time and hold a hundred thousand rows at another, and what Postgres believes of them.

Statements are planned once in each session (`libs.pg`). A plan that was made for an empty table reads all of it for
each row that it looks up: after the first storm of retries is worked off, the second would be read so. Autovacuum tells
the planner within a minute or some; here it is told within seconds, and every session plans anew.
"""

from libs import telemetry
from libs.pg import Pool

from . import queries_window as queries

_log = telemetry.logger("statistics")


class Statistics:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def round(self) -> bool:
        """One statement for each table that grew: some 50 ms, and nobody waits for it."""
        async with self._pool.connection() as c:
            for table in await queries.grown(c):
                await c.execute(f"ANALYZE {table}")
                _log.debug("analyzed", table=table)
        return False
