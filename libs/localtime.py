"""The recipient's time: which zone is theirs, when their clock will show a time, and whether it is quiet there now.

Pure, with the time given. Zones and countries are those of the tz database (IANA), as the package `tzdata` has it.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

ZoneSource = Literal["subscription", "country", "application", "utc"]

_PRINCIPAL = {
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "FM": "Pacific/Pohnpei",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
    "UZ": "Asia/Tashkent",
}
"""Zones that most people of a country, or its capital, live in. Of other countries with several, zone.tab names that
one first."""
_DAY = timedelta(days=1)


class Zone(NamedTuple):
    name: str
    """IANA, such as `Asia/Seoul`."""
    source: ZoneSource


def zone_of(timezone: str | None, country: str | None, default: str | None) -> Zone:
    """The first that is known: the subscription's own zone, its country's principal one, the application's, UTC."""
    if timezone is not None and is_zone(timezone):
        return Zone(timezone, "subscription")
    of_country = _principal_zones().get((country or "").upper())
    if of_country is not None:
        return Zone(of_country, "country")
    if default is not None and is_zone(default):
        return Zone(default, "application")
    return Zone("UTC", "utc")


def is_zone(name: str) -> bool:
    return name in _names()


def next_local(clock_time: str, zone: Zone, not_before_ms: int) -> int:
    """The next moment, in Unix milliseconds, at which the clock on the wall there shows `HH:MM`.

    Once a day: of a time that the clock shows twice the first counts; one that it leaves out (DST) counts as the moment
    after the gap.
    """
    tz, shown = _load(zone.name), time.fromisoformat(clock_time)
    moments = (_first(day, shown, tz) for day in _days(not_before_ms, tz, count=4))
    return next(moment for moment in moments if moment >= not_before_ms)


def quiet_until(start: str, end: str, zone: Zone, now_ms: int) -> int | None:
    """Where now is from `start` (included) until `end` (not included) there: when that ends, in Unix milliseconds.

    Over midnight where `end` is the smaller; never where they are the same. Of a time that the clock shows twice the
    window opens with the first and closes with the second: it is quiet whenever the clock says so.
    """
    tz, opening, closing = _load(zone.name), time.fromisoformat(start), time.fromisoformat(end)
    if opening == closing:
        return None
    for day in _days(now_ms, tz, count=2):
        last_day = day if opening < closing else day + _DAY
        until_ms = _last(last_day, closing, tz)
        if _first(day, opening, tz) <= now_ms < until_ms:
            return until_ms
    return None


def local_text(moment_ms: int, zone: Zone) -> str:
    """As a calendar and a clock there show it: `2026-07-01 09:00`, with its seconds where there are any."""
    shown = _at(moment_ms, _load(zone.name))
    return f"{shown:%Y-%m-%d %H:%M:%S}" if shown.second else f"{shown:%Y-%m-%d %H:%M}"


def _at(moment_ms: int, tz: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(moment_ms // 1000, tz)


def _days(moment_ms: int, tz: ZoneInfo, count: int) -> Iterator[date]:
    """From the day before: its night may last, and a gap over midnight moves its times into the day."""
    yesterday = _at(moment_ms, tz).date() - _DAY
    return (yesterday + _DAY * number for number in range(count))


def _first(day: date, shown: time, tz: ZoneInfo) -> int:
    return _moment_ms(datetime.combine(day, shown, tz))


def _last(day: date, shown: time, tz: ZoneInfo) -> int:
    wall = datetime.combine(day, shown, tz)
    return _moment_ms(wall if _skipped(wall) else wall.replace(fold=1))


def _moment_ms(wall: datetime) -> int:
    moment = _gap_end(wall) if _skipped(wall) else wall.timestamp()
    return int(moment) * 1000


def _skipped(wall: datetime) -> bool:
    """PEP 495: in a gap the offset before it is the smaller one, in a fold the greater."""
    return _offset(wall) < _offset(wall.replace(fold=1))


def _offset(wall: datetime) -> timedelta:
    return wall.utcoffset() or timedelta(0)


def _gap_end(wall: datetime) -> int:
    """The second at which the offset changes: halved out, because zoneinfo does not tell it."""
    tz, after = wall.tzinfo, _offset(wall.replace(fold=1))
    low, high = int(wall.replace(fold=1).timestamp()), int(wall.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(datetime.fromtimestamp(middle, tz)) == after else (middle, high)
    return high


@cache
def _load(name: str) -> ZoneInfo:
    """`ZoneInfo` itself remembers eight. Only names of zones come here: there are some six hundred."""
    return ZoneInfo(name)


@cache
def _names() -> frozenset[str]:
    listed = files("tzdata").joinpath("zones").read_text().split()
    return frozenset(listed) - {"Factory"}


@cache
def _principal_zones() -> dict[str, str]:
    """By ISO 3166 code."""
    found: dict[str, str] = {}
    for line in files("tzdata").joinpath("zoneinfo", "zone.tab").read_text().splitlines():
        if line and not line.startswith("#"):
            country, _, name = line.split("\t")[:3]
            found.setdefault(country, name)
    return found | _PRINCIPAL
