"""Keys as the gateway knows them: what is revoked, expired or rotated out stops working there too, soon."""

import asyncio

import pytest

from libs import rpc
from libs.pg import single_connection
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

WITHIN = 5.0
"""Seconds."""
EXPIRE = "UPDATE application.api_keys SET expires_at = now() WHERE application_id = $1"


async def revoke(whole: Whole, key_id: str) -> None:
    await whole.bus.call("application", "revoke_key", rpc.RevokeKey(key_id), rpc.Empty)


async def rotate(whole: Whole, key_id: str) -> None:
    await whole.bus.call("application", "rotate_key", rpc.RotateKey(key_id, 0), rpc.KeyCreated)


async def expire(whole: Whole, shop: Tenant) -> None:
    async with single_connection(whole.database.admin_dsn) as c:
        await c.execute(EXPIRE, shop.application_id)


@pytest.mark.parametrize("how", ["revoked", "rotated", "expired"])
async def test_an_ended_key_is_refused_within_five_seconds(whole: Whole, how: str) -> None:
    shop = await whole.tenant()
    keys = await whole.bus.call("application", "list_keys", rpc.ListKeys(shop.application_id), rpc.ApiKeys)
    (key_id,) = [key.id for key in keys.keys]
    assert (await shop.get("/credentials")).status == 200
    loop = asyncio.get_running_loop()
    if how == "revoked":
        await revoke(whole, key_id)
    elif how == "rotated":
        await rotate(whole, key_id)
    else:
        await expire(whole, shop)
    ended_at = loop.time()
    while (answer := await shop.get("/credentials")).status == 200:
        assert loop.time() - ended_at < WITHIN
        await asyncio.sleep(0.1)
    assert (answer.status, answer.code) == (401, "authentication_failed")
