"""The timekeeper: the one mechanism for "later" (R9). Takes what is due, hands it off, publishes after the commit."""

import asyncio

from libs import telemetry
from libs.message import FINAL
from libs.pg import Connection, Pool, Row
from libs.waits import wait_of

from . import queries, queries_accept, queries_caps, queries_handoff, queries_schedule
from .handoff import Handoff, Publisher, hand_off_again
from .schedule import SCHEDULED

_PAGE = 500
_SWEPT, _SWEEPS = 2_000, 100
"""Old rows deleted at once, and how often in a round of housekeeping: more than can become old meanwhile."""
MOST_ATTEMPTS = 30_000
"""What was held so often ends: the log counts attempts to 32,767, and some are left for those who send it again."""
_GOES_ON = ("routed", "retried")
"""Kinds of events after which a message is handed off."""


class Timekeeper:
    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._waiting = telemetry.gauge("due_waiting")

    async def round(self) -> bool:
        """Hand off a page of due messages. True when there may be more at once."""
        pool = self._pool.of("critical")  # they wait in `due` like others
        full = self._publisher.full()  # no lane waits for another's publications
        async with pool.connection() as c:
            candidates = [] if full else await queries_handoff.due_now(c, _PAGE)
            if (many := len(candidates) == _PAGE) or full:
                candidates = await queries_schedule.due_in_turn(c, _PAGE, full)
        if not candidates:
            return False
        async with pool.transaction() as c:
            since = asyncio.get_running_loop().time()
            claimed, handoffs = await _claim(c, candidates)
        self._publisher.publish(handoffs, since)
        return many and claimed > 0

    async def housekeeping(self) -> bool:
        """Old idempotency keys and counted sends gone, the length of the queue as a metric."""
        async with self._pool.connection() as c:
            await queries_accept.delete_old_idempotency_keys(c)
            self._waiting.set(await queries_handoff.count_due(c))
        for _ in range(_SWEEPS):
            async with self._pool.connection() as c:
                if await queries_caps.delete_old_sends(c, _SWEPT) < _SWEPT:
                    break
        return False


async def _claim(c: Connection, candidates: list[str]) -> tuple[int, list[Handoff]]:
    """How many were taken from `due`, and what goes on."""
    messages = {str(row["id"]): row for row in await queries_handoff.lock_due_messages(c, candidates)}
    taken = await queries_handoff.take_due(c, list(messages))
    scheduled = [message_id for message_id, (waited_for, _) in taken.items() if waited_for == SCHEDULED]
    revisions = await queries_schedule.revisions(c, scheduled)
    rows, longer = [], []
    for message_id, (waited_for, waited_ms) in taken.items():
        wait = wait_of(waited_for)
        held_ms = 0 if wait is None or wait.ages else max(0, waited_ms)
        row = _event(messages[message_id], waited_for, held_ms, revisions.get(message_id))
        if row is not None:
            rows.append(row)
            longer += [(message_id, held_ms, int(row[1] == "retried"))] if row[1] in _GOES_ON and wait else []
        telemetry.counter("due_claimed_total", reason=waited_for).inc()
    if not rows:
        return len(taken), []
    await queries.append(c, rows)
    changed = [str(row[0]) for row in rows if row[1] != "routed"]
    if changed:
        await queries.update_projection(c, changed)
    if longer:
        await queries_handoff.extend(c, longer)
    return len(taken), await hand_off_again(c, [str(row[0]) for row in rows if row[1] in _GOES_ON], 0)


def _event(message: Row, waited_for: str, held_ms: int, revision: int | None) -> tuple[object, ...] | None:
    """What becomes of a message whose time has come; None for one that is final already.

    A scheduled one, which has a `revision`, begins its first attempt now; any other a further one.
    """
    if message["status"] in FINAL:
        return None
    base = (str(message["id"]), str(message["application_id"]), message["now_ms"])
    deadline_ms = message["deadline_ms"] + held_ms
    if message["now_ms"] >= deadline_ms:
        data = {"deadline_ms": deadline_ms, "waited_for": waited_for}
        return _row(base, "expired", message["attempt"], "ttl", "expired", data)
    if message["superseded"]:
        return _row(base, "superseded", message["attempt"], "", "superseded", {"waited_for": waited_for})
    if message["attempt"] >= MOST_ATTEMPTS:
        data = {"count": message["attempt"], "waited_for": waited_for}
        return _row(base, "failed", message["attempt"], "attempts", "too_many_attempts", data)
    data = {"waited_for": waited_for}
    if revision is not None:
        data |= {"waited_ms": held_ms}
        return _row(base, "routed", message["attempt"], f"{SCHEDULED}:{revision}", SCHEDULED, data)
    if wait_of(waited_for) is not None:
        data |= {"waited_ms": held_ms, "uncounted": 1}
    return _row(base, "retried", message["attempt"] + 1, "", None, data)


def _row(
    base: tuple[str, str, int], kind: str, attempt: int, key: str, reason: str | None, data: dict[str, object]
) -> tuple[object, ...]:
    message_id, application_id, at = base
    return (message_id, kind, attempt, key, application_id, at, reason, data)
