"""What an application may set for its own sending: parts of its `settings`, checked when set (`libs.api.policy`).

The pipeline reads them leniently: what the next release adds to a rule must not hide the rule from this one.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LOCAL_TIME_PATTERN = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
# The length keeps the pattern's `$` from letting a final newline pass.
LocalTime = Annotated[str, Meta(pattern=LOCAL_TIME_PATTERN, max_length=5)]
"""Of a day, as a clock on the recipient's wall shows it: `21:30`."""
Action = Literal["hold", "drop"]
"""Of what may not be sent now: wait until it may, or fail with the reason."""
Category = Literal["info", "ad"]
Period = Literal["hour", "day", "week"]
PERIOD_SECONDS: dict[Period, int] = {"hour": 3_600, "day": 86_400, "week": 604_800}
"""Windows roll: the last hour, not since the clock struck."""
PushChannel = Literal["apns", "fcm"]
RECEIPT_TIMEOUT_HOURS = 72
"""Where an application asks for receipts without saying how long."""


class QuietHours(msgspec.Struct, frozen=True, omit_defaults=True):
    """From `start` until `end` of the recipient's time, over midnight where `end` is the smaller. Critical: pass."""

    start: LocalTime
    end: LocalTime
    action: Action = "hold"
    categories: Annotated[tuple[Category, ...], Meta(min_length=1, max_length=2)] = ("info", "ad")


SAME_TIMES = "must differ from start"


def is_empty(hours: QuietHours) -> bool:
    """Whether it ends where it starts: nobody could say if never is meant, or always."""
    return hours.start == hours.end


class FrequencyCap(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `limit` messages to one person within `per`. Critical messages pass, and are not counted."""

    limit: Annotated[int, Meta(ge=1, le=10_000)]
    per: Period
    category: Category | None = None
    """None: all together."""
    action: Action = "hold"


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of an application that decide about its messages. Other settings are its own business."""

    timezone: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """IANA name: of recipients whose zone and country say nothing. None: UTC."""
    quiet_hours: QuietHours | None = None
    frequency_caps: Annotated[tuple[FrequencyCap, ...], Meta(max_length=10)] = ()
    rates: dict[PushChannel, Annotated[float, Meta(ge=0.001, le=100_000)]] = {}
    """Messages a second to a provider, all senders together."""
    receipt_timeout_hours: Annotated[int, Meta(ge=1, le=720)] | None = None
    """What is not confirmed by the app within so many hours of being sent has failed. None: never."""
