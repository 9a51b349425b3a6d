"""What a push notification looks like to each provider, and what it weighs. Pure.

Sources: Apple, "Generating a remote notification"; Google, FCM v1 `projects.messages`. Keys beginning with `automata_`
are ours: the SDK reads `automata_message_id` to report the receipt (SEQ-002 §3.5), and the rest to draw buttons.
"""

from typing import Any

import msgspec

from libs.envelope import Content, Push

APNS_LIMIT = 4096
"""Bytes of JSON payload (alert and background; Apple answers PayloadTooLarge above)."""
FCM_LIMIT = 4096
"""Bytes of keys and values."""

RESERVED_PREFIX = "automata_"
FORBIDDEN_DATA_KEYS: dict[str, frozenset[str]] = {
    "apns": frozenset({"aps"}),
    "fcm": frozenset({"from", "gcm", "message_type"}),
}
FORBIDDEN_DATA_PREFIXES: dict[str, tuple[str, ...]] = {
    "apns": (RESERVED_PREFIX,),
    "fcm": (RESERVED_PREFIX, "google", "gcm."),
}

AD_MARK = "(광고)"
"""On advertising in Korea: the literal, without variants, at the very start of what is shown (PROVIDERS §5)."""

_NO_PUSH = Push()
_encode = msgspec.json.Encoder().encode


def marked(content: Content) -> Content:
    """An ad with its mark at the start of the title, or of the body where there is no title; once, and not on
    nothing."""
    if content.title and content.title.strip():
        return msgspec.structs.replace(content, title=_mark(content.title))
    if content.body and content.body.strip():
        return msgspec.structs.replace(content, body=_mark(content.body))
    return content


def _mark(text: str) -> str:
    text = text.lstrip()
    return text if text.startswith(AD_MARK) else f"{AD_MARK} {text}"


def apns_message(message_id: str, content: Content) -> dict[str, Any]:
    """The payload as a dict: `aps`, the caller's data beside it, and our keys."""
    push = content.push or _NO_PUSH
    aps = {"content-available": 1} if push.silent else _aps(content, push)
    message = {**content.data, "aps": aps, "automata_message_id": message_id}
    if push is not _NO_PUSH and not push.silent:
        if push.image is not None:
            message["automata_image"] = push.image
        if push.click_action is not None:
            message["automata_click_action"] = push.click_action
        if push.buttons:
            message["automata_buttons"] = [{"id": each.id, "text": each.text} for each in push.buttons]
    return message


def apns_payload(message_id: str, content: Content) -> bytes:
    """The body of `POST /3/device/…`."""
    return _encode(apns_message(message_id, content))


def _aps(content: Content, push: Push) -> dict[str, Any]:
    alert = {}
    if content.title is not None:
        alert["title"] = content.title
    if content.body is not None:
        alert["body"] = content.body
    aps: dict[str, Any] = {"alert": alert} if alert else {}
    if push is not _NO_PUSH:
        _aps_options(aps, push)
    return aps


def _aps_options(aps: dict[str, Any], push: Push) -> None:
    if push.badge is not None:
        aps["badge"] = push.badge
    if push.sound is not None:
        aps["sound"] = push.sound
    if push.mutable_content or push.image is not None:
        # Only the app's service extension can fetch an image, and it runs for mutable content alone.
        aps["mutable-content"] = 1
    if push.content_available:
        aps["content-available"] = 1
    if push.interruption_level is not None:
        aps["interruption-level"] = push.interruption_level
    if push.category is not None:
        aps["category"] = push.category


def fcm_message(message_id: str, content: Content) -> dict[str, Any]:
    """FCM's `message` without target and `ttl`. Silent: data only, nothing is shown."""
    push = content.push or _NO_PUSH
    data = {key: value if isinstance(value, str) else _text(value) for key, value in content.data.items()}
    data["automata_message_id"] = message_id
    android: dict[str, Any] = {"priority": "normal" if push.silent else "high"}
    message = {"data": data, "android": android}
    if content.collapse_key is not None:
        android["collapse_key"] = content.collapse_key
    if not push.silent:
        message["notification"] = _notification(content, push)
        android["notification"] = _android_notification(content.collapse_key or message_id, push)
        if push.buttons:
            data["automata_buttons"] = _text(push.buttons)
        if push.category is not None:
            data["automata_category"] = push.category
    return message


def _text(value: Any) -> str:
    return _encode(value).decode()


def _notification(content: Content, push: Push) -> dict[str, str]:
    notification = {}
    if content.title is not None:
        notification["title"] = content.title
    if content.body is not None:
        notification["body"] = content.body
    if push.image is not None:
        notification["image"] = push.image
    return notification


def _android_notification(tag: str, push: Push) -> dict[str, Any]:
    """The tag makes a repeat replace what is shown already (R7)."""
    notification: dict[str, Any] = {"tag": tag}
    if push is _NO_PUSH:
        return notification
    if push.sound is not None:
        notification["sound"] = push.sound
    if push.channel_id is not None:
        notification["channel_id"] = push.channel_id
    if push.click_action is not None:
        notification["click_action"] = push.click_action
    if push.badge is not None:
        notification["notification_count"] = push.badge
    return notification


def payload_size(channel: str, message_id: str, content: Content) -> int:
    """Bytes that count against `APNS_LIMIT` or `FCM_LIMIT`."""
    if channel == "apns":
        return len(apns_payload(message_id, content))
    message = fcm_message(message_id, content)
    return sum(
        _weight(section)
        for section in (message["data"], message.get("notification"), message["android"].get("notification"))
        if section
    )


def _weight(section: dict[str, Any]) -> int:
    return sum(len(key.encode()) + len(str(value).encode()) for key, value in section.items())


def forbidden_data_key(channel: str, data: dict[str, Any]) -> str | None:
    """The first key of `data` that this channel's provider, or our SDK, keeps for itself; None if all are free."""
    exact, prefixes = FORBIDDEN_DATA_KEYS[channel], FORBIDDEN_DATA_PREFIXES[channel]
    for key in data:
        if key in exact or key.startswith(prefixes):
            return key
    return None
