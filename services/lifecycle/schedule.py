"""Messages for later: accepted into `due`, and given another time while they wait there (R9)."""

from collections.abc import Iterable, Sequence

from libs.coalesce import Coalescer
from libs.errors import MessageAlreadyProcessed, ResourceNotFound
from libs.pg import Connection, Pool, Row
from libs.rpc import Accept, NewMessage, Rescheduled, RescheduleMessage
from libs.waits import Hold

from . import queries
from . import queries_schedule as own

SCHEDULED: Hold = "scheduled"
NO_HANDOFF = "00000000-0000-0000-0000-000000000000"
"""Of a message that was not given to the pipeline yet."""
FIRST_REVISION = 1
TOLERANCE_MS = 100
"""What is due within so short a time goes at once: the timekeeper does not look more often."""


def is_later(message: NewMessage, now_ms: int) -> bool:
    return message.due_at_ms is not None and message.due_at_ms > now_ms + TOLERANCE_MS


def event_row(request: Accept, message: NewMessage) -> tuple[object, ...]:
    """The first time that was set, beside `created`: a row as `queries_accept.copy_created` takes it."""
    data = {**message.scheduled, "due_at_ms": message.due_at_ms}
    return (message.message_id, SCHEDULED, 1, str(FIRST_REVISION), request.application_id, data, None)


async def put_off(c: Connection, messages: Iterable[tuple[Accept, NewMessage, bytes]]) -> None:
    """Within the acceptance: these wait in `due` for their time."""
    rows = [
        (message.message_id, request.application_id, message.lane, message.due_at_ms)
        for request, message, _ in messages
        if message.due_at_ms is not None
    ]
    if rows:
        await own.insert_scheduled(c, rows)


class Rescheduler:
    def __init__(self, pool: Pool, transactions: int) -> None:
        self._pool = pool
        self._moves: Coalescer[RescheduleMessage, Rescheduled] = Coalescer(self._move, concurrency=transactions)

    async def reschedule(self, request: RescheduleMessage) -> Rescheduled:
        """Only what waits for its time is given another. Raises `ResourceNotFound`, `MessageAlreadyProcessed`."""
        return await self._moves.submit(request)

    async def _move(self, batch: list[RescheduleMessage]) -> Sequence[Rescheduled | Exception]:
        """Messages are locked before due rows, as everywhere: timekeeper and cancel come before or after, not between.

        Of several requests for one message each is a revision, and the last one stays.
        """
        async with self._pool.transaction() as c:
            found = {str(row["id"]): row for row in await queries.lock_messages(c, [each.message_id for each in batch])}
            asked = [each for each in batch if _is_of(each, found.get(each.message_id))]
            times = {each.message_id: _due_at_ms(each, found[each.message_id]) for each in asked}
            moved = await own.move_scheduled(c, times) if times else set()
            revisions = await own.revisions(c, list(moved))
            rows: list[tuple[object, ...]] = []
            answers: list[Rescheduled | Exception] = []
            for each in batch:
                message = found.get(each.message_id)
                if message is None or each.message_id not in moved or not _is_of(each, message):
                    answers.append(_refusal(each, message))
                    continue
                revisions[each.message_id] += 1
                answers.append(Rescheduled(_due_at_ms(each, message), revisions[each.message_id]))
                rows.append(_event(each, message, revisions[each.message_id]))
            if rows:
                await queries.append(c, rows)
        return answers


def _is_of(request: RescheduleMessage, message: Row | None) -> bool:
    return message is not None and str(message["application_id"]) == request.application_id


def _due_at_ms(request: RescheduleMessage, message: Row) -> int:
    return max(request.due_at_ms, int(message["now_ms"]))


def _event(request: RescheduleMessage, message: Row, revision: int) -> tuple[object, ...]:
    data = {**request.scheduled, "due_at_ms": _due_at_ms(request, message), "actor": request.actor}
    identity = (request.message_id, SCHEDULED, message["attempt"], str(revision))
    return (*identity, request.application_id, message["now_ms"], None, data)


def _refusal(request: RescheduleMessage, message: Row | None) -> Exception:
    if message is None or not _is_of(request, message):
        return ResourceNotFound(id=request.message_id)
    return MessageAlreadyProcessed(id=request.message_id, status=message["status"])
