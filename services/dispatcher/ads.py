"""Advertising in Korea: the mark on it, and the night in which it needs a consent of its own. Pure.

Source: Act on Promotion of Information and Communications Network Utilization, Article 50; PROVIDERS §5.
"""

from typing import NamedTuple

from libs.envelope import Content
from libs.localtime import Zone, zone_of
from libs.push import marked
from libs.rpc import Recipient

NIGHT = ("21:00", "08:00")
"""Of the recipient's time; the end itself is day again."""


class AdRule(NamedTuple):
    mark: bool
    night: bool
    """Held in the night, but for those who agreed to ads at night too."""


IN_KOREA: dict[str, AdRule] = {
    "apns": AdRule(mark=True, night=True),
    "fcm": AdRule(mark=True, night=True),
}
"""By sender channel. SMS and Kakao are as push; e-mail carries the mark (in its subject), and has no night."""
_ELSEWHERE = AdRule(mark=False, night=False)
_COUNTRY = "KR"
_ZONES = frozenset({"Asia/Seoul", "ROK"})


def rule_of(channel: str, recipient: Recipient, zone: Zone) -> AdRule:
    return IN_KOREA[channel] if _is_in_korea(recipient, zone) else _ELSEWHERE


def as_law_asks(content: Content, channel: str, recipient: Recipient, default_zone: str | None) -> Content:
    """An ad as this person may be shown it. `default_zone`: the application's."""
    zone = zone_of(recipient.timezone, recipient.country, default_zone)
    return marked(content) if rule_of(channel, recipient, zone).mark else content


def _is_in_korea(recipient: Recipient, zone: Zone) -> bool:
    return recipient.country == _COUNTRY if recipient.country else zone.name in _ZONES
