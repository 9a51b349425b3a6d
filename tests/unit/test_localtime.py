"""Whose time zone counts, when a clock there shows a time, and until when it is quiet: over gaps and folds of DST."""

from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.localtime import Zone, is_zone, local_text, next_local, quiet_until, zone_of

ZONES = [
    "Asia/Seoul",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",  # DST of half an hour
    "America/Asuncion",
    "Africa/Cairo",  # the clock goes forward at midnight
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Europe/Dublin",
    "Africa/Casablanca",
    "UTC",
]
zones = st.sampled_from(ZONES).map(lambda name: Zone(name, "subscription"))
clock_times = st.times().map(lambda shown: f"{shown:%H:%M}")
moments = st.integers(1_700_000_000_000, 1_900_000_000_000)
NEW_YORK, LORD_HOWE = Zone("America/New_York", "country"), Zone("Australia/Lord_Howe", "country")
SEOUL, CAIRO = Zone("Asia/Seoul", "country"), Zone("Africa/Cairo", "country")
MINUTE, DAY = 60_000, 86_400_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def wall(moment_ms: int, zone: Zone) -> datetime:
    return datetime.fromtimestamp(moment_ms / 1000, ZoneInfo(zone.name)).replace(tzinfo=None)


def before(moment_ms: int, zone: Zone) -> datetime:
    return wall(moment_ms - 1, zone)


class TestZone:
    @pytest.mark.parametrize(
        ("own", "country", "default", "found"),
        [
            ("America/New_York", "KR", "Europe/Paris", ("America/New_York", "subscription")),
            (None, "KR", "Europe/Paris", ("Asia/Seoul", "country")),
            ("Middle/Earth", "kr", None, ("Asia/Seoul", "country")),
            (None, None, "Europe/Paris", ("Europe/Paris", "application")),
            ("", "", "", ("UTC", "utc")),
            ("GMT+25", "ZZ", "nowhere", ("UTC", "utc")),
            (None, None, None, ("UTC", "utc")),
            ("America", "XX", "../etc/passwd", ("UTC", "utc")),  # a folder, and a way out
            ("Asia/Seoul\0", "K\0R", "/Asia/Seoul", ("UTC", "utc")),
            ("Factory", None, None, ("UTC", "utc")),
            ("UTC", "KR", None, ("UTC", "subscription")),
        ],
    )
    def test_the_first_that_is_known_counts(
        self, own: str | None, country: str | None, default: str | None, found: tuple[str, str]
    ) -> None:
        assert zone_of(own, country, default) == found

    @pytest.mark.parametrize(
        ("country", "zone"),
        [
            ("AU", "Australia/Sydney"),
            ("BR", "America/Sao_Paulo"),
            ("CA", "America/Toronto"),
            ("CD", "Africa/Kinshasa"),
            ("CL", "America/Santiago"),
            ("CN", "Asia/Shanghai"),
            ("CY", "Asia/Nicosia"),
            ("DE", "Europe/Berlin"),
            ("EC", "America/Guayaquil"),
            ("ES", "Europe/Madrid"),
            ("GB", "Europe/London"),
            ("ID", "Asia/Jakarta"),
            ("JP", "Asia/Tokyo"),
            ("KZ", "Asia/Almaty"),
            ("MN", "Asia/Ulaanbaatar"),
            ("MX", "America/Mexico_City"),
            ("MY", "Asia/Kuala_Lumpur"),
            ("NZ", "Pacific/Auckland"),
            ("PT", "Europe/Lisbon"),
            ("RU", "Europe/Moscow"),
            ("UA", "Europe/Kyiv"),
            ("US", "America/New_York"),
            ("UZ", "Asia/Tashkent"),
        ],
    )
    def test_a_country_has_the_zone_of_most_of_its_people(self, country: str, zone: str) -> None:
        assert zone_of(None, country, None) == (zone, "country")

    def test_every_country_and_every_zone_can_be_used(self) -> None:
        codes = files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text().splitlines()
        countries = [line[:2] for line in codes if line and not line.startswith("#")]
        assert len(countries) > 200
        uninhabited = {"BV", "HM"}
        for country in countries:
            zone = zone_of(None, country, None)
            assert zone.source == ("utc" if country in uninhabited else "country"), country
            assert is_zone(zone.name)
            next_local("09:00", zone, 1_800_000_000_000)

    @given(own=st.text(max_size=30), country=st.text(max_size=3), default=st.none() | st.text(max_size=30))
    def test_whatever_a_device_says_there_is_a_zone(self, own: str, country: str, default: str | None) -> None:
        ZoneInfo(zone_of(own, country, default).name)


