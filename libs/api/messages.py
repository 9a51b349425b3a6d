"""Messages: send one, send many, look them up, and report what became of them (REF-001 §4)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import (
    Channel,
    CursorPaging,
    ExternalId,
    Id,
    Json,
    Moment,
    Name,
    Pagination,
    SubscriptionType,
    Time,
)
from libs.api.push import Push
from libs.api.templates import Locale, TemplateName
from libs.envelope import Lane
from libs.message import Status
from libs.policy import LocalTime

MAX_BATCH = 1000
MAX_COLLAPSE_KEY = 64
"""Bytes: the limit of `apns-collapse-id`."""
MAX_TTL_S = 2_419_200
"""Four weeks: FCM's limit, which APNs (30 days) also keeps."""
Strategy = Literal["first_available", "all"]
"""Of a message to a person: one subscription, of the first of `channels` that has an active one (of several the most
recently active); or all that are active, at most 100."""


class Sending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """To whom a message goes, and how. What comes from JSON has no cycles: the collector need not look."""

    subscription_id: Id | None = None
    """Either this or `external_id`."""
    external_id: ExternalId | None = None
    """The person: the application's own id of the user, or ours."""
    channels: Annotated[list[SubscriptionType], Meta(min_length=1, max_length=16)] | None = None
    """With `external_id`: types of subscriptions in order of preference. None: all."""
    strategy: Strategy | None = None
    """With `external_id`. None: `first_available`."""
    push: Push | None = None
    priority: Lane | None = None
    """None: `normal` alone, `bulk` in a batch."""
    ttl: Annotated[int, Meta(ge=1, le=MAX_TTL_S)] | None = None
    """Seconds."""
    category: Literal["info", "ad"] = "info"
    """Advertising goes to those who agreed to it. To Korea it is marked with `(광고) `, whose 9 bytes count towards the
    size everywhere; and it is held from 21:00 to 08:00 there, but for those who agreed to that too."""
    collapse_key: Annotated[str, Meta(min_length=1, max_length=MAX_COLLAPSE_KEY)] | None = None
    scheduled_at: Moment | None = None
    """Not to be sent before, and its `ttl` counts from then: at most 366 days ahead. None, or past: at once."""
    send_at_local: LocalTime | None = None
    """At the next such time of the recipient's day, from `scheduled_at` on where that is given. Their time zone is that
    of the subscription, else of its country, else the application's, else UTC."""


class MessageItem(Sending, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """One message of a batch: its content, or the template that makes it."""

    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None
    template_id: TemplateName | None = None
    """Our id of the template, or its name."""
    variables: dict[str, Any] | None = None
    """With `template_id`."""
    locale: Locale | None = None
    """With `template_id`. None: the language of the recipient's device."""


class MessageBody(MessageItem, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """POST /messages."""

    validate_only: bool = False
    """True: all checks are made, nothing is accepted."""


class TemplateMessageBody(Sending, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """POST /messages/template."""

    template_id: TemplateName
    """Our id, or its name."""
    variables: dict[str, Any] | None = None
    locale: Locale | None = None
    """None: the language of the recipient's device."""
    validate_only: bool = False


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/batch, where every item is well-formed."""

    messages: Annotated[list[MessageItem], Meta(min_length=1, max_length=MAX_BATCH)]
    validate_only: bool = False


class BatchOfRaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/batch, its items not looked at yet."""

    messages: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]
    validate_only: bool = False


class SentTo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One of the messages to a person."""

    subscription_id: str
    type: str
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    """Absent with `validate_only`."""
    scheduled_at: Time | msgspec.UnsetType = msgspec.UNSET
    """When it will be sent. Absent: at once."""


class MessageSent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to POST /messages and /messages/template. With `validate_only`: `status` is `valid`, and there is no
    message."""

    status: Literal["pending", "valid"]
    subscription_id: str
    """Of several, the first."""
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    created_at: Time | msgspec.UnsetType = msgspec.UNSET
    scheduled_at: Time | msgspec.UnsetType = msgspec.UNSET
    """When it will be sent. Absent: at once."""
    messages: list[SentTo] | msgspec.UnsetType = msgspec.UNSET
    """To a person: all messages that it led to."""


class ApiError(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: Json


class ItemResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of one item of a batch: `message_id` and `status`, or `error`."""

    message_id: str | msgspec.UnsetType | None = msgspec.UNSET
    status: Literal["pending", "valid"] | msgspec.UnsetType = msgspec.UNSET
    scheduled_at: Time | msgspec.UnsetType = msgspec.UNSET
    """When it will be sent. Absent: at once."""
    messages: list[SentTo] | msgspec.UnsetType = msgspec.UNSET
    """To a person: all messages that the item led to."""
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
    scheduled_at: Time | msgspec.UnsetType = msgspec.UNSET
    """When it is to be sent, as it was set last. Absent: it was sent at once."""
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
    user_id: str | None
    """The person, if they were known when it was accepted."""
    template_id: str | None
    template_version: int | None
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
    application_id: Name | None = None


class StatusReported(msgspec.Struct, frozen=True):
    id: str
    status: Status
    received_at: Time | None


class ConvertBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /messages/{id}/convert."""

    action: Annotated[str, Meta(max_length=100)] = ""
    data: dict[str, Any] | None = None
    application_id: Name | None = None


class ConversionReported(msgspec.Struct, frozen=True):
    id: str
    status: Status
    converted_at: Time | None


class MessagesQuery(CursorPaging, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """GET /messages. Only so many messages are looked at for one page: it may be short, and still have a
    `next_cursor`. Numbered pages reach as far as one page looks; a cursor reaches everything."""

    status: Status | None = None
    channel: Channel | None = None
    priority: Lane | None = None
    category: Literal["info", "ad"] | None = None
    subscription_id: Id | None = None
    user_id: ExternalId | None = None
    """Our id of the user, or the application's own."""
    template_id: TemplateName | None = None
    from_: Moment | None = None
    """When they were accepted: this moment included."""
    to: Moment | None = None
    """This moment not included."""


class MessageListed(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a list, without its content."""

    id: str
    subscription_id: str
    user_id: str | None
    status: Status
    channel: str
    priority: Lane
    category: str
    attempt: int
    created_at: Time
    sent_at: Time | None
    received_at: Time | None
    converted_at: Time | None
    failed_at: Time | None
    cancelled_at: Time | None
    reason: str | None
    template_id: str | None
    template_version: int | None
    scheduled_at: Time | msgspec.UnsetType = msgspec.UNSET
    """While it waits for its time: when that is."""
    next_attempt_at: Time | msgspec.UnsetType = msgspec.UNSET
    """While it waits, for whatever: when it goes on. Absent too where it waits until somebody ends that."""


class MessageList(msgspec.Struct, frozen=True):
    """Answer to GET /messages, newest first."""

    messages: list[MessageListed]
    pagination: Pagination
