"""Messages: send one, send many, look them up, and report what became of them (REF-001 §4)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import Id, Json, Time
from libs.envelope import Lane, Push
from libs.message import Status

MAX_BATCH = 1000
MAX_COLLAPSE_KEY = 64
"""Bytes: the limit of `apns-collapse-id`."""
MAX_TTL_S = 2_419_200
"""Four weeks: FCM's limit, which APNs (30 days) also keeps."""


class MessageItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One message of a batch. What comes from JSON has no cycles: the collector need not look."""

    subscription_id: Id
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None
    push: Push | None = None
    priority: Lane | None = None
    """None: `normal` alone, `bulk` in a batch."""
    ttl: Annotated[int, Meta(ge=1, le=MAX_TTL_S)] | None = None
    """Seconds."""
    category: Literal["info", "ad"] = "info"
    collapse_key: Annotated[str, Meta(min_length=1, max_length=MAX_COLLAPSE_KEY)] | None = None


class MessageBody(MessageItem, frozen=True, forbid_unknown_fields=True, gc=False):
    """POST /messages."""

    validate_only: bool = False


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/batch, where every item is well-formed."""

    messages: Annotated[list[MessageItem], Meta(min_length=1, max_length=MAX_BATCH)]
    validate_only: bool = False


class BatchOfRaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/batch, its items not looked at yet."""

    messages: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]
    validate_only: bool = False


class MessageSent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to POST /messages. With `validate_only`: `status` is `valid`, and there is no message."""

    status: Literal["pending", "valid"]
    subscription_id: str
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    created_at: Time | msgspec.UnsetType = msgspec.UNSET


class ApiError(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: Json


class ItemResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of one item of a batch: `message_id` and `status`, or `error`."""

    message_id: str | msgspec.UnsetType | None = msgspec.UNSET
    status: Literal["pending", "valid"] | msgspec.UnsetType = msgspec.UNSET
    error: ApiError | msgspec.UnsetType = msgspec.UNSET


class BatchSent(msgspec.Struct, frozen=True):
    """Answer to POST /messages/batch."""

    results: list[ItemResult]
    """In the order of the items."""
    accepted: int
    refused: int


class EventBrief(msgspec.Struct, frozen=True):
    event_type: str
    occurred_at: Time


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to GET /messages/{id}."""

    id: str
    subscription_id: str
    title: str | None
    body: str | None
    data: Json | None
    content_erased: bool | msgspec.UnsetType = msgspec.UNSET
    """True: the person was erased, and the content with them."""
    status: Status
    created_at: Time
    sent_at: Time | None
    received_at: Time | None
    converted_at: Time | None
    failed_at: Time | None
    cancelled_at: Time | None
    reason: str | None
    channel: str
    priority: Lane
    category: str
    attempt: int
    events: list[EventBrief]


class Event(msgspec.Struct, frozen=True):
    event_type: str
    occurred_at: Time
    attempt: int
    reason: str | None
    data: Json
    why: str
    """In words, from the facts of the log."""


class Timeline(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to GET /messages/{id}/events."""

    id: str
    status: Status
    why: str
    events: list[Event]
    next_attempt_at: Time | msgspec.UnsetType = msgspec.UNSET


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/{id}/status."""

    status: Literal["received", "converted"]


class StatusReported(msgspec.Struct, frozen=True):
    id: str
    status: Status
    received_at: Time | None


class ConvertBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/{id}/convert."""

    action: Annotated[str, Meta(max_length=100)] = ""
    data: dict[str, Any] | None = None


class ConversionReported(msgspec.Struct, frozen=True):
    id: str
    status: Status
    converted_at: Time | None
