"""A provider that answers 429 is called less: halved at once, grown back slowly, the same in all senders.

All limits of one channel are one small record: they are few, and one question every half second tells them all.
"""

import asyncio
from collections.abc import Callable

import msgspec

from libs import telemetry
from libs.errors import ServiceUnavailable
from libs.kv import Bucket

CUT = 0.5
GROWTH = 0.05
"""Part of the full rate that comes back each second."""
CUT_EVERY_MS = 1_000
LONGEST_PAUSE_MS = 60_000
LEAST = 0.1
"""Messages a second: below this nothing is cut."""
LEAST_ACHIEVED = 10.0
"""Messages a second: what is taken for the rate of an application that has hardly begun."""
APPLICATIONS = 1_000
FRESH_SECONDS = 0.5
_TRIES = 5
_log = telemetry.logger("throttle")


class Limit(msgspec.Struct, frozen=True):
    """What an application has at a provider that throttles it."""

    full: float
    """Messages a second: its knob, or what was achieved when the provider first refused."""
    rate: float
    """Messages a second at `at_ms`."""
    at_ms: int
    paused_ms: int = 0
    """Nothing goes out before (the provider's Retry-After)."""
    shares: dict[str, float] = {}
    """Where no knob is set: what each process achieved. Together they are `full`."""

    def rate_at(self, now_ms: float) -> float:
        return min(self.full, self.rate + GROWTH * self.full * max(0.0, now_ms - self.at_ms) / 1_000)

    def ends_ms(self) -> float:
        """When all of it will have come back, if nobody is refused again."""
        return max(self.paused_ms, self.at_ms + (self.full - self.rate) / (GROWTH * self.full) * 1_000)

    def is_over(self, now_ms: float) -> bool:
        return now_ms >= self.ends_ms()


class Refusal(msgspec.Struct, frozen=True):
    """One 429, as a process that shares saw it."""

    at_ms: int
    retry_after: float | None
    knob: float | None
    achieved: float
    member: str
    joins: bool = False
    """Not refused itself: another process was, and this one sends too."""


def cut(known: Limit | None, told: Refusal) -> Limit:
    """Half of what it was, at most once a second; a Retry-After counts each time."""
    pause = int(min((told.retry_after or 0.0) * 1_000, LONGEST_PAUSE_MS))
    if known is None or known.is_over(told.at_ms):
        full = max(LEAST_ACHIEVED, told.achieved) if told.knob is None else max(LEAST, told.knob)
        shares = {} if told.knob is not None else {told.member: told.achieved}
        return Limit(full, max(LEAST, full * CUT), told.at_ms, told.at_ms + pause, shares)
    known = join(known, told.member, told.achieved) if told.knob is None else known
    paused_ms = max(known.paused_ms, told.at_ms + pause)
    if told.at_ms - known.at_ms < CUT_EVERY_MS:
        return msgspec.structs.replace(known, paused_ms=paused_ms)
    rate = max(LEAST, min(known.rate_at(told.at_ms), told.knob or known.full) * CUT)
    return msgspec.structs.replace(known, rate=rate, at_ms=told.at_ms, paused_ms=paused_ms)


def join(known: Limit, member: str, achieved: float) -> Limit:
    """Where no knob is set, each process adds what it had achieved: it is cut as much as who was refused first."""
    if not known.shares or member in known.shares or achieved <= 0:
        return known
    shares = known.shares | {member: achieved}
    return msgspec.structs.replace(known, full=known.full + achieved, rate=known.rate + achieved * CUT, shares=shares)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Limit]).decode


class Throttles:
    """The limits of one channel, as heard last. While nobody answers, what is known here counts."""

    def __init__(self, bucket: Bucket, channel: str, now_ms: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._bucket = bucket
        self._key = f"throttled.{channel}"
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._limits: dict[str, Limit] = {}
        self._told: dict[str, Refusal] = {}
        self._ask_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    def of(self, application_id: str) -> Limit | None:
        return self._limits.get(application_id)

    def tell(self, application_id: str, refusal: Refusal) -> None:
        """Counts here at once, and everywhere within a second."""
        self._limits[application_id] = cut(self._limits.get(application_id), refusal)
        self._told.setdefault(application_id, refusal)
        self._ask_at = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Brings what is older than half a second up to date, without waiting for it."""
        if self._asking is None and self._monotonic() >= self._ask_at:
            self._ask_at = self._monotonic() + FRESH_SECONDS
            self._asking = asyncio.create_task(self._share())
            self._asking.add_done_callback(self._shared)

    def add(self, application_id: str, member: str, achieved: float) -> None:
        """This process sends for a throttled application too, see `join`."""
        limit = self._limits.get(application_id)
        if limit is not None and limit.shares and member not in limit.shares and achieved > 0:
            self._limits[application_id] = join(limit, member, achieved)
            self._told.setdefault(application_id, Refusal(limit.at_ms, None, None, achieved, member, joins=True))

    async def _share(self) -> None:
        told, self._told = self._told, {}
        try:
            for _ in range(_TRIES):
                if await self._exchanged(told):
                    return
            self._told = told | self._told
        except (ServiceUnavailable, msgspec.MsgspecError):
            self._told = told | self._told
            self._limits = self._current(self._limits)

    async def _exchanged(self, told: dict[str, Refusal]) -> bool:
        """False: another process wrote meanwhile."""
        found = await self._bucket.get(self._key)
        limits = self._current(_decode(found[0]) if found else {})
        for application_id, refusal in told.items():
            known = limits.get(application_id)
            if known is not None or not refusal.joins:
                limits[application_id] = cut(known, refusal)
        if told and await self._bucket.put(self._key, _encode(limits), found[1] if found else 0) is None:
            return False
        self._limits = limits
        return True

    def _current(self, limits: dict[str, Limit]) -> dict[str, Limit]:
        now_ms = self._now_ms()
        left = {i: limit for i, limit in limits.items() if not limit.is_over(now_ms)}
        return dict(sorted(left.items(), key=lambda one: -one[1].at_ms)[:APPLICATIONS])

    def _shared(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("limits_not_shared", exc_info=error)
