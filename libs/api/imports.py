"""Subscriptions in bulk: imported from and exported as NDJSON or CSV."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import SubscriptionType, TagName, TagValue, Time
from libs.api.policy import QuietHours
from libs.api.subscriptions import DeviceInfo


class ImportLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line of NDJSON, or one record of CSV: there the columns `tags.<name>` and `device_info.<name>` are nested."""

    type: SubscriptionType
    token: Annotated[str, Meta(min_length=1, max_length=8192)]
    token_kind: Literal["token", "fid"] = "token"
    user_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    device_info: DeviceInfo | None = None
    tags: Annotated[dict[TagName, TagValue], Meta(max_length=100)] = {}
    ad_consent: bool | None = None
    installation_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    subscription_status: Literal[1, 0, -2, -31, -99] = 1
    """An import may bring along who has unsubscribed elsewhere; it never takes a refusal back."""
    night_consent: bool | None = None
    quiet_hours: QuietHours | None = None
    """CSV: the columns `quiet_hours.start` and so on; several `categories` with commas between them."""


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """How far an import is."""

    id: str
    status: Literal["running", "completed", "failed"]
    lines_done: int
    created: int
    updated: int
    failed: int
    """Lines that were refused: `GET /subscriptions/imports/{id}/errors` says why."""
    started_at: Time
    updated_at: Time
    finished_at: Time | None


class RefusedLine(msgspec.Struct, frozen=True):
    line: int
    """Counted from 1; the header of a CSV file is line 1."""
    code: str
    field: str | None


class RefusedLines(msgspec.Struct, frozen=True):
    errors: list[RefusedLine]
    total: int
    next_after: int | None
    """`after` of the next page; None: there is no more."""


class RefusedLinesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    per_page: Annotated[int, Meta(ge=1, le=100)] = 100


class ExportQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["ndjson", "csv"] = "ndjson"
    type: SubscriptionType | None = None
    status: Annotated[int, Meta(ge=-99, le=32767)] | None = None
