"""Hours at which a message may not go out: quiet hours, and the night for ads to Korea."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from libs.envelope import Accepted, Closing, Lane
from libs.errors import ServiceUnavailable
from libs.policy import Policy, QuietHours
from libs.rpc import Recipient
from services.dispatcher.decide import Refusal, refused
from services.dispatcher.quiet import closing, not_now

INFO = Accepted("m", "s", 2, b"sealed", 2**52)
AD = msgspec.structs.replace(INFO, category="ad")
NIGHT = QuietHours("22:00", "07:00")
NO_RULES = Policy()
SOMEBODY = Recipient("s", "iOSPush", 1, b"", "token", 7, 0, False, b"k", None, True)
KOREAN = msgspec.structs.replace(SOMEBODY, country="KR")


def at(moment: str) -> int:
    """Unix milliseconds of `2026-07-01T21:00+09:00`."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def asked(
    item: Accepted,
    moment: str,
    policy: Policy = NO_RULES,
    *,
    lane: Lane = "normal",
    to: Recipient = SOMEBODY,
    **to_be: Any,
) -> Refusal | None:
    return not_now(item, msgspec.structs.replace(to, **to_be), "apns", policy, lane, at(moment))


def until(refusal: Refusal | None) -> int | None:
    return None if refusal is None else refusal.hold_until_ms


# quiet hours ----------------------------------------------------------------------------------------------------------


def test_without_rules_every_hour_is_right_even_one_that_nobody_knows() -> None:
    assert not_now(INFO, SOMEBODY, "apns", Policy(), "normal", 0) is None


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-07-01T21:59:59.999Z", False),
        ("2026-07-01T22:00:00Z", True),
        ("2026-07-02T00:00:00Z", True),
        ("2026-07-02T06:59:59.999Z", True),
        ("2026-07-02T07:00:00Z", False),
    ],
)
def test_the_window_begins_with_its_start_and_is_over_at_its_end(moment: str, quiet: bool) -> None:
    expected = at("2026-07-02T07:00:00Z") if quiet else None
    assert until(asked(INFO, moment, Policy(quiet_hours=NIGHT))) == expected


def test_a_held_message_says_which_rule_zone_and_window_held_it() -> None:
    refusal = asked(INFO, "2026-07-01T23:30:00+09:00", Policy("Asia/Seoul", NIGHT))
    assert refusal is not None
    end = at("2026-07-02T07:00:00+09:00")
    fact = refused(INFO, refusal, 5)
    assert (fact.kind, fact.reason, fact.attempt, fact.key) == ("held", "quiet_hours", 2, f"quiet_hours:{end}")
    assert (fact.hold_until_ms, fact.occurred_at_ms) == (end, 5)
    assert fact.data == {
        "timezone": "Asia/Seoul",
        "timezone_from": "application",
        "start": "22:00",
        "end": "07:00",
        "until_ms": end,
        "rule": "application",
    }


def test_each_night_is_a_holding_of_its_own() -> None:
    nights = [asked(INFO, f"2026-07-0{day}T23:00:00Z", Policy(quiet_hours=NIGHT)) for day in (1, 2)]
    assert len({refused(INFO, night, 0).key for night in nights if night is not None}) == 2


@pytest.mark.parametrize(
    ("timezone", "country", "zone", "source"),
    [
        ("Asia/Tokyo", "KR", "Asia/Tokyo", "subscription"),
        ("no such place", "KR", "Asia/Seoul", "country"),
        (None, "KR", "Asia/Seoul", "country"),
        (None, None, "Asia/Seoul", "application"),
    ],
)
def test_the_hour_is_the_recipients(timezone: str | None, country: str | None, zone: str, source: str) -> None:
    policy = Policy("Asia/Seoul", NIGHT)
    refusal = asked(INFO, "2026-07-01T23:30:00+09:00", policy, timezone=timezone, country=country)
    assert refusal is not None
    assert (refusal.data["timezone"], refusal.data["timezone_from"]) == (zone, source)


def test_one_moment_is_night_here_and_day_there() -> None:
    policy = Policy(quiet_hours=NIGHT)
    assert asked(INFO, "2026-07-01T23:30:00+09:00", policy, timezone="Asia/Seoul") is not None
    assert asked(INFO, "2026-07-01T23:30:00+09:00", policy, timezone="America/New_York") is None


