"""APNs as Apple documents it: what is refused, with which status and reason, in which order.

Sources: "Sending notification requests to APNs", "Handling notification responses from APNs"; order of the checks
after pushy's mock server. Device tokens that act by themselves, for developers of clients:

| token begins with | answer |
|---|---|
| `dead` | 410 Unregistered, `timestamp` now |
| `0bad` | 400 BadDeviceToken |
"""

import re
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from services.sandbox.apns_token import ProviderTokens, Signer
from services.sandbox.exchange import Headers, Reply, Request, Verdict
from services.sandbox.tenants import Tenants

PREFIX = "/3/device/"

STATUS = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
"""Apple's reasons and the status each comes with."""

USUAL_REASON = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    404: "BadPath",
    405: "MethodNotAllowed",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
"""What a fault rule with a status and no reason says."""

TOPIC_SUFFIX = {
    "alert": "",
    "background": "",
    "mdm": "",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "location": ".location-query",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
"""apns-push-type → what follows the bundle id in apns-topic."""

MAX_PAYLOAD = 4096
MAX_VOIP_PAYLOAD = 5120
MAX_COLLAPSE_ID = 64
TIMED = ("Unregistered", "ExpiredToken")

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_DEVICE = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}").fullmatch
_TOPIC = re.compile(r"[A-Za-z0-9.\-]{1,255}").fullmatch
_EPOCH = re.compile(r"[0-9]{1,12}").fullmatch


class _Aps(Struct, gc=False):
    """Any JSON object: Apple does not look into it."""


class _Payload(Struct, gc=False):
    aps: _Aps | None = None
    automata_message_id: Any = None


_decode = msgspec.json.Decoder(_Payload).decode


class Apns:
    """The judge of `POST /3/device/<token>`."""

    def __init__(self, tenants: Tenants, tokens: ProviderTokens, clock: Callable[[], float]) -> None:
        self._tenants = tenants
        self._tokens = tokens
        self._clock = clock

    def judge(self, request: Request) -> Verdict:
        headers = request.headers
        device = request.path[len(PREFIX) :]
        payload = _parse(request.body)
        marked = None if payload is None else payload.automata_message_id
        apns_id = headers.get("apns-id")
        reason = self._objection(request, device, apns_id, payload)
        if apns_id is None or reason == "BadMessageId":
            apns_id = str(uuid.uuid4())
        return Verdict(
            provider="apns",
            token=device,
            reply=self.reply(apns_id, reason),
            reason=reason,
            message_id=marked if isinstance(marked, str) and marked else apns_id,
            collapse=headers.get("apns-collapse-id"),
        )

    def reply(self, apns_id: str, reason: str | None, status: int | None = None, timestamp: int | None = None) -> Reply:
        """Apple's answer. `timestamp` (epoch milliseconds) goes with 410 only; now, if not given."""
        if reason is None:
            return Reply(200, [("apns-id", apns_id)])
        status = status or STATUS[reason]
        body: dict[str, str | int] = {"reason": reason}
        if status == 410 or reason in TIMED:
            body["timestamp"] = int(self._clock() * 1000) if timestamp is None else timestamp
        headers = [("apns-id", apns_id), ("content-type", "application/json")]
        return Reply(status, headers, msgspec.json.encode(body))

    def _objection(self, request: Request, device: str, apns_id: str | None, payload: _Payload | None) -> str | None:
        if request.method != "POST":
            return "MethodNotAllowed"
        if "/" in device or not request.path.startswith(PREFIX):
            return "BadPath"
        if apns_id is not None and not _ID(apns_id):
            return "BadMessageId"
        headers = request.headers
        signer = self._tokens.check(headers.get("authorization"), request.peer)
        if isinstance(signer, str):
            return signer
        push_type = headers.get("apns-push-type", "")
        return (
            self._bad_topic(headers.get("apns-topic"), push_type, signer)
            or _bad_device(device)
            or _bad_header(headers, push_type)
            or _bad_payload(request.body, payload, push_type)
        )

    def _bad_topic(self, topic: str | None, push_type: str, signer: Signer) -> str | None:
        if not topic:
            return "MissingTopic"
        if not _TOPIC(topic):
            return "BadTopic"
        suffix = TOPIC_SUFFIX.get(push_type)
        if suffix is None:
            return "InvalidPushType"
        if not topic.endswith(suffix):
            return "TopicDisallowed"
        known = topic.removesuffix(suffix) in self._tenants.topics(signer.team_id)
        return None if known else "TopicDisallowed"


def _parse(body: bytes) -> _Payload | None:
    """The parts that matter here; None when the body is no JSON object, or its `aps` is none."""
    try:
        return _decode(str(body, "utf-8"))  # msgspec does not look into the text of fields it skips.
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _bad_device(device: str) -> str | None:
    if not device:
        return "MissingDeviceToken"
    if not _DEVICE(device) or device.startswith("0bad"):
        return "BadDeviceToken"
    return "Unregistered" if device.startswith("dead") else None


def _bad_header(headers: Headers, push_type: str) -> str | None:
    priority = headers.get("apns-priority", "10")
    if priority not in ("10", "5", "1") or (push_type == "background" and priority == "10"):
        return "BadPriority"
    if not _EPOCH(headers.get("apns-expiration", "0")):
        return "BadExpirationDate"
    collapse = headers.get("apns-collapse-id")
    if collapse is not None and not 0 < len(collapse.encode()) <= MAX_COLLAPSE_ID:
        return "BadCollapseId"
    return None


def _bad_payload(body: bytes, payload: _Payload | None, push_type: str) -> str | None:
    if len(body) > (MAX_VOIP_PAYLOAD if push_type == "voip" else MAX_PAYLOAD):
        return "PayloadTooLarge"
    # Apple names no reason for a body that is not JSON, or that has no aps dictionary.
    return "PayloadEmpty" if payload is None or (payload.aps is None and push_type != "mdm") else None
