"""Verbs of the subscription service: who can be reached, and how. Users have a file of their own (`users`)."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from libs.policy import QuietHours

Act = Literal["api", "user", "sdk", "provider", "import"]
"""Whose act a change of status is: an application's back end, the person, their app, the provider, a bulk import."""


class DeviceInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    device_model: str | None = None
    device_os: str | None = None
    device_language: str | None = None
    app_version: str | None = None
    sdk_version: str | None = None
    country_code: str | None = None
    timezone: str | None = None
    test_type: int | None = None
    """1 and 2 are development and ad-hoc builds: Apple's development endpoint. None or 0: production."""


class CreateSubscription(msgspec.Struct, frozen=True):
    """subscription.create -> Registered; raises duplicate_subscription, invalid_subscription_type, invalid_token,
    validation_error, permission_denied.

    A known `installation_id` with another token is the same installation: its token is replaced.
    """

    application_id: str
    type: str
    token: str
    actor: str
    """Who did it, for the history: `key:<id>`."""
    token_kind: Literal["token", "fid"] = "token"
    user_id: str | None = None
    """Our id or the application's external id."""
    device_info: DeviceInfo = DeviceInfo()
    ad_consent: bool | None = None
    installation_id: str | None = None
    """One row per installation of an app: what the SDK made up once and keeps."""
    tags: dict[str, str] = {}
    double_opt_in: bool = False
    upsert: bool = False
    """True: a token that is there already is brought up to date (PUT), not refused (POST)."""
    client: bool = False
    """True: asked with a `client` key, which proves nothing: a secret is made, and what is somebody else's is left
    alone."""
    bearer: str | None = None
    """With a `client` key: the subscription whose secret the caller carried."""
    new_id: str | None = None
    """Id for the subscription if one is made: derived from an Idempotency-Key, so that a repetition finds the same."""
    night_consent: bool | None = None
    act: Act = "api"
    quiet_hours: QuietHours | UnsetType | None = UNSET
    """None: the application's."""


class Registered(msgspec.Struct, frozen=True):
    view: "SubscriptionView"
    created: bool
    secret: str | None = None
    """Shown this once, to `client` keys: what later calls about this subscription must carry."""


class VerifySecret(msgspec.Struct, frozen=True):
    """subscription.verify_secret -> Bearer; raises authentication_failed."""

    application_id: str
    digest: bytes
    """SHA-256 of the presented secret."""


class Bearer(msgspec.Struct, frozen=True):
    subscription_id: str
    """The one subscription that the caller may touch."""


class UpdateSubscription(msgspec.Struct, frozen=True):
    """subscription.update -> SubscriptionView; raises resource_not_found, invalid_token, duplicate_subscription,
    validation_error.

    What is None stays as it is, but for `quiet_hours`. The fields of `device_info` that are None stay too.
    """

    application_id: str
    subscription_id: str
    actor: str
    act: Act = "api"
    token: str | None = None
    token_kind: Literal["token", "fid"] | None = None
    device_info: DeviceInfo | None = None
    subscription_status: int | None = None
    """As the SDK reports permission and device states; the table of transitions decides (REF-002)."""
    ad_consent: bool | None = None
    night_consent: bool | None = None
    quiet_hours: QuietHours | UnsetType | None = UNSET
    """None: the application's from now on."""


class SetStatus(msgspec.Struct, frozen=True):
    """subscription.set_status -> SubscriptionView; raises resource_not_found, validation_error, permission_denied.

    Enable, disable, confirm. A person's app cannot confirm an address.
    """

    application_id: str
    subscription_id: str
    actor: str
    event: Literal["enable", "disable", "disable_by_api", "confirm"]
    act: Act = "api"
    reason: str | None = None


class ArchiveSubscription(msgspec.Struct, frozen=True):
    """subscription.archive -> Archived; raises resource_not_found. Soft delete: its token may be registered anew."""

    application_id: str
    subscription_id: str
    actor: str


class Archived(msgspec.Struct, frozen=True):
    archived_at_ms: int


class ChangeTags(msgspec.Struct, frozen=True):
    """subscription.change_tags -> TagsChanged; raises validation_error.

    Ids that are unknown are absent from the answer.
    """

    application_id: str
    subscription_ids: list[str]
    actor: str
    add: dict[str, str] = {}
    remove: list[str] = []
    act: Act = "api"


