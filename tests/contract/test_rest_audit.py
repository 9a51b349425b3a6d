"""One entry in the audit log for each successful change, committed before the change is answered."""

import asyncio
from collections.abc import Sequence

import pytest

from libs import errors
from services.ingest.exchange import Route
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import OWNER, Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


@pytest.fixture
def http_settings() -> GatewayHttp:
    return GatewayHttp(trusted_proxies="127.0.0.0/8, 10.0.0.0/8")


async def test_says_who_did_what_to_which_resource(rest: Rest) -> None:
    await rest.post(f"/probes/{MADE.upper()}/mark", {}, headers={"X-Request-Id": "r-1"})
    (entry,) = rest.platform.audited
    assert (entry.application_id, entry.actor, entry.action) == (OWNER, "key:k1", "probe.mark")
    assert (entry.resource, entry.request_id) == (f"probe/{MADE}", "r-1")


async def test_resource_is_the_handlers_word_where_it_has_one(rest: Rest, probe: Probe) -> None:
    probe.resource = "probe/the-new-one"
    await rest.post("/probes", {})
    probe.resource = None
    await rest.post("/probes", {})
    assert [entry.resource for entry in rest.platform.audited] == ["probe/the-new-one", "probe"]


@pytest.mark.parametrize(
    "path", ["/probes/kim.minji", "/users/0199a1b2-0000-7000-8000-0000000000bb", "/users/kim.minji"]
)
async def test_names_that_others_gave_are_left_out(rest: Rest, path: str) -> None:
    assert (await rest.call("DELETE", f"/api/v1{path}")).status == 200
    (entry,) = rest.platform.audited
    assert entry.resource in ("probe", "user")


async def test_what_was_read_refused_or_repeated_is_no_change(rest: Rest, probe: Probe) -> None:
    await rest.get(f"/probes/{MADE}")
    await rest.post("/probes", {"x": 1})
    await rest.post("/probes/check", {})
    probe.error = errors.ResourceNotFound(id="x")
    await rest.post("/probes", {})
    assert not rest.platform.audited
    probe.error = None
    for _ in range(3):
        await rest.post("/probes", {}, headers={"Idempotency-Key": "k"})
    assert len(rest.platform.audited) == 1


async def test_change_that_cannot_be_recorded_is_not_answered(rest: Rest) -> None:
    rest.platform.away.add("record_audit")
    answer = await rest.post("/probes", {}, headers={"Idempotency-Key": "k"})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "service_unavailable", "1")
    assert not rest.platform.kept
    rest.platform.away.clear()
    answer = await rest.post("/probes", {}, headers={"Idempotency-Key": "k"})
    assert (answer.status, len(rest.platform.audited)) == (201, 1)


async def test_changes_at_the_same_time_are_recorded_together(rest: Rest) -> None:
    answers = await asyncio.gather(*(rest.post("/probes", {}) for _ in range(50)))
    assert {answer.status for answer in answers} == {201}
    assert len(rest.platform.audited) == 50
    assert rest.platform.recordings < 50


class TestAddress:
    async def test_is_the_nearest_that_is_no_proxy_of_ours(self, rest: Rest) -> None:
        headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.1.2.3"}
        await rest.post("/probes", {}, headers=headers)
        assert rest.platform.audited[0].data == {"address": "203.0.113.9"}

    @pytest.mark.parametrize("key", ["client-key", "client-and-more-key"])
    async def test_of_a_device_is_not_kept(self, rest: Rest, key: str) -> None:
        await rest.post("/probes", {}, key=key, headers={"X-Forwarded-For": "203.0.113.9"})
        assert rest.platform.audited[0].data == {}
