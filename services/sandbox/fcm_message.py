"""The message of FCM's HTTP v1 API, as strict as Google reads it.

Source: REST reference `projects.messages`, field by field; unknown fields are refused. Field names are the proto's own
(snake case), the form Google's SDKs send.
"""

import re
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

MAX_PAYLOAD = 4096
MAX_TOPIC_PAYLOAD = 2048
MAX_TTL = 2_419_200
"""Four weeks, in seconds."""

_TTL = re.compile(r"(\d{1,10})(\.\d{1,9})?s").fullmatch
_TOKEN = re.compile(r"[A-Za-z0-9_:.%\-]{1,4096}").fullmatch
_TOPIC = re.compile(r"(/topics/)?[A-Za-z0-9\-_.~%]{1,900}").fullmatch
_LABEL = re.compile(r"[A-Za-z0-9\-_.~%]{1,50}").fullmatch
_COLOR = re.compile(r"#[0-9a-fA-F]{6}").fullmatch


class _Strict(Struct, forbid_unknown_fields=True, gc=False):
    pass


class FcmOptions(_Strict):
    analytics_label: str | None = None


class Notification(_Strict):
    title: str | None = None
    body: str | None = None
    image: str | None = None


class AndroidNotification(_Strict):
    title: str | None = None
    body: str | None = None
    icon: str | None = None
    color: str | None = None
    sound: str | None = None
    tag: str | None = None
    click_action: str | None = None
    body_loc_key: str | None = None
    body_loc_args: list[str] | None = None
    title_loc_key: str | None = None
    title_loc_args: list[str] | None = None
    channel_id: str | None = None
    ticker: str | None = None
    sticky: bool | None = None
    event_time: str | None = None
    local_only: bool | None = None
    notification_priority: (
        Literal[
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ]
        | None
    ) = None
    default_sound: bool | None = None
    default_vibrate_timings: bool | None = None
    default_light_settings: bool | None = None
    vibrate_timings: list[str] | None = None
    visibility: Literal["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"] | None = None
    notification_count: int | str | None = None
    light_settings: dict[str, Raw] | None = None
    image: str | None = None
    bypass_proxy_notification: bool | None = None
    proxy: Literal["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"] | None = None


class AndroidConfig(_Strict):
    collapse_key: str | None = None
    priority: Literal["NORMAL", "HIGH", "normal", "high"] | None = None
    ttl: str | None = None
    restricted_package_name: str | None = None
    data: dict[str, str] | None = None
    notification: AndroidNotification | None = None
    fcm_options: FcmOptions | None = None
    direct_boot_ok: bool | None = None
    bandwidth_constrained_ok: bool | None = None
    restricted_satellite_ok: bool | None = None


class ApnsOptions(_Strict):
    analytics_label: str | None = None
    image: str | None = None


class ApnsConfig(_Strict):
    headers: dict[str, str] | None = None
    payload: dict[str, Raw] | None = None
    fcm_options: ApnsOptions | None = None
    live_activity_token: str | None = None


class WebpushOptions(_Strict):
    link: str | None = None
    analytics_label: str | None = None


class WebpushConfig(_Strict):
    headers: dict[str, str] | None = None
    data: dict[str, str] | None = None
    notification: dict[str, Raw] | None = None
    fcm_options: WebpushOptions | None = None


class Message(_Strict):
    name: str | None = None
    token: str | None = None
    fid: str | None = None
    topic: str | None = None
    condition: str | None = None
    data: dict[str, str] | None = None
    notification: Notification | None = None
    android: AndroidConfig | None = None
    apns: ApnsConfig | None = None
    webpush: WebpushConfig | None = None
    fcm_options: FcmOptions | None = None


class SendRequest(_Strict):
    message: Message
    validate_only: bool = False


class Violation(Exception):
    """Google refuses the body: `field` (dotted path, may be empty) and `text` go into the error's details.

    `fcm` is True where FCM itself objects (its error carries FcmError) and False where Google's JSON reader does.
    """

    def __init__(self, field: str, text: str, *, fcm: bool = True) -> None:
        super().__init__(text)
        self.field = field
        self.text = text
        self.fcm = fcm


_decode = msgspec.json.Decoder(SendRequest).decode
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


