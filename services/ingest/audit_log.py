"""GET /audit-log: who did what to which resource, when."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from libs import rpc
from libs.api.application import AuditQuery, AuditRecord, AuditRecords
from libs.api.fields import Pagination
from libs.errors import ValidationFailed
from services.ingest.errors import Reason
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339

EXACT = 10_000
"""So far the entries are counted."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Aware = Annotated[datetime, Meta(tz=True)]


async def list_entries(gateway: Gateway, call: Call[AuditQuery]) -> Answer:
    query = call.input
    before = None if query.cursor is None else _position(query.cursor)
    question = rpc.ListAudit(
        application_id=call.caller.application_id,
        before=before,
        limit=query.per_page,
        actor=query.actor,
        action=query.action,
        resource=query.resource,
        from_ms=_unix_ms("from", query.from_),
        to_ms=_unix_ms("to", query.to),
        offset=0 if before is not None else (query.page - 1) * query.per_page,
    )
    page = await gateway.bus.call("application", "list_audit", question, rpc.AuditPage)
    return Answer(200, AuditRecords([_rendered(entry) for entry in page.entries], _pagination(query, page)))


def _position(cursor: str) -> int:
    """Raises `ValidationFailed`."""
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise ValidationFailed(fields={"cursor": Reason("cursor")})
    return int(cursor)


def _unix_ms(field: str, text: str | None) -> int | None:
    """Raises `ValidationFailed`."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, _Aware)
    except msgspec.ValidationError:
        raise ValidationFailed(fields={field: Reason("time")}) from None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _pagination(query: AuditQuery, page: rpc.AuditPage) -> Pagination:
    return Pagination(
        page=query.page,
        per_page=query.per_page,
        total_items=page.total,
        total_pages=-(-page.total // query.per_page),
        total_is_estimate=page.total > EXACT,
        next_cursor=str(page.entries[-1].position) if page.more else None,
    )


def _rendered(entry: rpc.AuditView) -> AuditRecord:
    return AuditRecord(
        id=str(entry.position),
        actor=entry.actor,
        action=entry.action,
        resource=entry.resource,
        request_id=entry.request_id,
        data=entry.data,
        occurred_at=rfc3339(entry.occurred_at_ms),
    )


ROUTES = (
    Route(
        method="GET",
        path="/audit-log",
        summary="List who changed what, newest first",
        scopes=("manage",),
        handler=list_entries,
        query=AuditQuery,
        answer=AuditRecords,
    ),
)
