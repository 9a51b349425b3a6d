"""Bodies of the REST API (REF-001), as they may arrive. JSON Schema sees the same limits that msgspec checks.

Only limits that JSON Schema can express stand here; `decode` and `content` check the rest. Bounds are inclusive,
because the validator runs draft 4, whose integers are as strict as msgspec's.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from libs.envelope import Lane, Push
from libs.ids import UUID_PATTERN

MAX_BATCH = 1000
MAX_COLLAPSE_KEY = 64
"""Bytes: the limit of `apns-collapse-id`."""
MAX_TTL_S = 2_419_200
"""Four weeks: FCM's limit, which APNs (30 days) also keeps."""

# The lengths keep the pattern's `$` from letting a final newline pass.
Id = Annotated[str, Meta(pattern=UUID_PATTERN, min_length=36, max_length=36)]
Name = Annotated[str, Meta(max_length=128)]


class DeviceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_model: Name | None = None
    device_os: Name | None = None
    device_language: Name | None = None
    app_version: Name | None = None
    sdk_version: Name | None = None
    country_code: Annotated[str, Meta(min_length=2, max_length=2, pattern="^[A-Za-z]+$")] | None = None
    timezone: Name | None = None
    test_type: Literal[0, 1, 2] | None = None


class SubscriptionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /subscriptions. Type and token have error codes of their own, so their values are checked later."""

    type: str
    token: str
    user_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    device_info: DeviceInfo | None = None
    application_id: Name | None = None
    ad_consent: bool | None = None
    token_kind: Literal["token", "fid"] = "token"


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


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/{id}/status."""

    status: Literal["received", "converted"]


class ConvertBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/{id}/convert."""

    action: Annotated[str, Meta(max_length=100)] = ""
    data: dict[str, Any] | None = None
