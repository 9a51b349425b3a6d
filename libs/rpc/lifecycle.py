"""Verbs of lifecycle: the message aggregate, from acceptance to the last receipt."""

from typing import Any, Literal

import msgspec

from libs.envelope import Lane
from libs.message import Status
from libs.policy import FrequencyCap
from libs.rpc.fault import Fault


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
    """Inputs of the acceptance, for the timeline: subscription status, token version, consent; template, version and
    locale where the content came from one."""
    user_id: str | None = None
    due_at_ms: int | None = None
    """Unix milliseconds, Postgres' clock: not to be sent before. Its ttl counts from then. None, or past: at once."""
    scheduled: dict[str, Any] = {}
    """With `due_at_ms`: what was asked for and how the time was found, for the timeline."""


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


class MessageSummary(msgspec.Struct, frozen=True):
    """A message without its content."""

    id: str
    subscription_id: str
    channel: str
    lane: Lane
    category: str
    status: Status
    attempt: int
    created_at_ms: int
    sent_at_ms: int | None
    received_at_ms: int | None
    converted_at_ms: int | None
    failed_at_ms: int | None
    cancelled_at_ms: int | None
    reason: str | None
    user_id: str | None = None
    template_id: str | None = None
    template_version: int | None = None
    next_attempt_at_ms: int | None = None
    """When what it waits for is over; None: it does not wait, or until somebody ends that."""
    next_attempt_reason: str | None = None
    """What it waits for, as the row in `due` says it; or `libs.waits.TURN`."""


class MessageView(MessageSummary, frozen=True, kw_only=True):
    """A message with its content and its events."""

    content: bytes | None
    """msgpack `Content`; None once its data key was destroyed."""
    events: list[EventView]


class Receipt(msgspec.Struct, frozen=True):
    """lifecycle.receipt -> ReceiptReply; raises resource_not_found. Converted implies received."""

    application_id: str
    message_id: str
    kind: Literal["received", "converted"]
    actor: str
    action: str = ""
    data: dict[str, Any] = {}
    subscription_id: str | None = None
    """With a `client` key: the only subscription whose messages the caller may report on."""


class ReceiptReply(msgspec.Struct, frozen=True):
    status: Status
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


class Remember(msgspec.Struct, frozen=True):
    """lifecycle.remember -> Replay. Keeps a REST answer under its Idempotency-Key for 24 hours; the first one stays.

    `answer` is None in the reply where this one was kept; raises idempotency_key_reused for another fingerprint.
    """

    application_id: str
    idempotency: Idempotency
    subjects: list[str] = []
    """Users and subscriptions that the answer speaks of: erasing one of them forgets the answer."""


class ListMessages(msgspec.Struct, frozen=True):
    """lifecycle.list -> MessagePage. Newest first; looks at a bounded number of messages, so a page may be short."""

    application_id: str
    limit: int = 20
    before: str | None = None
    """Message id from which to go back (cursor)."""
    offset: int = 0
    status: str | None = None
    channel: str | None = None
    lane: str | None = None
    category: str | None = None
    subscription_id: str | None = None
    user_id: str | None = None
    template_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


class MessagePage(msgspec.Struct, frozen=True):
    messages: list[MessageSummary]
    total: int
    total_is_estimate: bool = False
    next_before: str | None = None
    """Cursor of the next page; None: there is no more."""


class CancelMessage(msgspec.Struct, frozen=True):
    """lifecycle.cancel -> Cancelled; raises resource_not_found, message_already_processed."""

    application_id: str
    message_id: str
    actor: str


class Cancelled(msgspec.Struct, frozen=True):
    cancelled_at_ms: int


class ResendMessage(msgspec.Struct, frozen=True):
    """lifecycle.resend -> Resent; raises resource_not_found, message_already_processed, invalid_message_content.

    Only what failed or was cancelled is sent again: as a further attempt of the same message.
    """

    application_id: str
    message_id: str
    actor: str
    request_id: str
    """The same again changes nothing."""


class Resent(msgspec.Struct, frozen=True):
    attempt: int


class ExportMessages(msgspec.Struct, frozen=True):
    """lifecycle.export -> MessagesExport. A page of the messages to a person, with content and events, oldest first."""

    application_id: str
    user_id: str
    subscription_ids: list[str]
    key_ids: list[bytes]
    after: str | None = None
    limit: int = 100