class TestNextLocal:
    @pytest.mark.parametrize(
        ("shown", "zone", "not_before", "at"),
        [
            ("09:00", SEOUL, "2026-07-01T08:59:59.999+09:00", "2026-07-01T09:00+09:00"),
            ("09:00", SEOUL, "2026-07-01T09:00+09:00", "2026-07-01T09:00+09:00"),
            ("09:00", SEOUL, "2026-07-01T09:00:00.001+09:00", "2026-07-02T09:00+09:00"),
            ("00:00", SEOUL, "2026-12-31T23:00+09:00", "2027-01-01T00:00+09:00"),
            ("02:30", NEW_YORK, "2026-03-08T00:00-05:00", "2026-03-08T03:00-04:00"),  # left out: after the gap
            ("02:00", NEW_YORK, "2026-03-08T00:00-05:00", "2026-03-08T03:00-04:00"),
            ("03:00", NEW_YORK, "2026-03-08T00:00-05:00", "2026-03-08T03:00-04:00"),
            ("02:30", NEW_YORK, "2026-03-08T03:00-04:00", "2026-03-08T03:00-04:00"),
            ("02:30", NEW_YORK, "2026-03-08T03:00:01-04:00", "2026-03-09T02:30-04:00"),
            ("01:30", NEW_YORK, "2026-11-01T00:00-04:00", "2026-11-01T01:30-04:00"),  # shown twice: the first
            ("01:30", NEW_YORK, "2026-11-01T01:31-04:00", "2026-11-02T01:30-05:00"),
            ("02:15", LORD_HOWE, "2026-10-04T00:00+10:30", "2026-10-04T02:30+11:00"),
            ("01:45", LORD_HOWE, "2026-04-05T00:00+11:00", "2026-04-05T01:45+11:00"),
            ("00:30", CAIRO, "2026-04-23T22:00+02:00", "2026-04-24T01:00+03:00"),  # the gap opens the day
            ("23:30", CAIRO, "2026-10-29T23:45+03:00", "2026-10-30T23:30+02:00"),  # the fold closes it
        ],
    )
    def test_examples(self, shown: str, zone: Zone, not_before: str, at: str) -> None:
        assert next_local(shown, zone, ms(not_before)) == ms(at)

    @given(shown=clock_times, zone=zones, now_ms=moments)
    @example("02:30", NEW_YORK, ms("2026-03-08T01:59:59-05:00"))
    @example("02:15", LORD_HOWE, ms("2026-10-04T01:59:59+10:30"))
    def test_is_the_next_moment_of_that_time(self, shown: str, zone: Zone, now_ms: int) -> None:
        at = next_local(shown, zone, now_ms)
        assert now_ms <= at <= now_ms + DAY + 3 * 3_600_000
        wanted, found = time.fromisoformat(shown), wall(at, zone)
        if found.time() != wanted:  # just after a gap in which the time lies
            assert (
                before(at, zone).time().replace(microsecond=0) < wanted < found.time()
                or before(at, zone).date() < found.date()
            )

    @given(shown=clock_times, zone=zones, now_ms=moments)
    def test_is_reached_once_a_day(self, shown: str, zone: Zone, now_ms: int) -> None:
        first = next_local(shown, zone, now_ms)
        assert next_local(shown, zone, first) == first
        second = next_local(shown, zone, first + 1)
        assert wall(second, zone).date() - wall(first, zone).date() == timedelta(days=1)

    @given(shown=clock_times, zone=zones, now_ms=moments)
    def test_no_such_moment_is_passed_over(self, shown: str, zone: Zone, now_ms: int) -> None:
        at = next_local(shown, zone, now_ms)
        today, tz = wall(now_ms, zone).date(), ZoneInfo(zone.name)
        moment = datetime.combine(today, time.fromisoformat(shown), tz).timestamp() * 1000
        exists = wall(int(moment), zone) == datetime.combine(today, time.fromisoformat(shown))
        if exists and moment >= now_ms:
            assert at == moment


