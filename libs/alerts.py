"""ALERTS: what an operator should know at once, as JSON on `signal.alerts.<application_id>`; kept for 30 days.

At least once, after the commit of what it tells. (application_id, channel, kind, opened_at) identifies an alert.
A later release may add fields and kinds.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An application's way to a provider broke (`breaker_opened`), or works again (`breaker_closed`)."""

    kind: Literal["breaker_opened", "breaker_closed"]
    application_id: str
    channel: str
    """Sender channel: `apns`, `fcm`, …"""
    reason: str
    """Of the last failure: the provider's own word where it gave one."""
    retry_class: str
    """`credentials`: the application's own, to be set anew; `outage` or `network`: the provider, or the way to it."""
    opened_at: Moment
    occurred_at: Moment
    """When it opened or closed, Postgres' clock."""
    failures: int
    """Probes that failed since it opened, the first failure included."""
    waiting: int
    """Messages that wait for it; counted to 10,000."""


_encode = msgspec.json.Encoder().encode


def encode_alert(alert: Alert) -> bytes:
    return _encode(alert)
