"""The timekeeper: the one mechanism for "later" (R9). Takes what is due, hands it off, publishes after the commit."""

from libs import telemetry
from libs.message import FINAL
from libs.pg import Connection, Pool, Row
from libs.waits import wait_of

from . import queries
from .handoff import Handoff, Publisher, hand_off_again

_PAGE = 500


class Timekeeper:
    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._waiting = telemetry.gauge("due_waiting")

    async def round(self) -> bool:
        """Hand off a page of due messages. True when there may be more at once."""
        await self._publisher.room()
        async with self._pool.connection() as c:
            candidates = await queries.due_now(c, _PAGE)
        if not candidates:
            return False
        async with self._pool.transaction() as c:
            handoffs = await _claim(c, candidates)
        self._publisher.publish(handoffs)
        return bool(handoffs) and len(candidates) == _PAGE

    async def housekeeping(self) -> bool:
        """Partitions ahead, old idempotency keys gone, the length of the queue as a metric."""
        async with self._pool.connection() as c:
            await queries.ensure_partitions(c)
            await queries.delete_old_idempotency_keys(c)
            self._waiting.set(await queries.count_due(c))
        return False


async def _claim(c: Connection, candidates: list[str]) -> list[Handoff]:
    messages = {str(row["id"]): row for row in await queries.lock_due_messages(c, candidates)}
    taken = await queries.take_due(c, list(messages))
    rows, longer = [], []
    for message_id, (waited_for, waited_ms) in taken.items():
        wait = wait_of(waited_for)
        held_ms = 0 if wait is None or wait.ages else waited_ms
        row = _event(messages[message_id], waited_for, held_ms)
        if row is not None:
            rows.append(row)
            longer += [(message_id, held_ms, 1)] if row[1] == "retried" and wait is not None else []
        telemetry.counter("due_claimed_total", reason=waited_for).inc()
    if not rows:
        return []
    await queries.append(c, rows)
    await queries.update_projection(c, list(taken))
    if longer:
        await queries.extend(c, longer)
    again = [str(row[0]) for row in rows if row[1] == "retried"]
    return await hand_off_again(c, again, 0)


def _event(message: Row, waited_for: str, held_ms: int) -> tuple[object, ...] | None:
    """What becomes of a message whose time has come; None for one that is final already."""
    if message["status"] in FINAL:
        return None
    base = (str(message["id"]), str(message["application_id"]), message["now_ms"])
    deadline_ms = message["deadline_ms"] + held_ms
    if message["now_ms"] >= deadline_ms:
        data = {"deadline_ms": deadline_ms, "waited_for": waited_for}
        return _row(base, "expired", message["attempt"], "ttl", "expired", data)
    if message["superseded"]:
        return _row(base, "superseded", message["attempt"], "", "superseded", {"waited_for": waited_for})
    data = {"waited_for": waited_for}
    if wait_of(waited_for) is not None:
        data |= {"waited_ms": held_ms, "uncounted": 1}
    return _row(base, "retried", message["attempt"] + 1, "", None, data)


def _row(
    base: tuple[str, str, int], kind: str, attempt: int, key: str, reason: str | None, data: dict[str, object]
) -> tuple[object, ...]:
    message_id, application_id, at = base
    return (message_id, kind, attempt, key, application_id, at, reason, data)
