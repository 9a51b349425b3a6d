"""Apple Push Notification service (PROVIDERS.md §1)."""

import asyncio
import hashlib
from typing import ClassVar, Final, Literal

import msgspec
from aioapns import PRIORITY_HIGH, PRIORITY_NORMAL, NotificationRequest, PushType

from libs.clock import Clock
from libs.envelope import Content, Delivery
from libs.push import apns_message
from libs.rpc import Credential
from services.senders.accounts import Accounts, CredentialFault
from services.senders.apns_pool import ApnsPool, ApnsReply
from services.senders.connections import Connections
from services.senders.contract import Accepted, Rejected, Result, RetryClass, TryLater
from services.senders.provider_token import MalformedKey, ProviderToken
from services.senders.transport import Http2Transport, NotSent, UnknownOutcome, https_origin, read_ca

Verdict = RetryClass | Literal["rejected"] | int
"""A retry class; `rejected`: this message only; a number: rejected, and the REF-002 code for the subscription."""

# Source: Apple, "Handling notification responses from APNs"; codes by REF-002 §10.2 and PROVIDERS.md §7.
REASONS: Final[dict[str, Verdict]] = {
    "BadDeviceToken": -10,
    "DeviceTokenNotForTopic": -14,
    "Unregistered": -10,
    "ExpiredToken": -10,
    "TopicDisallowed": "credentials",
    "BadTopic": "credentials",
    "MissingTopic": "credentials",
    "ExpiredProviderToken": "credentials",
    "InvalidProviderToken": "credentials",
    "MissingProviderToken": "credentials",
    "BadCertificate": "credentials",
    "BadCertificateEnvironment": "credentials",
    "Forbidden": "credentials",
    "BadEnvironmentKeyIdInToken": "credentials",
    "BadEnvironmentKeyInToken": "credentials",
    "UnrelatedKeyIdInToken": "credentials",
    "TooManyProviderTokenUpdates": "credentials",
    "BadCollapseId": "rejected",
    "BadExpirationDate": "rejected",
    "BadMessageId": "rejected",
    "BadPriority": "rejected",
    "DuplicateHeaders": "rejected",
    "InvalidPushType": "rejected",
    "MissingDeviceToken": "rejected",
    "PayloadEmpty": "rejected",
    "PayloadTooLarge": "rejected",
    "BadPath": "rejected",
    "MethodNotAllowed": "rejected",
    "IdleTimeout": "network",
    "TooManyRequests": "throttled",
    "InternalServerError": "outage",
    "ServiceUnavailable": "outage",
    "Shutdown": "outage",
}

# A reason that is not listed, or none at all: what the status says. Other 4xx: rejected; anything else: outage.
STATUSES: Final[dict[int, Verdict]] = {403: "credentials", 429: "throttled"}

TIMESTAMPED: Final = frozenset({"Unregistered", "ExpiredToken"})
"""410: the address is disabled only if Apple's `timestamp` (ms) is later than our registration of it."""
PER_TOKEN: Final = frozenset({"TooManyRequests"})
"""Throttles this device alone: no reason to slow others down."""

_COLLAPSE_ID_BYTES = 64


class ApnsSecret(msgspec.Struct, frozen=True):
    """A token-based credential as the tenant gave it; compared by value, so that reloading it changes nothing."""

    team_id: str
    key_id: str
    private_key_pem: str
    topic: str


class _Account:
    """One application's provider token, and its connections to either endpoint."""

    def __init__(self, sender: "ApnsSender", secret: ApnsSecret) -> None:
        try:
            token = ProviderToken(secret.team_id, secret.key_id, secret.private_key_pem, sender.clock)
        except MalformedKey as error:
            raise CredentialFault("malformed_private_key") from error
        self.topic = secret.topic
        self.production = sender.pool(sender.production_url, token)
        self.development = sender.pool(sender.development_url, token)


