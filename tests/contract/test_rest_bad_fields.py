"""Wrong values in single fields: each is named, nothing is written."""

import json
from typing import Any

import pytest

from libs import ids
from tests.contract.rest_gateway import APNS_TOKEN, OWNER, STRANGER, Rest
from tests.contract.test_rest_messages import view

pytest_plugins = ["tests.contract.rest_fixtures"]

SUBSCRIPTION = "0199a1b2-0000-7000-8000-00000000000a"


@pytest.fixture
def message(rest: Rest) -> str:
    """A message of ours, for paths that name one."""
    message = ids.new_id()
    rest.platform.views[OWNER, message] = view(message)
    return message


class TestMessage:
    @pytest.mark.parametrize(
        ("wrong", "fields"),
        [
            ({"subscription_id": "x"}, {"subscription_id"}),
            ({"subscription_id": SUBSCRIPTION + "\n"}, {"subscription_id"}),
            ({"title": 7, "body": [], "data": "x"}, {"title", "body", "data"}),
            ({"ttl": 0}, {"ttl"}),
            ({"ttl": 2_419_201, "priority": "urgent", "category": "spam"}, {"ttl", "priority", "category"}),
            ({"ttl": 1.5}, {"ttl"}),
            ({"ttl": 60.0}, {"ttl"}),
            ({"ttl": "60"}, {"ttl"}),
            ({"ttl": True}, {"ttl"}),
            ({"ttl": 10**30}, {"ttl"}),
            ({"collapse_key": ""}, {"collapse_key"}),
            ({"collapse_key": "x" * 65}, {"collapse_key"}),
            ({"collapse_key": "한" * 22}, {"collapse_key"}),
            ({"push": {"badge": "1", "sond": "x", "buttons": [{"id": 1}]}}, None),
            ({"push": {"interruption_level": "loud"}}, {"push.interruption_level"}),
            ({"push": {"badge": 2**64}}, {"push"}),
            ({"data": {"a": 2**64}}, {"data"}),
            ({"data": {"a": -(2**63) - 1}}, {"data"}),
            ({"data": {"a": [{"b": 2**70}]}}, {"data"}),
            ({"title": "a\0b"}, {"title"}),
            ({"data": {"a": {"b\0": 1}}}, {"data"}),
            ({"data": {"a": json.loads("[" * 16 + "]" * 16)}}, {"data"}),
            ({"validate_only": "yes"}, {"validate_only"}),
        ],
    )
    async def test_every_wrong_field_is_named(self, rest: Rest, wrong: dict[str, Any], fields: set[str] | None) -> None:
        subscription = rest.platform.subscribe()
        answer = await rest.post("/messages", {"subscription_id": subscription, "title": "x", **wrong})
        assert answer.status in (400, 422)
        assert answer.code == ("validation_error" if answer.status == 422 else "invalid_request")
        expected = {"push.badge", "push.sond", "push.buttons.0.id", "push.buttons.0.text"} if fields is None else fields
        assert set(answer.details["fields"]) == expected
        assert all(isinstance(reason, str) and reason for reason in answer.details["fields"].values())
        assert rest.platform.writes == 0

    async def test_huge_numbers(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe().encode()
        for number in (b"1e400", b"-1e400", b"9" * 5000, b"0." + b"1" * 5000, b"1e-99999", b"-0", b"1E+2"):
            raw = b'{"subscription_id":"%b","title":"x","data":{"n":%b}}' % (subscription, number)
            answer = await rest.post("/messages", raw=raw)
            assert answer.status in (201, 422), (number, answer)

    async def test_repeated_names_take_the_last_or_are_refused(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe().encode()
        good = b'{"title":"a","title":"b","subscription_id":"%b"}' % subscription
        assert (await rest.post("/messages", raw=good)).status == 201
        bad = b'{"title":5,"title":"b","subscription_id":"%b"}' % subscription
        answer = await rest.post("/messages", raw=bad)
        assert (answer.status, set(answer.details["fields"])) == (422, {"title"})

    async def test_missing_field_is_a_malformed_request(self, rest: Rest) -> None:
        answer = await rest.post("/messages/template", {"locale": 5})
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.details["fields"] == {"template_id": "is required", "locale": "must be of type string"}

    async def test_escaped_backslash_is_no_nul(self, rest: Rest) -> None:
        body = {"subscription_id": rest.platform.subscribe(), "title": "\\u0000"}
        assert (await rest.post("/messages", body)).status == 201


class TestSubscription:
    @pytest.mark.parametrize("token", ["", "zz" * 32, "ab" * 31, "ab" * 101, "a" * 65, "ab" * 32 + "\n", "a b"])
    async def test_token_that_is_none_of_apples(self, rest: Rest, token: str) -> None:
        answer = await rest.post("/subscriptions", {"type": "iOSPush", "token": token})
        assert (answer.status, answer.code) == (400, "invalid_token")
        assert not token or token not in json.dumps(answer.body)

    @pytest.mark.parametrize("token", ["", "x" * 4097, "a b", "토큰", "a\n", "\x7f"])
    async def test_token_that_is_none_of_googles(self, rest: Rest, token: str) -> None:
        answer = await rest.post("/subscriptions", {"type": "AndroidPush", "token": token})
        assert (answer.status, answer.code) == (400, "invalid_token")

    @pytest.mark.parametrize("kind", ["ios", "email", "", "x" * 1000])
    async def test_type_that_cannot_be_used(self, rest: Rest, kind: str) -> None:
        answer = await rest.post("/subscriptions", {"type": kind, "token": APNS_TOKEN})
        assert (answer.status, answer.code) == (400, "invalid_subscription_type")
        assert {"iOSPush", "AndroidPush"} <= set(answer.details["supported"])

    @pytest.mark.parametrize("application_id", [STRANGER, "x", ""])
    async def test_application_of_another(self, rest: Rest, application_id: str) -> None:
        body = {"type": "iOSPush", "token": APNS_TOKEN, "application_id": application_id}
        answer = await rest.post("/subscriptions", body)
        assert (answer.status, answer.code) == (403, "permission_denied")
        assert rest.platform.writes == 0

    @pytest.mark.parametrize(
        ("wrong", "fields"),
        [
            ({"user_id": ""}, {"user_id"}),
            ({"user_id": "a\0"}, {"user_id"}),
            ({"token_kind": "jwt"}, {"token_kind"}),
            ({"ad_consent": 1}, {"ad_consent"}),
            (
                {"device_info": {"test_type": 3, "country_code": "KOR", "model": "x"}},
                {"device_info.test_type", "device_info.country_code", "device_info.model"},
            ),
            ({"device_info": {"device_model": "x" * 129}}, {"device_info.device_model"}),
            ({"device_info": []}, {"device_info"}),
        ],
    )
    async def test_every_wrong_field_is_named(self, rest: Rest, wrong: dict[str, Any], fields: set[str]) -> None:
        answer = await rest.post("/subscriptions", {"type": "iOSPush", "token": APNS_TOKEN, **wrong})
        assert (answer.status, answer.code) == (422, "validation_error")
        assert set(answer.details["fields"]) == fields
        assert rest.platform.writes == 0


class TestReceipts:
    @pytest.mark.parametrize(
        ("tail", "body", "fields"),
        [
            ("status", {"status": "sent"}, {"status"}),
            ("status", {"status": 1}, {"status"}),
            ("convert", {"action": "x" * 101}, {"action"}),
            ("convert", {"action": "a\0"}, {"action"}),
            ("convert", {"data": {"a": "x" * 4096}}, {"data"}),
            ("convert", {"data": {"a": 2**64}}, {"data"}),
            ("convert", {"data": {"a": json.loads("[" * 16 + "]" * 16)}}, {"data"}),
            ("convert", {"data": []}, {"data"}),
        ],
    )
    async def test_every_wrong_field_is_named(
        self, rest: Rest, message: str, tail: str, body: dict[str, Any], fields: set[str]
    ) -> None:
        answer = await rest.post(f"/messages/{message}/{tail}", body)
        assert (answer.status, answer.code, set(answer.details["fields"])) == (422, "validation_error", fields)
        assert rest.platform.writes == 0
