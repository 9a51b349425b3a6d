"""The mark on advertising to Korea: the exact literal, at the very start, once."""

from typing import Any

import msgspec
import pytest

from libs.envelope import Content
from libs.push import AD_MARK, marked
from libs.rpc import Recipient
from services.dispatcher.ads import IN_KOREA, as_law_asks
from services.dispatcher.decide import CHANNELS

SALE = Content(title="Sale", body="today", data={"k": "v"}, collapse_key="c")
KOREAN = Recipient("s", "iOSPush", 1, b"", "token", 7, 0, False, b"k", "KR", True)


def content(**changes: Any) -> Content:
    return msgspec.structs.replace(SALE, **changes)


def test_the_mark_is_the_laws_own() -> None:
    assert AD_MARK == "(광고)"


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Sale", "(광고) Sale"),
        ("(광고) Sale", "(광고) Sale"),
        ("(광고)Sale", "(광고)Sale"),
        ("  (광고) Sale", "(광고) Sale"),
        ("\nSale", "(광고) Sale"),
        ("Sale (광고)", "(광고) Sale (광고)"),
        ("[광고] Sale", "(광고) [광고] Sale"),
        ("( 광고 ) Sale", "(광고) ( 광고 ) Sale"),
    ],
)
def test_a_title_begins_with_the_mark_once(title: str, shown: str) -> None:
    assert marked(content(title=title)) == content(title=shown)


@pytest.mark.parametrize("title", [None, "", "  "])
def test_where_there_is_no_title_the_body_begins_with_it(title: str | None) -> None:
    assert marked(content(title=title)) == content(title=title, body="(광고) today")


def test_marking_twice_is_marking_once() -> None:
    assert marked(marked(SALE)) == marked(SALE)


def test_what_shows_nothing_is_left_as_it_is() -> None:
    silent = content(title=None, body=None)
    assert marked(silent) is silent


@pytest.mark.parametrize("channel", CHANNELS.values())
def test_every_channel_has_its_rule(channel: str) -> None:
    assert IN_KOREA[channel].mark
    assert as_law_asks(SALE, channel, KOREAN, None) == content(title="(광고) Sale")


@pytest.mark.parametrize(
    ("country", "timezone", "default", "mark"),
    [
        ("KR", "UTC", None, True),
        (None, "Asia/Seoul", None, True),
        (None, None, "Asia/Seoul", True),
        ("US", None, None, False),
    ],
)
def test_only_those_in_korea_see_it(country: str | None, timezone: str | None, default: str | None, mark: bool) -> None:
    to = msgspec.structs.replace(KOREAN, country=country, timezone=timezone)
    assert (as_law_asks(SALE, "apns", to, default) != SALE) == mark


def test_consent_to_the_night_takes_no_mark_away() -> None:
    to = msgspec.structs.replace(KOREAN, night_consent=True)
    assert as_law_asks(SALE, "apns", to, None) == content(title="(광고) Sale")