def test_their_own_window_stands_in_place_of_the_applications() -> None:
    own, policy = QuietHours("12:00", "13:00"), Policy(quiet_hours=NIGHT)
    noon = asked(INFO, "2026-07-01T12:30:00Z", policy, quiet_hours=own)
    assert noon is not None
    assert (noon.data["rule"], noon.hold_until_ms) == ("subscription", at("2026-07-01T13:00:00Z"))
    assert asked(INFO, "2026-07-01T23:00:00Z", policy, quiet_hours=own) is None


@pytest.mark.parametrize(
    ("categories", "quiet"), [(("info",), {"info"}), (("ad",), {"ad"}), (("info", "ad"), {"info", "ad"})]
)
def test_only_the_categories_it_names_are_concerned(categories: Any, quiet: set[str]) -> None:
    policy = Policy(quiet_hours=QuietHours("22:00", "07:00", categories=categories))
    found = {item.category for item in (INFO, AD) if asked(item, "2026-07-01T23:00:00Z", policy) is not None}
    assert found == quiet


def test_a_message_may_be_dropped_instead_with_the_same_inputs() -> None:
    policy = Policy(quiet_hours=QuietHours("22:00", "07:00", action="drop"))
    held = asked(INFO, "2026-07-01T23:00:00Z", Policy(quiet_hours=NIGHT))
    dropped = asked(INFO, "2026-07-01T23:00:00Z", policy)
    assert held is not None
    assert dropped is not None
    fact = refused(INFO, dropped, 0)
    assert (fact.kind, fact.reason, fact.key) == ("failed", "quiet_hours", "dispatch:quiet_hours")
    assert (fact.hold_until_ms, fact.data) == (None, held.data)


def test_what_is_critical_passes() -> None:
    assert asked(INFO, "2026-07-01T23:00:00Z", Policy(quiet_hours=NIGHT), lane="critical") is None
    assert asked(INFO, "2026-07-01T23:00:00Z", Policy(quiet_hours=NIGHT), lane="bulk") is not None


def test_a_window_that_ends_past_the_deadline_holds_nevertheless() -> None:
    """Waiting does not count towards the ttl."""
    hasty = msgspec.structs.replace(INFO, deadline_ms=at("2026-07-01T23:01:00Z"))
    assert until(asked(hasty, "2026-07-01T23:00:00Z", Policy(quiet_hours=NIGHT))) == at("2026-07-02T07:00:00Z")


@pytest.mark.parametrize(
    ("window", "moment", "end"),
    [
        # 02:00 becomes 03:00 on 29 March: there is no 02:30, and the window ends with the gap.
        (("22:00", "02:30"), "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"),
        (("22:00", "02:30"), "2026-03-29T03:00:00+02:00", None),
        (("22:00", "07:00"), "2026-03-28T23:00:00+01:00", "2026-03-29T07:00:00+02:00"),
        # 03:00 becomes 02:00 on 25 October: 02:30 comes twice, and the second one ends the window.
        (("22:00", "02:30"), "2026-10-25T02:45:00+02:00", "2026-10-25T02:30:00+01:00"),
        (("22:00", "02:30"), "2026-10-25T02:30:00+01:00", None),
        (("22:00", "07:00"), "2026-10-24T23:00:00+02:00", "2026-10-25T07:00:00+01:00"),
    ],
)
def test_clocks_that_change_in_the_night_are_followed(window: tuple[str, str], moment: str, end: str | None) -> None:
    found = asked(INFO, moment, Policy(quiet_hours=QuietHours(*window)), timezone="Europe/Berlin")
    assert until(found) == (None if end is None else at(end))


@pytest.mark.parametrize(
    ("item", "to", "policy"), [(INFO, SOMEBODY, Policy(quiet_hours=NIGHT)), (AD, KOREAN, Policy())]
)
def test_a_clock_that_nobody_has_checked_decides_no_hour(item: Accepted, to: Recipient, policy: Policy) -> None:
    with pytest.raises(ServiceUnavailable):
        not_now(item, to, "apns", policy, "normal", 0)


