"""One application's messages to one provider, called at the moments of the schedule that all senders share."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from libs import telemetry
from libs.clock import ReferenceClock
from libs.envelope import Lane
from libs.errors import ServiceUnavailable
from libs.kv import Bucket

from .schedule import PATIENCE_MS, SLICE_MS, Schedule, Slots, book, free_ms, interval_ms, take

TOLERANCE_MS = 100.0
"""A moment that nobody used for so long is gone."""
AHEAD_MS = SLICE_MS / 2
"""Moments are taken so long before the last of them is used."""
LONGEST_LINE_MS = 600_000.0
"""What was postponed comes back after ten minutes at the latest, to see whether the rate was raised."""
_RANK: dict[Lane, int] = {"critical": 0, "normal": 1, "bulk": 2}
MOST_WAITING = 8
"""Envelopes of one lane: what comes beyond them goes to `due` at once, and stands before nobody else's."""
UNLIMITED = 100_000.0
"""Messages a second, where a pause alone is kept."""
_AWAY_MS = 2_000
_TRIES = 50
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Schedule).decode
_log = telemetry.logger("pace")


class Allowed(NamedTuple):
    """What an application may send now."""

    rate: float | None
    """Messages a second; None: as fast as it goes."""
    paused_ms: float = 0.0
    """Nothing before."""
    soon: float = 0.0
    """Messages a second that it will have regained within some seconds, where that is more."""
    ends_ms: float = math.inf
    """From then on there is no limit."""


_Change = Callable[[Schedule, float, Allowed], tuple[Schedule, Slots] | None]


class Waiter(msgspec.Struct, eq=False):
    """For one message."""

    wanted: int
    give_up_ms: float
    moment: asyncio.Future[float | None]
    """Done when it has come; None: it would take too long after all."""


