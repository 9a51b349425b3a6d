"""Subscriptions: how a person or a device can be reached (REF-001 §2)."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from libs.api.fields import (
    CursorPaging,
    ExternalId,
    Id,
    Json,
    Name,
    Pagination,
    SubscriptionType,
    TagName,
    TagValue,
    Time,
)
from libs.api.policy import OwnQuietHours, QuietHours

MANY = 1_000
"""Subscriptions in one request."""

Tags = Annotated[dict[TagName, TagValue], Meta(max_length=100)]
TagKeys = Annotated[list[TagName], Meta(min_length=1, max_length=100)]
Many = Annotated[list[Id], Meta(min_length=1, max_length=MANY)]
TokenKind = Literal["token", "fid"]


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
    """POST and PUT /subscriptions. Type and token have error codes of their own, so their values are checked later."""

    type: str
    token: str
    """A device token, an e-mail address, a phone number in E.164; for WebPush the JSON text of the browser's
    PushSubscription."""
    user_id: ExternalId | None = None
    """Our id or the application's own: the person, if known."""
    device_info: DeviceInfo | None = None
    application_id: Name | None = None
    ad_consent: bool | None = None
    """Agreed to advertisements. Not given: true for push, false for all others."""
    token_kind: TokenKind = "token"
    installation_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    """What the SDK made up once for this installation: a new token then replaces the old one."""
    tags: Tags = {}
    double_opt_in: bool = False
    """Email and SMS: nothing is sent until the address is confirmed."""
    night_consent: bool | None = None
    """Agreed to advertisements at night (21:00 to 08:00) too."""
    quiet_hours: QuietHours | UnsetType | None = UNSET
    """Instead of the application's; null: the application's."""
    identity_token: Annotated[str, Meta(max_length=8192)] | None = None
    """With a `client` key: the JWT by which the application's back end vouches for `user_id`."""


class SubscriptionCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    subscription_id: str
    type: str
    subscription_status: int
    created_at: Time
    token_hint: str
    subscription_secret: str | UnsetType = UNSET
    """With a `client` key, this once: later calls about this subscription carry it in `X-Subscription-Secret`."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    user_id: str | None
    external_id: str | None
    subscription_status: int
    token_hint: str
    device_info: Json
    tags: dict[str, str]
    ad_consent: bool
    night_consent: bool
    quiet_hours: OwnQuietHours | None
    """Their own; null: the application's."""
    installation_id: str | None
    created_at: Time
    updated_at: Time
    subscribed_at: Time | None
    unsubscribed_at: Time | None
    last_active_at: Time | None
    """Exact to a minute."""
    token_updated_at: Time | None


class SubscriptionQuery(CursorPaging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    user_id: ExternalId | None = None
    """Our id or the application's own."""
    type: SubscriptionType | None = None
    status: Annotated[int, Meta(ge=-99, le=32767)] | None = None
    tag: TagName | None = None
    """A tag that must be there. Where few have it, pages may be short before the list ends: go on by cursor."""


class Subscriptions(msgspec.Struct, frozen=True):
    subscriptions: list[Subscription]
    """Newest first."""
    pagination: Pagination


class SubscriptionUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH and PUT /subscriptions/{id}. What is not given stays as it is, also within `device_info`."""

    token: str | None = None
    token_kind: TokenKind | None = None
    device_info: DeviceInfo | None = None
    subscription_status: Annotated[int, Meta(ge=-99, le=1)] | None = None
    """What the SDK saw on the device: 1 when permission was granted, else a code of push or in-app (REF-002 §3, §7)."""
    ad_consent: bool | None = None
    night_consent: bool | None = None
    quiet_hours: QuietHours | UnsetType | None = UNSET
    """null: from now on the application's."""
    application_id: Name | None = None


class SubscriptionArchived(msgspec.Struct, frozen=True):
    id: str
    archived_at: Time


class DisableBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Literal["api", "user"] = "user"
    """`user`: the person's own choice (-2). `api`: switched off by the application (-31)."""
    application_id: Name | None = None


class Disabled(msgspec.Struct, frozen=True):
    id: str
    subscription_status: int
    unsubscribed_at: Time | None


class EnableBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    application_id: Name | None = None


class Enabled(msgspec.Struct, frozen=True):
    id: str
    subscription_status: int
    subscribed_at: Time | None


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    token_kind: TokenKind | None = None
    """Not given: as before."""
    application_id: Name | None = None


class TokenUpdated(msgspec.Struct, frozen=True):
    id: str
    token_updated_at: Time | None
    token_hint: str
    subscription_status: int


class TagsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tags: Tags
    application_id: Name | None = None


class TagKeysBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tag_keys: TagKeys
    application_id: Name | None = None


class Tagged(msgspec.Struct, frozen=True):
    id: str
    tags: dict[str, str]


class ManyTagsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subscription_ids: Many
    tags: Tags
    application_id: Name | None = None


class ManyTagKeysBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subscription_ids: Many
    tag_keys: TagKeys
    application_id: Name | None = None


class ManyTagged(msgspec.Struct, frozen=True):
    updated: int
    """Subscriptions that have the tags as asked now, whether or not that was a change."""
    unknown: list[str]
    """Ids of which there is no subscription."""


class SubscriptionEvent(msgspec.Struct, frozen=True):
    id: str
    event_type: str
    actor: str
    """`key:<id>`, `provider` …"""
    source: Literal["api", "user", "sdk", "provider", "import"]
    """Whose act it was: the application's, the person's, their app's, the provider's, a bulk import's."""
    reason: str | None
    data: Json
    occurred_at: Time


class SubscriptionHistory(msgspec.Struct, frozen=True):
    events: list[SubscriptionEvent]
    """Newest first."""
    pagination: Pagination
