"""Acceptance by lifecycle, once per Idempotency-Key: the same request under it gets the same answer for 24 hours."""

import hashlib
import re
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import hdrs

from libs import rpc
from libs.errors import ValidationFailed
from services.ingest.errors import Reason
from services.ingest.exchange import Call, Gateway

A = TypeVar("A")

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_encode = msgspec.msgpack.Encoder().encode


class Guard(NamedTuple):
    key: str
    fingerprint: bytes
    """SHA-256 over method, path and body; of a stream, over what is known before it is read."""
    secret: bytes = bytes(32)
    """Known to who has key and request, and kept nowhere: what the answer is sealed under."""
    bearer: str | None = None
    """With a `client` key: the subscription that it speaks for, or "" for none."""

    @property
    def name(self) -> str:
        """What it is kept under. No `client` key, which anybody has, takes a name from the back end or from another
        subscription, nor finds their answers: no key has a line feed in it."""
        return self.key if self.bearer is None else f"{self.bearer}\n{self.key}"


class Settled(NamedTuple, Generic[A]):
    """What a request came to, now or when it was made first."""

    answer: A
    created_at_ms: int
    headers: dict[str, str]


def guard_of(call: Call[Any]) -> Guard | None:
    """None without the header. Raises `ValidationFailed` for a key that is none."""
    key = call.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise ValidationFailed(fields={HEADER: Reason("idempotency_key")})
    content = call.body if call.stream is None else _outline(call)
    request = b"\n".join((call.method.encode(), call.path.encode(), content))
    secret = hashlib.sha256(b"\0".join((b"answer", key.encode(), request))).digest()
    bearer = (call.caller.subscription_id or "") if call.caller.bearer_only else None
    return Guard(key, hashlib.sha256(request).digest(), secret, bearer)


def _outline(call: Call[Any]) -> bytes:
    """For a body that is not there yet when the question is asked: what is known of it, and its query."""
    known = [call.headers.get(name) for name in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING)]
    return _encode([known, call.input])


async def earlier(gateway: Gateway, call: Call[Any], guard: Guard | None, kind: type[A]) -> Settled[A] | None:
    """What was answered before under this key. Raises `IdempotencyKeyReused` if it was to another request.

    Asked before the recipients are: the answer stands even if the subscription has been disabled since.
    """
    if guard is None:
        return None
    question = rpc.LookUpIdempotency(call.caller.application_id, guard.name, guard.fingerprint)
    found = await gateway.bus.call("lifecycle", "replay", question, rpc.Replay)
    return None if found.answer is None else _replayed(found.answer, found.created_at_ms, kind)


async def accept(
    gateway: Gateway,
    call: Call[Any],
    source: Literal["single", "batch"],
    messages: list[rpc.NewMessage],
    guard: Guard | None,
    answer: A,
) -> Settled[A]:
    """Commit all `messages` in one transaction (R1, R15), `answer` with them under the key."""
    request = rpc.Accept(
        application_id=call.caller.application_id,
        source=source,
        actor=call.caller.actor,
        messages=messages,
        idempotency=None if guard is None else rpc.Idempotency(guard.name, guard.fingerprint, _encode(answer)),
        request_id=call.request_id,
    )
    one = source == "single"
    reply = await (gateway.acceptor.single(request, messages[0].lane) if one else gateway.acceptor.batch(request))
    if reply.replayed is not None:
        return _replayed(reply.replayed, reply.created_at_ms, type(answer))
    return Settled(answer, reply.created_at_ms, {})


def _replayed(answer: bytes, created_at_ms: int, kind: type[A]) -> Settled[A]:
    return Settled(msgspec.msgpack.decode(answer, type=kind), created_at_ms, REPLAYED)
