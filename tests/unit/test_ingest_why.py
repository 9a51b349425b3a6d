"""A timeline answers "why", for every kind of event and in both languages."""

import re
from typing import Any, get_args

import pytest

from libs.localtime import ZoneSource
from libs.message import FAILING, KINDS, STATUSES
from libs.policy import Period
from libs.rpc import EventView, MessageView
from libs.waits import WAITS
from services.ingest import why_sentences
from services.ingest.errors import Language
from services.ingest.why import DECISIVE, explain_event, explain_message
from services.ingest.why_sentences import ENDED, OURS, PERIODS, RULES, SENTENCES, STILL, ZONES, Sentence

NAMED = re.compile(r"\{(\w+)\}")
LANGUAGES: tuple[Language, ...] = get_args(Language)


def event(kind: str, attempt: int = 1, key: str = "", at: int = 0, reason: str | None = None, **data: Any) -> EventView:
    return EventView(kind, attempt, key, at, reason, data)


def message(*events: EventView, status: str = "pending", channel: str = "apns", **more: Any) -> MessageView:
    values: dict[str, Any] = dict.fromkeys(("sent", "received", "converted", "failed", "cancelled"))
    times = {f"{name}_at_ms": None for name in values}
    fixed: dict[str, Any] = {
        "id": "m",
        "subscription_id": "s",
        "channel": channel,
        "lane": "normal",
        "category": "info",
        "status": status,
        "attempt": 1,
        "created_at_ms": 0,
        "reason": None,
        "content": None,
        "events": list(events),
    }
    return MessageView(**{**fixed, **times, **more})


def test_every_kind_has_a_sentence_in_both_languages() -> None:
    assert set(SENTENCES) == set(KINDS)
    assert set(ENDED) == set(STILL) == set(WAITS)
    assert set(RULES) == {"subscription", "application", "law"}
    assert set(ZONES) == set(get_args(ZoneSource))
    assert set(PERIODS) == set(get_args(Period))
    tables = (SENTENCES, OURS, ENDED, STILL, RULES, ZONES, PERIODS)
    single = [each for each in vars(why_sentences).values() if isinstance(each, Sentence)]
    for sentence in (*single, *(each for table in tables for each in table.values())):
        if sentence.en != "{action}":
            assert sentence.en != sentence.ko
        assert set(NAMED.findall(sentence.en)) == set(NAMED.findall(sentence.ko))


def test_decisive_kinds_exist() -> None:
    assert set(DECISIVE) <= set(STATUSES)
    assert frozenset().union(*DECISIVE.values()) <= set(KINDS)
    assert DECISIVE["failed"] == FAILING


@pytest.mark.parametrize("kind", [*KINDS, "of_a_later_release"])
@pytest.mark.parametrize("reason", [None, "{x} {0} %s", "dead_letter"])
@pytest.mark.parametrize("data", [{}, {"outcome": "unknown", "retry_class": "x", "disable": None, "action": "{y}"}])
def test_any_event_can_be_told(kind: str, reason: str | None, data: dict[str, Any]) -> None:
    one = event(kind, reason=reason, **data)
    for language in LANGUAGES:
        assert explain_event(one, message(one), language).endswith(".")


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (event("created", subscription_status=1), "Accepted: the subscription was active (status 1)."),
        (
            event("failed", reason="Unregistered", disable=-10, status=410),
            "APNs refused it (Unregistered): the subscription was set to -10.",
        ),
        (
            event("failed", reason="Unregistered", address="kept"),
            "APNs refused it (Unregistered): the token was registered again since, so the subscription stays.",
        ),
        (
            event("errored", 2, reason="timeout", outcome="unknown", retry_class="network"),
            "No answer from APNs (timeout), so the outcome is unknown: attempt 2 of 5 (network).",
        ),
        (
            event("errored", 1, reason="ExpiredProviderToken", retry_class="credentials"),
            "APNs could not take it (ExpiredProviderToken): attempt 1 (credentials).",
        ),
        (
            event("failed", 5, "exhausted", reason="timeout", retry_class="network"),
            "No attempts are left after timeout: attempt 5 of 5 (network).",
        ),
        (
            event("failed", reason="subscription_disabled", subscription_status=-2),
            "Not sent: the subscription was disabled meanwhile (status -2).",
        ),
        (
            event("errored", reason="Busy", retry_class="throttled", retry_after=60.0, retry_after_from="rule"),
            (
                "APNs could not take it (Busy): attempt 1 of 3 (throttled); APNs named no time, and its rule is to "
                "wait for at least 60 s."
            ),
        ),
        (
            event("sent", region="fra", sent_from="icn", duration_ms=3),
            "APNs accepted it: sent from region icn, because no sender of fra was heard.",
        ),
        (
            event("failed", reason="Unregistered", region="fra", sent_from="icn", disable=-10),
            (
                "APNs refused it (Unregistered): the subscription was set to -10; handled from region icn, because no "
                "sender of fra was heard."
            ),
        ),
        (event("sent", region="fra"), "APNs accepted it."),
        (
            event("errored", reason="sender_lost", outcome="unknown", region="fra", sent_from="icn"),
            "No answer from APNs (sender_lost), so the outcome is unknown.",
        ),
        (event("converted", 0, action="clicked"), "The app reported that its user acted on it: clicked."),
    ],
)
def test_sentences(one: EventView, said: str) -> None:
    assert explain_event(one, message(one), "en") == said


