"""aioapns' connection pool, replaced: its requests and results on our transport.

Its own protocol repeats requests after a GOAWAY and hangs where the stream limit is lowered (LIBRARIES.md).
"""

from typing import Final
from urllib.parse import quote

import msgspec
from aioapns import NotificationRequest
from aioapns.common import NotificationResult

from libs.clock import Clock
from services.senders.connections import Connections
from services.senders.provider_token import ProviderToken
from services.senders.transport import Response

ENDS_CONNECTION: Final = frozenset({"IdleTimeout", "Shutdown", "UnrelatedKeyIdInToken"})
"""Reasons after which the connection is of no more use."""

_REASON_CHARS = 100


class ApnsReply(NotificationResult):
    """aioapns' result, and the Retry-After that it has no place for (seconds; Apple documents none)."""

    __slots__ = ("retry_after",)

    def __init__(
        self, notification_id: str, status: str, reason: str | None, timestamp: int | None, retry_after: float | None
    ) -> None:
        super().__init__(notification_id, status, reason, timestamp)
        self.retry_after = retry_after


class _ErrorBody(msgspec.Struct):
    reason: str = ""
    timestamp: int | None = None


_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


class ApnsPool:
    """Stands where aioapns' connection pool would (`APNs.pool`): its requests in, its results out, our transport.

    One endpoint, one team, one key, one application. Raises `NotSent`, `UnknownOutcome`.
    """

    def __init__(self, url: str, token: ProviderToken, connections: Connections, clock: Clock) -> None:
        self._prefix = f"{url}/3/device/"
        self._token = token
        self._connections = connections
        self._clock = clock

    async def send_notification(self, request: NotificationRequest) -> ApnsReply:
        headers = self._headers(request)
        url = self._prefix + quote(request.device_token, safe="")
        body = _encode(request.message)
        reply = await self._post(url, headers, body, request)
        if reply.description == "ExpiredProviderToken" and self._token.renew(headers["authorization"]):
            headers["authorization"] = self._token.authorization()
            reply = await self._post(url, headers, body, request)
        return reply

    async def _post(self, url: str, headers: dict[str, str], body: bytes, request: NotificationRequest) -> ApnsReply:
        response = await self._connections.post(url, headers, body)
        if response.status == 200:
            return ApnsReply(response.header("apns-id") or request.notification_id, "200", None, None, None)
        reply = _error_reply(request, response, self._clock.time())
        if reply.description in ENDS_CONNECTION:
            self._connections.retire(response)
        return reply

    def _headers(self, request: NotificationRequest) -> dict[str, str]:
        headers = {
            "authorization": self._token.authorization(),
            "apns-id": request.notification_id,
            "apns-topic": str(request.apns_topic),
        }
        if request.push_type is not None:
            headers["apns-push-type"] = request.push_type.value
        if request.priority is not None:
            headers["apns-priority"] = str(request.priority)
        if request.time_to_live is not None:
            headers["apns-expiration"] = str(int(self._clock.time()) + request.time_to_live)
        if request.collapse_key is not None:
            headers["apns-collapse-id"] = request.collapse_key
        return headers

    async def close(self) -> None:
        await self._connections.close()


def _error_reply(request: NotificationRequest, response: Response, now: float) -> ApnsReply:
    try:
        error = _decode_error(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        error = _ErrorBody()
    reason = error.reason[:_REASON_CHARS] or None
    return ApnsReply(request.notification_id, str(response.status), reason, error.timestamp, response.retry_after(now))
