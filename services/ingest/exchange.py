"""A route, a request and its answer, as the endpoint hands them to handlers; and what handlers work with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from libs.bus import Bus
from libs.errors import ResourceNotFound
from libs.ids import is_id
from libs.rpc import Scope
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Caller, Keys
from services.ingest.errors import Language
from services.ingest.recipients import Recipients
from services.ingest.schedule import Schedules
from services.ingest.templated import Renderer

I = TypeVar("I")  # noqa: E741 - input

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Size = Literal["single", "batch", "stream", "slow"]
"""How large a body may be: 128 KiB, `max_body_bytes`, or without end, read as it comes. `slow`: small, but it waits on
purpose. Each size has a budget of its own."""
Repeat = Literal["remembered", "own", "pure"]
"""What an Idempotency-Key does to a POST: its answer is remembered by the endpoint; the handler commits it with the
effect; or nothing, because the operation changes nothing."""


class Gateway(NamedTuple):
    bus: Bus
    keys: Keys
    recipients: Recipients
    acceptor: Acceptor
    renderer: Renderer
    schedules: Schedules


class Answer(NamedTuple):
    """What a handler gives back; `data` goes into the envelope."""

    status: int
    data: Any
    headers: Mapping[str, str] = MappingProxyType({})
    subjects: tuple[str, ...] = ()
    """Users and subscriptions that the answer speaks of: erasing one of them forgets a remembered answer."""
    resource: str | None = None
    """For the audit log where the path does not say it: `template/<id>`."""
    modified_ms: int | None = None
    """Unix milliseconds: becomes `Last-Modified`."""
    stream: AsyncIterator[bytes] | None = None
    """Instead of an envelope: the body, piece by piece."""
    content_type: str = "application/json; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Call(Generic[I]):
    """An authenticated request. `input` is its decoded body or, for what is only read, its decoded query."""

    request_id: str
    caller: Caller
    language: Language
    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    input: I
    body: bytes
    stream: AsyncIterator[bytes] | None = None
    """The body of a route of size `stream`, piece by piece."""
    new_id: str | None = None
    """Id for what the call creates, derived from its Idempotency-Key: a repetition after a crash makes the same."""

    def id(self, name: str = "id") -> str:
        """The `{id}` of the path. Raises `ResourceNotFound` for what cannot be an id: nothing has it."""
        text = self.parameters[name]
        if len(text) != 36 or not is_id(text):
            raise ResourceNotFound(id=text[:64])
        return text.lower()

    def subscription_id(self) -> str:
        """The `{id}` of a subscription; with a `client` key only the one whose secret was carried exists."""
        found = self.id()
        if self.caller.bearer_only and found != self.caller.subscription_id:
            raise ResourceNotFound(id=found)
        return found


Handler = Callable[[Gateway, Call[Any]], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation: how it is reached, who may, what it takes and gives. `proto/openapi.json` is written from it."""

    method: Method
    path: str
    summary: str
    scopes: tuple[Scope, ...]
    """A key with any of them may."""
    handler: Handler
    answer: Any
    """Type of the answer's `data`; None for a stream."""
    status: int = 200
    other_statuses: tuple[int, ...] = ()
    """Further statuses of success, such as 200 where 201 is usual."""
    body: type[msgspec.Struct] | None = None
    read: Callable[[bytes], Any] | None = None
    """Decodes the body instead of a plain decoder for `body`."""
    body_required: bool = True
    """False: without a body every field has its default."""
    query: type[msgspec.Struct] | None = None
    errors: tuple[str, ...] = ()
    """Codes beside those that every operation may answer."""
    size: Size = "single"
    repeat: Repeat = "remembered"
    audit: str | None = None
    """Action in the audit log; None: nothing changes, or the message log itself tells it."""
    example: Any = None
    """A body that works, for the documentation."""
    media_types: tuple[str, ...] = ("application/json",)
    """Of the body; for a stream, of the answer too."""
