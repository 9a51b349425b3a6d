"""Google's answers: what each means for the message and for the address."""

import json
from typing import Any

import pytest
from firebase_admin import messaging  # type: ignore[import-untyped]  # ships no types

from services.senders.contract import Accepted, Rejected, Result, TryLater
from services.senders.fcm import ERROR_CODES, GOOGLE_STATUSES, QUOTA_PAUSE, Verdict, judge, request_body
from services.senders.transport import Response
from tests.push_samples import MESSAGE_ID, PLAIN, delivery

NOW = 1_767_225_600.0
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
RETRIED = [
    (code, verdict) for code, verdict in ERROR_CODES.items() if isinstance(verdict, str) and verdict != "by_field"
]
QUOTA = {"status": 429, "retry_after_from": "rule"}
"""Google named no time."""
GOOGLE_RETRIED = [(status, verdict) for status, verdict in GOOGLE_STATUSES.items() if verdict != "by_field"]


def answer(status: int, body: bytes, **headers: str) -> Result:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(Response(status, body, named.get), NOW)


def error(code: str | None, status: str, fields: tuple[str, ...] = (), message: str = "") -> bytes:
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}]
    if code is not None:
        details.append({"@type": FCM_ERROR, "errorCode": code})
    if fields:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": name} for name in fields]})
    return json.dumps({"error": {"code": 0, "status": status, "message": message, "details": details}}).encode()


def test_200_is_accepted_under_its_name() -> None:
    assert answer(200, b'{"name":"projects/p/messages/1"}') == Accepted("projects/p/messages/1")
    assert answer(200, b"") == Accepted("")


@pytest.mark.parametrize(("status", "code", "expected"), [(404, "UNREGISTERED", -10), (403, "SENDER_ID_MISMATCH", -6)])
def test_a_dead_address_is_disabled(status: int, code: str, expected: int) -> None:
    assert answer(status, error(code, "X")) == Rejected(code, expected, {"status": status})


@pytest.mark.parametrize("field", ["message.token", "message.fid"])
def test_an_invalid_argument_in_the_target_disables_the_address(field: str) -> None:
    result = answer(400, error("INVALID_ARGUMENT", "INVALID_ARGUMENT", (field,)))
    assert result == Rejected("INVALID_ARGUMENT", -4, {"status": 400, "fields": (field,)})


def test_an_invalid_registration_may_be_told_in_words_only() -> None:
    body = error(
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        message="The registration token is not a valid FCM registration token",
    )
    assert answer(400, body) == Rejected("INVALID_ARGUMENT", -4, {"status": 400})


@pytest.mark.parametrize("fields", [(), ("message.data[0].value",), ("message.android.ttl",), ("message.tokens",)])
def test_any_other_invalid_argument_keeps_the_address(fields: tuple[str, ...]) -> None:
    result = answer(400, error("INVALID_ARGUMENT", "INVALID_ARGUMENT", fields, "Android message is too big"))
    assert isinstance(result, Rejected)
    assert result.subscription_status is None


@pytest.mark.parametrize(("code", "verdict"), RETRIED)
def test_the_rest_is_tried_later_by_its_class(code: str, verdict: Verdict) -> None:
    result = answer(500, error(code, "X"))
    assert isinstance(result, TryLater)
    assert (result.reason, result.retry_class) == (code, verdict)


@pytest.mark.parametrize(("status", "verdict"), GOOGLE_RETRIED)
def test_a_plain_google_error_is_nobodys_address(status: str, verdict: Verdict) -> None:
    result = answer(404, error(None, status))
    assert isinstance(result, TryLater)
    assert (result.reason, result.retry_class) == (status, verdict)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, TryLater("status_404", "credentials", data={"status": 404})),
        (401, TryLater("status_401", "credentials", data={"status": 401})),
        (429, TryLater("status_429", "throttled", QUOTA_PAUSE, data=QUOTA)),
        (502, TryLater("status_502", "outage", data={"status": 502})),
        (307, TryLater("status_307", "outage", data={"status": 307})),
        (413, Rejected("status_413", None, {"status": 413})),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b'{"error":{"details":[1]}}', b"\xff"])
def test_what_is_no_google_error_is_judged_by_its_status(status: int, expected: Result, body: bytes) -> None:
    assert answer(status, body) == expected


def test_the_providers_wait_is_a_floor() -> None:
    quota = error("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED")
    assert answer(429, quota) == TryLater("QUOTA_EXCEEDED", "throttled", QUOTA_PAUSE, data=QUOTA)
    assert answer(429, quota, retry_after="7") == TryLater("QUOTA_EXCEEDED", "throttled", 7.0, data={"status": 429})
    outage = answer(503, error("UNAVAILABLE", "UNAVAILABLE"), retry_after="Thu, 01 Jan 2026 00:00:30 GMT")
    assert outage == TryLater("UNAVAILABLE", "outage", 30.0, data={"status": 503})
    assert answer(503, error("UNAVAILABLE", "UNAVAILABLE"), retry_after="soon") == TryLater(
        "UNAVAILABLE", "outage", data={"status": 503}
    )


def test_the_table_knows_every_error_that_firebase_admin_knows() -> None:
    assert messaging._MessagingService.FCM_ERROR_TYPES.keys() <= ERROR_CODES.keys()


@pytest.mark.parametrize("kind", ["token", "fid"])
def test_the_target_goes_under_its_kind(kind: str) -> None:
    message = json.loads(request_body(delivery(token="t:x", token_kind=kind), NOW))["message"]
    assert message.pop(kind) == "t:x"
    assert not message.keys() & {"token", "fid"}


def test_the_lifetime_ends_with_the_deadline_and_within_googles_limit() -> None:
    def ttl(deadline_ms: int) -> str:
        body = json.loads(request_body(delivery(PLAIN, deadline_ms=deadline_ms), NOW))
        return str(body["message"]["android"]["ttl"])

    assert ttl(int(NOW * 1000) + 90_000) == "90s"
    assert ttl(0) == "0s"
    assert ttl(int(NOW * 1000) * 2) == "2419200s"


def test_the_message_names_itself() -> None:
    assert json.loads(request_body(delivery(), NOW))["message"]["data"] == {"automata_message_id": MESSAGE_ID}
