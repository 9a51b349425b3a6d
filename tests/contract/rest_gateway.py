"""Strict stand-ins for the services behind the gateway, and a client in front of it."""

import asyncio
import hashlib
import io
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from libs import errors, ids, rpc, tokens
from libs.bus import Bus
from libs.clock import FakeClock
from libs.envelope import Content

OWNER = "0199a1b2-0000-7000-8000-000000000001"
STRANGER = "0199a1b2-0000-7000-8000-000000000002"
LIMITED = "0199a1b2-0000-7000-8000-000000000003"
KEYS = {
    "owner-key": rpc.Principal(OWNER, "k1", ["send", "read", "manage"], "unlimited"),
    "reader-key": rpc.Principal(OWNER, "k2", ["read"], "unlimited"),
    "stranger-key": rpc.Principal(STRANGER, "k3", ["send", "read", "manage"], "unlimited"),
    "limited-key": rpc.Principal(LIMITED, "k4", ["send", "read", "manage"], "default"),
    "client-key": rpc.Principal(OWNER, "c1", ["client"], "unlimited"),
    "limited-client-key": rpc.Principal(LIMITED, "c2", ["client"], "default"),
    "client-and-more-key": rpc.Principal(OWNER, "c3", ["client", "send"], "unlimited"),
}
CREATED_MS = 1_743_842_645_123
CREATED = "2025-04-05T08:44:05.123Z"
APNS_TOKEN = "ab" * 32

_decode_content = msgspec.msgpack.Decoder(Content).decode


Verbs = dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]


