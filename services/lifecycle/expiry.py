"""What nobody could send in time expires, although no sender ever touched it (SEQ-003 §10).

A sender drops what is past its deadline, and the timekeeper expires what lies in `due`. This is for the rest: messages
in a stream that nobody reads, and in hand-offs that were never published.
"""

from collections import defaultdict

from libs import telemetry
from libs.pg import Connection, Pool, Row

from . import queries, queries_expiry, queries_handoff

GRACE_MS = 10_000
"""Past the deadline: who has the message in hand says first what became of it."""
_MESSAGES = 1_000
"""In one transaction, and at least one hand-off."""
_HANDOFFS = 50


class Expiry:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._expired = telemetry.counter("events_appended_total", kind="expired")

    async def round(self) -> bool:
        """True when there may be more at once."""
        async with self._pool.connection() as c:
            overdue = await queries_expiry.overdue_handoffs(c, GRACE_MS, _HANDOFFS)
        page = _page(overdue)
        if not page:
            return False
        async with self._pool.transaction() as c:
            expired = await _sweep(c, page)
        self._expired.inc(expired)
        return len(page) < len(overdue) or len(overdue) == _HANDOFFS


def _page(overdue: list[tuple[str, int]]) -> list[str]:
    page: list[str] = []
    room = _MESSAGES
    for handoff_id, size in overdue:
        if page and size > room:
            break
        page.append(handoff_id)
        room -= size
    return page


async def _sweep(c: Connection, handoffs: list[str]) -> int:
    """Looked up, locked, and looked up again: what happened meanwhile counts. Returns how many expired."""
    candidates = [str(row["id"]) for row in await queries_handoff.open_messages(c, handoffs)]
    locked = {str(row["id"]): row for row in await queries.lock_messages(c, candidates)}
    late: list[Row] = []
    deadlines: dict[str, list[int]] = defaultdict(list)
    for row in await queries_handoff.open_messages(c, handoffs):
        message = locked[str(row["id"])]
        if message["deadline_ms"] + GRACE_MS <= message["now_ms"]:
            late.append(message)
        else:
            deadlines[str(row["handoff_id"])].append(message["deadline_ms"])
    if late:
        await queries.append(c, [_expired(message) for message in late])
        await queries.update_projection(c, [str(message["id"]) for message in late])
    await queries_expiry.set_expiry(c, {i: min(theirs) for i, theirs in deadlines.items()})
    await queries_handoff.delete_handoffs(c, [i for i in handoffs if i not in deadlines])
    return len(late)


def _expired(message: Row) -> tuple[object, ...]:
    data = {"deadline_ms": message["deadline_ms"], "last_status": message["status"], "swept": True}
    ids = str(message["id"]), str(message["application_id"])
    return (ids[0], "expired", message["attempt"], "ttl", ids[1], message["now_ms"], "expired", data)