def test_message_is_explained_by_what_gave_it_its_status() -> None:
    created, sent = event("created"), event("sent", at=5)
    received = event("received", 0, at=3)
    assert explain_message(message(created, sent, received, status="received"), "en").startswith("The app reported")
    assert explain_message(message(created, sent, status="successful"), "en") == "APNs accepted it."
    retried = event("retried", 2, at=9)
    assert explain_message(message(created, retried, status="pending"), "en") == "Attempt 2 began."
    assert explain_message(message(), "en") == ""


def test_message_says_whether_it_is_tried_again() -> None:
    errored = event("errored", reason="timeout")
    found = message(errored, status="errored", next_attempt_at_ms=1)
    assert explain_message(found, "en").endswith("It will be tried again.")


def test_a_stop_and_a_resend_are_told_and_do_not_count_as_tries() -> None:
    held = event("held", reason="emergency_stop", channel="apns", stopped="*", since_ms=1)
    released = event("retried", 2, at=1, waited_for="emergency_stop:apns", waited_ms=5, uncounted=1)
    tried = event("errored", 2, at=2, reason="busy", retry_class="throttled")
    again = event("retried", 3, "resend:r", 3, "resend", waited_for="resend", uncounted=1)
    last = event("errored", 3, at=4, reason="busy", retry_class="throttled")
    story = message(held, released, tried, again, last)
    assert [explain_event(each, story, "en") for each in story.events] == [
        "Held back by an emergency stop; it goes on when the stop is released.",
        "Attempt 2 began: the emergency stop was released.",
        "APNs could not take it (busy): attempt 1 of 3 (throttled).",
        "Sent again on request: attempt 3 began.",
        "APNs could not take it (busy): attempt 1 of 3 (throttled).",
    ]


def test_the_template_is_named_by_its_version() -> None:
    created = event("created", subscription_status=1, template_version=7, template_locale="ko")
    assert explain_event(created, message(created), "en") == (
        "Accepted: the subscription was active (status 1); made from version 7 of its template for ko."
    )


@pytest.mark.parametrize(
    ("retry_class", "english", "korean"),
    [
        ("credentials", "with the application's credential (InvalidProviderToken)", "자격 증명으로 APNs를"),
        ("outage", "calls to APNs failed repeatedly (InvalidProviderToken)", "반복해서 실패하여"),
        ("network", "calls to APNs failed repeatedly (InvalidProviderToken)", "반복해서 실패하여"),
    ],
)
def test_a_breaker_says_whether_the_provider_is_out_or_the_credential_refused(
    retry_class: str, english: str, korean: str
) -> None:
    one = event("held", reason="breaker", breaker_reason="InvalidProviderToken", retry_class=retry_class)
    assert english in explain_event(one, message(one), "en")
    assert korean in explain_event(one, message(one), "ko")