class TagsChanged(msgspec.Struct, frozen=True):
    tags: dict[str, dict[str, str]]
    """Subscription id to the tags it has now."""


class ListSubscriptions(msgspec.Struct, frozen=True):
    """subscription.list -> SubscriptionPage. Newest first."""

    application_id: str
    limit: int = 20
    offset: int = 0
    before: str | None = None
    """Subscription id from which to go back (cursor)."""
    user_id: str | None = None
    type: str | None = None
    status: int | None = None
    tag: str | None = None
    """A tag that must be present."""


class SubscriptionPage(msgspec.Struct, frozen=True):
    subscriptions: list["SubscriptionView"]
    total: int
    """Exact to 10,000; beyond that an estimate."""
    total_is_estimate: bool = False
    next_before: str | None = None
    """Where the next page goes on; None: there is no more. A page of a `tag` may be short of what was asked for."""


class ListSubscriptionEvents(msgspec.Struct, frozen=True):
    """subscription.events -> SubscriptionEvents; raises resource_not_found. Newest first."""

    application_id: str
    subscription_id: str
    limit: int = 20
    before: int | None = None
    """Position from which to go back."""
    offset: int = 0


class SubscriptionEventView(msgspec.Struct, frozen=True):
    position: int
    kind: str
    actor: str
    source: Act
    reason: str | None
    data: dict[str, Any]
    occurred_at_ms: int


class SubscriptionEvents(msgspec.Struct, frozen=True):
    events: list[SubscriptionEventView]
    total: int = 0
    """Exact to 10,000; 10,001 means more."""
    total_is_estimate: bool = False
    next_before: int | None = None
    """Where the next page goes on; None: there is no more."""


class GetSubscription(msgspec.Struct, frozen=True):
    """subscription.get -> SubscriptionView; raises resource_not_found."""

    application_id: str
    subscription_id: str


class SubscriptionView(msgspec.Struct, frozen=True):
    id: str
    type: str
    subscription_status: int
    token_hint: str
    created_at_ms: int
    updated_at_ms: int
    user_id: str | None = None
    external_id: str | None = None
    device_info: DeviceInfo = DeviceInfo()
    tags: dict[str, str] = {}
    ad_consent: bool = False
    subscribed_at_ms: int | None = None
    unsubscribed_at_ms: int | None = None
    last_active_at_ms: int | None = None
    installation_id: str | None = None
    night_consent: bool = False
    token_updated_at_ms: int | None = None
    quiet_hours: QuietHours | None = None
    """Their own; None: the application's."""


class Resolve(msgspec.Struct, frozen=True):
    """subscription.resolve -> Resolved: recipients, and the wrapped data keys they or old ciphertexts need.

    Ids of other applications are as unknown as those of nobody: absent from the reply.
    """

    application_id: str
    subscription_ids: list[str]
    key_ids: list[bytes] = []


class Recipient(msgspec.Struct, frozen=True, array_like=True, gc=False):
    subscription_id: str
    type: str
    status: int
    sealed_token: bytes
    token_kind: Literal["token", "fid"]
    token_version: int
    registered_at_ms: int
    test: bool
    key_id: bytes
    """The data key of the subject: the user if known, else the subscription."""
    country: str | None
    ad_consent: bool
    user_id: str | None = None
    language: str | None = None
    """As the device says it (`device_language`): chooses a template's locale."""
    timezone: str | None = None
    """As the device says it: an IANA name, or anything else."""
    night_consent: bool = False
    """Agreed to advertising between 21:00 and 08:00 too."""
    quiet_hours: QuietHours | None = None
    """Their own; None: the application's."""


class Resolved(msgspec.Struct, frozen=True):
    recipients: list[Recipient]
    keys: dict[bytes, bytes]
    """Data key id to wrapped data key. A key that is gone was destroyed by an erasure."""


class ResolveUsers(msgspec.Struct, frozen=True):
    """subscription.resolve_users -> UsersResolved. The active subscriptions of users, for messages to a person.

    Users that are unknown are absent.
    """

    application_id: str
    names: list[str]
    """Our ids or the application's external ids."""
    types: list[str] = []
    """Subscription types in order of preference; none: all types."""


class UsersResolved(msgspec.Struct, frozen=True):
    recipients: dict[str, list[Recipient]]
    """By the name asked for: in order of `types`, then most recently active first. Only status > 0, unless there is
    none: then all, so that the refusal can say why."""
    keys: dict[bytes, bytes]
