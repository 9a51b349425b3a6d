"""What callers may still change: cancel a message that waits, send again what failed or was cancelled."""

from collections.abc import Sequence

from libs.coalesce import Coalescer
from libs.errors import InvalidMessageContent, MessageAlreadyProcessed, ResourceNotFound
from libs.message import FINAL, Status
from libs.pg import Connection, Pool, Row
from libs.rpc import Cancelled, CancelMessage, ResendMessage, Resent

from . import queries, queries_window
from . import queries_messages as own
from .handoff import Handoff, Publisher, hand_off_again
from .views import Views

RESENDABLE: frozenset[Status] = frozenset({"failed", "cancelled"})
REASON = "resend"


class Control:
    def __init__(self, pool: Pool, publisher: Publisher, views: Views, transactions: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._views = views
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

    async def resend(self, request: ResendMessage) -> Resent:
        """A further attempt, its ttl and its retries counted anew. Raises `ResourceNotFound`,
        `MessageAlreadyProcessed`, and `InvalidMessageContent` where the content was erased."""
        key = f"{REASON}:{request.request_id}"
        async with self._pool.connection() as c:
            sealed = await own.sealed(c, request.message_id, request.application_id)
            earlier = await own.resent(c, request.message_id, request.application_id, key)
        if sealed is None:
            raise ResourceNotFound(id=request.message_id)
        if earlier is not None:
            return Resent(earlier)
        if await self._views.open(request.application_id, request.message_id, sealed) is None:
            raise InvalidMessageContent(reason="content_erased")
        await self._publisher.room()
        async with self._pool.transaction() as c:
            attempt, handoffs = await _begin(c, request, key)
        self._publisher.publish(handoffs)
        return Resent(attempt)


async def _begin(c: Connection, request: ResendMessage, key: str) -> tuple[int, list[Handoff]]:
    message_id = request.message_id
    (message,) = await queries.lock_messages(c, [message_id])
    earlier = await own.resent(c, message_id, request.application_id, key)
    if earlier is not None:
        return earlier, []
    if message["status"] not in RESENDABLE:
        raise MessageAlreadyProcessed(id=message_id, status=message["status"])
    attempt = message["attempt"] + 1
    waited_ms = message["now_ms"] - message["created_at_ms"] - message["waited_ms"]
    uncounted = message["attempt"] - message["uncounted"]
    data = {"waited_for": REASON, "waited_ms": waited_ms, "uncounted": uncounted, "actor": request.actor}
    at = message["now_ms"]
    await queries.append(c, [(message_id, "retried", attempt, key, request.application_id, at, REASON, data)])
    await queries.update_projection(c, [message_id])
    await queries.extend(c, [(message_id, waited_ms, uncounted)])
    await queries.delete_due(c, [message_id])
    return attempt, await hand_off_again(c, [message_id], 0)


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
