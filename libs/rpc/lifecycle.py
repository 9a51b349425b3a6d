"""Verbs of lifecycle: what the log says of messages, and what happens to them on their way. Others have files of their
own: `acceptance`, `message_control`, `caps`, `breakers`."""

from typing import Any, Literal

import msgspec

from libs.envelope import Lane
from libs.message import Status


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


class Known(msgspec.Struct, frozen=True):
    settled: list[str]
    """Ids that need no call: the message is final, waits in `due`, or a later attempt began."""


class AskTime(msgspec.Struct, frozen=True):
    """lifecycle.now -> Now: Postgres' clock, by which ttl and expiry are judged everywhere (R9)."""


class Now(msgspec.Struct, frozen=True):
    unix_ms: int


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
