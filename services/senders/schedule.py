"""When the messages of one application may go to one provider: a schedule that all senders share. Pure.

A generic cell rate algorithm without bursts: each message has a moment of its own, evenly spaced, and a moment that
nobody took is gone. Times are Unix milliseconds of the reference clock.
"""

import msgspec

MARGIN = 0.99
"""Part of the rate that is scheduled: what is called some milliseconds late still stays below the rate."""
SLICE_MS = 100.0
"""Taken at once by all processes together; at low rates a single moment."""
PATIENCE_MS = 2_000.0
"""A message that would wait longer goes to `due`."""
MEMBER_MS = 10_000
"""A process that took nothing for so long does not count as one of those that share."""
MOST_MEMBERS = 256


class Schedule(msgspec.Struct, frozen=True):
    """The record in the bucket."""

    next_ms: float = 0.0
    """The first moment that nobody has."""
    line_ms: float = 0.0
    """Until here, moments are promised to messages that were postponed."""
    members: dict[str, int] = {}
    """Processes that share, and when each took last."""
    urgent_ms: float = 0.0
    """As `line_ms`, for critical messages: they stand behind none but their like."""


class Slots(msgspec.Struct):
    """Moments that belong to one process."""

    start_ms: float
    interval_ms: float
    count: int
    """Those that are left."""
    used: int = 0

    @property
    def next_ms(self) -> float:
        """The first that is left."""
        return self.start_ms + self.used * self.interval_ms

    @property
    def end_ms(self) -> float:
        return self.next_ms + self.count * self.interval_ms

    def pop(self) -> float:
        first = self.next_ms
        self.used += 1
        self.count -= 1
        return first


def interval_ms(rate: float) -> float:
    """Between two messages at `rate` a second."""
    return 1_000.0 / (rate * MARGIN)


def take(
    known: Schedule, now_ms: float, rate: float, wanted: int, member: str, paused_ms: float = 0.0
) -> tuple[Schedule, Slots]:
    """The next moments for `member`: what it wants, at most its part of a slice. Nothing before `paused_ms`."""
    members = {name: at for name, at in known.members.items() if now_ms - MEMBER_MS < at <= now_ms + MEMBER_MS}
    members[member] = int(now_ms)
    if len(members) > MOST_MEMBERS:
        del members[min(members, key=members.__getitem__)]
    step = interval_ms(rate)
    start = max(free_ms(known, now_ms, rate), paused_ms)
    count = min(wanted, max(1, int(SLICE_MS / step / len(members))))
    taken = msgspec.structs.replace(known, next_ms=start + count * step, members=members)
    return taken, Slots(start, step, count)


def free_ms(known: Schedule, now_ms: float, rate: float) -> float:
    """The first moment that can be had. Further ahead than anybody takes, only a clock that was wrong has been."""
    ahead = now_ms + PATIENCE_MS + SLICE_MS + interval_ms(rate)
    return max(now_ms, min(known.next_ms, ahead))


def book(
    known: Schedule,
    now_ms: float,
    rate: float,
    count: int,
    longest_ms: float,
    paused_ms: float = 0.0,
    *,
    urgent: bool = False,
) -> tuple[Schedule, Slots]:
    """Moments to come back at, for `count` messages that cannot wait here: behind those that were postponed before.

    They are no right to be called, but spread over the time in which the rate allows it: nobody comes back in vain.
    None is more than `longest_ms` from now, so that nothing waits for a rate that was raised long since: the line
    begins anew then.
    """
    step, end = interval_ms(rate), now_ms + longest_ms
    soonest = max(paused_ms, free_ms(known, now_ms, rate) - PATIENCE_MS, now_ms)
    start = max(known.urgent_ms if urgent else known.line_ms, soonest)
    if start >= end:
        start = soonest
    line_ms = start + count * step
    line = {"urgent_ms": line_ms} if urgent else {"line_ms": line_ms}
    return msgspec.structs.replace(known, **line), Slots(start, min(step, max(0.0, end - start) / count), count)
