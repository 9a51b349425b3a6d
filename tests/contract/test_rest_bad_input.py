"""Bad input on every endpoint: the documented error each time, never 500, nothing written."""

import gzip
import json
import re
from typing import Any

import pytest

from libs import ids
from services.ingest.bodies import SMALL_BODY
from services.ingest.endpoint import body_reader
from services.ingest.exchange import Route
from services.ingest.routes import PREFIX, ROUTES
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import APNS_TOKEN, OWNER, STRANGER, Rest
from tests.contract.test_rest_messages import view

pytest_plugins = ["tests.contract.rest_fixtures"]

SUBSCRIPTION = "0199a1b2-0000-7000-8000-00000000000a"
WITH_BODY = [route for route in ROUTES if body_reader(route) is not None]
ASKED_ALONE = [
    ("GET", "/subscriptions/{id}"),
    ("GET", "/messages/{id}"),
    ("GET", "/messages/{id}/events"),
    ("POST", "/messages/{id}/status"),
    ("POST", "/messages/{id}/convert"),
]
"""Operations that ask nothing but what the stand-ins answer; `test_rest_tenancy` walks all of them."""
BOMB = b"[" * 100_000
HOSTILE = {
    "malformed": b'{"title": ',
    "not json": b"subscription_id=1",
    "bare bracket": b"{",
    "two documents": b"{} {}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "bad utf-8": b'{"title":"\xff\xfe"}',
    "utf-16": '{"title":"x"}'.encode("utf-16"),
    "lone surrogate": b'{"title":"\\ud800","token":"\\ud800","status":"\\ud800","action":"\\ud800"}',
    "surrogate as utf-8": b'{"title":"\xed\xa0\x80"}',
    "control character": b'{"title":"a\x01"}',
    "not a number": b'{"ttl":NaN,"data":{"x":NaN}}',
    "infinity": b'{"ttl":1e999}',
    "null": b"null",
    "array": b"[]",
    "string": b'"x"',
    "number": b"7",
    "true": b"true",
    "deep array": BOMB,
    "deep array, closed": BOMB + b"]" * 100_000 if len(BOMB) * 2 < SMALL_BODY else BOMB[:60_000] + b"]" * 60_000,
    "deep data": b'{"data":' * 900 + b"1" + b"}" * 900,
    "deep unknown": b'{"x":' * 20_000 + b"1" + b"}" * 20_000,
    "empty object with spaces": b" " * 1000 + b"[1]",
}


@pytest.fixture
def message(rest: Rest) -> str:
    """A message of ours, for paths that name one."""
    message = ids.new_id()
    rest.platform.views[OWNER, message] = view(message)
    return message


def limit_of(route: Route) -> int:
    return GatewayHttp().max_body_bytes if route.size == "batch" else SMALL_BODY


def url_of(route: Route, message: str) -> str:
    return PREFIX + re.sub(r"\{\w+\}", message, route.path)


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: f"{route.method} {route.path}")
class TestEveryBody:
    async def test_hostile_bodies(self, rest: Rest, route: Route, message: str) -> None:
        for name, raw in HOSTILE.items():
            answer = await rest.call(route.method, url_of(route, message), raw=raw)
            assert answer.status in (400, 422), (name, answer)
            assert answer.code in ("invalid_request", "validation_error"), (name, answer)
        assert rest.platform.writes == 0

    async def test_missing_body(self, rest: Rest, route: Route, message: str) -> None:
        if not route.body_required:
            return
        for raw in (None, b""):
            answer = await rest.call(route.method, url_of(route, message), raw=raw)
            assert (answer.status, answer.code) == (400, "invalid_request")
        assert rest.platform.writes == 0

    async def test_body_over_the_limit(self, rest: Rest, route: Route, message: str) -> None:
        limit = limit_of(route)
        raw = json.dumps({"title": "x" * (limit + 1024**2)}).encode()
        for body, headers in ((raw, {}), (gzip.compress(raw, 1), {"Content-Encoding": "gzip"})):
            answer = await rest.call(route.method, url_of(route, message), raw=body, headers=headers)
            assert (answer.status, answer.code, answer.details) == (413, "payload_too_large", {"limit": limit})
        assert rest.platform.writes == 0

    async def test_body_over_the_limit_in_chunks(self, rest: Rest, route: Route, message: str) -> None:
        async def chunks() -> Any:
            for _ in range(6 * 16):
                yield b" " * 65536

        headers = {"X-API-Key": "owner-key", "Content-Type": "application/json"}
        url = url_of(route, message)
        async with rest.session.request(route.method, url, data=chunks(), headers=headers) as response:
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "payload_too_large"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "application/json; charset=euc-kr"},
            {"Content-Type": ""},
            {"Content-Encoding": "br"},
            {"Content-Encoding": "gzip, gzip"},
        ],
    )
    async def test_other_media_types(self, rest: Rest, route: Route, message: str, headers: dict[str, str]) -> None:
        raw = json.dumps(route.example).encode()
        sent = {"X-API-Key": "owner-key", "Content-Type": "application/json", **headers}
        async with rest.session.request(
            route.method, url_of(route, message), data=raw, headers=sent, skip_auto_headers=["Content-Type"]
        ) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (415, "unsupported_media_type")
        assert rest.platform.writes == 0

    async def test_charset_utf_8_is_fine(self, rest: Rest, route: Route, message: str) -> None:
        headers = {"Content-Type": "Application/JSON; charset=UTF-8"}
        answer = await rest.call(route.method, url_of(route, message), route.example, headers=headers)
        assert answer.status != 415

    async def test_unknown_fields_are_named(self, rest: Rest, route: Route, message: str) -> None:
        body = {**route.example, "tilte": 1, "x" * 500: 2}
        answer = await rest.call(route.method, url_of(route, message), body)
        assert (answer.status, answer.code) == (422, "validation_error")
        assert {"tilte", "x" * 100 + "…"} == set(answer.details["fields"])
        assert rest.platform.writes == 0

    async def test_no_key_wrong_key_revoked_key(self, rest: Rest, route: Route, message: str) -> None:
        rest.platform.revoked.add("stranger-key")
        for key in (None, "guess", "stranger-key", "x" * 2000, "키"):
            answer = await rest.call(route.method, url_of(route, message), route.example, key=key)
            assert (answer.status, answer.code) == (401, "authentication_failed")
            assert answer.details == {"header": "X-API-Key"}
        assert rest.platform.writes == 0

    async def test_key_without_the_scope(self, rest: Rest, route: Route, message: str) -> None:
        if "read" in route.scopes:
            return
        answer = await rest.call(route.method, url_of(route, message), route.example, key="reader-key")
        assert (answer.status, answer.code) == (403, "permission_denied")
        assert rest.platform.writes == 0


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_other_methods(rest: Rest, path: str) -> None:
    has = {route.method for route in ROUTES if route.path == path}
    named = has | ({"HEAD"} if "GET" in has else set())
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"} - has:
        answer = await rest.call(method, PREFIX + re.sub(r"\{\w+\}", "x", path))
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == named


