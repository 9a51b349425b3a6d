"""Kinds of values that several resources share."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from libs.ids import UUID_PATTERN

# The lengths keep the pattern's `$` from letting a final newline pass.
Id = Annotated[str, Meta(pattern=UUID_PATTERN, min_length=36, max_length=36)]
Name = Annotated[str, Meta(max_length=128)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=255)]
"""Our user id, or the application's own id of the user."""
TagName = Annotated[str, Meta(min_length=1, max_length=128)]
TagValue = Annotated[str, Meta(max_length=256)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""In answers: RFC 3339, UTC, milliseconds."""
Moment = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"format": "date-time"})]
"""In queries: RFC 3339, with an offset from UTC."""
Json = dict[str, Any]

Channel = Literal["apns", "fcm"]
SubscriptionType = Literal["iOSPush", "AndroidPush", "Email", "SMS", "KakaoTalk", "InAppMessage", "WebPush"]

Page = Annotated[int, Meta(ge=1, le=10_000)]
PerPage = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(min_length=1, max_length=256)]


class Paging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Query of a list that stays small: numbered pages."""

    page: Page = 1
    per_page: PerPage = 20


class CursorPaging(Paging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Query of a list that can grow large: numbered pages, or a cursor, which then takes the place of `page`."""

    cursor: Cursor | None = None
    """`pagination.next_cursor` of the page before."""


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    page: int
    per_page: int
    total_items: int
    """Exact to 10,000."""
    total_pages: int
    total_is_estimate: bool = False
    next_cursor: str | None = None
    """None: there is no more, or the list has no cursor."""
