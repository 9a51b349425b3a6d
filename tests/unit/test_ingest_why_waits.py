"""A timeline answers "why now, why not": schedules, holds, drops and the ends of waits, with what decided them."""

import re
from typing import Any, get_args

import pytest

from libs.rpc import EventView
from libs.waits import TURN, WAITS, Hold, due_reason
from services.ingest.errors import Language
from services.ingest.why import explain_event, explain_message, scheduled_ms
from tests.unit.test_ingest_why import event, message

LANGUAGES: tuple[Language, ...] = get_args(Language)
SEOUL: dict[str, Any] = {"timezone": "Asia/Seoul", "timezone_from": "country"}
NINE = 1_782_864_000_000
"""2026-07-01 09:00 in Seoul."""
NIGHT: dict[str, Any] = {"start": "21:00", "end": "09:00", "until_ms": NINE, **SEOUL}
CAP: dict[str, Any] = {"limit": 3, "per": "day", "count": 3, "until_ms": NINE}
ASKED = ("retry_after", "retry_after_from", "sent_from", "region")
AT_ONCE = "2026-07-01 00:00 UTC"


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (
            event("scheduled", key="1", due_at_ms=NINE, send_at_local="09:00", **SEOUL),
            (
                "Scheduled: it is to be sent at 2026-07-01 09:00 Asia/Seoul: asked for at 09:00 of the recipient's "
                "time; the time zone is that of the subscription's country."
            ),
        ),
        (
            event("scheduled", key="1", due_at_ms=NINE, scheduled_at="2026-07-01T00:00:00.000Z"),
            f"Scheduled: it is to be sent at {AT_ONCE}.",
        ),
        (
            event("scheduled", key="3", due_at_ms=NINE, scheduled_at="2026-07-01T00:00:00.000Z", actor="key:k"),
            f"Given another time: it is to be sent at {AT_ONCE}: its time was set 3 times.",
        ),
        (
            event("routed", key="scheduled:1", reason="scheduled", waited_for="scheduled", waited_ms=93_600_000),
            "Its time had come, and it was handed on: it had waited for 1 d 2 h.",
        ),
        (
            event("routed", key="h", reason="handed_off_again", repair=1),
            "It was lost on its way to the sender, and was handed on again.",
        ),
        (
            event(
                "scheduled",
                key="2",
                due_at_ms=NINE,
                scheduled_at="2026-06-30T23:59:59.250Z",
                send_at_local="09:00",
                **SEOUL,
            ),
            (
                "Given another time: it is to be sent at 2026-07-01 09:00 Asia/Seoul: asked for at 09:00 of the "
                "recipient's time; not before 2026-07-01 08:59:59 Asia/Seoul; the time zone is that of the "
                "subscription's country; its time was set 2 times."
            ),
        ),
        (
            event("retried", 2, waited_for="retry:network"),
            "Attempt 2 began: the wait after the failure before it was over (network).",
        ),
        (
            event("errored", reason="Busy", retry_class="outage", retry_after=3600.0, retry_at_ms=NINE),
            (
                "APNs could not take it (Busy): attempt 1 of 24 (outage); APNs asked to wait for at least 3600 s; the "
                f"next is due at {AT_ONCE}."
            ),
        ),
        (
            event("held", reason="quiet_hours", rule="application", **NIGHT),
            (
                "Held back in quiet hours (21:00 to 09:00); it goes on at 2026-07-01 09:00 Asia/Seoul: the "
                "application's quiet hours; the time zone is that of the subscription's country."
            ),
        ),
        (
            event("held", reason="ad_night", rule="law", **NIGHT),
            (
                "Held back: from 21:00 to 09:00 advertising needs a consent of its own, which the recipient did not "
                "give; it goes on at 2026-07-01 09:00 Asia/Seoul: the law on advertising at night; the time zone is "
                "that of the subscription's country."
            ),
        ),
        (
            event("held", reason="frequency_cap", category="ad", **CAP),
            (
                "Held back: 3 went to this person within the last day, and the limit is 3; it goes on at "
                f"{AT_ONCE}: only those of category ad count."
            ),
        ),
        (
            event("held", reason="breaker", channel="apns", breaker_reason="ServiceUnavailable", probe_at_ms=NINE),
            (
                "Held back: calls to APNs failed repeatedly (ServiceUnavailable), so that none are made; it goes on "
                f"when APNs works again: from {AT_ONCE} on single messages try whether it does."
            ),
        ),
        (
            event("held", reason="rate_limit", rate=50.0, until_ms=NINE + 2500),
            (
                "Held back by the limit on messages a second to APNs; it goes on at 2026-07-01 00:00:02 UTC: 50 a "
                "second are allowed."
            ),
        ),
        (
            event("held", reason="rate_limit", rate=12.5, knob=100, until_ms=NINE),
            (
                f"Held back by the limit on messages a second to APNs; it goes on at {AT_ONCE}: 12.5 a second are "
                "allowed; APNs asked to go slower than the 100 that the application set."
            ),
        ),
        (
            event("held", reason="rate_limit", rate=None, knob=None, until_ms=NINE),
            f"Held back by the limit on messages a second to APNs; it goes on at {AT_ONCE}: APNs asked to go slower.",
        ),
        (
            event("held", reason="provider_slow", outstanding=200, limit=200, oldest_ms=45_000, until_ms=NINE),
            (
                "Held back: APNs is slow, 200 calls wait for its answer and 200 are the limit; it goes on at "
                f"{AT_ONCE}: the oldest waits for 45 s."
            ),
        ),
        (
            event("failed", reason="quiet_hours", rule="subscription", **NIGHT),
            (
                "Not sent: it came in quiet hours (21:00 to 09:00), in which messages are dropped: the recipient's own "
                "quiet hours; the time zone is that of the subscription's country."
            ),
        ),
        (
            event("failed", reason="frequency_cap", category=None, **CAP),
            "Not sent: 3 went to this person within the last day, and the limit is 3.",
        ),
        (
            event("failed", reason="no_open_hours", rule="application", start="08:00", end="21:00", **SEOUL),
            (
                "Not sent: it is advertising, for which quiet hours (08:00 to 21:00) and the night leave no time of "
                "day: the application's quiet hours; the time zone is that of the subscription's country."
            ),
        ),
        (
            event("failed", 30_000, reason="too_many_attempts", count=30_000, waited_for="rate_limit"),
            (
                "Given up after 30000 attempts, most of which were held back: it waited for its turn at the allowed "
                "rate."
            ),
        ),
        (
            event("errored", 1, reason="timeout", retry_class="network", retry_at_ms=NINE),
            f"APNs could not take it (timeout): attempt 1 of 5 (network); the next is due at {AT_ONCE}.",
        ),
        (
            event("expired", key="ttl", reason="expired", deadline_ms=NINE, waited_for="breaker:apns"),
            (
                f"It expired before it could be sent: its time to live ended at {AT_ONCE}; it waited for APNs to work "
                "again."
            ),
        ),
        (
            event("expired", key="ttl", reason="expired", deadline_ms=NINE, last_reason="timeout"),
            (
                "It expired before it could be sent: another attempt would have come after the end of its time to "
                f"live at {AT_ONCE}; the last attempt ended with timeout."
            ),
        ),
        (
            event("expired", reason="expired", deadline_ms=NINE, last_reason="Busy", retry_after=86_400),
            (
                "It expired before it could be sent: another attempt would have come after the end of its time to "
                f"live at {AT_ONCE}; APNs asked to wait for at least 86400 s; the last attempt ended with Busy."
            ),
        ),
        (
            event("expired", key="ttl", reason="expired", deadline_ms=NINE, last_status="pending", swept=True),
            f"It expired before it could be sent: its time to live ended at {AT_ONCE}; it was still pending then.",
        ),
        (
            event("failed", key="receipt_timeout", reason="receipt_timeout", hours=72, sent_at_ms=NINE),
            f"The app did not confirm it in time: it was sent at {AT_ONCE} and had 72 hours.",
        ),
    ],
)
def test_decisions_are_told_with_their_inputs(one: EventView, said: str) -> None:
    assert explain_event(one, message(one), "en") == said
    korean = explain_event(one, message(one), "ko")
    assert "?" not in korean + said
    assert sorted(set(re.findall(r"\d+", korean)) - {"1"}) == sorted(set(re.findall(r"\d+", said)) - {"1"})


