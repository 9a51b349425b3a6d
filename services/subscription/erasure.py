"""Forgetting a person: their keys are destroyed, and with them all that was sealed for them (R14).

One transaction makes everything unreadable; what is left, beyond this service's tables, is `forgetting`'s to do.
"""

import asyncio
from collections.abc import Iterable
from uuid import UUID

from libs import errors
from libs.ids import is_id
from libs.pg import Connection, Pool, Row
from libs.rpc import EraseUser, Erasure, ErasureRecord, ErasuresReapplied, GetErasure, ReapplyErasures
from libs.seal import KeyRing
from services.subscription import persons, queries, queries_erasure
from services.subscription.changes import write
from services.subscription.edit import Edit, Who
from services.subscription.queries_erasure import NewErasure
from services.subscription.rows import Book

MAX_RECORDS = 1_000
RESTORE = "restore"
"""Actor of an erasure that is applied again."""


class Erasures:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self.asked = asyncio.Event()
        """Set when there is something new to be finished in the background."""

    async def erase_user(self, request: EraseUser) -> Erasure:
        """Raises `ResourceNotFound`, for a user who was erased before too; `ValidationFailed`."""
        if not is_id(request.request_id):
            raise errors.ValidationFailed(fields={"request_id": "must be a UUID"})
        async with self._pool.transaction() as c:
            found = await self._earlier(c, request) or await self._erase(c, request)
        self.asked.set()
        return found

    async def erasure(self, request: GetErasure) -> Erasure:
        found = None
        if is_id(request.application_id) and is_id(request.request_id):
            async with self._pool.connection() as c:
                found = await queries_erasure.get_erasure(c, request.application_id, request.request_id)
        if found is None:
            raise errors.ResourceNotFound(id=request.request_id[:64])
        return _view(found)

    async def reapply_erasures(self, request: ReapplyErasures) -> ErasuresReapplied:
        """Each in a transaction of its own; repeating it changes nothing. Raises `ValidationFailed`."""
        if len(request.records) > MAX_RECORDS:
            raise errors.ValidationFailed(fields={"records": f"at most {MAX_RECORDS} at a time"})
        applied = 0
        for record in request.records:
            async with self._pool.transaction() as c:
                applied += await self._reapply(c, record)
        self.asked.set()
        return ErasuresReapplied(applied)

    async def _earlier(self, c: Connection, request: EraseUser) -> Erasure | None:
        if not is_id(request.application_id):
            return None
        found = await queries_erasure.get_erasure(c, request.application_id, request.request_id)
        return None if found is None else _view(found)

    async def _erase(self, c: Connection, request: EraseUser) -> Erasure:
        person = await persons.find(c, request.application_id, request.name)
        if not await queries_erasure.take_person(c, request.application_id, person.id):
            earlier = await self._earlier(c, request)  # somebody was faster; if by this very request, it is found
            if earlier is None:
                raise errors.ResourceNotFound(id=request.name[:64])
            return earlier
        wanted = ErasureRecord(request.application_id, request.request_id, person.id, [], [], 0)
        done = await _destroy(c, wanted, request.actor)
        await queries_erasure.insert_erasure(c, done)
        found = await queries_erasure.get_erasure(c, request.application_id, request.request_id)
        if found is None:  # the id belongs to another application's request: nothing may be told of that
            raise errors.ValidationFailed(fields={"request_id": "is not usable"})
        return _view(found)

    async def _reapply(self, c: Connection, record: ErasureRecord) -> bool:
        """On a database of before: what was adopted or linked later may still be otherwise."""
        await queries_erasure.take_person(c, record.application_id, record.user_id)
        await self._free_others(c, record)
        done = await _destroy(c, record, RESTORE)
        whole = done._replace(  # what a still older backup would need stays in it
            subscriptions=sorted({*done.subscriptions, *record.subscription_ids}),
            key_ids=sorted({*done.key_ids, *_texts(record.key_ids)}),
            requested_at_ms=record.requested_at_ms,
        )
        new = await queries_erasure.insert_erasure(c, whole)
        return new or bool(done.subscriptions or done.key_ids)

    async def _free_others(self, c: Connection, record: ErasureRecord) -> None:
        """Subscriptions that stay, and whose own key the person adopted after the backup, get a fresh one."""
        holders = await queries_erasure.holders_of_keys(c, record.application_id, _texts(record.key_ids))
        pairs = [(record.application_id, one) for one in holders if one not in record.subscription_ids]
        rows = await queries.lock_subscriptions(c, pairs) if pairs else []
        for row in rows:
            if row.user_id != record.user_id:
                book = Book([row], row.read_at_ms)
                edit = Edit(row, Who(RESTORE, "api"), book.now_ms, self._ring)
                edit.rekey()
                book.put(edit.draft())
                await write(c, book)


async def _destroy(c: Connection, record: ErasureRecord, actor: str) -> NewErasure:
    """Of the user, of all that is linked to them, and of what the record names; what was done."""
    application_id, user_id = record.application_id, record.user_id
    linked = await queries_erasure.take_subscriptions(c, application_id, user_id, record.subscription_ids)
    named = _texts([*record.key_ids, *(row["key_id"] for row in linked)])
    in_rows = {row["key_id"] for row in linked if row["wrapped_key"] is not None}
    destroyed = {*await queries_erasure.destroy_keys(c, application_id, user_id, named), *in_rows}
    ids = [row["id"] for row in linked]
    if ids:
        await queries_erasure.scrub_subscriptions(c, application_id, ids, actor, record.request_id)
    await queries_erasure.scrub_person(c, application_id, user_id)
    return NewErasure(record.request_id, application_id, user_id, ids, _texts(sorted(destroyed)), actor, None)


def _texts(key_ids: Iterable[bytes]) -> list[str]:
    return [str(UUID(bytes=key_id)) for key_id in key_ids]


def _view(row: Row) -> Erasure:
    return Erasure(
        row["id"],
        "in_progress" if row["completed_at_ms"] is None else "completed",
        row["requested_at_ms"],
        row["completed_at_ms"],
        len(row["subscriptions"]),
        row["user_id"],
    )


def record_of(row: Row) -> ErasureRecord:
    """An erasure as ERASURES keeps it."""
    return ErasureRecord(
        row["application_id"],
        row["id"],
        row["user_id"],
        row["subscriptions"],
        [UUID(key_id).bytes for key_id in row["key_ids"]],
        row["requested_at_ms"],
    )
