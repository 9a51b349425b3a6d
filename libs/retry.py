"""THE RETRY POLICY: a pure function over a visible table (DECISIONS, "Message lifecycle").

Each class counts its own attempts. A provider in trouble resets connections, answers 503 and then throttles: counted
all together, the class with the fewest attempts would end a message that another class lets wait for hours. So a
message makes at most as many calls as the classes that it met allow together, and never outlives its ttl. Waits that
are no failures (`libs.waits`) count nowhere; a resend by hand begins anew.
"""

from typing import Literal

import msgspec

from libs.envelope import Lane

RetryClass = Literal["network", "outage", "throttled", "credentials"]
MINUTE = 60.0


class Schedule(msgspec.Struct, frozen=True):
    delays: tuple[float, ...]
    """Seconds after the first, the second, … of them; the last delay repeats."""
    attempts: int | None
    """Calls that may end in this class, the first included; None: until the message expires."""
    jitter: float = 0.2
    """Each delay is spread by this part of itself, both ways."""


TABLE: dict[RetryClass, Schedule] = {
    "network": Schedule((30.0, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE), 5),
    "outage": Schedule((15 * MINUTE,), 24),
    "throttled": Schedule((MINUTE, 5 * MINUTE), 3),
    "credentials": Schedule((MINUTE, 5 * MINUTE), None),
}
CRITICAL_OUTAGE = Schedule((30.0, 2 * MINUTE, 5 * MINUTE), 24)
"""A one-time password after 15 minutes is useless."""


def schedule_for(retry_class: RetryClass, lane: Lane) -> Schedule:
    return CRITICAL_OUTAGE if retry_class == "outage" and lane == "critical" else TABLE[retry_class]


def waits_for(retry_class: RetryClass) -> str:
    """The reason of a row in `due` whose message waits for its next attempt after such a failure."""
    return f"retry:{retry_class}"


def next_delay(
    retry_class: RetryClass,
    attempt: int,
    lane: Lane,
    *,
    retry_after: float | None = None,
    spread: float = 0.0,
    scale: float = 1.0,
) -> float | None:
    """Seconds from now to the next attempt, after the `attempt`th that ended in this class; None when none is left.

    `spread` in [-1, 1] is the caller's random number; `retry_after` is a floor that jitter only ever lengthens.
    """
    schedule = schedule_for(retry_class, lane)
    if schedule.attempts is not None and attempt >= schedule.attempts:
        return None
    delay = schedule.delays[min(attempt, len(schedule.delays)) - 1]
    floor = retry_after or 0.0
    if floor >= delay:
        return floor * (1 + schedule.jitter * abs(spread))
    return max(floor, delay * (1 + schedule.jitter * spread) * scale)