# the law's night ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-07-01T20:59:59.999+09:00", None),
        ("2026-07-01T21:00:00+09:00", "2026-07-02T08:00:00+09:00"),
        ("2026-07-02T07:59:59.999+09:00", "2026-07-02T08:00:00+09:00"),
        ("2026-07-02T08:00:00+09:00", None),
    ],
)
@pytest.mark.parametrize("channel", ["apns", "fcm"])
def test_ads_to_korea_wait_from_21_until_8(channel: str, moment: str, end: str | None) -> None:
    found = not_now(AD, KOREAN, channel, Policy(), "normal", at(moment))
    assert until(found) == (None if end is None else at(end))


def test_an_ad_that_waits_names_the_law() -> None:
    refusal = asked(AD, "2026-07-01T22:00:00+09:00", to=KOREAN)
    assert refusal is not None
    end = at("2026-07-02T08:00:00+09:00")
    assert (refusal.kind, refusal.reason, refusal.key) == ("held", "ad_night", f"ad_night:{end}")
    assert refusal.data == {
        "timezone": "Asia/Seoul",
        "timezone_from": "country",
        "start": "21:00",
        "end": "08:00",
        "until_ms": end,
        "rule": "law",
    }


@pytest.mark.parametrize("lane", ["critical", "normal", "bulk"])
def test_an_ad_in_a_hurry_is_still_an_ad(lane: Lane) -> None:
    assert asked(AD, "2026-07-01T22:00:00+09:00", lane=lane, to=KOREAN) is not None


def test_whoever_agreed_to_ads_at_night_gets_them() -> None:
    assert asked(AD, "2026-07-01T22:00:00+09:00", to=KOREAN, night_consent=True) is None


def test_information_is_no_ad() -> None:
    assert asked(INFO, "2026-07-01T22:00:00+09:00", to=KOREAN) is None


@pytest.mark.parametrize(
    ("country", "timezone", "default", "concerned"),
    [
        ("KR", None, None, True),
        (None, "Asia/Seoul", None, True),
        (None, "ROK", None, True),
        (None, None, "Asia/Seoul", True),
        ("JP", "Asia/Seoul", None, False),
        (None, "Asia/Tokyo", "Asia/Seoul", False),
        (None, None, None, False),
    ],
)
def test_who_is_in_korea_is_told_by_country_else_by_zone(
    country: str | None, timezone: str | None, default: str | None, concerned: bool
) -> None:
    found = asked(AD, "2026-07-01T22:00:00+09:00", Policy(default), country=country, timezone=timezone)
    assert (found is not None) == concerned


def test_the_night_of_a_korean_abroad_is_the_one_where_they_are() -> None:
    away = msgspec.structs.replace(KOREAN, timezone="America/New_York")
    assert asked(AD, "2026-07-01T22:00:00+09:00", to=away) is None  # 09:00 there
    assert until(asked(AD, "2026-07-01T21:00:00-04:00", to=away)) == at("2026-07-02T08:00:00-04:00")


# both -----------------------------------------------------------------------------------------------------------------


def test_the_law_is_asked_first_and_longer_quiet_hours_go_on_after_it() -> None:
    policy = Policy(quiet_hours=QuietHours("20:00", "09:00"))
    reasons = {
        moment: found.reason if (found := asked(AD, f"2026-07-02T{moment}:00+09:00", policy, to=KOREAN)) else None
        for moment in ("20:30", "21:00", "07:59", "08:00", "09:00")
    }
    assert reasons == {
        "20:30": "quiet_hours",
        "21:00": "ad_night",
        "07:59": "ad_night",
        "08:00": "quiet_hours",
        "09:00": None,
    }


def test_what_the_law_holds_is_not_dropped_by_quiet_hours_that_are_over_by_then() -> None:
    policy = Policy(quiet_hours=QuietHours("22:00", "07:00", action="drop"))
    found = asked(AD, "2026-07-01T23:00:00+09:00", policy, to=KOREAN)
    assert found is not None
    assert (found.kind, found.reason) == ("held", "ad_night")
    assert asked(AD, "2026-07-02T08:00:00+09:00", policy, to=KOREAN) is None


