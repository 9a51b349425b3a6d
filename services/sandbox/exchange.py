"""One provider request and what became of it: the shapes every provider and both HTTP/2 fronts share."""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from msgspec import Struct

Provider = Literal["apns", "fcm", "oauth"]
Fate = Literal["answer", "hang", "close"]


class Headers(Protocol):
    """Request headers by lower-case name."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def items(self) -> Iterable[tuple[str, str]]: ...


class Request(Struct, frozen=True, gc=False):
    method: str
    path: str
    authority: str
    headers: Headers
    body: bytes
    peer: str
    """`address:port` of the client's end of the connection."""
    version: str = "2"
    """Of HTTP."""


class Reply(Struct, frozen=True, gc=False):
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""


class Verdict(Struct, frozen=True, gc=False):
    """A provider's judgement of one request. `reason` is None when it was accepted."""

    provider: Provider
    token: str
    reply: Reply
    reason: str | None = None
    message_id: str | None = None
    collapse: str | None = None
    dry_run: bool = False
    """FCM's `validate_only`: answered like a delivery, never recorded as one."""


class Outcome(Struct, frozen=True, gc=False):
    """What a front must do: wait `delay` seconds, then answer, stay silent or cut the connection."""

    reply: Reply
    delay: float = 0.0
    fate: Fate = "answer"


class Delivery(Struct, frozen=True, gc=False, omit_defaults=True):
    """One recorded request, as `GET /v1/deliveries` shows it. `payload` is null if the body was not JSON."""

    provider: Provider
    token: str
    message_id: str | None
    headers: dict[str, str]
    payload: Any
    received_at: str
    accepted: bool
    reason: str | None = None