class TestQuietUntil:
    @pytest.mark.parametrize(
        ("start", "end", "zone", "now", "until"),
        [
            ("21:00", "08:00", SEOUL, "2026-07-01T20:59:59.999+09:00", None),
            ("21:00", "08:00", SEOUL, "2026-07-01T21:00+09:00", "2026-07-02T08:00+09:00"),
            ("21:00", "08:00", SEOUL, "2026-07-02T07:59:59.999+09:00", "2026-07-02T08:00+09:00"),
            ("21:00", "08:00", SEOUL, "2026-07-02T08:00+09:00", None),
            ("12:00", "13:00", SEOUL, "2026-07-01T12:30+09:00", "2026-07-01T13:00+09:00"),
            ("12:00", "13:00", SEOUL, "2026-07-01T13:00+09:00", None),
            ("09:00", "09:00", SEOUL, "2026-07-01T09:00+09:00", None),
            ("00:00", "23:59", SEOUL, "2026-07-01T23:59+09:00", None),
            ("21:00", "08:00", NEW_YORK, "2026-10-31T22:00-04:00", "2026-11-01T08:00-05:00"),
            ("22:00", "02:30", NEW_YORK, "2026-03-08T01:00-05:00", "2026-03-08T03:00-04:00"),
            ("02:15", "02:45", NEW_YORK, "2026-03-08T03:00-04:00", None),  # never shown on that day
            ("22:00", "01:30", NEW_YORK, "2026-11-01T01:15-05:00", "2026-11-01T01:30-05:00"),  # shown twice: the second
            ("01:30", "03:00", NEW_YORK, "2026-11-01T01:15-05:00", "2026-11-01T03:00-05:00"),  # opened with the first
            ("01:45", "02:15", LORD_HOWE, "2026-10-04T01:50+10:30", "2026-10-04T02:30+11:00"),
        ],
    )
    def test_examples(self, start: str, end: str, zone: Zone, now: str, until: str | None) -> None:
        assert quiet_until(start, end, zone, ms(now)) == (None if until is None else ms(until))

    @given(start=clock_times, end=clock_times, zone=zones, now_ms=moments)
    @example("22:00", "01:30", NEW_YORK, ms("2026-11-01T01:15:00-05:00"))
    def test_whenever_the_clock_says_so(self, start: str, end: str, zone: Zone, now_ms: int) -> None:
        shown = f"{wall(now_ms, zone):%H:%M}"
        says_so = start <= shown < end if start <= end else shown >= start or shown < end
        until = quiet_until(start, end, zone, now_ms)
        if says_so:
            assert until is not None
        if until is not None:
            assert now_ms < until <= now_ms + DAY + 3 * 3_600_000

    @given(start=clock_times, end=clock_times, zone=zones, now_ms=moments)
    def test_it_is_over_at_its_end(self, start: str, end: str, zone: Zone, now_ms: int) -> None:
        until = quiet_until(start, end, zone, now_ms)
        if until is not None:
            assert quiet_until(start, end, zone, until - 1) == until
            gap = wall(until, zone) - before(until, zone) > timedelta(seconds=1)
            assert gap or quiet_until(start, end, zone, until) is None


def test_a_moment_is_written_as_the_clock_there_shows_it() -> None:
    assert local_text(ms("2026-07-01T00:00Z"), SEOUL) == "2026-07-01 09:00"
    assert local_text(ms("2026-07-01T00:00:05.999Z"), SEOUL) == "2026-07-01 09:00:05"


def test_a_day_that_a_country_left_out_is_passed() -> None:
    """Samoa had no 30 December 2011."""
    apia = Zone("Pacific/Apia", "country")
    at = next_local("09:00", apia, ms("2011-12-29T20:00-10:00"))
    assert at == ms("2011-12-31T00:00+14:00")
    assert wall(next_local("09:00", apia, at + 1), apia) == datetime(2011, 12, 31, 9, 0)  # noqa: DTZ001 - of a wall
    assert date(2011, 12, 30) not in {wall(at + hour * 3_600_000, apia).date() for hour in range(-48, 48)}
    assert datetime.fromtimestamp(at / 1000, UTC).hour == 10