def parse(body: bytes) -> SendRequest:
    """Decode a body without judging what the fields say. Raises `Violation`."""
    try:
        return _decode(str(body, "utf-8"))  # msgspec does not look into the text of raw parts.
    except msgspec.ValidationError as error:
        raise _shape_violation(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"Invalid JSON payload received. {error}"
        raise Violation("", text, fcm=False) from None


def _shape_violation(text: str) -> Violation:
    what, _, path = text.partition(" - at `$")
    field = path.strip("`.")
    unknown = _UNKNOWN.search(what)
    if unknown:
        place = f" at '{field}'" if field else ""
        what = f'Unknown name "{unknown[1]}"{place}: Cannot find field.'
        return Violation(field, f"Invalid JSON payload received. {what}", fcm=False)
    return Violation(field, f"Invalid value at '{field}': {what}", fcm=False)


def check(request: SendRequest, size: int) -> None:
    """Judge what the fields say; `size` is the body's length in bytes. Raises `Violation`."""
    message = request.message
    _check_target(message)
    _check_data(message.data, "message.data")
    if message.android is not None:
        _check_android(message.android)
    _check_webpush(message.webpush)
    _check_label(message.fcm_options, "message.fcm_options")
    if message.apns is not None:
        _check_label(message.apns.fcm_options, "message.apns.fcm_options")
    limit = MAX_PAYLOAD if message.topic is None else MAX_TOPIC_PAYLOAD
    # JSON text is never shorter than the keys and values it holds.
    if size > limit and _payload_size(message) > limit:
        raise Violation("message", "Android message is too big")


def _check_target(message: Message) -> None:
    targets = [t for t in (message.token, message.fid, message.topic, message.condition) if t is not None]
    if len(targets) != 1:
        text = "Exactly one of fid, token, topic or condition must be specified."
        raise Violation("message", text if targets else "Recipient of the message is not set.")
    for token, field in ((message.token, "token"), (message.fid, "fid")):
        if token is not None and not _TOKEN(token):
            text = "The registration token is not a valid FCM registration token"
            raise Violation(f"message.{field}", text)
    if message.topic is not None and not _TOPIC(message.topic):
        raise Violation("message.topic", "Invalid topic name")
    if message.condition == "":
        raise Violation("message.condition", "Invalid condition expression provided.")


def _check_data(data: dict[str, str] | None, path: str) -> None:
    for key in data or ():
        if key in ("from", "gcm") or key.startswith("google"):
            raise Violation(f"{path}[{key}]", f"Invalid data payload key: {key}")


def _check_android(android: AndroidConfig) -> None:
    _check_data(android.data, "message.android.data")
    _check_label(android.fcm_options, "message.android.fcm_options")
    if android.ttl is not None:
        found = _TTL(android.ttl)
        if not found:
            text = f"Invalid value at 'message.android.ttl': Field 'ttl', Illegal duration format; {android.ttl[:40]}"
            raise Violation("message.android.ttl", text, fcm=False)
        if int(found[1]) > MAX_TTL:
            raise Violation("message.android.ttl", f"Invalid ttl: it must be from 0 to {MAX_TTL} seconds")
    color = None if android.notification is None else android.notification.color
    if color is not None and not _COLOR(color):
        raise Violation("message.android.notification.color", "Invalid color: it must be #rrggbb")


def _check_webpush(webpush: WebpushConfig | None) -> None:
    if webpush is None:
        return
    _check_data(webpush.data, "message.webpush.data")
    link = None if webpush.fcm_options is None else webpush.fcm_options.link
    if link is not None and not link.startswith("https://"):
        raise Violation("message.webpush.fcm_options.link", "Invalid link: it must be an HTTPS URL")


def _check_label(options: FcmOptions | ApnsOptions | None, path: str) -> None:
    label = None if options is None else options.analytics_label
    if label is not None and not _LABEL(label):
        raise Violation(f"{path}.analytics_label", "Invalid analytics label")


def _payload_size(message: Message) -> int:
    """Bytes of the keys and values that reach the device: data and the notification shown on Android."""
    android = message.android or AndroidConfig()
    pairs: dict[str, Any] = {}
    for part in (message.notification, android.notification):
        if part is not None:
            pairs |= {k: v for k, v in msgspec.structs.asdict(part).items() if v is not None}
    pairs |= message.data or {}
    pairs |= android.data or {}
    return sum(len(key.encode()) + len(str(value).encode()) for key, value in pairs.items())