class ApnsSender:
    """Sends through Apple's HTTP/2 API with token authentication.

    `timeout` in seconds. `connections` are per application, endpoint, team and key: Apple ties a connection to one
    team, and no tenant shares one with another. Raises ValueError for a URL that is not HTTPS, OSError for a CA
    file that cannot be read.
    """

    channel: ClassVar[str] = "apns"

    def __init__(
        self,
        production_url: str,
        development_url: str,
        ca_file: str | None,
        connections: int,
        timeout: float,
        clock: Clock,
    ) -> None:
        self.production_url = https_origin(production_url)
        self.development_url = https_origin(development_url)
        self.clock = clock
        self._ca = read_ca(ca_file)
        self._size = connections
        self._timeout = timeout
        self._accounts: Accounts[ApnsSecret, _Account] = Accounts(_secret, lambda secret, _: _Account(self, secret))

    def pool(self, url: str, token: ProviderToken) -> ApnsPool:
        connections = Connections(
            lambda: Http2Transport(self._ca, self._timeout, unread_status=200),
            self._size,
            self._timeout,
            proves=lambda response: response.status != 403,
        )
        return ApnsPool(url, token, connections, self.clock)

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        try:
            account = self._accounts.get(application_id, credential)
        except CredentialFault as fault:
            return TryLater(fault.reason, "credentials")
        pool = account.development if delivery.test else account.production
        request = notification_request(delivery, account.topic, self.clock.time())
        try:
            reply = await pool.send_notification(request)
        except NotSent as error:
            return TryLater(error.reason, "network")
        except UnknownOutcome as error:
            return TryLater(error.reason, "network", unknown=True)
        return judge(reply, delivery)

    async def close(self) -> None:
        pools = [pool for each in self._accounts.all() for pool in (each.production, each.development)]
        await asyncio.gather(*(pool.close() for pool in pools))


def _secret(credential: Credential) -> ApnsSecret:
    try:
        secret = msgspec.convert(credential.secret, ApnsSecret)
    except msgspec.ValidationError as error:
        raise CredentialFault("malformed_credential") from error
    if not (secret.topic and secret.topic.isascii() and secret.topic.isprintable()):
        raise CredentialFault("malformed_topic")
    return secret


def notification_request(delivery: Delivery, topic: str, now: float) -> NotificationRequest:
    """aioapns' request for a delivery at Unix time `now`. A repeat carries the same ids, so that it shows once (R7)."""
    content = delivery.content
    silent = content.push is not None and content.push.silent
    return NotificationRequest(
        device_token=delivery.token,
        message=apns_message(delivery.message_id, content),
        notification_id=delivery.message_id,
        time_to_live=max(0, delivery.deadline_ms // 1000 - int(now)),
        priority=int(PRIORITY_NORMAL if silent else PRIORITY_HIGH),
        collapse_key=collapse_id(delivery.message_id, content),
        push_type=PushType.BACKGROUND if silent else PushType.ALERT,
        apns_topic=topic,
    )


def collapse_id(message_id: str, content: Content) -> str:
    """The caller's key, or the message id. What is no header of at most 64 bytes is replaced by its SHA-256 in hex."""
    key = content.collapse_key
    if not key:
        return message_id
    if len(key) <= _COLLAPSE_ID_BYTES and key.isascii() and key.isprintable():
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def judge(reply: ApnsReply, delivery: Delivery) -> Result:
    """What Apple's answer means for the message and for the address.

    The endpoint is recorded: to the wrong one, a good token is a BadDeviceToken.
    """
    if reply.status == "200":
        return Accepted(reply.notification_id)
    status = int(reply.status)
    reason = reply.description or f"status_{status}"
    verdict = REASONS.get(reason) or _by_status(status)
    data: dict[str, object] = {"status": status, "endpoint": "development" if delivery.test else "production"}
    if reason in TIMESTAMPED:
        data |= {"timestamp": reply.timestamp, "registered_at_ms": delivery.registered_at_ms}
        if reply.timestamp is None or reply.timestamp <= delivery.registered_at_ms:
            return Rejected(reason, None, data | {"address": "kept"})
    if isinstance(verdict, int):
        return Rejected(reason, verdict, data)
    if verdict == "rejected":
        return Rejected(reason, None, data)
    if reason in PER_TOKEN:
        data["scope"] = "token"
    return TryLater(reason, verdict, reply.retry_after, data=data)


def _by_status(status: int) -> Verdict:
    return STATUSES.get(status) or ("rejected" if 400 <= status < 500 else "outage")
