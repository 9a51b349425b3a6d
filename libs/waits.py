"""What a message in `due` can wait for (R9): one table for those who hold, those who wake and those who explain.

Besides these a message waits for its next attempt: `retry:<class>` (`libs.retry`).
"""

from typing import Literal

import msgspec

Hold = Literal[
    "scheduled",
    "quiet_hours",
    "ad_night",
    "frequency_cap",
    "emergency_stop",
    "breaker",
    "rate_limit",
    "provider_slow",
]


TURN = "turn"
"""What a message waits for before it goes to the pipeline: a place in the window of its application and lane (R11). It
is not in `due` then."""


class Wait(msgspec.Struct, frozen=True):
    open_ended: bool = False
    """Ends when somebody ends it, not at a time: its rows name the channel, `<hold>:<channel>`."""
    ages: bool = False
    """The time counts towards the ttl: it could be sent, if its provider and the tenant's rate allowed it."""


WAITS: dict[Hold, Wait] = {
    "scheduled": Wait(),
    "quiet_hours": Wait(),
    "ad_night": Wait(),
    "frequency_cap": Wait(),
    "emergency_stop": Wait(open_ended=True),
    "breaker": Wait(open_ended=True, ages=True),
    "rate_limit": Wait(ages=True),
    "provider_slow": Wait(ages=True),
}
_BY_NAME: dict[str, Wait] = dict(WAITS.items())


def due_reason(hold: Hold, channel: str) -> str:
    """Of the row in `due`."""
    return f"{hold}:{channel}" if WAITS[hold].open_ended else hold


def wait_of(reason: str) -> Wait | None:
    """What a row's reason says; None: its message waits for a retry, which is an attempt like any other."""
    return _BY_NAME.get(reason.partition(":")[0])


def hold_of(reason: str | None) -> Hold | None:
    """The hold that a `held` event or a row in `due` names."""
    name = (reason or "").partition(":")[0]
    return next((hold for hold in WAITS if hold == name), None)
