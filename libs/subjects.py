"""Every subject and stream there is. `proto/subjects.md` is written from this table."""

from typing import Annotated, Literal

import msgspec

from libs.envelope import LANES, Lane

Retention = Literal["work_queue", "limits"]
DAY = 86_400.0
Region = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=32)]
"""Where senders run, such as `icn` or `eu-west-1`: a token of subjects and a part of consumers' names."""
Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")]
"""ISO 3166-1 alpha-2, as a subscription has it: the region is chosen by it."""


class Stream(msgspec.Struct, frozen=True):
    name: str
    subjects: tuple[str, ...]
    retention: Retention
    max_age: float | None
    """Seconds; None: until acknowledged, or for ever where nobody acknowledges."""
    purpose: str


def dispatch(lane: Lane) -> str:
    return f"signal.dispatch.{lane}"


def send(lane: Lane, channel: str, region: str) -> str:
    return f"signal.send.{lane}.{channel}.{region}"


def route_of(subject: str) -> tuple[str, str]:
    """Channel and region of a subject of `send`."""
    _, _, _, channel, region = subject.split(".")
    return channel, region


def outcome(lane: Lane, channel: str, region: str) -> str:
    return f"signal.outcome.{lane}.{channel}.{region}"


def events(application_id: str) -> str:
    return f"signal.events.{application_id}"


def dead(stream: str) -> str:
    return f"signal.dead.{stream}"


def erasures(application_id: str) -> str:
    return f"signal.erasures.{application_id}"


def alerts(application_id: str) -> str:
    return f"signal.alerts.{application_id}"


def rpc(service: str, verb: str) -> str:
    return f"signal.rpc.{service}.{verb}"


def stream_of(kind: Literal["DISPATCH", "SEND", "OUTCOME"], lane: Lane) -> str:
    return f"{kind}_{lane}"


def _lane_streams(lane: Lane) -> tuple[Stream, ...]:
    return (
        Stream(f"DISPATCH_{lane}", (dispatch(lane),), "work_queue", None, "accepted messages"),
        Stream(f"SEND_{lane}", (send(lane, "*", "*"),), "work_queue", None, "rendered, routed deliveries"),
        Stream(f"OUTCOME_{lane}", (outcome(lane, "*", "*"),), "work_queue", None, "what became of deliveries"),
    )


SENDERS = "signal.senders"
"""Each sender process says there once a second that it lives, in no stream (`libs.presence`)."""
RING = "signal.ring"
"""Asked of every process that holds the key ring, in no stream: which keys it has (`libs.ring`)."""
RATES = "signal.rates"
"""Asked of every sender process, in no stream: what it sends a second, and for whom (`libs.rates`)."""
EVENTS = "EVENTS"
DEAD = "DEAD"
ERASURES = "ERASURES"
ALERTS = "ALERTS"
STREAMS: tuple[Stream, ...] = (
    *(stream for lane in LANES for stream in _lane_streams(lane)),
    Stream(EVENTS, ("signal.events.*", "signal.subscriptions.*"), "limits", 7 * DAY, "committed events"),
    Stream(DEAD, ("signal.dead.*",), "limits", 30 * DAY, "what could not be processed, and why"),
    Stream(ERASURES, ("signal.erasures.*",), "limits", None, "whom a restored backup must forget again"),
    Stream(ALERTS, ("signal.alerts.*",), "limits", 30 * DAY, "what an operator should know at once"),
)
