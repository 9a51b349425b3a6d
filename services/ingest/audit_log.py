"""GET /audit-log: who did what to which resource, when."""

from libs import rpc
from libs.api.application import AuditQuery, AuditRecord, AuditRecords
from services.ingest.decode import unix_ms
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import pagination, rfc3339
from services.ingest.subscription_views import position_of

EXACT = 10_000
"""So far the entries are counted."""


async def list_entries(gateway: Gateway, call: Call[AuditQuery]) -> Answer:
    page = await gateway.bus.call("application", "list_audit", _question(call), rpc.AuditPage)
    oldest = str(page.entries[-1].position) if page.more else None
    listed = [_rendered(entry) for entry in page.entries]
    return Answer(200, AuditRecords(listed, pagination(call.input, page.total, page.total > EXACT, oldest)))


def _question(call: Call[AuditQuery]) -> rpc.ListAudit:
    """Raises `ValidationFailed`."""
    query = call.input
    before = None if query.cursor is None else position_of(query.cursor)
    return rpc.ListAudit(
        application_id=call.caller.application_id,
        before=before,
        limit=query.per_page,
        actor=query.actor,
        action=query.action,
        resource=query.resource,
        from_ms=unix_ms("from", query.from_),
        to_ms=unix_ms("to", query.to),
        offset=0 if before is not None else (query.page - 1) * query.per_page,
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
