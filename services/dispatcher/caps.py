"""Frequency caps: what lifecycle is asked about a whole envelope at once, and what its answer means. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from libs.envelope import Accepted, Lane
from libs.policy import FrequencyCap
from libs.rpc import Capped, Recipient, SendToReserve

from .decide import Refusal, held_until


def to_count(
    items: Iterable[Accepted], recipients: Mapping[str, Recipient], caps: Sequence[FrequencyCap], lane: Lane
) -> list[SendToReserve]:
    """Those that a cap speaks of, each with the person it is counted for. Critical messages pass uncounted."""
    if lane == "critical":
        return []
    return [
        SendToReserve(item.message_id, recipients[item.subscription_id].user_id or item.subscription_id, item.category)
        for item in items
        if any(cap.category in (None, item.category) for cap in caps)
    ]


def too_many(capped: Capped) -> Refusal:
    """Wait until the window has room again, or fail, as the application chose."""
    cap = capped.cap
    data = {
        "limit": cap.limit,
        "per": cap.per,
        "category": cap.category,
        "count": capped.count,
        "until_ms": capped.free_at_ms,
    }
    if cap.action == "drop":
        return Refusal("failed", "frequency_cap", data)
    return held_until("frequency_cap", capped.free_at_ms, data)