class MessagesExport(msgspec.Struct, frozen=True):
    messages: list[MessageView]
    next_after: str | None = None


class ForgetSubjects(msgspec.Struct, frozen=True):
    """lifecycle.forget -> Empty. The person's keys are gone: what lifecycle keeps beside the log goes too.

    Waiting messages to them are failed with the reason, remembered answers that speak of them are deleted.
    """

    application_id: str
    user_id: str
    subscription_ids: list[str]
    key_ids: list[bytes] = []
    """Data keys that were destroyed: what is sealed under another is not theirs."""


class RescheduleMessage(msgspec.Struct, frozen=True):
    """lifecycle.reschedule -> Rescheduled; raises resource_not_found, message_already_processed.

    Only what waits for its time (`scheduled`) can be given another.
    """

    application_id: str
    message_id: str
    actor: str
    due_at_ms: int
    """Unix milliseconds, Postgres' clock; a past one is now."""
    scheduled: dict[str, Any] = {}
    """For the timeline."""


class Rescheduled(msgspec.Struct, frozen=True):
    due_at_ms: int
    revision: int
    """How often its time was set, the first one included."""


class ResendMany(msgspec.Struct, frozen=True):
    """lifecycle.resend_many -> ResentMany; raises validation_error. A page of all that a filter finds.

    `request.status` is `failed` or `cancelled`, `limit` at most 1,000; `before` and the filters are those of a list.
    """

    request: ListMessages
    actor: str
    request_id: str
    """The same again begins no further attempt."""


class ResentMany(msgspec.Struct, frozen=True):
    resent: int
    skipped: int
    """Their content was erased, or they are not as the filter says any more."""
    next_before: str | None = None
    """Where to go on; None: there is no more."""


class SendToReserve(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message that is about to be sent to somebody."""

    message_id: str
    subject_id: str
    """The user if known, else the subscription: caps are per person."""
    category: str


class ReserveSends(msgspec.Struct, frozen=True):
    """lifecycle.reserve_sends -> SendsReserved, after the commit; raises validation_error. Counts against caps.

    A message that has a place already keeps it; one that failed or was cancelled takes none.
    """

    application_id: str
    caps: list[FrequencyCap]
    sends: list[SendToReserve]


class Capped(msgspec.Struct, frozen=True):
    """Why one message may not be sent now: the cap that was found full."""

    message_id: str
    cap: FrequencyCap
    count: int
    """Messages in the window, this one not included."""
    free_at_ms: int
    """When the window has room again, if nothing else is sent."""


class SendsReserved(msgspec.Struct, frozen=True):
    capped: list[Capped]
    """All others have a place."""


class ReportBreaker(msgspec.Struct, frozen=True):
    """lifecycle.report_breaker -> Empty; raises resource_not_found. What a sender learned of an application's way to
    a provider.

    `failed` opens the breaker, or keeps it open for longer; `healed` closes it. `renewed`: the credential was set anew,
    so that one which the last credential opened is probed at once.
    """

    application_id: str
    channel: str
    verdict: Literal["failed", "healed", "renewed"]
    reason: str = ""
    """Of the failure: a code without secrets."""
    retry_class: Literal["network", "outage", "credentials"] = "outage"
    """Of the failure."""
    region: str = ""
    opened_at_ms: int | None = None
    """The breaker that was probed: the verdict says nothing of a later one. None: it may be any."""


class ListBreakers(msgspec.Struct, frozen=True):
    """lifecycle.breakers -> OpenBreakers. Those that are open, of all applications: few."""

    application_id: str | None = None
    """Only this one's."""
    channel: str | None = None
    """Only those of this one."""
    count_waiting: bool = False
    """Count the messages too: then of at most 500 breakers, else of 10,000."""


class OpenBreaker(msgspec.Struct, frozen=True):
    application_id: str
    channel: str
    reason: str
    retry_class: Literal["network", "outage", "credentials"]
    """Of the last failure."""
    opened_at_ms: int
    probe_at_ms: int
    """From then on single messages try whether the provider is well again (half open)."""
    failures: int
    """Probes that failed since it opened, the first failure included."""
    waiting: int = 0
    """Messages that wait for it, where they were to be counted; counted to 10,000."""
    half_open: bool = False
    """`probe_at_ms` has passed, by Postgres' clock."""


class OpenBreakers(msgspec.Struct, frozen=True):
    breakers: list[OpenBreaker]
