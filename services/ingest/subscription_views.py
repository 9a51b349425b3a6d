"""Subscriptions, their history and their lists as they are answered."""

import msgspec

from libs import rpc
from libs.api.policy import OwnQuietHours
from libs.api.subscriptions import Subscription, SubscriptionEvent
from libs.errors import ValidationFailed
from services.ingest.errors import Reason
from services.ingest.render import rfc3339, rfc3339_or_none


def rendered(view: rpc.SubscriptionView) -> Subscription:
    return Subscription(
        id=view.id,
        type=view.type,
        user_id=view.user_id,
        external_id=view.external_id,
        subscription_status=view.subscription_status,
        token_hint=view.token_hint,
        device_info=msgspec.to_builtins(view.device_info),
        tags=view.tags,
        ad_consent=view.ad_consent,
        night_consent=view.night_consent,
        quiet_hours=None if view.quiet_hours is None else OwnQuietHours(*msgspec.structs.astuple(view.quiet_hours)),
        installation_id=view.installation_id,
        created_at=rfc3339(view.created_at_ms),
        updated_at=rfc3339(view.updated_at_ms),
        subscribed_at=rfc3339_or_none(view.subscribed_at_ms),
        unsubscribed_at=rfc3339_or_none(view.unsubscribed_at_ms),
        last_active_at=rfc3339_or_none(view.last_active_at_ms),
        token_updated_at=rfc3339_or_none(view.token_updated_at_ms),
    )


def modified_ms(view: rpc.SubscriptionView) -> int:
    """Signs of life change the answer, although nothing was updated."""
    return max(view.updated_at_ms, view.last_active_at_ms or 0, view.token_updated_at_ms or 0)


def event_of(event: rpc.SubscriptionEventView) -> SubscriptionEvent:
    return SubscriptionEvent(
        id=str(event.position),
        event_type=event.kind,
        actor=event.actor,
        source=event.source,
        reason=event.reason,
        data=event.data,
        occurred_at=rfc3339(event.occurred_at_ms),
    )


def position_of(cursor: str) -> int:
    """Raises `ValidationFailed`."""
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise ValidationFailed(fields={"cursor": Reason("cursor")})
    return int(cursor)
