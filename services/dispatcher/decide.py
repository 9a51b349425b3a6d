"""Policy: is this message still to be sent, and to whom? Pure; every refusal carries its inputs, for the timeline."""

from typing import Any

import msgspec

from libs.envelope import Accepted, Outcome
from libs.rpc import Recipient, Stop
from libs.stops import REASON, held_data, held_key

CHANNELS: dict[str, str] = {"iOSPush": "apns", "AndroidPush": "fcm"}
"""Subscription type to sender channel."""


class Refusal(msgspec.Struct, frozen=True):
    kind: str
    reason: str
    data: dict[str, Any] = {}


def decide(item: Accepted, recipient: Recipient | None, now_ms: int, *, erased: bool = False) -> Refusal | None:
    """None: send. The order is that of the questions a reader of the timeline would ask.

    `erased`: the data key of the content was destroyed.
    """
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


def stopped(item: Accepted, stop: Stop, channel: str, now_ms: int) -> Outcome:
    """An emergency stop: lifecycle keeps the message until it is released."""
    return Outcome(
        item.message_id, "held", item.attempt, held_key(stop), now_ms, reason=REASON, data=held_data(stop, channel)
    )


def refused(item: Accepted, refusal: Refusal, now_ms: int) -> Outcome:
    return Outcome(
        item.message_id,
        refusal.kind,
        item.attempt,
        f"dispatch:{refusal.reason}",
        now_ms,
        reason=refusal.reason,
        data=refusal.data,
    )