class Platform:
    """The services behind the gateway. They check what they are asked, and keep what they are told."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.authentications = 0
        self.resolves: list[rpc.Resolve] = []
        self.accepts: list[rpc.Accept] = []
        self.receipts: list[rpc.Receipt] = []
        self.created: list[rpc.CreateSubscription] = []
        self.recipients: dict[tuple[str, str], rpc.Recipient] = {}
        self.views: dict[tuple[str, str], rpc.MessageView] = {}
        self.kept: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self.remembered: list[rpc.Remember] = []
        self.secrets: dict[tuple[str, str], str] = {}
        """By application and secret, the subscription that it belongs to."""
        self.verifications = 0
        self.leases: list[rpc.LeaseRequests] = []
        self.minute_ms = 60_000
        """Milliseconds until the rate window ends; `now_ms` stands still."""
        self.window_ms = CREATED_MS
        self.granted: dict[tuple[str, int], int] = {}
        self.audited: list[rpc.AuditEntry] = []
        self.recordings = 0
        self.away: set[str] = set()
        """Verbs that answer as a service does whose database is away."""
        self.revoked: set[str] = set()
        self.asked = asyncio.Semaphore(0)
        """Released by each resolve."""
        self.hold = asyncio.Event()
        """Cleared: resolve waits."""
        self.hold.set()
        self.crash = False
        """True: lifecycle answers with a failure of its own."""

    @property
    def writes(self) -> int:
        return len(self.accepts) + len(self.receipts) + len(self.created)

    def subscribe(self, kind: str = "iOSPush", *, status: int = 1, owner: str = OWNER, ad_consent: bool = True) -> str:
        identifier = ids.new_id()
        self.recipients[owner, identifier] = rpc.Recipient(
            identifier, kind, status, b"sealed", "token", 3, CREATED_MS, False, identifier.encode(), "KR", ad_consent
        )
        return identifier

    async def serve(self) -> None:
        application: Verbs = {
            "authenticate": (rpc.Authenticate, self._authenticate),
            "lease": (rpc.LeaseRequests, self._lease),
            "record_audit": (rpc.RecordAudit, self._record_audit),
        }
        subscription: Verbs = {
            "resolve": (rpc.Resolve, self._resolve),
            "create": (rpc.CreateSubscription, self._create),
            "get": (rpc.GetSubscription, self._get_subscription),
            "verify_secret": (rpc.VerifySecret, self._verify_secret),
        }
        lifecycle: Verbs = {
            "accept": (rpc.Accept, self._accept),
            "accept_many": (rpc.AcceptMany, self._accept_many),
            "replay": (rpc.LookUpIdempotency, self._replay),
            "remember": (rpc.Remember, self._remember),
            "get": (rpc.GetMessage, self._get_message),
            "receipt": (rpc.Receipt, self._receipt),
        }
        await self.bus.serve("application", application)
        await self.bus.serve("subscription", subscription)
        await self.bus.serve("lifecycle", lifecycle)
        await self.bus.client.flush()

    async def _authenticate(self, request: rpc.Authenticate) -> rpc.Principal:
        self.authentications += 1
        assert len(request.digest) == 32
        for key, principal in KEYS.items():
            if hashlib.sha256(key.encode()).digest() == request.digest and key not in self.revoked:
                return principal
        raise errors.AuthenticationFailed

    def _expect(self, verb: str) -> None:
        if verb in self.away:
            raise errors.ServiceUnavailable(retry_after=1)

    async def _lease(self, request: rpc.LeaseRequests) -> rpc.Lease:
        self._expect("lease")
        self.leases.append(request)
        assert ids.is_id(request.application_id)
        assert request.limit in (300, 1_000, 5_000)
        assert 0 < request.want <= 512
        counter = request.application_id, self.window_ms
        before = self.granted.get(counter, 0)
        granted = min(request.want, max(0, request.limit - before))
        self.granted[counter] = before + granted
        ends_ms = self.window_ms + self.minute_ms
        return rpc.Lease(granted, max(0, request.limit - before - granted), ends_ms, self.window_ms)

    async def _record_audit(self, request: rpc.RecordAudit) -> rpc.Empty:
        self._expect("record_audit")
        self.recordings += 1
        assert request.entries
        for entry in request.entries:
            assert ids.is_id(entry.application_id)
            assert entry.actor.startswith("key:")
            assert entry.request_id
        self.audited += request.entries
        return rpc.Empty()

    async def _verify_secret(self, request: rpc.VerifySecret) -> rpc.Bearer:
        self._expect("verify_secret")
        self.verifications += 1
        for (owner, secret), subscription in self.secrets.items():
            if owner == request.application_id and hashlib.sha256(secret.encode()).digest() == request.digest:
                return rpc.Bearer(subscription)
        raise errors.AuthenticationFailed

    async def _resolve(self, request: rpc.Resolve) -> rpc.Resolved:
        self.resolves.append(request)
        self.asked.release()
        assert request.subscription_ids
        assert all(map(ids.is_id, request.subscription_ids))
        assert len(set(request.subscription_ids)) == len(request.subscription_ids)
        await self.hold.wait()
        asked = [(request.application_id, each) for each in request.subscription_ids]
        found = [self.recipients[each] for each in asked if each in self.recipients]
        return rpc.Resolved(found, {each.key_id: b"wrapped" for each in found})

    async def _create(self, request: rpc.CreateSubscription) -> rpc.Registered:
        tokens.normalised(request.type, request.token, request.token_kind)
        for before in self.created:
            if (before.application_id, before.type, before.token) == (
                request.application_id,
                request.type,
                request.token,
            ):
                raise errors.DuplicateSubscription(subscription_id="the-first")
        self.created.append(request)
        return rpc.Registered(self._view_of(request), created=True)

    async def _get_subscription(self, request: rpc.GetSubscription) -> rpc.SubscriptionView:
        assert ids.is_id(request.subscription_id)
        if (request.application_id, request.subscription_id) not in self.recipients:
            raise errors.ResourceNotFound(id=request.subscription_id)
        return msgspec.structs.replace(self._view_of(self.created[-1]), id=request.subscription_id)

    def _view_of(self, request: rpc.CreateSubscription) -> rpc.SubscriptionView:
        return rpc.SubscriptionView(
            id=ids.new_id(),
            type=request.type,
            subscription_status=1,
            token_hint=request.token[-4:],
            created_at_ms=CREATED_MS,
            updated_at_ms=CREATED_MS,
            user_id=request.user_id,
            device_info=request.device_info,
            subscribed_at_ms=CREATED_MS,
        )

    async def _accept_many(self, many: rpc.AcceptMany) -> rpc.AcceptedMany:
        assert many.requests
        return rpc.AcceptedMany([rpc.Verdict(reply=await self._accept(request)) for request in many.requests])

    async def _accept(self, request: rpc.Accept) -> rpc.AcceptReply:
        if self.crash:
            raise RuntimeError("password=hunter2 was wrong")
        known = self.kept.get((request.application_id, request.idempotency.key)) if request.idempotency else None
        if request.idempotency and known:
            assert known[0] == request.idempotency.fingerprint
            return rpc.AcceptReply(CREATED_MS, known[1])
        _check(request)
        self.accepts.append(request)
        if request.idempotency:
            self.kept[request.application_id, request.idempotency.key] = (
                request.idempotency.fingerprint,
                request.idempotency.answer,
            )
        return rpc.AcceptReply(CREATED_MS)

    async def _replay(self, request: rpc.LookUpIdempotency) -> rpc.Replay:
        known = self.kept.get((request.application_id, request.key))
        if known is None:
            return rpc.Replay()
        if known[0] != request.fingerprint:
            raise errors.IdempotencyKeyReused
        return rpc.Replay(CREATED_MS, known[1])

    async def _remember(self, request: rpc.Remember) -> rpc.Replay:
        self._expect("remember")
        given = request.idempotency
        assert len(given.fingerprint) == 32
        assert given.answer
        before = await self._replay(rpc.LookUpIdempotency(request.application_id, given.key, given.fingerprint))
        if before.answer is None:
            self.kept[request.application_id, given.key] = (given.fingerprint, given.answer)
            self.remembered.append(request)
        return before

    async def _get_message(self, request: rpc.GetMessage) -> rpc.MessageView:
        assert ids.is_id(request.message_id)
        view = self.views.get((request.application_id, request.message_id))
        if view is None:
            raise errors.ResourceNotFound(id=request.message_id)
        return view

    async def _receipt(self, request: rpc.Receipt) -> rpc.ReceiptReply:
        assert ids.is_id(request.message_id)
        if (request.application_id, request.message_id) not in self.views:
            raise errors.ResourceNotFound(id=request.message_id)
        assert len(request.action) <= 100
        self.receipts.append(request)
        converted = CREATED_MS if request.kind == "converted" else None
        return rpc.ReceiptReply(request.kind, CREATED_MS, converted)


def _check(request: rpc.Accept) -> None:
    """What lifecycle may rely on."""
    assert request.messages
    assert request.actor.startswith("key:")
    assert request.request_id
    assert len({each.message_id for each in request.messages}) == len(request.messages)
    for message in request.messages:
        assert abs(ids.time_of(message.message_id) - time.time()) < 60
        assert message.wrapped_key == b"wrapped"
        assert message.channel in ("apns", "fcm")
        assert message.ttl is None or 0 < message.ttl <= 2_419_200
        content = _decode_content(message.content)
        assert "\0" not in repr(content)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]
    content: bytes = b""
    """As it came, decompressed."""

    @property
    def data(self) -> Any:
        assert self.body["status"] == "success", self.body
        return self.body["data"]

    @property
    def code(self) -> str:
        assert self.body["status"] == "error", self.body
        return str(self.body["error"]["code"])

    @property
    def details(self) -> dict[str, Any]:
        details: dict[str, Any] = self.body["error"]["details"]
        return details


class Rest:
    """A client of the gateway under test."""

    def __init__(self, session: aiohttp.ClientSession, platform: Platform, clock: FakeClock) -> None:
        self.session = session
        self.platform = platform
        self.clock = clock

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        key: str | None = "owner-key",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`body` as JSON, or `raw` as it is."""
        sent = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {}), **(headers or {})}
        payload = raw if raw is not None else None if body is None else json.dumps(body).encode()
        data = None if payload is None else io.BytesIO(payload)
        async with self.session.request(method, path, data=data, headers=sent) as response:
            assert response.headers["X-Request-Id"]
            content = await response.read()
            is_json = content and response.content_type == "application/json"
            return Answer(response.status, response.headers, json.loads(content) if is_json else {}, content)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("POST", f"/api/v1{path}", body, **options)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", f"/api/v1{path}", **options)


AnotherGateway = Callable[[], AbstractAsyncContextManager[Rest]]
