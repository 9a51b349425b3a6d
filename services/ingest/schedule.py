"""When a message is to be sent: from a moment on, at a time of the recipient's day, or both."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from libs.clock import ReferenceClock
from libs.errors import SignalError
from libs.localtime import next_local, zone_of
from libs.policies import PolicyBoard
from libs.rpc import Recipient
from services.ingest.decode import refuse, unix_ms
from services.ingest.errors import Reason
from services.ingest.render import rfc3339

MAX_DAYS_AHEAD = 366
"""A year, whichever."""
_DAY_MS = 86_400_000


class Planned(Protocol):
    """What the body of a request says of the time."""

    @property
    def scheduled_at(self) -> str | None: ...
    @property
    def send_at_local(self) -> str | None: ...


class Timing(NamedTuple):
    """By what the times of one request are judged."""

    now_ms: int
    """Unix milliseconds, Postgres' clock."""
    default_zone: str | None
    """Of recipients whose zone and country say nothing."""


class Due(NamedTuple):
    at_ms: int
    """Unix milliseconds; past ones mean at once."""
    told: dict[str, Any]
    """What was asked for and how the time was found, for the timeline."""


class Schedules:
    def __init__(self, clock: ReferenceClock, policies: PolicyBoard) -> None:
        self._clock = clock
        self._policies = policies

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def timing(self, application_id: str, items: Sequence[Planned | SignalError]) -> Timing:
        """The application's zone is asked for only where a recipient's may be missing. Raises `ServiceUnavailable`."""
        local = any(not isinstance(item, SignalError) and item.send_at_local is not None for item in items)
        zone = (await self._policies.of(application_id)).timezone if local else None
        return Timing(self._clock.now_ms(), zone)


def check_time(item: Planned, now_ms: int) -> None:
    """Raises `ValidationFailed` for what is no moment, or too far away."""
    at_ms = _not_before(item)
    if at_ms is not None and at_ms > now_ms + MAX_DAYS_AHEAD * _DAY_MS:
        refuse({"scheduled_at": Reason("days_ahead", MAX_DAYS_AHEAD)})


def due_of(item: Planned, recipient: Recipient | None, timing: Timing) -> Due | None:
    """None: nothing is said of the time. `recipient`: None for one that is gone, of whom only the application's zone
    is known."""
    at_ms = _not_before(item)
    told: dict[str, Any] = {} if at_ms is None else {"scheduled_at": rfc3339(at_ms)}
    if item.send_at_local is None:
        return None if at_ms is None else Due(at_ms, told)
    places = (None, None) if recipient is None else (recipient.timezone, recipient.country)
    zone = zone_of(*places, timing.default_zone)
    told |= {"send_at_local": item.send_at_local, "timezone": zone.name, "timezone_from": zone.source}
    return Due(next_local(item.send_at_local, zone, max(timing.now_ms, at_ms or 0)), told)


def _not_before(item: Planned) -> int | None:
    """Years without a Unix time are as past as 1970. Raises `ValidationFailed`."""
    at_ms = unix_ms("scheduled_at", item.scheduled_at)
    return None if at_ms is None else max(0, at_ms)
