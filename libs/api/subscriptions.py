"""Subscriptions: how a person or a device can be reached (REF-001 §2)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import Json, Name, Time


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


class SubscriptionCreated(msgspec.Struct, frozen=True):
    subscription_id: str
    type: str
    subscription_status: int
    created_at: Time
    token_hint: str


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
    created_at: Time
    updated_at: Time
    subscribed_at: Time | None
    unsubscribed_at: Time | None
    last_active_at: Time | None
