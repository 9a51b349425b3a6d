"""What holds for the gateway as a whole: health, request ids, limits, keys remembered, dependencies away."""

import asyncio

import pytest

from libs import ids
from services.ingest.auth import KNOWN_FOR, UNKNOWN_FOR
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import Rest
from tests.contract.test_rest_messages import text

pytest_plugins = ["tests.contract.rest_fixtures"]


@pytest.fixture
def http_settings() -> GatewayHttp:
    return GatewayHttp(max_in_flight=2, max_batches=1, body_timeout=0.2, idle_timeout=0.2)


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/metrics"])
async def test_health_needs_no_key(rest: Rest, path: str) -> None:
    async with rest.session.get(path) as response:
        assert response.status == 200
        assert response.headers["X-Request-Id"]
        assert response.headers["Server"] == "automata-signal"


async def test_requests_are_counted_by_route_and_status(rest: Rest) -> None:
    await rest.get(f"/messages/{ids.new_id()}")
    async with rest.session.get("/metrics") as response:
        text = await response.text()
    assert 'automata_http_requests_total{route="GET /messages/{id}",status="404"}' in text


@pytest.mark.parametrize(
    "half", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nX-"]
)
async def test_a_connection_is_not_held_by_half_a_request(rest: Rest, half: bytes) -> None:
    url = rest.session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(half)
    async with asyncio.timeout(10):
        while await reader.read(1000):
            pass
    writer.close()


async def test_not_ready_before_it_started(rest: Rest) -> None:
    async with rest.session.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["nats"] is True


async def test_request_id_is_kept_if_sane(rest: Rest) -> None:
    for given in ("abc-1._X", "x" * 128):
        answer = await rest.get("/nothing", headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given
    for given in ("a b", "x" * 129, "", "한", "a;b"):
        answer = await rest.get("/nothing", headers={"X-Request-Id": given})
        assert ids.is_id(answer.headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/", "/api/v1", "/api/v1/nothing", "/api/v2/messages", "/%ff", "/api/v1/messages/"])
async def test_unknown_path_is_not_found(rest: Rest, path: str) -> None:
    answer = await rest.call("GET", path)
    assert (answer.status, answer.code) == (404, "resource_not_found")


async def test_errors_speak_korean_if_asked(rest: Rest) -> None:
    answer = await rest.post("/subscriptions", {"type": "SMS"}, headers={"Accept-Language": "ko"})
    assert answer.body["error"]["message"] == "요청 형식이 잘못되었거나 필수 필드가 누락되었습니다."
    assert answer.details == {"fields": {"token": "필수 입력 항목입니다"}}


async def test_failure_says_nothing_of_the_inside(rest: Rest) -> None:
    rest.platform.crash = True
    answer = await rest.post("/messages", text(rest.platform.subscribe()))
    assert (answer.status, answer.code, answer.details) == (500, "internal_server_error", {})
    assert "hunter2" not in str(answer.body)


class TestKeys:
    async def test_are_asked_for_once_in_a_while(self, rest: Rest) -> None:
        for _ in range(5):
            await rest.get(f"/messages/{ids.new_id()}")
        assert rest.platform.authentications == 1
        rest.clock.advance(KNOWN_FOR)
        await rest.get(f"/messages/{ids.new_id()}")
        assert rest.platform.authentications == 2

    async def test_revoked_one_ends_in_time(self, rest: Rest) -> None:
        await rest.get(f"/messages/{ids.new_id()}")
        rest.platform.revoked.add("owner-key")
        rest.clock.advance(KNOWN_FOR)
        assert (await rest.get(f"/messages/{ids.new_id()}")).status == 401

    async def test_known_one_ends_in_time_though_nobody_can_be_asked(self, rest: Rest) -> None:
        await rest.get(f"/messages/{ids.new_id()}")
        rest.platform.revoked.add("owner-key")
        for service in rest.platform.bus._services:
            await service.stop()
        rest.clock.advance(KNOWN_FOR)
        answer = await rest.get(f"/messages/{ids.new_id()}")
        assert (answer.status, answer.code) == (503, "service_unavailable")

    async def test_refused_one_is_remembered_shortly(self, rest: Rest) -> None:
        for _ in range(3):
            assert (await rest.get(f"/messages/{ids.new_id()}", key="guess")).status == 401
        assert rest.platform.authentications == 1
        rest.clock.advance(UNKNOWN_FOR)
        assert (await rest.get(f"/messages/{ids.new_id()}", key="guess")).status == 401
        assert rest.platform.authentications == 2


class TestLimits:
    async def test_too_many_at_once_are_turned_away(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe()
        rest.platform.hold.clear()
        held = [asyncio.create_task(rest.post("/messages", text(subscription))) for _ in range(2)]
        batch = asyncio.create_task(rest.post("/messages/batch", {"messages": [text(subscription)]}))
        for _ in range(2):
            await rest.platform.asked.acquire()
        for path, body in (("/messages", text(subscription)), ("/messages/batch", {"messages": [text(subscription)]})):
            answer = await rest.post(path, body)
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "service_unavailable", "1")
        rest.platform.hold.set()
        assert [(await each).status for each in (*held, batch)] == [201, 201, 200]
        assert (await rest.post("/messages", text(subscription))).status == 201

    async def test_who_has_the_key_of_an_app_cannot_take_all_there_is(self, rest: Rest) -> None:
        url = rest.session._base_url
        assert url is not None
        head = "POST /api/v1/subscriptions HTTP/1.1\r\nHost: x\r\nX-API-Key: client-key\r\n"
        slow = f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode()
        opened = [await asyncio.open_connection(url.host, url.port) for _ in range(2)]
        for _, writer in opened:
            writer.write(slow)
        statuses = [(await reader.readline())[9:12] for reader, _ in opened]
        assert sorted(statuses) == [b"400", b"503"]
        for _, writer in opened:
            writer.close()

    async def test_body_that_never_comes(self, rest: Rest) -> None:
        url = rest.session._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = "POST /api/v1/messages HTTP/1.1\r\nHost: x\r\nX-API-Key: owner-key\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_dependency_away_is_503(rest: Rest) -> None:
    subscription = rest.platform.subscribe()
    assert (await rest.post("/messages", text(subscription))).status == 201
    for service in rest.platform.bus._services:
        await service.stop()
    answer = await rest.post("/messages", text(subscription))
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "service_unavailable", "1")
    assert answer.details == {"retry_after": 1}
