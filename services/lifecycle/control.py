"""What callers may still stop: a message that waits is cancelled."""

from collections.abc import Sequence

from libs.coalesce import Coalescer
from libs.errors import MessageAlreadyProcessed, ResourceNotFound
from libs.message import FINAL
from libs.pg import Connection, Pool, Row
from libs.rpc import Cancelled, CancelMessage

from . import queries, queries_window
from . import queries_messages as own


class Control:
    def __init__(self, pool: Pool, transactions: int) -> None:
        self._pool = pool
        self._cancels: Coalescer[CancelMessage, Cancelled] = Coalescer(self._cancel, concurrency=transactions)

    async def cancel(self, request: CancelMessage) -> Cancelled:
        """Cancelled is what waited in `due` or in an unpublished hand-off, and was taken from there in the same
        transaction; asked again, the answer is the same. Raises `ResourceNotFound`, `MessageAlreadyProcessed`."""
        return await self._cancels.submit(request)

    async def _cancel(self, batch: list[CancelMessage]) -> Sequence[Cancelled | Exception]:
        async with self._pool.transaction() as c:
            found = {str(row["id"]): row for row in await queries.lock_messages(c, [each.message_id for each in batch])}
            asked = {each.message_id: each for each in batch if _is_of(each, found.get(each.message_id))}
            open_ones = [i for i in asked if found[i]["status"] not in FINAL]
            taken = await _taken(c, {i: str(found[i]["handoff_id"]) for i in open_ones}) if open_ones else set()
            if taken:
                await queries.append(c, [_cancelled(found[i], asked[i].actor) for i in sorted(taken)])
                found |= {str(row["id"]): row for row in await queries.update_projection(c, list(taken))}
        return [_verdict(each, found.get(each.message_id)) for each in batch]


async def _taken(c: Connection, handoffs: dict[str, str]) -> set[str]:
    """Of messages and their hand-offs: those that nobody can send any more."""
    waited = await own.take_waiting(c, list(handoffs))
    others = {handoffs[i] for i in handoffs if i not in waited}
    unpublished = await queries_window.lock_unpublished(c, list(others)) if others else set()
    return waited | {i for i, handoff_id in handoffs.items() if i not in waited and handoff_id in unpublished}


def _is_of(request: CancelMessage, message: Row | None) -> bool:
    return message is not None and str(message["application_id"]) == request.application_id


def _cancelled(message: Row, actor: str) -> tuple[object, ...]:
    application_id, at = str(message["application_id"]), message["now_ms"]
    return (str(message["id"]), "cancelled", message["attempt"], "", application_id, at, None, {"actor": actor})


def _verdict(request: CancelMessage, message: Row | None) -> Cancelled | Exception:
    if message is None or not _is_of(request, message):
        return ResourceNotFound(id=request.message_id)
    if message["status"] != "cancelled":
        return MessageAlreadyProcessed(id=request.message_id, status=message["status"])
    return Cancelled(message["cancelled_at_ms"])
