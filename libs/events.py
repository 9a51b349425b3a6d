"""The public contract for subscribers: committed facts on `signal.events.<application_id>`, JSON, without content.

Unknown fields must be passed over by readers: later releases add some.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

UtcTime = Annotated[datetime, msgspec.Meta(tz=True)]


class PublishedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One committed fact. (epoch, txid, position) orders the log; a repetition has the same three."""

    epoch: int
    txid: str
    position: int
    message_id: str
    kind: str
    attempt: int
    key: str
    occurred_at: UtcTime
    reason: str | None = None
    data: dict[str, Any] = {}


class EventBatch(msgspec.Struct, frozen=True):
    """Facts of one application in log order. Delivered at least once."""

    application_id: str
    events: list[PublishedEvent]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(EventBatch)


def encode_batch(batch: EventBatch) -> bytes:
    return _encoder.encode(batch)


def decode_batch(payload: bytes) -> EventBatch:
    """Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)


def kinds_header(batch: EventBatch) -> str:
    """The header `Kinds`: a reader that waits for some kinds need not decode the other batches."""
    return ",".join(sorted({event.kind for event in batch.events}))
