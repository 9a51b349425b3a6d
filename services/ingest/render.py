"""Answers as REF-001 §1.4 wants them: the envelope, and times in RFC 3339, UTC, milliseconds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from libs.api.fields import Pagination, Paging
from libs.errors import SignalError
from services.ingest.errors import Language, describe

_encode = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def success(data: Any) -> bytes:
    return b'{"status":"success","data":%b}' % _encode(data)


def failure(error: SignalError, language: Language) -> bytes:
    return b'{"status":"error","error":%b}' % _encode(describe(error, language))


def rfc3339(unix_ms: int) -> str:
    """`2025-04-05T08:30:45.000Z`."""
    moment = _EPOCH + timedelta(milliseconds=unix_ms)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def rfc3339_or_none(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else rfc3339(unix_ms)


def pagination(query: Paging, total: int, is_estimate: bool, next_cursor: str | None = None) -> Pagination:
    return Pagination(
        page=query.page,
        per_page=query.per_page,
        total_items=total,
        total_pages=-(-total // query.per_page),
        total_is_estimate=is_estimate,
        next_cursor=next_cursor,
    )
