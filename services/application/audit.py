"""The audit log: who did what to which resource, when."""

from collections.abc import Sequence

import msgspec

from libs.coalesce import Coalescer
from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.rpc import AuditEntry, AuditPage, Empty, ListAudit, RecordAudit
from services.application import queries_limits as queries
from services.application.checks import check_json, expect_id

MAX_ENTRIES = 1000
"""Of one call."""
MAX_TEXT = 300
MAX_DATA = 4096
"""Bytes of JSON."""
MAX_LISTED = 100
MAX_OFFSET = 1_000_000
MAX_COUNTED = 10_001


class Audit:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._told: Coalescer[list[AuditEntry], None] = Coalescer(self._write, max_items=MAX_ENTRIES, weight=len)

    async def record(self, request: RecordAudit) -> Empty:
        check(request.entries)
        if request.entries:
            await self._told.submit(request.entries)
        return Empty()

    async def _write(self, batch: list[list[AuditEntry]]) -> Sequence[None]:
        async with self._pool.transaction() as c:
            await queries.insert_audit(c, [entry for entries in batch for entry in entries])
        return [None] * len(batch)

    async def list(self, request: ListAudit) -> AuditPage:
        asked = msgspec.structs.replace(
            request,
            application_id=expect_id(request.application_id),
            offset=max(0, min(request.offset, MAX_OFFSET)),
        )
        limit = max(1, min(request.limit, MAX_LISTED))
        async with self._pool.transaction() as c:
            await queries.plan_for_parameters(c)
            entries = await queries.audit_page(c, asked, limit + 1)
            total = await queries.audit_count(c, asked, MAX_COUNTED)
        return AuditPage(entries[:limit], total, len(entries) > limit)


def check(entries: list[AuditEntry]) -> None:
    """What Postgres would refuse is refused before it can spoil the batch. Raises `ValidationFailed`."""
    if len(entries) > MAX_ENTRIES:
        raise ValidationFailed(fields={"entries": f"must be at most {MAX_ENTRIES}"})
    for entry in entries:
        if not is_id(entry.application_id):
            raise ValidationFailed(fields={"application_id": "must be a UUID"})
        for field in ("actor", "action", "resource", "request_id"):
            text: str = getattr(entry, field)
            if len(text) > MAX_TEXT or "\0" in text:
                raise ValidationFailed(fields={field: f"must have at most {MAX_TEXT} characters and no NUL"})
        check_json("data", entry.data, MAX_DATA)
