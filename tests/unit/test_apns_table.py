"""Apple's answers: what each means for the message and for the address."""

import hashlib

import pytest

from libs.envelope import Content
from services.senders.apns import REASONS, STATUSES, TIMESTAMPED, Verdict, collapse_id, judge, notification_request
from services.senders.apns_pool import ENDS_CONNECTION, ApnsReply
from services.senders.contract import Accepted, Rejected, Result, TryLater
from tests.push_samples import MESSAGE_ID, REGISTERED_AT_MS, SILENT, TOPIC, delivery

PERMANENT = [reason for reason, verdict in REASONS.items() if verdict == "rejected"]
RETRIED = [(reason, verdict) for reason, verdict in REASONS.items() if verdict not in ("rejected", -10, -14)]


def answer(status: int, reason: str | None, timestamp: int | None = None, retry_after: float | None = None) -> Result:
    return judge(ApnsReply(MESSAGE_ID, str(status), reason, timestamp, retry_after), delivery())


def test_200_is_accepted_under_its_apns_id() -> None:
    assert answer(200, None) == Accepted(MESSAGE_ID)


@pytest.mark.parametrize(("reason", "code"), [("BadDeviceToken", -10), ("DeviceTokenNotForTopic", -14)])
def test_a_bad_address_is_disabled(reason: str, code: int) -> None:
    assert answer(400, reason) == Rejected(reason, code, {"status": 400, "endpoint": "production"})


@pytest.mark.parametrize("reason", sorted(TIMESTAMPED))
def test_410_disables_an_address_not_registered_since(reason: str) -> None:
    result = answer(410, reason, REGISTERED_AT_MS + 1)
    assert isinstance(result, Rejected)
    assert result.subscription_status == -10


@pytest.mark.parametrize("reason", sorted(TIMESTAMPED))
@pytest.mark.parametrize("timestamp", [REGISTERED_AT_MS, REGISTERED_AT_MS - 1, None])
def test_410_older_than_the_registration_keeps_the_address(reason: str, timestamp: int | None) -> None:
    data = {
        "status": 410,
        "endpoint": "production",
        "timestamp": timestamp,
        "registered_at_ms": REGISTERED_AT_MS,
        "address": "kept",
    }
    assert answer(410, reason, timestamp) == Rejected(reason, None, data)


@pytest.mark.parametrize("reason", PERMANENT)
def test_our_own_bad_request_is_not_the_address_fault(reason: str) -> None:
    assert answer(400, reason) == Rejected(reason, None, {"status": 400, "endpoint": "production"})


@pytest.mark.parametrize(("reason", "verdict"), RETRIED)
def test_the_rest_is_tried_later_by_its_class(reason: str, verdict: Verdict) -> None:
    result = answer(500, reason)
    assert isinstance(result, TryLater)
    assert result.retry_class == verdict
    assert not result.unknown


def test_429_slows_down_this_token_alone() -> None:
    result = answer(429, "TooManyRequests", retry_after=30.0)
    assert result == TryLater(
        "TooManyRequests", "throttled", 30.0, data={"status": 429, "endpoint": "production", "scope": "token"}
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Rejected("Novel", None, {"status": 400, "endpoint": "production"})),
        (403, TryLater("Novel", "credentials", data={"status": 403, "endpoint": "production"})),
        (429, TryLater("Novel", "throttled", data={"status": 429, "endpoint": "production"})),
        (500, TryLater("Novel", "outage", data={"status": 500, "endpoint": "production"})),
        (307, TryLater("Novel", "outage", data={"status": 307, "endpoint": "production"})),
    ],
)
def test_an_unknown_reason_is_judged_by_its_status(status: int, expected: Result) -> None:
    assert answer(status, "Novel") == expected


def test_a_bad_token_tells_which_endpoint_called_it_so() -> None:
    result = judge(ApnsReply(MESSAGE_ID, "400", "BadDeviceToken", None, None), delivery(test=True))
    assert isinstance(result, Rejected)
    assert result.data["endpoint"] == "development"


def test_an_answer_without_reason_names_its_status() -> None:
    assert answer(502, None) == TryLater("status_502", "outage", data={"status": 502, "endpoint": "production"})


def test_tables_name_nothing_unknown() -> None:
    assert REASONS.keys() >= TIMESTAMPED | ENDS_CONNECTION
    assert all(400 <= status < 600 for status in STATUSES)


def test_a_shown_push_has_the_headers_of_an_alert() -> None:
    request = notification_request(delivery(), TOPIC, now=1_767_225_600.5)
    assert request.push_type is not None
    assert (request.push_type.value, request.priority, request.time_to_live) == ("alert", 10, 3600)
    assert (request.notification_id, request.collapse_key) == (MESSAGE_ID, MESSAGE_ID)


def test_a_silent_push_is_background_of_low_priority() -> None:
    request = notification_request(delivery(SILENT), TOPIC, now=1_767_225_600.0)
    assert request.push_type is not None
    assert (request.push_type.value, request.priority) == ("background", 5)


def test_a_deadline_in_the_past_means_one_attempt() -> None:
    assert notification_request(delivery(deadline_ms=1), TOPIC, now=1_767_225_600.0).time_to_live == 0


@pytest.mark.parametrize("key", ["k", "x" * 64, "order 12345"])
def test_a_collapse_key_that_fits_is_used_as_it_is(key: str) -> None:
    assert collapse_id(MESSAGE_ID, Content(collapse_key=key)) == key


@pytest.mark.parametrize("key", ["x" * 65, "주문", "a\nb"])
def test_any_other_collapse_key_is_hashed(key: str) -> None:
    found = collapse_id(MESSAGE_ID, Content(collapse_key=key))
    assert found == hashlib.sha256(key.encode()).hexdigest()
    assert len(found) == 64
