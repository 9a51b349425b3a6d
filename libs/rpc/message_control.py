"""Verbs of lifecycle about messages that were accepted: cancelled, given another time, and sent again."""

from typing import Any

import msgspec

from libs.rpc.lifecycle import ListMessages


class CancelMessage(msgspec.Struct, frozen=True):
    """lifecycle.cancel -> Cancelled; raises resource_not_found, message_already_processed."""

    application_id: str
    message_id: str
    actor: str


class Cancelled(msgspec.Struct, frozen=True):
    cancelled_at_ms: int


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
