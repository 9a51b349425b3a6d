"""What a message must satisfy to be accepted, and the form in which lifecycle gets it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.api.messages import MAX_COLLAPSE_KEY, MessageItem
from libs.envelope import Content, Lane, Push
from libs.errors import (
    InvalidMessageContent,
    InvalidRequest,
    InvalidSubscriptionType,
    MessageTooLarge,
    SubscriptionDisabled,
)
from libs.ids import new_id
from libs.push import APNS_LIMIT, FCM_LIMIT, forbidden_data_key, marked, payload_size
from libs.rpc import NewMessage, Recipient, Rendered
from services.ingest.decode import MAX_DEPTH, refuse, too_deep, unstorable
from services.ingest.errors import Reason
from services.ingest.recipients import Reachable
from services.ingest.schedule import Due

CHANNELS: Mapping[str, str] = {"iOSPush": "apns", "AndroidPush": "fcm"}
"""Subscription type to sender channel, for the types that can be used."""
LIMITS: Mapping[str, int] = {"apns": APNS_LIMIT, "fcm": FCM_LIMIT}
"""Bytes of payload."""

GROWTH = 6
"""A byte of msgpack becomes at most this many of JSON: U+0001 is written `\\u0001`."""
FRAME = 512
"""Bytes of a payload that are not the content's: our keys, Apple's, an ad's mark."""

_encode = msgspec.msgpack.Encoder().encode


def check_item(item: MessageItem) -> None:
    """All that can be said without the recipient. Raises `InvalidRequest`, `InvalidMessageContent`,
    `ValidationFailed`."""
    _check_target(item)
    if item.template_id is not None:
        _check_template(item)
    else:
        if item.variables is not None or item.locale is not None:
            refuse(_given(item, ("variables", "locale"), Reason("with_template")))
        _check_content(item.title, item.body, item.push, item.data)
    key = item.collapse_key
    if key is not None and not key.isascii() and len(key.encode()) > MAX_COLLAPSE_KEY:
        refuse({"collapse_key": Reason("maxBytes", MAX_COLLAPSE_KEY)})
    if item.data and too_deep(item.data):
        refuse({"data": Reason("depth", MAX_DEPTH)})


def _given(item: MessageItem, names: Sequence[str], reason: Reason) -> dict[str, Reason]:
    """Those of the fields that are there, each with the reason why it should not."""
    return {name: reason for name in names if getattr(item, name) is not None}


def _check_target(item: MessageItem) -> None:
    if item.external_id is None:
        if item.subscription_id is None:
            raise InvalidRequest(fields=dict.fromkeys(("subscription_id", "external_id"), Reason("recipient")))
        if item.channels is not None or item.strategy is not None:
            refuse(_given(item, ("channels", "strategy"), Reason("with_person")))
    elif item.subscription_id is not None:
        refuse({"external_id": Reason("one_recipient")})


def _check_template(item: MessageItem) -> None:
    twofold = _given(item, ("title", "body", "data"), Reason("one_content"))
    if twofold:
        raise InvalidMessageContent(fields=twofold)
    if too_deep(item.variables):
        refuse({"variables": Reason("depth", MAX_DEPTH)})
    refuse(unstorable({"variables": item.variables}))


def _check_content(title: str | None, body: str | None, push: Push | None, data: dict[str, Any] | None) -> None:
    if not (title or body) and not (push is not None and push.silent and data):
        missing = Reason("title_or_body")
        raise InvalidMessageContent(fields={"title": missing, "body": missing})


def new_message(
    item: MessageItem, reachable: Reachable, lane: Lane, rendered: Rendered | None = None, due: Due | None = None
) -> NewMessage:
    """Raises the refusal: disabled or unusable recipient; content that its channel cannot carry.

    `rendered`: the content, where the item names a template. `due`: when, where that is later.
    """
    recipient = reachable.recipient
    channel = channel_to(item, recipient)
    message_id = new_id()
    return NewMessage(
        message_id=message_id,
        subscription_id=recipient.subscription_id,
        key_id=recipient.key_id,
        wrapped_key=reachable.wrapped_key,
        content=_content(item, channel, message_id, rendered),
        channel=channel,
        lane=lane,
        category=item.category,
        ttl=item.ttl,
        collapse_key=item.collapse_key,
        why=_inputs(recipient, rendered),
        user_id=recipient.user_id,
        due_at_ms=None if due is None else due.at_ms,
        scheduled={} if due is None else due.told,
    )


def _inputs(recipient: Recipient, rendered: Rendered | None) -> dict[str, Any]:
    """What the acceptance was decided on, for the timeline."""
    inputs = {
        "subscription_status": recipient.status,
        "token_version": recipient.token_version,
        "ad_consent": recipient.ad_consent,
    }
    if rendered is None:
        return inputs
    return inputs | {
        "template_id": rendered.template_id,
        "template_version": rendered.version,
        "template_locale": rendered.locale,
    }


def channel_to(item: MessageItem, recipient: Recipient) -> str:
    """The sender channel that carries the item to them. Raises `InvalidSubscriptionType`, `SubscriptionDisabled`."""
    channel = CHANNELS.get(recipient.type)
    if channel is None:
        raise InvalidSubscriptionType(type=recipient.type, supported=list(CHANNELS))
    _check_consent(item, recipient)
    return channel


def _check_consent(item: MessageItem, recipient: Recipient) -> None:
    if recipient.status <= 0:
        raise SubscriptionDisabled(subscription_id=recipient.subscription_id, subscription_status=recipient.status)
    if item.category == "ad" and not recipient.ad_consent:
        raise SubscriptionDisabled(
            subscription_id=recipient.subscription_id,
            subscription_status=recipient.status,
            reason="ad_consent_missing",
        )


def _content(item: MessageItem, channel: str, message_id: str, rendered: Rendered | None) -> bytes:
    if rendered is None:
        content = Content(item.title, item.body, item.data or {}, item.push, item.collapse_key)
    else:
        _check_content(rendered.title, rendered.body, item.push, rendered.data)
        content = Content(rendered.title, rendered.body, rendered.data, item.push, item.collapse_key)
    forbidden = forbidden_data_key(channel, content.data)
    if forbidden is not None:
        raise InvalidMessageContent(fields={f"data.{forbidden}": Reason("forbidden_key")})
    try:
        encoded = _encode(content)
    except OverflowError:
        refuse(unstorable(msgspec.to_builtins(item)))
        raise
    # Weighing costs as much as all other checks: only what could be too heavy is weighed.
    if len(encoded) * GROWTH + FRAME > LIMITS[channel]:
        # Whoever gets an ad may be in Korea by then, where it is marked, or not.
        _weigh(channel, message_id, (content, marked(content)) if item.category == "ad" else (content,))
    return encoded


def _weigh(channel: str, message_id: str, forms: Sequence[Content]) -> None:
    """The heaviest counts. Raises `MessageTooLarge`."""
    limit, size = LIMITS[channel], max(payload_size(channel, message_id, content) for content in forms)
    if size > limit:
        raise MessageTooLarge(limit=limit, size=size)