@pytest.mark.parametrize("hold", WAITS)
def test_a_wait_that_is_over_says_so(hold: Hold) -> None:
    one = event("retried", 2, waited_for=due_reason(hold, "fcm"), waited_ms=11_000_000, uncounted=1)
    found = message(one, channel="fcm")
    assert explain_event(one, found, "en").startswith("Attempt 2 began: ")
    assert explain_event(one, found, "en").endswith("; it had waited for 3 h 3 min.")
    assert explain_event(one, found, "ko").endswith("; 3시간 3분 동안 기다렸습니다.")


@pytest.mark.parametrize("kind", ["sent", "errored", "failed", "held", "retried", "expired"])
def test_korean_particles_fit_every_provider(kind: str) -> None:
    """The name APNs ends in a vowel when read aloud, FCM in a consonant: what depends on that is never said."""
    for hold in WAITS:
        one = event(kind, reason=hold, waited_for=hold, knob=None)
        text = explain_event(one, message(one, channel="fcm"), "ko")
        assert not re.search(r"FCM[가이은는을를와과]", text)


def test_what_waits_is_explained_by_what_it_waits_for() -> None:
    created, routed = event("created"), event("routed", at=9)
    held = event("held", reason="quiet_hours", at=5, rule="application", **NIGHT)
    earlier = event("held", reason="frequency_cap", at=2, **CAP)
    found = message(
        created, earlier, held, routed, next_attempt_at_ms=NINE, next_attempt_reason="quiet_hours", status="pending"
    )
    assert explain_message(found, "en") == explain_event(held, found, "en")
    stopped = event("held", reason="emergency_stop", at=6, channel="apns", stopped="*", since_ms=1)
    waits = message(created, held, stopped, next_attempt_reason="emergency_stop:apns")
    assert explain_message(waits, "en").startswith("Held back by an emergency stop")
    again = message(created, held, event("retried", 2, at=9, waited_for="quiet_hours", waited_ms=5000, uncounted=1))
    assert explain_message(again, "en") == "Attempt 2 began: the quiet hours were over; it had waited for 5 s."


