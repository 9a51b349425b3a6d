"""Subscriptions exported in bulk, page by page, as NDJSON or CSV. Tokens are not in it."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from libs import rpc
from libs.api.imports import ExportQuery
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.imports import CSV, NDJSON
from services.ingest.render import rfc3339, rfc3339_or_none

PAGE = 1_000
COLUMNS = (
    "id",
    "type",
    "subscription_status",
    "user_id",
    "external_id",
    "token_hint",
    "installation_id",
    "ad_consent",
    "night_consent",
    "quiet_hours",
    "device_info",
    "tags",
    "created_at",
    "updated_at",
    "subscribed_at",
    "unsubscribed_at",
    "last_active_at",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run (OWASP, CSV injection)."""


async def export(gateway: Gateway, call: Call[ExportQuery]) -> Answer:
    pages = _pages(gateway, call.caller.application_id, call.input)
    first = await anext(pages)  # what goes wrong before the first byte is still an error answer
    if call.input.format == "csv":
        return Answer(200, None, stream=_csv(first, pages), content_type=f"{CSV}; charset=utf-8")
    return Answer(200, None, stream=_ndjson(first, pages), content_type=NDJSON)


async def _pages(gateway: Gateway, application_id: str, wanted: ExportQuery) -> AsyncIterator[list[dict[str, Any]]]:
    after: str | None = None
    while True:
        question = rpc.ExportSubscriptions(application_id, after, PAGE, wanted.type, wanted.status)
        found = await gateway.bus.call("subscription", "export", question, rpc.SubscriptionsExport)
        yield [_fields(view) for view in found.subscriptions]
        if found.next_after is None:
            return
        after = found.next_after


def _fields(view: rpc.SubscriptionView) -> dict[str, Any]:
    return {
        "id": view.id,
        "type": view.type,
        "subscription_status": view.subscription_status,
        "user_id": view.user_id,
        "external_id": view.external_id,
        "token_hint": view.token_hint,
        "installation_id": view.installation_id,
        "ad_consent": view.ad_consent,
        "night_consent": view.night_consent,
        "quiet_hours": view.quiet_hours,
        "device_info": msgspec.to_builtins(view.device_info),
        "tags": view.tags,
        "created_at": rfc3339(view.created_at_ms),
        "updated_at": rfc3339(view.updated_at_ms),
        "subscribed_at": rfc3339_or_none(view.subscribed_at_ms),
        "unsubscribed_at": rfc3339_or_none(view.unsubscribed_at_ms),
        "last_active_at": rfc3339_or_none(view.last_active_at_ms),
    }


async def _ndjson(first: list[dict[str, Any]], rest: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    encode = msgspec.json.Encoder().encode_lines
    yield encode(first)
    async for page in rest:
        yield encode(page)


async def _csv(first: list[dict[str, Any]], rest: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    yield b"\xef\xbb\xbf" + _lines([list(COLUMNS)]) + _lines(_record(each) for each in first)
    async for page in rest:
        yield _lines(_record(each) for each in page)


def _record(fields: dict[str, Any]) -> list[str]:
    return [_cell(fields[name]) for name in COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return msgspec.json.encode(value).decode()


def _lines(records: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(records)
    return text.getvalue().encode()


ROUTES = (
    Route(
        method="GET",
        path="/subscriptions/export",
        summary="All subscriptions as NDJSON or CSV, without tokens",
        scopes=("manage",),
        handler=export,
        query=ExportQuery,
        answer=None,
        size="stream",
        media_types=(NDJSON, CSV),
        audit="subscription.export",
    ),
)
