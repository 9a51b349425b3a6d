"""Batch envelopes: the unit on every stream subject, one acknowledgement for up to 500 messages.

Items are positional (`array_like`) to stay small. A field is only ever added at the end, with a default, so that
services of two neighbouring releases read each other; `proto/golden/` keeps a sample of every version decodable.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import msgspec

Lane = Literal["critical", "normal", "bulk"]
LANES: tuple[Lane, ...] = ("critical", "normal", "bulk")

MAX_ITEMS = 500
MAX_BYTES = 512 * 1024


class UndecodableEnvelope(Exception):
    """The bytes on the subject are no envelope of ours."""


class Button(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action button of a push notification."""

    id: str
    text: str


class Push(msgspec.Struct, frozen=True, omit_defaults=True):
    """Push options of a message (FR-101); all optional. Named as in the REST API."""

    badge: int | None = None
    sound: str | None = None
    image: str | None = None
    click_action: str | None = None
    buttons: tuple[Button, ...] = ()
    channel_id: str | None = None
    category: str | None = None
    mutable_content: bool = False
    content_available: bool = False
    interruption_level: Literal["passive", "active", "time-sensitive", "critical"] | None = None
    silent: bool = False


class Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a person is shown. Sealed everywhere but in SEND."""

    title: str | None = None
    body: str | None = None
    data: dict[str, Any] = {}
    push: Push | None = None
    collapse_key: str | None = None


class Accepted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One accepted message on DISPATCH."""

    message_id: str
    subscription_id: str
    attempt: int
    sealed: bytes
    """`libs.seal` ciphertext of msgpack `Content`; it names its data key."""
    deadline_ms: int
    """Unix milliseconds, Postgres' clock: past this the message has expired."""
    category: str = "info"


class Closing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of the hours in which a message may be sent: from then on it is held, as the dispatcher would hold it."""

    at_ms: int
    """Unix milliseconds, Postgres' clock."""
    hold: Literal["quiet_hours", "ad_night"]
    until_ms: int
    """When the hours begin again."""
    data: dict[str, Any] = {}
    """For the timeline: rule, window, zone."""


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One rendered, routed message on SEND: all that a provider needs."""

    message_id: str
    subscription_id: str
    attempt: int
    token: str
    token_version: int
    registered_at_ms: int
    """When this version of the token was registered: the 410 timestamp rule compares with it."""
    test: bool
    """True: Apple's development endpoint."""
    deadline_ms: int
    content: Content
    token_kind: Literal["token", "fid"] = "token"
    closing: Closing | None = None
    """None: it may be sent at any hour."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One fact about one message on OUTCOME, to be appended to the log by lifecycle."""

    message_id: str
    kind: str
    """An event kind of `libs.message`."""
    attempt: int
    key: str
    """Tells two facts of one kind and attempt apart, such as the id of the provider call."""
    occurred_at_ms: int
    reason: str | None = None
    retry_class: Literal["network", "outage", "throttled", "credentials"] | None = None
    """Set where lifecycle shall schedule the next attempt, or fail the message when none is left."""
    retry_after: float | None = None
    """The provider's Retry-After in seconds: a floor."""
    data: dict[str, Any] = {}
    """Inputs of the decision, without content or token."""
    hold_until_ms: int | None = None
    """Of a `held` fact whose reason is one of `libs.waits`: when the message goes on; None: when it is released."""


class DispatchEnvelope(msgspec.Struct, frozen=True, tag="dispatch", tag_field="v"):
    handoff_id: str
    application_id: str
    lane: Lane
    items: list[Accepted]
    marked: bool = False
    """True when the reconciler found this work lost: a sender asks for known outcomes first (R7)."""


class SendEnvelope(msgspec.Struct, frozen=True, tag="send", tag_field="v"):
    handoff_id: str
    application_id: str
    lane: Lane
    channel: str
    region: str
    items: list[Delivery]
    marked: bool = False


class OutcomeEnvelope(msgspec.Struct, frozen=True, tag="outcome", tag_field="v"):
    application_id: str
    lane: Lane
    items: list[Outcome]


Envelope = DispatchEnvelope | SendEnvelope | OutcomeEnvelope
E_ = TypeVar("E_", bound=DispatchEnvelope | SendEnvelope | OutcomeEnvelope)
I_ = TypeVar("I_", Accepted, Delivery, Outcome)

_encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (DispatchEnvelope, SendEnvelope, OutcomeEnvelope)
}


def encode(envelope: Envelope) -> bytes:
    return _encode(envelope)


def decode(payload: bytes, kind: type[E_]) -> E_:
    """Raises `UndecodableEnvelope`."""
    try:
        envelope: E_ = _DECODERS[kind].decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UndecodableEnvelope(str(error)) from error
    return envelope


def pack(items: Sequence[I_], wrap: Callable[[list[I_]], Envelope]) -> Iterator[tuple[list[I_], bytes]]:
    """Encode `items` as few envelopes as the limits allow, in order: each part and its envelope.

    A single item over `MAX_BYTES` still gets an envelope of its own: acceptance bounds what one message can weigh.
    """
    for start in range(0, len(items), MAX_ITEMS):
        yield from _fit(list(items[start : start + MAX_ITEMS]), wrap)


def _fit(items: list[I_], wrap: Callable[[list[I_]], Envelope]) -> Iterator[tuple[list[I_], bytes]]:
    payload = encode(wrap(items))
    if len(payload) <= MAX_BYTES or len(items) == 1:
        yield items, payload
        return
    middle = len(items) // 2
    yield from _fit(items[:middle], wrap)
    yield from _fit(items[middle:], wrap)
