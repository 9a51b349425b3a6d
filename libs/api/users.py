"""Users: persons, known on several devices and by several addresses, who may be forgotten (REF-001 §3)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import ExternalId, Id, Name, Time
from libs.api.messages import Event, Message
from libs.api.subscriptions import Subscription, SubscriptionEvent

MAX_SUBSCRIPTIONS = 1_000
"""In one request."""

Ids = Annotated[list[Id], Meta(max_length=MAX_SUBSCRIPTIONS)]


class IdentifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /users/identify."""

    external_id: ExternalId
    subscriptions: Ids = []
    """With a `client` key only the caller's own, which may be left out."""
    application_id: Name | None = None
    identity_token: Annotated[str, Meta(max_length=8192)] | None = None
    """With a `client` key, where the application asks for it: a JWT by which its back end vouches for the user."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /users/{external_id}, and to POST /users/identify."""

    user_id: str
    external_id: str
    created_at: Time
    last_active_at: Time | None = None
    """When the user was last identified, exact to a minute."""


class LogoutBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /users/logout."""

    subscriptions: Ids = []
    """With a `client` key only the caller's own, which may be left out."""
    application_id: Name | None = None


class LoggedOut(msgspec.Struct, frozen=True):
    unlinked_subscriptions: list[str]


class UserSubscriptions(msgspec.Struct, frozen=True):
    """Answer to GET /users/{external_id}/subscriptions: the 1,000 newest, newest first."""

    subscriptions: list[Subscription]


class UserDeleted(msgspec.Struct, frozen=True):
    message: str
    request_id: str
    """GET /deletions/{id} says when it is completed."""


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /deletions/{id}."""

    request_id: str
    status: Literal["in_progress", "completed"]
    """From `in_progress` on nothing of the person can be read any more; `completed`: nothing is under way either."""
    requested_at: Time
    completed_at: Time | None
    subscriptions: int
    """How many were erased with the person."""


class HeldSubscription(Subscription, frozen=True, kw_only=True):
    """A subscription as the export of its person shows it."""

    archived_at: Time | None


class HistoryEntry(SubscriptionEvent, frozen=True, kw_only=True):
    """What happened to a subscription while it was the person's."""

    subscription_id: str


class HeldMessage(Message, frozen=True, omit_defaults=True, kw_only=True):
    """A message as the export of its person shows it: with its events whole."""

    timeline: list[Event]


class UserData(msgspec.Struct, frozen=True):
    """Answer to GET /users/{external_id}/export: everything held about the person."""

    user: User
    subscriptions: list[HeldSubscription]
    history: list[HistoryEntry]
    messages: list[HeldMessage]
