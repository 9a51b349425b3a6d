"""What the gateway shares with the services behind it and with other gateways, over the real ones."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

import services.ingest.__main__ as ingest
import services.ingest.settings
from libs import config, ids, rpc
from services.cli import ports
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import APNS_TOKEN
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running
from tests.waiting import until

pytest_plugins = ["tests.contract.whole_fixtures"]


@contextlib.asynccontextmanager
async def another_gateway(nats: config.Nats) -> AsyncIterator[aiohttp.ClientSession]:
    port = ports.choose(["api"], None, {})["api"]
    http = GatewayHttp(port=port, leave_after=0.0)
    settings = services.ingest.settings.Settings(nats, config.Health(), http)
    async with running("ingest", ingest.start, settings), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


@pytest.mark.parametrize(("tier", "limit"), [("default", 300), ("premium", 1_000)])
async def test_two_gateways_let_through_what_the_tier_says(
    whole: Whole, nats_settings: config.Nats, tier: rpc.Tier, limit: int
) -> None:
    tenant = await whole.tenant(tier=tier)
    passed: Counter[str] = Counter()
    path = f"/messages/{ids.new_id()}"
    async with another_gateway(nats_settings) as session:
        askers = [tenant, Tenant(session, tenant.application_id, tenant.api_key)]
        used_up: set[str] = set()
        while not used_up:
            answers = await asyncio.gather(*(asker.get(path) for asker in askers for _ in range(8)))
            resets = {answer.headers["X-RateLimit-Reset"] for answer in answers if answer.status == 429}
            passed.update(answer.headers["X-RateLimit-Reset"] for answer in answers if answer.status == 404)
            assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {str(limit)}
            used_up = resets if all(answer.status == 429 for answer in answers) else set()
        (reset,) = used_up
    # The minute may have turned meanwhile: counted is the one that was used up.
    assert abs(passed[reset] - limit) <= limit * 0.05


async def test_a_revoked_key_ends_at_every_gateway_within_five_seconds(
    whole: Whole, nats_settings: config.Nats
) -> None:
    tenant = await whole.tenant()
    path = f"/messages/{ids.new_id()}"
    async with another_gateway(nats_settings) as session:
        askers = [tenant, Tenant(session, tenant.application_id, tenant.api_key)]
        assert [(await asker.get(path)).status for asker in askers] == [404, 404]
        keys = rpc.ListKeys(tenant.application_id)
        (key,) = (await whole.bus.call("application", "list_keys", keys, rpc.ApiKeys)).keys
        await whole.bus.call("application", "revoke_key", rpc.RevokeKey(key.id), rpc.Empty)

        async def refused() -> bool:
            return [(await asker.get(path)).status for asker in askers] == [401, 401]

        await until(refused, "the key is refused", seconds=5)


async def test_an_answer_is_remembered_and_the_change_is_in_the_audit_log_once(whole: Whole) -> None:
    tenant = await whole.tenant()
    body = {"type": "iOSPush", "token": APNS_TOKEN}
    answers = [await tenant.post("/subscriptions", body, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [201] * 3
    assert len({answer.data["subscription_id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    page = rpc.ListAudit(tenant.application_id, action="subscription.create")
    (entry,) = (await whole.bus.call("application", "list_audit", page, rpc.AuditPage)).entries
    assert entry.data == {"address": "127.0.0.1"}
    assert entry.resource == f"subscription/{answers[0].data['subscription_id']}"


async def test_the_keys_in_apps_do_not_use_up_the_back_ends_minute(whole: Whole) -> None:
    shop = await whole.tenant(tier="default")
    app = await whole.with_key(shop.application_id, ["client"])
    path = f"/subscriptions/{ids.new_id()}"
    statuses = {(await app.get(path)).status for _ in range(650)}  # more than two minutes' worth
    assert statuses == {404, 429}
    assert (await shop.get(path)).status == 404