@pytest.mark.parametrize("route", [r for r in ROUTES if r.query is None], ids=lambda r: f"{r.method} {r.path}")
async def test_a_query_that_nobody_reads_is_refused(rest: Rest, route: Route, message: str) -> None:
    answer = await rest.call(route.method, url_of(route, message) + "?limit=1&x=%00&x=2", route.example)
    assert (answer.status, answer.code) == (422, "validation_error")
    assert answer.details["fields"] == {"limit": "is not a known field", "x": "is not a known field"}
    assert rest.platform.writes == 0


@pytest.mark.parametrize("route", [r for r in ROUTES if r.query is not None], ids=lambda r: f"{r.method} {r.path}")
async def test_an_unknown_parameter_is_refused(rest: Rest, route: Route, message: str) -> None:
    answer = await rest.call(route.method, url_of(route, message) + "?nothing=1")
    assert (answer.status, answer.code) == (422, "validation_error")
    assert answer.details["fields"] == {"nothing": "is not a known field"}


async def test_a_bare_question_mark_asks_nothing(rest: Rest, message: str) -> None:
    assert (await rest.get(f"/messages/{message}?")).status == 200


@pytest.mark.parametrize(("method", "path"), ASKED_ALONE)
@pytest.mark.parametrize(
    "identifier", [SUBSCRIPTION, "m1234567890", "%00", "%ff", "%F0%9F", "1" * 400, f"{SUBSCRIPTION}%0a", "..%2f.."]
)
async def test_ids_of_nothing_are_not_found(rest: Rest, method: str, path: str, identifier: str) -> None:
    answer = await rest.call(method, PREFIX + path.replace("{id}", identifier), example_of(method, path))
    assert (answer.status, answer.code) == (404, "resource_not_found")
    assert rest.platform.writes == 0


@pytest.mark.parametrize(("method", "path"), ASKED_ALONE)
async def test_ids_of_another_tenant_are_not_found(rest: Rest, method: str, path: str) -> None:
    theirs = rest.platform.subscribe(owner=STRANGER)
    rest.platform.views[STRANGER, theirs] = view(theirs)
    answer = await rest.call(method, PREFIX + path.replace("{id}", theirs), example_of(method, path))
    assert (answer.status, answer.code, answer.details) == (404, "resource_not_found", {"id": theirs})
    assert rest.platform.writes == 0


def example_of(method: str, path: str) -> Any:
    (example,) = [route.example for route in ROUTES if (route.method, route.path) == (method, path)]
    return example


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

    @pytest.mark.parametrize("kind", ["Email", "SMS", "KakaoTalk", "InAppMessage", "ios", "", "x" * 1000])
    async def test_type_that_cannot_be_used(self, rest: Rest, kind: str) -> None:
        answer = await rest.post("/subscriptions", {"type": kind, "token": APNS_TOKEN})
        assert (answer.status, answer.code) == (400, "invalid_subscription_type")
        assert answer.details["supported"] == ["iOSPush", "AndroidPush"]

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