def test_what_waits_for_its_turn_says_so() -> None:
    found = message(event("created"), next_attempt_reason=TURN, status="pending")
    assert "waits for its turn" in explain_message(found, "en")
    assert "차례" in explain_message(found, "ko")
    assert "again" not in explain_message(found, "en")


def test_the_time_that_was_set_last_counts() -> None:
    first = event("scheduled", key="9", at=4, due_at_ms=NINE)
    last = event("scheduled", key="10", at=4, due_at_ms=NINE + 60_000)
    found = message(event("created", at=4), last, first, next_attempt_at_ms=1, next_attempt_reason="scheduled")
    assert scheduled_ms(found) == NINE + 60_000
    assert explain_message(found, "en").startswith("Given another time: it is to be sent at 2026-07-01 00:01 UTC")
    assert scheduled_ms(message(event("created"))) is None


def test_an_errored_message_that_waits_for_its_retry_says_what_failed() -> None:
    held = event("held", reason="rate_limit", rate=5, until_ms=1)
    errored = event("errored", 2, at=2, reason="timeout")
    found = message(held, errored, status="errored", next_attempt_at_ms=1, next_attempt_reason="retry:network")
    assert explain_message(found, "en") == "APNs could not take it (timeout). It will be tried again."


@pytest.mark.parametrize("kind", ["held", "failed", "scheduled", "expired", "retried", "routed", "errored", "sent"])
@pytest.mark.parametrize("value", [None, "x", -1, 10**18, 1.5, True])
def test_inputs_that_are_missing_or_odd_break_nothing(kind: str, value: object) -> None:
    odd: dict[str, Any] = dict.fromkeys(
        ("until_ms", "due_at_ms", "waited_ms", "timezone", "per", "rule", "oldest_ms", "rate", *ASKED), value
    )
    for reason in (*WAITS, "receipt_timeout"):
        one = event(kind, reason=reason, **odd, waited_for=reason)
        for language in LANGUAGES:
            assert explain_event(one, message(one), language).endswith(".")


def test_tries_are_counted_by_class_and_anew_after_a_resend() -> None:
    def errored(attempt: int, retry_class: str) -> EventView:
        return event("errored", attempt, reason="r", retry_class=retry_class)

    def retried(attempt: int, waited_for: str, uncounted: int = 0) -> EventView:
        return event("retried", attempt, waited_for=waited_for, uncounted=uncounted)

    again = event("retried", 5, "resend:r", reason="resend", waited_for="resend", uncounted=3)
    story = [errored(1, "network"), retried(2, "retry:network"), retried(3, "quiet_hours", 1), errored(3, "network")]
    story += [retried(4, "retry:network"), errored(4, "throttled"), again, errored(5, "network")]
    told = [explain_event(each, message(*story), "en") for each in story if each.kind == "errored"]
    assert [re.findall(r"attempt (.*)\.", each) for each in told] == [
        ["1 of 5 (network)"],
        ["2 of 5 (network)"],
        ["1 of 3 (throttled)"],
        ["1 of 5 (network)"],
    ]
