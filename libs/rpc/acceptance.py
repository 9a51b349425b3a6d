"""Verbs of lifecycle about what is new: messages are accepted, and a request that is repeated is answered again."""

from typing import Any, Literal

import msgspec

from libs.envelope import Lane
from libs.rpc.fault import Fault


class NewMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message that passed the gateway's checks."""

    message_id: str
    subscription_id: str
    key_id: bytes
    wrapped_key: bytes
    content: bytes
    """msgpack `Content`, sealed by lifecycle before anything is written."""
    channel: str
    """Sender channel: `apns`, `fcm`, …"""
    lane: Lane
    category: str = "info"
    ttl: int | None = None
    """Seconds; None: the default of 24 hours."""
    collapse_key: str | None = None
    why: dict[str, Any] = {}
    """Inputs of the acceptance, for the timeline: subscription status, token version, consent; template, version and
    locale where the content came from one."""
    user_id: str | None = None
    due_at_ms: int | None = None
    """Unix milliseconds, Postgres' clock: not to be sent before. Its ttl counts from then. None, or past: at once."""
    scheduled: dict[str, Any] = {}
    """With `due_at_ms`: what was asked for and how the time was found, for the timeline."""


class Idempotency(msgspec.Struct, frozen=True):
    key: str
    fingerprint: bytes
    """SHA-256 over method, path and body."""
    answer: bytes
    """What the gateway needs to give the same answer again."""


class Accept(msgspec.Struct, frozen=True):
    """lifecycle.accept -> AcceptReply, after the commit of all messages or of none (R1, R15)."""

    application_id: str
    source: Literal["single", "batch"]
    actor: str
    messages: list[NewMessage]
    idempotency: Idempotency | None = None
    request_id: str = ""


class AcceptReply(msgspec.Struct, frozen=True):
    created_at_ms: int
    replayed: bytes | None = None
    """The `answer` of the first request with this Idempotency-Key; nothing was written now."""


class AcceptMany(msgspec.Struct, frozen=True):
    """lifecycle.accept_many -> AcceptedMany: requests that came together travel together, each whole and on its own."""

    requests: list[Accept]


class Verdict(msgspec.Struct, frozen=True):
    """What one request of several came to: either of the two."""

    reply: AcceptReply | None = None
    fault: Fault | None = None


class AcceptedMany(msgspec.Struct, frozen=True):
    verdicts: list[Verdict]
    """In the order of the requests."""


class LookUpIdempotency(msgspec.Struct, frozen=True):
    """lifecycle.replay -> Replay; raises idempotency_key_reused for another fingerprint."""

    application_id: str
    key: str
    fingerprint: bytes


class Replay(msgspec.Struct, frozen=True):
    created_at_ms: int = 0
    answer: bytes | None = None


class Remember(msgspec.Struct, frozen=True):
    """lifecycle.remember -> Replay. Keeps a REST answer under its Idempotency-Key for 24 hours; the first one stays.

    `answer` is None in the reply where this one was kept; raises idempotency_key_reused for another fingerprint.
    """

    application_id: str
    idempotency: Idempotency
    subjects: list[str] = []
    """Users and subscriptions that the answer speaks of: erasing one of them forgets the answer."""
