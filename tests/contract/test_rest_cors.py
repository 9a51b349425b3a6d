"""Browsers of other origins: refused by default, let in as configured, never with credentials."""

from collections.abc import Mapping

import pytest

from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import APNS_TOKEN, Rest

pytest_plugins = ["tests.contract.rest_fixtures"]

APP = "https://app.example.com"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,content-type"}


@pytest.fixture
def origins() -> str:
    return f"{APP}, capacitor://localhost"


@pytest.fixture
def http_settings(origins: str) -> GatewayHttp:
    return GatewayHttp(cors_origins=origins)


async def preflight(rest: Rest, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
    async with rest.session.options(f"/api/v1{path}", headers=headers) as response:
        assert response.headers["X-Request-Id"]
        return response.status, response.headers


def marks(headers: Mapping[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("Access-Control-")}


@pytest.mark.parametrize("origin", [APP, "capacitor://localhost"])
async def test_preflight_needs_no_key(rest: Rest, origin: str) -> None:
    status, headers = await preflight(rest, "/subscriptions", {"Origin": origin, **ASKS})
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in headers["Access-Control-Allow-Methods"].split(", ")
    allowed = {name.lower() for name in headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"x-api-key", "x-subscription-secret", "idempotency-key", "content-type"} <= allowed
    assert int(headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in headers
    assert rest.platform.authentications == 0


@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{APP}.evil.com", "null", "", APP.upper(), f"{APP}/"])
async def test_other_origins_are_not_let_in(rest: Rest, origin: str) -> None:
    status, headers = await preflight(rest, "/subscriptions", {"Origin": origin, **ASKS})
    assert (status, marks(headers)) == (405, set())
    answer = await rest.get("/nothing", headers={"Origin": origin})
    assert marks(answer.headers) == set()
    assert "Origin" in answer.headers["Vary"]


async def test_every_answer_may_be_read_and_its_headers_too(rest: Rest) -> None:
    origin = {"Origin": APP}
    body = {"type": "iOSPush", "token": APNS_TOKEN}
    for answer in (
        await rest.post("/subscriptions", body, headers=origin),
        await rest.post("/subscriptions", body, headers=origin, key=None),
        await rest.get("/nothing", headers=origin),
        await rest.call("GET", "/healthz", headers=origin),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert {"X-Request-Id", "X-RateLimit-Remaining", "Retry-After", "ETag", "Idempotency-Replayed"} <= exposed
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_vary_keeps_what_was_there(rest: Rest) -> None:
    subscription = rest.platform.subscribe()
    await rest.post("/subscriptions", {"type": "iOSPush", "token": APNS_TOKEN})
    answer = await rest.get(f"/subscriptions/{subscription}", headers={"Origin": APP})
    assert {"Origin", "Accept-Encoding", "X-API-Key"} <= set(answer.headers["Vary"].split(", "))


async def test_options_without_a_question_is_a_method_like_any_other(rest: Rest) -> None:
    status, headers = await preflight(rest, "/subscriptions", {"Origin": APP})
    assert (status, "POST" in headers["Allow"]) == (405, True)


class TestAnyOrigin:
    @pytest.fixture
    def origins(self) -> str:
        return "*"

    async def test_is_let_in_without_credentials(self, rest: Rest) -> None:
        status, headers = await preflight(rest, "/messages", {"Origin": "https://any.example.org", **ASKS})
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "*")
        assert "Access-Control-Allow-Credentials" not in headers
        assert "Vary" not in headers


class TestNoOrigin:
    @pytest.fixture
    def origins(self) -> str:
        return ""

    async def test_is_let_in_by_default(self, rest: Rest) -> None:
        status, headers = await preflight(rest, "/messages", {"Origin": APP, **ASKS})
        assert (status, marks(headers)) == (405, set())
        assert marks((await rest.get("/nothing", headers={"Origin": APP})).headers) == set()
