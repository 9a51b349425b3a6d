"""`automata projections rebuild`: the projection compared with the log, and made anew where it differs, with the system
running (R12)."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from libs.config import Database
from libs.errors import ServiceUnavailable
from libs.ids import time_of
from libs.pg import Connection, Pool, connect_pool

from . import queries, queries_rebuild
from .handoff import BOUNDLESS, hand_off_again
from .queries_rebuild import FIRST, LAST, Compared

_END = (datetime.max.replace(tzinfo=UTC), UUID(LAST))
_SUMS = 2**64
_PATIENCE = 60.0
"""Seconds for which a database that is away is waited for."""

Result = TypeVar("Result")


class Batches(msgspec.Struct, frozen=True):
    """How much is done in a transaction."""

    facts: int = 10_000
    """Of a range of ids: a tenth of a second."""
    handoffs: int = 20
    """Looked through for messages without one: up to 10,000 messages."""
    rows: int = 2_000
    """Looked through for messages that nobody works on."""
    listed: int = 100_000
    """Ids of hand-offs that are held in memory at once."""


class Rebuilt(msgspec.Struct):
    """How far it came, and what was found."""

    messages: int = 0
    """In the log."""
    changed: int = 0
    """Rows that were missing, or were not what the log says."""
    strangers: int = 0
    """Rows that the log does not know. They are left as they are."""
    reached: float = 0.0
    """All messages that were made before this Unix time are done."""
    found: int = 0
    told: int = 0

    def add(self, compared: Compared, last: str) -> None:
        """A range of ids that ends with `last`."""
        self.messages += compared.messages
        self.changed += compared.missing + len(compared.wrong)
        self.strangers += compared.strangers
        self.found += compared.found
        self.told += compared.told
        if last != LAST:
            self.reached = time_of(last)

    @property
    def checksum_before(self) -> str:
        """Of `messages` as it was."""
        return f"{self.found % _SUMS:016x}"

    @property
    def checksum_after(self) -> str:
        """Of what the log amounts to: of `messages` as it is now, unless it has strangers."""
        return f"{self.told % _SUMS:016x}"


class _Transactions:
    """Short ones, each of which may be repeated: a database that is away for a moment is waited for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run(self, work: Callable[..., Awaitable[Result]], *values: object) -> Result:
        """Raises `ServiceUnavailable` when the database stays away."""

        async def once() -> Result:
            async with self._pool.transaction() as c:
                return await work(c, *values)

        return await AsyncRetrying(
            retry=retry_if_exception_type(ServiceUnavailable),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(_PATIENCE),
            reraise=True,
        )(once)


async def rebuild(
    dsn: str, progress: Callable[[Rebuilt], None] = lambda _: None, batches: Batches | None = None
) -> Rebuilt:
    """Compare every row of `messages` with the log, and write those that differ. Equal checksums mean that all were
    right. `progress` is told after each range of ids.

    A range is compared in one snapshot, so facts that arrive meanwhile make no difference; what differs is locked and
    written from all that is committed by then. Nothing is kept beside the rows: after a kill it is run again.
    Raises `ServiceUnavailable` when the database is away for a minute.
    """
    pool = await connect_pool(Database(url=dsn, pool=1, statement_timeout=60), prepare=queries.SET_EPOCH)
    transactions, batches = _Transactions(pool), batches or Batches()
    try:
        rebuilt, after, unplaced = Rebuilt(), FIRST, None
        while after != LAST:
            last, compared = await transactions.run(_range, after, batches.facts)
            if compared.unplaced and unplaced is None:
                unplaced = after
            rebuilt.add(compared, last)
            after = last
            progress(rebuilt)
        if unplaced is not None:
            await _adopt(transactions, batches)
            await _hand_off_orphans(transactions, unplaced, batches.rows)
    finally:
        await pool.close()
    return rebuilt


async def _range(c: Connection, after: str, facts: int) -> tuple[str, Compared]:
    """With its last id."""
    last = await queries_rebuild.end_of_range(c, after, facts)
    await queries_rebuild.no_loops(c)
    compared = await queries_rebuild.compare(c, after, last)
    if compared.wrong:
        await queries.lock_messages(c, compared.wrong)
        await queries_rebuild.repair(c, after, last, compared.wrong)
    return last, compared


async def _adopt(transactions: _Transactions, batches: Batches) -> None:
    """Rows that were missing: their hand-off is looked up where it still is. Of several the newest has them."""
    places = [_END]
    while places:
        places = await transactions.run(queries_rebuild.handoffs_before, places[-1], batches.listed)
        for start in range(0, len(places), batches.handoffs):
            part = places[start : start + batches.handoffs]
            await transactions.run(_adopt_by, [handoff for _, handoff in part])


async def _adopt_by(c: Connection, handoffs: list[UUID]) -> None:
    if pairs := await queries_rebuild.adoptable(c, handoffs):
        await queries.lock_messages(c, list(pairs))
        await queries_rebuild.adopt(c, pairs)


async def _hand_off_orphans(transactions: _Transactions, after: str, rows: int) -> None:
    """What is unfinished, and in no hand-off, is handed off again, as if it were published: the reconciler finds it
    open, once all that may still be on its way is through (R6). A window that is full would publish it before."""
    last: str | None = after
    while last is not None:
        last = await transactions.run(_hand_off_behind, last, rows)


async def _hand_off_behind(c: Connection, after: str, rows: int) -> str | None:
    """The last id of those looked at; None: there is none."""
    last, ids = await queries_rebuild.orphans_behind(c, after, rows)
    if ids:
        await queries.lock_messages(c, ids)
        await hand_off_again(c, await queries_rebuild.orphans_among(c, ids), 1, BOUNDLESS)
    return last
