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
from tests.contract.rest_gateway import OWNER, STRANGER, Rest
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
