"""Hours at which a message may not go out: the law's night for ads, then quiet hours. Pure."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from libs.envelope import Accepted, Closing, Lane
from libs.errors import ServiceUnavailable
from libs.localtime import Zone, next_local, quiet_until, zone_of
from libs.policy import Action, Policy
from libs.rpc import Recipient

from .ads import NIGHT, rule_of
from .decide import Refusal, held_until

NO_HOURS = "no_open_hours"
_NEVER_MS = 2 * 86_400_000
"""Every window is over within a day: what they hold for two, one after the other, they hold for ever."""
_until = lru_cache(maxsize=1_024)(quiet_until)  # within an envelope many ask the same
_next = lru_cache(maxsize=1_024)(next_local)


class Window(NamedTuple):
    """From `start` until `end` of the recipient's time."""

    reason: Literal["quiet_hours", "ad_night"]
    rule: Literal["law", "subscription", "application"]
    start: str
    end: str
    action: Action


def not_now(
    item: Accepted, recipient: Recipient, channel: str, policy: Policy, lane: Lane, now_ms: int
) -> Refusal | None:
    """None: the hour is right. The first window that is open is the reason; after its end the next one is looked at.

    What no hour of the day is left for fails: it would wait from one window to the next, and never expire.
    Raises `ServiceUnavailable` where `now_ms` is 0: nobody's hour is guessed by a clock that nobody has checked.
    """
    zone = _zone(item, recipient, policy)
    if zone is None:
        return None
    concerned = list(windows(item, recipient, channel, policy, lane, zone))
    if concerned and now_ms == 0:
        raise ServiceUnavailable(service="lifecycle", retry_after=1)
    found = _open(concerned, zone, now_ms)
    if found is None:
        return None
    window, until_ms = found
    if len(concerned) > 1 and _is_never_over(concerned, zone, now_ms):
        return Refusal("failed", NO_HOURS, _inputs(concerned[-1], zone))
    return _refusal(window, zone, until_ms)


def closing(
    item: Accepted, recipient: Recipient, channel: str, policy: Policy, lane: Lane, now_ms: int
) -> Closing | None:
    """Until when it may be sent, for whom the hour is right now: a sender may come to it later. None: at any hour."""
    zone = _zone(item, recipient, policy)
    if zone is None:
        return None
    concerned = windows(item, recipient, channel, policy, lane, zone)
    following = (_closing(window, zone, now_ms) for window in concerned if window.action == "hold")
    return min((each for each in following if each is not None), key=lambda each: each.at_ms, default=None)


def _zone(item: Accepted, recipient: Recipient, policy: Policy) -> Zone | None:
    """By which its hours are judged. None: no window can concern it, so that nobody need look for its zone."""
    if item.category != "ad" and policy.quiet_hours is None and recipient.quiet_hours is None:
        return None
    return zone_of(recipient.timezone, recipient.country, policy.timezone)


def _closing(window: Window, zone: Zone, now_ms: int) -> Closing | None:
    at_ms = _next(window.start, zone, now_ms)
    until_ms = _until(window.start, window.end, zone, at_ms)
    if until_ms is None:  # the clock leaves the whole window out
        return None
    return Closing(at_ms, window.reason, until_ms, {**_inputs(window, zone), "until_ms": until_ms})


def _open(concerned: Sequence[Window], zone: Zone, now_ms: int) -> tuple[Window, int] | None:
    """The first that is open, and when it ends."""
    for window in concerned:
        until_ms = _until(window.start, window.end, zone, now_ms)
        if until_ms is not None:
            return window, until_ms
    return None


def _is_never_over(concerned: Sequence[Window], zone: Zone, now_ms: int) -> bool:
    """Whether the end of each window lies in another that holds."""
    until_ms = now_ms
    while until_ms < now_ms + _NEVER_MS:
        found = _open(concerned, zone, until_ms)
        if found is None or found[0].action == "drop":
            return False
        until_ms = found[1]
    return True


def windows(
    item: Accepted, recipient: Recipient, channel: str, policy: Policy, lane: Lane, zone: Zone
) -> Iterator[Window]:
    """Those that concern this message, in the order in which they are asked. Only the law's concerns the critical
    lane: an ad that is in a hurry is still an ad."""
    if item.category == "ad" and not recipient.night_consent and rule_of(channel, recipient, zone).night:
        yield Window("ad_night", "law", *NIGHT, "hold")
    if lane == "critical":
        return
    own = recipient.quiet_hours
    quiet = policy.quiet_hours if own is None else own
    if quiet is not None and item.category in quiet.categories:
        yield Window(
            "quiet_hours", "application" if own is None else "subscription", quiet.start, quiet.end, quiet.action
        )


def _refusal(window: Window, zone: Zone, until_ms: int) -> Refusal:
    data = {**_inputs(window, zone), "until_ms": until_ms}
    if window.action == "drop":
        return Refusal("failed", window.reason, data)
    return held_until(window.reason, until_ms, data)


def _inputs(window: Window, zone: Zone) -> dict[str, Any]:
    return {
        "timezone": zone.name,
        "timezone_from": zone.source,
        "start": window.start,
        "end": window.end,
        "rule": window.rule,
    }
