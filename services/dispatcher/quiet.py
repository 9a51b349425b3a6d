"""Hours at which a message may not go out: the law's night for ads, then quiet hours. Pure."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from libs.envelope import Accepted, Lane
from libs.errors import ServiceUnavailable
from libs.localtime import Zone, quiet_until, zone_of
from libs.policy import Action, Policy
from libs.rpc import Recipient
from libs.waits import Hold

from .ads import NIGHT, rule_of
from .decide import Refusal, held_until

_until = lru_cache(maxsize=1_024)(quiet_until)  # within an envelope many ask the same


class Window(NamedTuple):
    """From `start` until `end` of the recipient's time."""

    reason: Hold
    rule: Literal["law", "subscription", "application"]
    start: str
    end: str
    action: Action


def not_now(
    item: Accepted, recipient: Recipient, channel: str, policy: Policy, lane: Lane, now_ms: int
) -> Refusal | None:
    """None: the hour is right. The first window that is open is the reason; after its end the next one is looked at.

    Raises `ServiceUnavailable` where `now_ms` is 0: nobody's hour is guessed by a clock that nobody has checked.
    """
    if item.category != "ad" and policy.quiet_hours is None and recipient.quiet_hours is None:
        return None
    zone = zone_of(recipient.timezone, recipient.country, policy.timezone)
    for window in windows(item, recipient, channel, policy, lane, zone):
        if now_ms == 0:
            raise ServiceUnavailable(service="lifecycle", retry_after=1)
        until_ms = _until(window.start, window.end, zone, now_ms)
        if until_ms is not None:
            return _refusal(window, zone, until_ms)
    return None


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
    data: dict[str, Any] = {
        "timezone": zone.name,
        "timezone_from": zone.source,
        "start": window.start,
        "end": window.end,
        "until_ms": until_ms,
        "rule": window.rule,
    }
    if window.action == "drop":
        return Refusal("failed", window.reason, data)
    return held_until(window.reason, until_ms, data)
