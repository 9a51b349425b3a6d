"""Requests and replies between services: `signal.rpc.<service>.<verb>`, msgpack.

A failed call answers with `Fault`; its code maps one to one to the REST error codes (`libs.errors`).
"""

from typing import Any, Literal

import msgspec

from libs.envelope import Lane


class Fault(msgspec.Struct, frozen=True):
    code: str
    details: dict[str, Any] = {}


class Empty(msgspec.Struct, frozen=True):
    """Nothing to say but that it was done."""


# application ----------------------------------------------------------------------------------------------------------


class Authenticate(msgspec.Struct, frozen=True):
    """application.authenticate -> Principal; raises authentication_failed."""

    digest: bytes
    """SHA-256 of the presented key: the key itself stays at the gateway."""


class Principal(msgspec.Struct, frozen=True):
    application_id: str
    key_id: str
    scopes: list[str]
    tier: str


class CreateApplication(msgspec.Struct, frozen=True):
    """application.create_application -> ApplicationCreated. The same id twice changes nothing."""

    application_id: str
    name: str
    tier: Literal["default", "premium", "enterprise", "unlimited"] = "default"
    settings: dict[str, Any] = {}


class ApplicationCreated(msgspec.Struct, frozen=True):
    application_id: str


class CreateKey(msgspec.Struct, frozen=True):
    """application.create_key -> KeyCreated."""

    application_id: str
    name: str
    scopes: list[str]


class KeyCreated(msgspec.Struct, frozen=True):
    key_id: str
    api_key: str
    """Shown this once; only its keyed hash is stored."""


class RevokeKey(msgspec.Struct, frozen=True):
    """application.revoke_key -> Empty; raises resource_not_found."""

    key_id: str


class SetCredential(msgspec.Struct, frozen=True):
    """application.set_credential -> Empty. Sealed at rest and never shown again but to senders."""

    application_id: str
    provider: Literal["apns", "fcm"]
    secret: dict[str, Any]


class GetCredential(msgspec.Struct, frozen=True):
    """application.credential -> Credential; raises resource_not_found where none is set."""

    application_id: str
    provider: Literal["apns", "fcm"]


class Credential(msgspec.Struct, frozen=True):
    version: int
    secret: dict[str, Any]
    """APNs: team_id, key_id, private_key_pem, topic. FCM: Google's service account JSON."""


# subscription ---------------------------------------------------------------------------------------------------------


class DeviceInfo(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
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
    """subscription.create -> SubscriptionView; raises duplicate_subscription, invalid_token."""

    application_id: str
    type: str
    token: str
    actor: str
    """Who did it, for the history: `key:<id>`."""
    token_kind: Literal["token", "fid"] = "token"
    user_id: str | None = None
    device_info: DeviceInfo = DeviceInfo()
    ad_consent: bool | None = None


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


class Resolved(msgspec.Struct, frozen=True):
    recipients: list[Recipient]
    keys: dict[bytes, bytes]
    """Data key id to wrapped data key. A key that is gone was destroyed by an erasure."""


# lifecycle ------------------------------------------------------------------------------------------------------------


class NewMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message that passed the gateway's checks."""

    message_id: str
    subscription_id: str
    key_id: bytes
    wrapped_key: bytes
    content: bytes
    """msgpack `Content`, sealed by lifecycle before anything is written."""
    channel: str
    """Sender channel: `apns`, `fcm`, …"""
    lane: Lane
    category: str = "info"
    ttl: int | None = None
    """Seconds; None: the default of 24 hours."""
    collapse_key: str | None = None
    why: dict[str, Any] = {}
    """Inputs of the acceptance, for the timeline: subscription status, token version, consent."""


class Idempotency(msgspec.Struct, frozen=True):
    key: str
    fingerprint: bytes
    """SHA-256 over method, path and body."""
    answer: bytes
    """What the gateway needs to give the same answer again."""


class Accept(msgspec.Struct, frozen=True):
    """lifecycle.accept -> AcceptReply, after the commit of all messages or of none (R1, R15)."""

    application_id: str
    source: Literal["single", "batch"]
    actor: str
    messages: list[NewMessage]
    idempotency: Idempotency | None = None
    request_id: str = ""


class AcceptReply(msgspec.Struct, frozen=True):
    created_at_ms: int
    replayed: bytes | None = None
    """The `answer` of the first request with this Idempotency-Key; nothing was written now."""


class AcceptMany(msgspec.Struct, frozen=True):
    """lifecycle.accept_many -> AcceptedMany: requests that came together travel together, each whole and on its own."""

    requests: list[Accept]


class Verdict(msgspec.Struct, frozen=True):
    """What one request of several came to: either of the two."""

    reply: AcceptReply | None = None
    fault: Fault | None = None


class AcceptedMany(msgspec.Struct, frozen=True):
    verdicts: list[Verdict]
    """In the order of the requests."""


class LookUpIdempotency(msgspec.Struct, frozen=True):
    """lifecycle.replay -> Replay; raises idempotency_key_reused for another fingerprint."""

    application_id: str
    key: str
    fingerprint: bytes


class Replay(msgspec.Struct, frozen=True):
    created_at_ms: int = 0
    answer: bytes | None = None


class GetMessage(msgspec.Struct, frozen=True):
    """lifecycle.get -> MessageView; raises resource_not_found."""

    application_id: str
    message_id: str


class EventView(msgspec.Struct, frozen=True):
    kind: str
    attempt: int
    key: str
    occurred_at_ms: int
    reason: str | None
    data: dict[str, Any]


class MessageView(msgspec.Struct, frozen=True):
    id: str
    subscription_id: str
    channel: str
    lane: Lane
    category: str
    status: str
    attempt: int
    created_at_ms: int
    sent_at_ms: int | None
    received_at_ms: int | None
    converted_at_ms: int | None
    failed_at_ms: int | None
    cancelled_at_ms: int | None
    reason: str | None
    content: bytes | None
    """msgpack `Content`; None once its data key was destroyed."""
    events: list[EventView]
    next_attempt_at_ms: int | None = None
    next_attempt_reason: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """lifecycle.receipt -> ReceiptReply; raises resource_not_found. Converted implies received."""

    application_id: str
    message_id: str
    kind: Literal["received", "converted"]
    actor: str
    action: str = ""
    data: dict[str, Any] = {}


class ReceiptReply(msgspec.Struct, frozen=True):
    status: str
    received_at_ms: int | None
    converted_at_ms: int | None


class KnownOutcomes(msgspec.Struct, frozen=True):
    """lifecycle.known_outcomes -> Known, only after every OUTCOME stored before the question is committed (R7)."""

    lane: Lane
    attempts: dict[str, int]
    """Message id to the attempt that is about to be made."""


class AskTime(msgspec.Struct, frozen=True):
    """lifecycle.now -> Now: Postgres' clock, by which ttl and expiry are judged everywhere (R9)."""


class Now(msgspec.Struct, frozen=True):
    unix_ms: int


class Known(msgspec.Struct, frozen=True):
    settled: list[str]
    """Ids that need no call: the message is final, waits in `due`, or a later attempt began."""
