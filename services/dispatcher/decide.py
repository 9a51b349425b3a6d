"""Is this message still to be sent, and to whom? Pure; every refusal carries its inputs, for the timeline.

A reader of the timeline asks: expired, erased, gone, disabled, consent, channel (here), emergency stop, then night and
quiet hours (`quiet`), then frequency caps (`caps`). The first question that is answered no is the reason.
"""

from typing import Any

import msgspec

from libs.envelope import Accepted, Outcome
from libs.rpc import Recipient, Stop
from libs.stops import REASON, held_data, held_key
from libs.waits import Hold

CHANNELS: dict[str, str] = {"iOSPush": "apns", "AndroidPush": "fcm"}
"""Subscription type to sender channel."""


class Refusal(msgspec.Struct, frozen=True):
    kind: str
    """`held`: not now; else an event kind that fails the message."""
    reason: str
    data: dict[str, Any] = {}
    key: str = ""
    """Tells one holding of an attempt from another."""
    hold_until_ms: int | None = None
    """Of what is held; None: until it is released."""


def decide(item: Accepted, recipient: Recipient | None, now_ms: int, *, erased: bool = False) -> Refusal | None:
    """None: it may be sent, if not now then later. `erased`: the data key of the content was destroyed."""
    if now_ms >= item.deadline_ms:
        return Refusal("expired", "expired", {"deadline_ms": item.deadline_ms, "decided_ms": now_ms})
    if erased:
        return Refusal("failed", "content_erased", {"subscription_id": item.subscription_id})
    if recipient is None:
        return Refusal("failed", "subscription_gone", {"subscription_id": item.subscription_id})
    inputs = {
        "subscription_id": recipient.subscription_id,
        "subscription_status": recipient.status,
        "token_version": recipient.token_version,
    }
    if recipient.status <= 0:
        return Refusal("failed", "subscription_disabled", inputs)
    if item.category == "ad" and not recipient.ad_consent:
        return Refusal("failed", "ad_consent_missing", inputs | {"ad_consent": False})
    if recipient.type not in CHANNELS:
        return Refusal("failed", "channel_unavailable", inputs | {"type": recipient.type})
    return None


def stopped(stop: Stop, channel: str) -> Refusal:
    """An emergency stop: lifecycle keeps the message until it is released."""
    return Refusal("held", REASON, held_data(stop, channel), held_key(stop))


def held_until(reason: Hold, until_ms: int, data: dict[str, Any]) -> Refusal:
    """Lifecycle keeps the message until then; the time does not count towards its ttl, so `until_ms` may be past it."""
    return Refusal("held", reason, data, f"{reason}:{until_ms}", until_ms)


def refused(item: Accepted, refusal: Refusal, now_ms: int) -> Outcome:
    return Outcome(
        item.message_id,
        refusal.kind,
        item.attempt,
        refusal.key or f"dispatch:{refusal.reason}",
        now_ms,
        reason=refusal.reason,
        data=refusal.data,
        hold_until_ms=refusal.hold_until_ms,
    )
