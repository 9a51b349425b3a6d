"""What a message must satisfy to be accepted, and the form in which lifecycle gets it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.api.messages import MAX_COLLAPSE_KEY, MessageItem
from libs.envelope import Content, Lane
from libs.errors import (
    InvalidMessageContent,
    InvalidSubscriptionType,
    MessageTooLarge,
    ResourceNotFound,
    SubscriptionDisabled,
)
from libs.ids import new_id
from libs.push import APNS_LIMIT, FCM_LIMIT, forbidden_data_key, payload_size
from libs.rpc import NewMessage, Recipient
from services.ingest.decode import MAX_DEPTH, refuse, too_deep, unstorable
from services.ingest.errors import Reason
from services.ingest.recipients import Reachable

CHANNELS: Mapping[str, str] = {"iOSPush": "apns", "AndroidPush": "fcm"}
"""Subscription type to sender channel, for the types that can be used."""
LIMITS: Mapping[str, int] = {"apns": APNS_LIMIT, "fcm": FCM_LIMIT}
"""Bytes of payload."""

GROWTH = 6
"""A byte of msgpack becomes at most this many of JSON: U+0001 is written `\\u0001`."""
FRAME = 512
"""Bytes of a payload that are not the content's: our keys, Apple's."""

_encode = msgspec.msgpack.Encoder().encode


def check_item(item: MessageItem) -> None:
    """All that can be said without the recipient. Raises `InvalidMessageContent`, `ValidationFailed`."""
    if not (item.title or item.body) and not (item.push is not None and item.push.silent and item.data):
        missing = Reason("title_or_body")
        raise InvalidMessageContent(fields={"title": missing, "body": missing})
    key = item.collapse_key
    if key is not None and not key.isascii() and len(key.encode()) > MAX_COLLAPSE_KEY:
        refuse({"collapse_key": Reason("maxBytes", MAX_COLLAPSE_KEY)})
    if item.data and too_deep(item.data):
        refuse({"data": Reason("depth", MAX_DEPTH)})


def new_message(item: MessageItem, reachable: Reachable | None, lane: Lane) -> NewMessage:
    """Raises the refusal: unknown, disabled or unusable recipient; content that its channel cannot carry."""
    if reachable is None:
        raise ResourceNotFound(id=item.subscription_id)
    recipient = reachable.recipient
    channel = CHANNELS.get(recipient.type)
    if channel is None:
        raise InvalidSubscriptionType(type=recipient.type, supported=list(CHANNELS))
    _check_consent(item, recipient)
    message_id = new_id()
    return NewMessage(
        message_id=message_id,
        subscription_id=recipient.subscription_id,
        key_id=recipient.key_id,
        wrapped_key=reachable.wrapped_key,
        content=_content(item, channel, message_id),
        channel=channel,
        lane=lane,
        category=item.category,
        ttl=item.ttl,
        collapse_key=item.collapse_key,
        why=_inputs(recipient),
    )


def _inputs(recipient: Recipient) -> dict[str, Any]:
    """What the acceptance was decided on, for the timeline."""
    return {
        "subscription_status": recipient.status,
        "token_version": recipient.token_version,
        "ad_consent": recipient.ad_consent,
    }


def _check_consent(item: MessageItem, recipient: Recipient) -> None:
    if recipient.status <= 0:
        raise SubscriptionDisabled(subscription_id=recipient.subscription_id, subscription_status=recipient.status)
    if item.category == "ad" and not recipient.ad_consent:
        raise SubscriptionDisabled(
            subscription_id=recipient.subscription_id,
            subscription_status=recipient.status,
            reason="ad_consent_missing",
        )


def _content(item: MessageItem, channel: str, message_id: str) -> bytes:
    data = item.data or {}
    forbidden = forbidden_data_key(channel, data)
    if forbidden is not None:
        raise InvalidMessageContent(fields={f"data.{forbidden}": Reason("forbidden_key")})
    content = Content(item.title, item.body, data, item.push, item.collapse_key)
    try:
        encoded = _encode(content)
    except OverflowError:
        refuse(unstorable(msgspec.to_builtins(item)))
        raise
    limit = LIMITS[channel]
    # Weighing costs as much as all other checks: only what could be too heavy is weighed.
    if len(encoded) * GROWTH + FRAME > limit and (size := payload_size(channel, message_id, content)) > limit:
        raise MessageTooLarge(limit=limit, size=size)
    return encoded
