"""What lifecycle keeps about an erased person beside the log: messages that wait, remembered answers, counted sends."""

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.message import FINAL
from libs.pg import Connection, Pool
from libs.rpc import Empty, ForgetSubjects

from . import queries, queries_caps, queries_erasure

PAGE = 500
REASON = "content_erased"


class Forgetter:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def forget(self, request: ForgetSubjects) -> Empty:
        """A page in each transaction; doing it again changes nothing. Raises `ValidationFailed`."""
        subjects = [request.user_id, *request.subscription_ids]
        if not all(map(is_id, [request.application_id, *subjects])):
            raise ValidationFailed(fields={"user_id": "must be a UUID"})
        more = True
        while more:
            async with self._pool.transaction() as c:
                more = await _settle(c, request)
        async with self._pool.connection() as c:
            await queries_erasure.forget_answers(c, request.application_id, subjects)
            await queries_caps.forget_subjects(c, request.application_id, subjects)
        return Empty()


async def _settle(c: Connection, request: ForgetSubjects) -> bool:
    """Fails what waits: messages are locked before due rows, as everywhere. True when there may be more."""
    ids = await queries_erasure.waiting(
        c, request.application_id, request.user_id, request.subscription_ids, request.key_ids, PAGE
    )
    if not ids:
        return False
    rows: list[tuple[object, ...]] = [
        (str(m["id"]), "failed", m["attempt"], REASON, request.application_id, m["now_ms"], REASON, {})
        for m in await queries.lock_messages(c, ids)
        if m["status"] not in FINAL
    ]
    if rows:
        await queries.append(c, rows)
        await queries.update_projection(c, [str(row[0]) for row in rows])
    await queries.delete_due(c, ids)
    return len(ids) == PAGE
