"""Firebase Cloud Messaging, HTTP v1 (PROVIDERS.md §2)."""

import asyncio
from typing import ClassVar, Final, Literal
from urllib.parse import quote, urlsplit

import msgspec
from firebase_admin import messaging  # type: ignore[import-untyped]  # ships no types
from firebase_admin._messaging_encoder import MessageEncoder  # type: ignore[import-untyped]  # ships no types

from libs.clock import Clock
from libs.envelope import Delivery
from libs.push import fcm_message
from libs.rpc import Credential
from services.senders.access_token import AccessToken, TokenRefused
from services.senders.accounts import Accounts, CredentialFault
from services.senders.connections import Connections
from services.senders.contract import Accepted, Rejected, Result, RetryClass, TryLater
from services.senders.fcm_error import FcmFailure, read_failure
from services.senders.transport import Http2Transport, NotSent, Response, UnknownOutcome, https_origin, read_ca

Verdict = RetryClass | Literal["rejected", "by_field"] | int
"""A retry class; `rejected`: this message only; a number: rejected, and the REF-002 code for the subscription;
`by_field`: the address' fault (`INVALID_TOKEN`) only if the error says so."""

# Source: Google, FCM v1 `ErrorCode`; codes by REF-002 §10.1 and PROVIDERS.md §7.
ERROR_CODES: Final[dict[str, Verdict]] = {
    "UNREGISTERED": -10,
    "SENDER_ID_MISMATCH": -6,
    "INVALID_ARGUMENT": "by_field",
    "THIRD_PARTY_AUTH_ERROR": "credentials",
    "APNS_AUTH_ERROR": "credentials",
    "QUOTA_EXCEEDED": "throttled",
    "UNAVAILABLE": "outage",
    "INTERNAL": "outage",
    "UNSPECIFIED_ERROR": "outage",
}

# Without an FcmError it is a plain Google API error (google.rpc.Code): a bare NOT_FOUND is a wrong project.
GOOGLE_STATUSES: Final[dict[str, Verdict]] = {
    "INVALID_ARGUMENT": "by_field",
    "UNAUTHENTICATED": "credentials",
    "PERMISSION_DENIED": "credentials",
    "NOT_FOUND": "credentials",
    "RESOURCE_EXHAUSTED": "throttled",
    "UNAVAILABLE": "outage",
    "INTERNAL": "outage",
    "UNKNOWN": "outage",
    "DEADLINE_EXCEEDED": "outage",
    "ABORTED": "outage",
}

# What is in neither table: other 4xx are rejected, anything else is an outage.
HTTP_STATUSES: Final[dict[int, Verdict]] = {
    401: "credentials",
    403: "credentials",
    404: "credentials",
    429: "throttled",
}

INVALID_TOKEN: Final = -4
QUOTA_PAUSE: Final = 60.0
"""Seconds: Google's quota window, for a 429 without Retry-After."""
MAX_TTL: Final = 2_419_200
"""Seconds (28 days)."""


class FcmSecret(msgspec.Struct, frozen=True):
    """What identifies a service account; the rest of its JSON goes to firebase-admin as it is."""

    project_id: str
    private_key: str
    client_email: str
    token_uri: str
    type: str = ""


class _Answer(msgspec.Struct):
    name: str = ""


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_to_json = MessageEncoder().default


class _Project:
    """One application's Firebase project: its URL, its access token, its connections."""

    def __init__(self, url: str, token: AccessToken, connections: Connections) -> None:
        self.url = url
        self.token = token
        self.connections = connections


