"""Verbs of the subscription service about users: persons, who have subscriptions, and may be forgotten."""

from typing import Literal

import msgspec

from libs.rpc.subscription import Act, SubscriptionEventView, SubscriptionView


class IdentifyUser(msgspec.Struct, frozen=True):
    """subscription.identify -> UserView; raises resource_not_found, validation_error.

    Finds or makes the user, and links the subscriptions: all of them, or none if one is unknown.
    """

    application_id: str
    external_id: str
    subscription_ids: list[str]
    """At most 1,000."""
    actor: str
    new_id: str | None = None
    """Id for the user if one is made: derived from an Idempotency-Key, so that a repetition makes the same."""
    source: Act = "api"


class UserView(msgspec.Struct, frozen=True):
    user_id: str
    external_id: str
    created_at_ms: int
    created: bool = False
    last_active_at_ms: int | None = None
    """When the user was last identified, exact to a minute."""


class GetUser(msgspec.Struct, frozen=True):
    """subscription.get_user -> UserView; raises resource_not_found."""

    application_id: str
    name: str
    """Our id or the application's external id."""


class LogOut(msgspec.Struct, frozen=True):
    """subscription.logout -> LoggedOut; raises resource_not_found. All of them, or none if one is unknown."""

    application_id: str
    subscription_ids: list[str]
    """At most 1,000."""
    actor: str
    source: Act = "api"


class LoggedOut(msgspec.Struct, frozen=True):
    unlinked: list[str]
    """As asked: those that belonged to nobody before are as much on their own now."""


class UserSubscriptions(msgspec.Struct, frozen=True):
    """subscription.of_user -> SubscriptionsOfUser; raises resource_not_found. The 1,000 newest, newest first."""

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
    user_id: str = ""
    """Ours: of nobody now."""


class ExportUser(msgspec.Struct, frozen=True):
    """subscription.export_user -> UserExport; raises resource_not_found. What this service holds about a person."""

    application_id: str
    name: str
    after: str | None = None
    """`next_after` of the page before."""
    limit: int = 200
    """Subscriptions."""


class HeldSubscription(msgspec.Struct, frozen=True):
    view: SubscriptionView
    archived_at_ms: int | None = None


class UserExport(msgspec.Struct, frozen=True):
    """One page: the person's subscriptions, archived ones too, in the order of their ids."""

    user: UserView
    subscriptions: list[HeldSubscription]
    key_ids: list[bytes]
    """Under which the person's messages are sealed. On every page, all of them."""
    subscription_ids: list[str] = []
    """All that ever were the person's, on every page: messages lie under them."""
    next_after: str | None = None


class ExportHistory(msgspec.Struct, frozen=True):
    """subscription.export_history -> HistoryExport; raises resource_not_found. Oldest first.

    What happened to subscriptions while they were the person's, or nobody's until they became the person's.
    """

    application_id: str
    user_id: str
    after: int | None = None
    """`next_after` of the page before."""
    limit: int = 500


class HeldEvent(msgspec.Struct, frozen=True):
    subscription_id: str
    event: SubscriptionEventView


class HistoryExport(msgspec.Struct, frozen=True):
    events: list[HeldEvent]
    next_after: int | None = None


class ErasureRecord(msgspec.Struct, frozen=True):
    """One erasure as ERASURES keeps it for ever: ids only. Published before the erasure counts as completed."""

    application_id: str
    request_id: str
    user_id: str
    subscription_ids: list[str]
    key_ids: list[bytes]
    """Data keys that were destroyed."""
    requested_at_ms: int


class ReapplyErasures(msgspec.Struct, frozen=True):
    """subscription.reapply_erasures -> ErasuresReapplied. For a database that was restored from a backup.

    Applying one again changes nothing. What is left to do is done in the background, as after `erase_user`.
    """

    records: list[ErasureRecord]
    """At most 1,000."""


class ErasuresReapplied(msgspec.Struct, frozen=True):
    applied: int
    """Those of which the database still held something, or did not know."""