def test_with_consent_to_the_night_quiet_hours_still_count() -> None:
    found = asked(AD, "2026-07-01T23:00:00+09:00", Policy(quiet_hours=NIGHT), to=KOREAN, night_consent=True)
    assert found is not None
    assert found.reason == "quiet_hours"


@pytest.mark.parametrize("moment", ["07:59", "08:00", "12:00", "20:59", "21:00", "23:30"])
@pytest.mark.parametrize("hours", [("08:00", "21:00"), ("07:00", "21:30"), ("08:00", "07:59")])
def test_what_no_hour_is_left_for_fails_and_says_so(moment: str, hours: tuple[str, str]) -> None:
    """Held, it would wait from one window to the next for ever: waiting does not count towards the ttl."""
    policy = Policy(quiet_hours=QuietHours(*hours))
    found = asked(AD, f"2026-07-02T{moment}:00+09:00", policy, to=KOREAN)
    assert found is not None
    assert (found.kind, found.reason, found.hold_until_ms) == ("failed", "no_open_hours", None)
    assert found.data == {
        "timezone": "Asia/Seoul",
        "timezone_from": "country",
        "start": hours[0],
        "end": hours[1],
        "rule": "application",
    }


@pytest.mark.parametrize("hours", [("08:01", "21:00"), ("08:00", "20:59"), ("09:00", "08:00"), ("21:00", "20:59")])
def test_a_minute_a_day_is_an_hour_that_is_left(hours: tuple[str, str]) -> None:
    policy = Policy(quiet_hours=QuietHours(*hours))
    for moment in ("07:00", "12:00", "22:00"):
        found = asked(AD, f"2026-07-02T{moment}:00+09:00", policy, to=KOREAN)
        assert found is not None
        assert found.kind == "held"


def test_what_is_dropped_after_the_night_waits_for_the_night_to_end() -> None:
    policy = Policy(quiet_hours=QuietHours("08:00", "21:00", action="drop"))
    by_night, by_day = (asked(AD, f"2026-07-02T{at}:00+09:00", policy, to=KOREAN) for at in ("22:00", "09:00"))
    assert by_night is not None
    assert by_day is not None
    assert (by_night.reason, by_night.kind, by_day.reason, by_day.kind) == ("ad_night", "held", "quiet_hours", "failed")


# when the hours end ---------------------------------------------------------------------------------------------------


def ends(item: Accepted, moment: str, policy: Policy = NO_RULES, to: Recipient = KOREAN) -> Closing | None:
    return closing(item, to, "apns", policy, "normal", at(moment))


def test_what_goes_by_day_says_when_the_night_begins_and_how_it_is_told() -> None:
    held = asked(AD, "2026-07-01T21:00:00+09:00", to=KOREAN)
    assert held is not None
    begins, until_ms = at("2026-07-01T21:00:00+09:00"), at("2026-07-02T08:00:00+09:00")
    assert ends(AD, "2026-07-01T08:00:00+09:00") == Closing(begins, "ad_night", until_ms, held.data)
    assert ends(AD, "2026-07-01T20:59:59.999+09:00") == Closing(begins, "ad_night", until_ms, held.data)


def test_the_first_window_to_open_counts() -> None:
    policy = Policy(quiet_hours=QuietHours("12:00", "13:00"))
    found = [ends(AD, f"2026-07-01T{clock}:00+09:00", policy) for clock in ("09:00", "13:00")]
    assert [(each.hold, each.at_ms) for each in found if each] == [
        ("quiet_hours", at("2026-07-01T12:00:00+09:00")),
        ("ad_night", at("2026-07-01T21:00:00+09:00")),
    ]


def test_hours_in_which_messages_are_dropped_drop_nothing_that_was_let_through() -> None:
    policy = Policy(quiet_hours=QuietHours("12:00", "13:00", action="drop"))
    assert ends(INFO, "2026-07-01T11:00:00+09:00", policy) is None


def test_what_no_window_concerns_may_be_sent_at_any_hour() -> None:
    assert ends(INFO, "2026-07-01T11:00:00+09:00") is None
    assert closing(INFO, KOREAN, "apns", Policy(quiet_hours=NIGHT), "critical", 1) is None
    assert closing(INFO, KOREAN, "apns", NO_RULES, "normal", 0) is None
