"""Messages changed after they were accepted: cancelled, given another time, sent again, one or many (REF-001 §4)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from libs.api.fields import Channel, Cursor, ExternalId, Id, Moment, Time
from libs.api.messages import MAX_BATCH
from libs.api.templates import TemplateName
from libs.envelope import Lane
from libs.message import Status
from libs.policy import LocalTime


class MessageCancelled(msgspec.Struct, frozen=True):
    id: str
    status: Status
    cancelled_at: Time


class RescheduleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /messages/{id}/reschedule: one of them, or both, as when sending."""

    scheduled_at: Moment | None = None
    """At most 366 days ahead; a past one is now."""
    send_at_local: LocalTime | None = None
    """Of the recipient's day, from `scheduled_at` on where that is given."""


class MessageRescheduled(msgspec.Struct, frozen=True):
    id: str
    status: Status
    scheduled_at: Time


class MessageResent(msgspec.Struct, frozen=True):
    id: str
    status: Status
    attempt: int
    """The attempt that began."""


class ResendManyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """POST /messages/resend: which messages, chosen as in a list of them, newest first."""

    status: Literal["failed", "cancelled"] = "failed"
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
    limit: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = MAX_BATCH
    cursor: Cursor | None = None
    """`next_cursor` of the answer before."""


class MessagesResent(msgspec.Struct, frozen=True):
    resent: int
    skipped: int
    """Their content was erased, or they are not as the filter says any more."""
    next_cursor: str | None
    """Where to go on: only so many messages are looked at for one answer. None: there are no more."""
