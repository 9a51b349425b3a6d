"""Sending again what failed or was cancelled: a further attempt of one message, or of all that a filter finds."""

from collections.abc import Collection

from libs.errors import InvalidMessageContent, MessageAlreadyProcessed, ResourceNotFound, ValidationFailed
from libs.message import Status
from libs.pg import Connection, Pool, Row
from libs.rpc import ListMessages, ResendMany, ResendMessage, Resent, ResentMany

from . import queries, queries_caps, queries_erasure, queries_handoff
from . import queries_messages as own
from .handoff import Handoff, Publisher, hand_off_again
from .seals import Seals

RESENDABLE: frozenset[Status] = frozenset({"failed", "cancelled"})
REASON = "resend"
AT_ONCE = 1_000
"""Messages that one call may send again."""
TOGETHER = 500
"""Of them in one transaction."""


class Resender:
    def __init__(self, pool: Pool, publisher: Publisher, seals: Seals) -> None:
        self._pool = pool
        self._publisher = publisher
        self._seals = seals

    async def resend(self, request: ResendMessage) -> Resent:
        """A further attempt, its ttl and its retries counted anew. Raises `ResourceNotFound`,
        `MessageAlreadyProcessed`, and `InvalidMessageContent` where the content was erased."""
        application_id, message_id, key = request.application_id, request.message_id.lower(), _key(request.request_id)
        async with self._pool.connection() as c:
            known = await queries_erasure.keys_of_messages(c, [(application_id, message_id)])
            earlier = await own.resent(c, application_id, [message_id], key)
        if not known:
            raise ResourceNotFound(id=message_id)
        if earlier:
            return Resent(earlier[message_id])
        if not await self._seals.keys(application_id, set(known.values())):
            raise InvalidMessageContent(reason="content_erased")
        await self._publisher.room()
        async with self._pool.transaction() as c:
            (message,) = await queries.lock_messages(c, [message_id])
            earlier = await own.resent(c, application_id, [message_id], key)
            if earlier:
                return Resent(earlier[message_id])
            if message["status"] not in RESENDABLE:
                raise MessageAlreadyProcessed(id=message_id, status=message["status"])
            handoffs = await _begin(c, [message], key, request.actor)
        self._publisher.publish(handoffs)
        return Resent(message["attempt"] + 1)

    async def resend_many(self, request: ResendMany) -> ResentMany:
        """A page of those that are as the filter says. Raises `ValidationFailed`."""
        wanted = request.request
        if wanted.status not in RESENDABLE:
            raise ValidationFailed(fields={"status": "must be failed or cancelled"})
        if not 1 <= wanted.limit <= AT_ONCE:
            raise ValidationFailed(fields={"limit": f"must be between 1 and {AT_ONCE}"})
        async with self._pool.connection() as c:
            found = await own.page(c, wanted)
            ids, next_before = [str(row["id"]) for row in found[: wanted.limit]], await _next(c, wanted, found)
        resent = 0
        for start in range(0, len(ids), TOGETHER):
            resent += await self._again(wanted, ids[start : start + TOGETHER], request)
        return ResentMany(resent, len(ids) - resent, next_before)

    async def _again(self, wanted: ListMessages, ids: list[str], request: ResendMany) -> int:
        """One transaction. Returns how many attempts it began."""
        readable, key = await self._readable(wanted.application_id, ids), _key(request.request_id)
        await self._publisher.room()
        async with self._pool.transaction() as c:
            locked = await queries.lock_messages(c, readable)
            earlier = await own.resent(c, wanted.application_id, readable, key)
            failed = [row for row in locked if row["status"] == wanted.status and str(row["id"]) not in earlier]
            handoffs = await _begin(c, failed, key, request.actor)
        self._publisher.publish(handoffs)
        return len(failed)

    async def _readable(self, application_id: str, ids: Collection[str]) -> list[str]:
        """Those whose data key was not destroyed."""
        async with self._pool.connection() as c:
            sealing = await queries_erasure.keys_of_messages(c, [(application_id, each) for each in ids])
        living = await self._seals.keys(application_id, set(sealing.values()))
        return [message_id for (_, message_id), key_id in sealing.items() if key_id in living]


def _key(request_id: str) -> str:
    return f"{REASON}:{request_id}"


async def _next(c: Connection, wanted: ListMessages, found: list[Row]) -> str | None:
    """Where the next page begins, as a list tells it."""
    if len(found) > wanted.limit:
        return str(found[wanted.limit - 1]["id"])
    looked = await own.count(c, wanted, wanted.before)
    return None if looked.all else looked.last


async def _begin(c: Connection, messages: list[Row], key: str, actor: str) -> list[Handoff]:
    """A further attempt of each, with nothing of what came before counted: age, retries, its place under a cap."""
    if not messages:
        return []
    events: list[tuple[object, ...]] = []
    longer: list[tuple[str, int, int]] = []
    for message in messages:
        message_id, application_id, at = str(message["id"]), str(message["application_id"]), message["now_ms"]
        waited_ms = at - message["created_at_ms"] - message["waited_ms"]
        uncounted = message["attempt"] - message["uncounted"]
        data = {"waited_for": REASON, "waited_ms": waited_ms, "uncounted": uncounted, "actor": actor}
        events.append((message_id, "retried", message["attempt"] + 1, key, application_id, at, REASON, data))
        longer.append((message_id, waited_ms, uncounted))
    ids = [message_id for message_id, _, _ in longer]
    await queries.append(c, events)
    await queries.update_projection(c, ids)
    await queries_handoff.extend(c, longer)
    await queries.delete_due(c, ids)
    await queries_caps.give_back(c, ids)
    return await hand_off_again(c, ids, 0)