class FcmSender:
    """Sends through FCM's HTTP v1 API. `timeout` in seconds (Google asks for no less than 10).

    `connections` are per application and service account. `base_url` is FCM's; a service account's token endpoint must
    be Google's or on the same host. Raises ValueError for a URL that is not HTTPS, OSError for an unreadable `ca_file`.
    """

    channel: ClassVar[str] = "fcm"

    def __init__(self, base_url: str, ca_file: str | None, connections: int, timeout: float, clock: Clock) -> None:
        self._base_url = https_origin(base_url)
        self._host = urlsplit(base_url).hostname or ""
        self._ca = read_ca(ca_file)
        self._size = connections
        self._timeout = timeout
        self._clock = clock
        self._oauth = Http2Transport(self._ca, timeout)
        self._projects: Accounts[FcmSecret, _Project] = Accounts(_secret, self._open)

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        try:
            project = self._projects.get(application_id, credential)
            authorization = project.token.fresh() or await project.token.authorization()
        except CredentialFault as fault:
            return TryLater(fault.reason, "credentials")
        except TokenRefused as refused:
            return TryLater(refused.reason, refused.retry_class, refused.retry_after)
        try:
            body = request_body(delivery, self._clock.time())
        except ValueError:
            return Rejected("invalid_message")
        return await self._call(project, authorization, body)

    async def _call(self, project: _Project, authorization: str, body: bytes) -> Result:
        headers = {"authorization": authorization, "content-type": "application/json"}
        try:
            response = await project.connections.post(project.url, headers, body)
        except NotSent as error:
            return TryLater(error.reason, "network")
        except UnknownOutcome as error:
            return TryLater(error.reason, "network", unknown=True)
        if response.status == 401:
            project.token.discard(authorization)
        return judge(response, self._clock.time())

    def _open(self, secret: FcmSecret, credential: Credential) -> _Project:
        url = f"{self._base_url}/v1/projects/{quote(secret.project_id, safe='')}/messages:send"
        token = AccessToken(credential.secret, self._host, self._oauth, self._clock)
        connections = Connections(lambda: Http2Transport(self._ca, self._timeout), self._size, self._timeout)
        return _Project(url, token, connections)

    async def close(self) -> None:
        await asyncio.gather(*(project.token.close() for project in self._projects.all()))
        opened = [project.connections for project in self._projects.all()]
        await asyncio.gather(self._oauth.close(), *(connections.close() for connections in opened))


def _secret(credential: Credential) -> FcmSecret:
    try:
        return msgspec.convert(credential.secret, FcmSecret)
    except msgspec.ValidationError as error:
        raise CredentialFault("malformed_credential") from error


def request_body(delivery: Delivery, now: float) -> bytes:
    """The JSON of `messages:send` at Unix time `now`, validated and encoded by firebase-admin. Raises ValueError."""
    sections = fcm_message(delivery.message_id, delivery.content)
    android = sections["android"]
    shown, tagged = sections.get("notification"), android.get("notification")
    message = messaging.Message(
        data=sections["data"],
        notification=None if shown is None else messaging.Notification(**shown),
        android=messaging.AndroidConfig(
            collapse_key=android.get("collapse_key"),
            priority=android["priority"],
            ttl=min(max(0, delivery.deadline_ms // 1000 - int(now)), MAX_TTL),
            notification=None if tagged is None else messaging.AndroidNotification(**tagged),
        ),
    )
    # Not by the constructor, which warns of `token`: which of the two a device has is not ours to choose.
    setattr(message, delivery.token_kind, delivery.token)
    return _encode({"message": _to_json(message)})


def judge(response: Response, now: float) -> Result:
    """What Google's answer at Unix time `now` means for the message and for the address."""
    if response.status == 200:
        return _accepted(response.body)
    failure = read_failure(response.body)
    status = response.status
    reason = failure.code or failure.status or f"status_{status}"
    verdict = _verdict(failure, status)
    data: dict[str, object] = {"status": status}
    if failure.fields:
        data["fields"] = failure.fields
    if verdict == "by_field":
        verdict = INVALID_TOKEN if failure.blames_address else "rejected"
    if isinstance(verdict, int):
        return Rejected(reason, verdict, data)
    if verdict == "rejected":
        return Rejected(reason, None, data)
    pause = response.retry_after(now)
    if pause is None and verdict == "throttled":
        pause = QUOTA_PAUSE
        data["retry_after_from"] = "rule"
    return TryLater(reason, verdict, pause, data=data)


def _accepted(body: bytes) -> Accepted:
    try:
        return Accepted(_decode_answer(body).name)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Accepted("")


def _verdict(failure: FcmFailure, status: int) -> Verdict:
    by_name = ERROR_CODES.get(failure.code) if failure.code else GOOGLE_STATUSES.get(failure.status)
    if by_name is not None:
        return by_name
    return HTTP_STATUSES.get(status) or ("rejected" if 400 <= status < 500 else "outage")
