"""EVENTS, the public contract: committed facts about messages, as JSON batches on `signal.events.<application_id>`.

At least once, in log order per message, without content or tokens. Unknown fields pass: a later release may add some.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from libs.ids import UUID_PATTERN

KINDS_HEADER = "Kinds"
"""Header that lists the kinds in a batch, so that a subscriber can pass over a batch without decoding it."""


class UndecodableBatch(Exception):
    """The bytes on the subject are no batch of ours."""


class PublishedEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One fact of the log, identified by (message_id, kind, attempt, key), in the order of (epoch, txid, position)."""

    epoch: int
    txid: str
    """The Postgres transaction that committed it, in decimal: 64 bits, which JSON readers lose in a number."""
    position: int
    message_id: str
    kind: str
    """An event kind of `libs.message`; a later release may know more."""
    attempt: int
    key: str
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    reason: str | None = None
    data: dict[str, Any] = {}
    """Inputs of the decision behind the fact."""


class EventBatch(msgspec.Struct, frozen=True):
    """Facts of one application, in log order."""

    application_id: str
    events: list[PublishedEvent]


class Rejection(msgspec.Struct, frozen=True):
    """What the `data` of a `failed` event says where the provider will not take the recipient's address again."""

    disable: Annotated[int, msgspec.Meta(ge=-32768, le=0)]
    """The subscription status that says why (REF-002), such as -10."""
    subscription_id: Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, max_length=36)]
    token_version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    """The address that was rejected: a newer one is not touched."""
    rejected_at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    """Unix milliseconds since when the provider knows the address to be dead (APNs' 410 timestamp)."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EventBatch).decode


def encode_batch(batch: EventBatch) -> bytes:
    return _encode(batch)


def decode_batch(payload: bytes) -> EventBatch:
    """Raises `UndecodableBatch`."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UndecodableBatch(str(error)) from None


def kinds_header(batch: EventBatch) -> str:
    """The value of `KINDS_HEADER`: the kinds in the batch, each once, comma separated."""
    return ",".join(sorted({event.kind for event in batch.events}))
