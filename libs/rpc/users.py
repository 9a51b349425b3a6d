"""Verbs of the subscription service about users: persons, who have subscriptions, and may be forgotten."""

from typing import Any, Literal

import msgspec

from libs.rpc.subscription import SubscriptionView


class IdentifyUser(msgspec.Struct, frozen=True):
    """subscription.identify -> UserView; raises resource_not_found, validation_error.

    Finds or makes the user, and links the subscriptions: all of them, or none if one is unknown.
    """

    application_id: str
    external_id: str
    subscription_ids: list[str]
    actor: str
    new_id: str | None = None


class UserView(msgspec.Struct, frozen=True):
    user_id: str
    external_id: str
    created_at_ms: int
    created: bool = False


class LogOut(msgspec.Struct, frozen=True):
    """subscription.logout -> LoggedOut; raises resource_not_found. All of them, or none if one is unknown."""

    application_id: str
    subscription_ids: list[str]
    actor: str


class LoggedOut(msgspec.Struct, frozen=True):
    unlinked: list[str]


class UserSubscriptions(msgspec.Struct, frozen=True):
    """subscription.of_user -> SubscriptionsOfUser; raises resource_not_found."""

    application_id: str
    name: str
    """Our id or the application's external id."""


class SubscriptionsOfUser(msgspec.Struct, frozen=True):
    user_id: str
    subscriptions: list[SubscriptionView]


class EraseUser(msgspec.Struct, frozen=True):
    """subscription.erase_user -> Erasure; raises resource_not_found.

    When it answers, the person's keys are destroyed; what is left to be cleaned is done in the background.
    """

    application_id: str
    name: str
    actor: str
    request_id: str
    """UUID of the deletion; the same again finds the same."""


class GetErasure(msgspec.Struct, frozen=True):
    """subscription.erasure -> Erasure; raises resource_not_found."""

    application_id: str
    request_id: str


class Erasure(msgspec.Struct, frozen=True):
    request_id: str
    status: Literal["in_progress", "completed"]
    requested_at_ms: int
    completed_at_ms: int | None = None
    subscriptions: int = 0
    """How many were erased with the person."""


class ExportUser(msgspec.Struct, frozen=True):
    """subscription.export_user -> UserExport; raises resource_not_found. What this service holds about a person."""

    application_id: str
    name: str


class UserExport(msgspec.Struct, frozen=True):
    user: UserView
    subscriptions: list[SubscriptionView]
    events: list[dict[str, Any]]
    """The history of their subscriptions."""
    key_ids: list[bytes]
    """Under which the person's messages are sealed."""
