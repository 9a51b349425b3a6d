"""What lies on each kind of stream, who writes it and who reads it: the rows of `proto/subjects.md` and AsyncAPI."""

from typing import Any, NamedTuple

import msgspec

from libs.alerts import Alert
from libs.contract.samples import SAMPLES
from libs.dead import DeadLetter
from libs.envelope import DispatchEnvelope, OutcomeEnvelope, SendEnvelope
from libs.events import EventBatch
from libs.rpc import ErasureRecord
from libs.subjects import STREAMS, Stream


class Channel(NamedTuple):
    """One kind of subject; those of the three lanes are one kind."""

    name: str
    address: str
    """The subject, its variable parts in braces."""
    stream: str
    """Name of the stream, without the lane."""
    message: type[msgspec.Struct]
    content_type: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    """Services. Subscribers outside of the product come on top where the stream is public."""

    @property
    def example(self) -> Any:
        return SAMPLES[self.name][-1].value


_MSGPACK, _JSON = "application/msgpack", "application/json"

CHANNELS: tuple[Channel, ...] = (
    Channel(
        "dispatch",
        "signal.dispatch.{lane}",
        "DISPATCH",
        DispatchEnvelope,
        _MSGPACK,
        ("lifecycle",),
        ("dispatcher",),
    ),
    Channel(
        "send",
        "signal.send.{lane}.{channel}.{region}",
        "SEND",
        SendEnvelope,
        _MSGPACK,
        ("dispatcher",),
        ("senders",),
    ),
    Channel(
        "outcome",
        "signal.outcome.{lane}.{channel}.{region}",
        "OUTCOME",
        OutcomeEnvelope,
        _MSGPACK,
        ("dispatcher", "senders"),
        ("lifecycle",),
    ),
    Channel(
        "events",
        "signal.events.{application_id}",
        "EVENTS",
        EventBatch,
        _JSON,
        ("lifecycle",),
        ("subscription",),
    ),
    Channel(
        "dead",
        "signal.dead.{stream}",
        "DEAD",
        DeadLetter,
        _JSON,
        ("dispatcher", "lifecycle", "senders", "subscription"),
        (),
    ),
    Channel(
        "erasures",
        "signal.erasures.{application_id}",
        "ERASURES",
        ErasureRecord,
        _MSGPACK,
        ("subscription",),
        (),
    ),
    Channel(
        "alerts",
        "signal.alerts.{application_id}",
        "ALERTS",
        Alert,
        _JSON,
        ("lifecycle",),
        (),
    ),
)


def streams_of(channel: Channel) -> list[Stream]:
    """Those of `libs.subjects` that hold this kind of subject."""
    return [stream for stream in STREAMS if stream.name.split("_")[0] == channel.stream]