class Pace:
    """Hands out moments: the critical lane's messages first, then in the order in which they came.

    While the bucket is away, this process keeps to its part of the rate: the rate by the processes that shared last.
    What it never knew, it does not send.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        member: str,
        reference: ReferenceClock,
        allowed: Callable[[float], Allowed],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`member` names this process among those that share; `allowed` says what counts at a time."""
        self._sleep = sleep
        self._bucket = bucket
        self._key = key
        self._member = member
        self._reference = reference
        self._allowed = allowed
        self._known: Schedule | None = None
        self._revision: int | None = None
        self._alone = Schedule()
        self._away_until_ms = 0
        self._slots = Slots(0.0, 1.0, 0)
        self._following: asyncio.Task[Slots | None] | None = None
        self._waiting: list[tuple[int, int, Waiter]] = []
        self._order = itertools.count()
        self._running: asyncio.Task[None] | None = None

    def admit(self, lane: Lane, wanted: int, give_up_ms: float, is_new: bool) -> float | Waiter | None:
        """The moment at which the message may go, or who waits for it. None: it would not come before `give_up_ms`.

        `wanted`: this message, and those that come after it. A new one does not pass those that have waited.
        """
        now_ms = self._reference.now_ms()
        allowed = self._allowed(now_ms)
        if allowed.rate is None and allowed.paused_ms <= now_ms:
            return now_ms
        if not self._waiting and self._is_usable(now_ms, allowed):
            return self._slots.pop()
        if not self._is_worth_waiting(lane, now_ms, give_up_ms, allowed, is_new):
            return None
        waiter = Waiter(wanted, give_up_ms, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, (_RANK[lane], next(self._order), waiter))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return waiter

    def _is_usable(self, now_ms: float, allowed: Allowed) -> bool:
        slots = self._slots
        return slots.count > 0 and slots.next_ms >= allowed.paused_ms and 0 <= now_ms - slots.next_ms <= TOLERANCE_MS

    def _is_worth_waiting(self, lane: Lane, now_ms: float, give_up_ms: float, allowed: Allowed, is_new: bool) -> bool:
        rank, rate = _RANK[lane], allowed.rate or UNLIMITED
        ahead = [each[0] for each in self._waiting if each[0] <= rank]
        if ahead.count(rank) >= MOST_WAITING:
            return False
        known = self._known or Schedule()
        soonest = self._slots.next_ms if self._slots.count else free_ms(known, now_ms, rate)
        soonest = max(soonest, allowed.paused_ms)
        expected = soonest + len(ahead) * interval_ms(rate) * max(1, len(known.members))
        there_is_a_line = known.line_ms > now_ms + PATIENCE_MS and expected > now_ms + SLICE_MS
        return expected <= give_up_ms and (rank == 0 or not is_new or not there_is_a_line)

    async def _run(self) -> None:
        """While somebody waits. Whoever comes once it has ended, begins it anew."""
        try:
            while self._waiting:
                slots = self._slots if self._slots.count else await self._next_slots()
                if slots is not None:
                    self._slots = slots
                    await self._hand_out()
        except Exception as error:
            _log.error("pace_failed", exc_info=error)
            self._refuse(math.inf)
        finally:
            self._running = None

    async def _hand_out(self) -> None:
        """The first moment, to who is first when it comes."""
        now_ms = self._reference.now_ms()
        at_ms = self._slots.next_ms
        if now_ms - at_ms > TOLERANCE_MS or at_ms < self._allowed(now_ms).paused_ms:
            self._slots.pop()
            return
        self._take_ahead(now_ms)
        if at_ms > now_ms:
            await self._sleep((at_ms - now_ms) / 1_000)
        if self._slots.count and self._slots.next_ms == at_ms and self._waiting:
            heapq.heappop(self._waiting)[2].moment.set_result(self._slots.pop())

    def _wanted(self) -> int:
        return sum(waiter.wanted for _, _, waiter in self._waiting)

    def _patient_ms(self) -> float:
        return max(waiter.give_up_ms for _, _, waiter in self._waiting)

    def _take_ahead(self, now_ms: float) -> None:
        slots = self._slots
        if self._following is None and slots.end_ms - now_ms < AHEAD_MS and self._wanted() > slots.count:
            self._following = asyncio.create_task(self._reserve(self._wanted() - slots.count, self._patient_ms()))

    async def _next_slots(self) -> Slots | None:
        """None: there are none in time, and nobody waits any longer."""
        following, self._following = self._following, None
        slots = None if following is None else await following
        if slots is None:
            slots = await self._reserve(self._wanted(), self._patient_ms())
        self._refuse(math.inf if slots is None else slots.next_ms)
        return slots

    def _refuse(self, until_ms: float) -> None:
        """Those who would have to wait for longer than they can."""
        for _, _, waiter in self._waiting:
            if waiter.give_up_ms < until_ms:
                waiter.moment.set_result(None)
        self._waiting = [each for each in self._waiting if not each[2].moment.done()]
        heapq.heapify(self._waiting)

    # the shared record ------------------------------------------------------------------------------------------------

    async def _reserve(self, wanted: int, patient_ms: float) -> Slots | None:
        """The next moments that can be had, if the first comes before `patient_ms`."""

        def taken(known: Schedule, now_ms: float, allowed: Allowed) -> tuple[Schedule, Slots] | None:
            rate = allowed.rate or UNLIMITED
            if max(free_ms(known, now_ms, rate), allowed.paused_ms) > patient_ms:
                return None
            return take(known, now_ms, rate, wanted, self._member, allowed.paused_ms)

        return await self._change(taken)

    async def book(self, count: int, lane: Lane = "normal") -> Slots | None:
        """Moments to come back at, for `count` messages; None: nobody can say."""

        def booked(known: Schedule, now_ms: float, allowed: Allowed) -> tuple[Schedule, Slots]:
            rate = max(allowed.rate or UNLIMITED, allowed.soon)
            urgent = lane == "critical"
            return book(known, now_ms, rate, count, LONGEST_LINE_MS, allowed.paused_ms, urgent=urgent)

        found = await self._change(booked)
        ends_ms = self._allowed(self._reference.now_ms()).ends_ms + PATIENCE_MS
        if found is None or found.end_ms <= ends_ms:
            return found
        start_ms = min(found.next_ms, ends_ms - PATIENCE_MS)
        return Slots(start_ms, (ends_ms - start_ms) / count, count)

    async def _change(self, change: _Change) -> Slots | None:
        now_ms = self._reference.now_ms()
        try:
            if now_ms >= self._away_until_ms and self._reference.judging_ms():
                return await self._change_together(change)
        except (ServiceUnavailable, msgspec.MsgspecError) as error:
            self._away_until_ms = now_ms + _AWAY_MS
            self._revision = None
            _log.warning("rate_not_shared", error_type=type(error).__name__)
        return self._change_alone(change)

    async def _change_together(self, change: _Change) -> Slots | None:
        for _ in range(_TRIES):
            known, revision = await self._read()
            now_ms = self._reference.now_ms()
            changed = change(known, now_ms, self._allowed(now_ms))
            if changed is None:
                return None
            self._revision = await self._bucket.put(self._key, _encode(changed[0]), revision)
            if self._revision is not None:
                self._known = changed[0]
                return changed[1]
        raise ServiceUnavailable(service="nats", retry_after=1)

    async def _read(self) -> tuple[Schedule, int]:
        """As written last by this process, if nobody else did since: else the write tells."""
        if self._known is None or self._revision is None:
            found = await self._bucket.get(self._key)
            # Who had moments of a record that was lost with its server uses them up first.
            self._known = _decode(found[0]) if found else Schedule(self._reference.now_ms() + SLICE_MS)
            self._revision = found[1] if found else 0
        return self._known, self._revision

    def _change_alone(self, change: _Change) -> Slots | None:
        if self._known is None:
            return None
        now_ms = self._reference.now_ms()
        allowed = self._allowed(now_ms)
        sharers = max(1, len(self._known.members))
        part = Allowed((allowed.rate or UNLIMITED) / sharers, allowed.paused_ms, allowed.soon / sharers)
        changed = change(self._alone, now_ms, part)
        if changed is None:
            return None
        self._alone = changed[0]
        return changed[1]
