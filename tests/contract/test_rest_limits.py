"""Rate limits: counted over all gateways, told on every answer, exact within 5 %."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest

from libs.errors import ServiceUnavailable
from services.ingest.exchange import Route
from tests.contract.rest_gateway import CREATED_MS, LIMITED, AnotherGateway, Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

PATH = f"/probes/{MADE}"
RESET = str(math.ceil((CREATED_MS + 60_000) / 1000))


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


async def statuses(rest: Rest, number: int, path: str = PATH) -> list[int]:
    return [(await rest.get(path, key="limited-key")).status for _ in range(number)]


async def test_every_answer_tells_how_the_rate_stands(rest: Rest, probe: Probe) -> None:
    remaining = 300
    for method, path, raw, status in (
        ("GET", PATH, None, 200),
        ("POST", "/probes", b"{", 400),
        ("POST", "/probes", b'{"x":1}', 422),
        ("GET", f"{PATH}?x=1", None, 422),
        ("POST", "/probes", b"{}", 201),
    ):
        answer = await rest.call(method, f"/api/v1{path}", raw=raw, key="limited-key")
        remaining -= 1
        assert answer.status == status
        assert answer.headers["X-RateLimit-Limit"] == "300"
        assert answer.headers["X-RateLimit-Remaining"] == str(remaining)
        assert answer.headers["X-RateLimit-Reset"] == RESET
    probe.error = RuntimeError("boom")  # type: ignore[assignment]  # what no handler should raise
    failed = await rest.get(PATH, key="limited-key")
    assert (failed.status, failed.headers["X-RateLimit-Remaining"]) == (500, str(remaining - 1))


async def test_whoever_is_not_known_is_told_nothing(rest: Rest) -> None:
    for key in (None, "guess"):
        assert not [name for name in (await rest.get(PATH, key=key)).headers if name.startswith("X-RateLimit")]


async def test_unlimited_is_told_so_and_asks_for_no_lease(rest: Rest) -> None:
    answer = await rest.get(PATH)
    assert answer.headers["X-RateLimit-Limit"] == answer.headers["X-RateLimit-Remaining"] == "unlimited"
    assert not rest.platform.leases


async def test_beyond_the_limit_requests_are_refused_until_the_minute_is_over(rest: Rest) -> None:
    assert Counter(await statuses(rest, 310)) == {200: 300, 429: 10}
    refused = await rest.get(PATH, key="limited-key")
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.details == {"limit": 300, "retry_after": 60}
    assert (refused.headers["Retry-After"], refused.headers["X-RateLimit-Remaining"]) == ("60", "0")
    assert refused.headers["X-RateLimit-Reset"] == RESET
    korean = await rest.get(PATH, key="limited-key", headers={"Accept-Language": "ko"})
    assert korean.body["error"]["message"] == "요청 횟수 제한을 초과했습니다."
    rest.clock.advance(59.5)
    assert (await rest.get(PATH, key="limited-key")).headers["Retry-After"] == "1"
    rest.clock.advance(0.5)
    rest.platform.window_ms += 60_000
    assert (await rest.get(PATH, key="limited-key")).status == 200


async def test_leases_are_asked_for_in_shares_and_not_at_all_when_used_up(rest: Rest) -> None:
    await statuses(rest, 350)
    assert {lease.want for lease in rest.platform.leases} == {6}
    assert len(rest.platform.leases) == 300 // 6 + 1


async def test_what_was_leased_ends_with_its_minute(rest: Rest) -> None:
    await statuses(rest, 1)
    rest.clock.advance(60)
    rest.platform.window_ms += 60_000
    await statuses(rest, 1)
    assert [lease.want for lease in rest.platform.leases] == [6, 6]
    assert rest.platform.granted == {(LIMITED, CREATED_MS): 6, (LIMITED, CREATED_MS + 60_000): 6}


async def test_a_burst_shares_its_questions(rest: Rest) -> None:
    answers = await asyncio.gather(*(rest.get(PATH, key="limited-key") for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    assert len(rest.platform.leases) < 20


async def test_a_batch_is_one_request(rest: Rest) -> None:
    before = (await rest.get(PATH, key="limited-key")).headers["X-RateLimit-Remaining"]
    after = (await rest.post("/probes", {"text": "x" * 1000}, key="limited-key")).headers["X-RateLimit-Remaining"]
    assert int(before) - int(after) == 1


async def test_refused_is_refused_before_the_body_is_read(rest: Rest, probe: Probe) -> None:
    await statuses(rest, 300)
    answer = await rest.call("POST", "/api/v1/probes", raw=b"{" * 10_000_000, key="limited-key")
    assert answer.status == 429
    assert len(probe.calls) == 300


@pytest.mark.parametrize("gateways", [2, 3])
async def test_several_gateways_count_together(rest: Rest, another_gateway: AnotherGateway, gateways: int) -> None:
    async with another_gateway() as second, another_gateway() as third:
        asked = [rest, second, third][:gateways]
        passed = 0
        for _ in range(40):
            turn = [each.get(PATH, key="limited-key") for each in asked for _ in range(8)]
            passed += sum(answer.status == 200 for answer in await asyncio.gather(*turn))
    assert abs(passed - 300) <= 15


async def test_one_busy_gateway_among_idle_ones_gets_nearly_all(rest: Rest, another_gateway: AnotherGateway) -> None:
    async with another_gateway() as second, another_gateway() as third:
        for each in (second, third):
            await statuses(each, 1)
        passed = Counter(await statuses(rest, 320))[200]
    assert 285 <= passed + 2 <= 300


async def test_where_nobody_can_tell_it_is_503(rest: Rest, probe: Probe) -> None:
    rest.platform.away.add("lease")
    answer = await rest.get(PATH, key="limited-key")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, ServiceUnavailable.code, "1")
    assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("300", "0")
    assert not probe.calls
    rest.platform.away.clear()
    assert (await rest.get(PATH, key="limited-key")).status == 200
