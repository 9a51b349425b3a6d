"""Keys that expire, rotate, are revoked, and say when they were last used."""

import asyncio
import time
from typing import Any

import pytest

from libs import rpc
from libs.bus import Bus
from libs.errors import AuthenticationFailed, ResourceNotFound, ValidationFailed
from libs.pg import single_connection
from tests.contract.application_harness import audit_of, authenticate, keys_of, make_key
from tests.databases import Database
from tests.waiting import until

pytest_plugins = ["tests.contract.application_fixtures"]

EXPIRE = "UPDATE application.api_keys SET expires_at = now() - interval '1 millisecond' WHERE id = $1"
USED = "UPDATE application.api_keys SET last_used_at = now() - $2::text::interval WHERE id = $1"
WRITES = "SELECT xmin::text FROM application.api_keys WHERE id = $1"
DAY_MS = 86_400_000


def from_now(ms: int) -> int:
    return int(time.time() * 1000) + ms


async def rotate(bus: Bus, key_id: str, **options: Any) -> rpc.KeyCreated:
    return await bus.call("application", "rotate_key", rpc.RotateKey(key_id, **options), rpc.KeyCreated)


async def revoke(bus: Bus, key_id: str, **options: Any) -> None:
    await bus.call("application", "revoke_key", rpc.RevokeKey(key_id, **options), rpc.Empty)


async def view(bus: Bus, application_id: str, key_id: str) -> rpc.KeyView:
    (found,) = [key for key in await keys_of(bus, application_id) if key.id == key_id]
    return found


class TestExpiry:
    async def test_a_key_works_until_it_expires(self, bus: Bus, application_id: str, database: Database) -> None:
        made = await make_key(bus, application_id, expires_at_ms=from_now(DAY_MS))
        assert (await authenticate(bus, made.api_key)).key_id == made.key_id
        async with single_connection(database.admin_dsn) as c:
            await c.execute(EXPIRE, made.key_id)
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, made.api_key)

    @pytest.mark.parametrize("ms", [-1, 0, 2**62, -(2**62)], ids=["just now", "now", "far", "long ago"])
    async def test_a_key_is_not_made_for_a_past_or_endless_life(self, bus: Bus, application_id: str, ms: int) -> None:
        expires = from_now(ms) if abs(ms) < DAY_MS else ms
        with pytest.raises(ValidationFailed) as refused:
            await make_key(bus, application_id, expires_at_ms=expires)
        assert list(refused.value.details["fields"]) == ["expires_at_ms"]
        assert await keys_of(bus, application_id) == []


class TestRotation:
    async def test_old_and_new_work_during_the_grace_and_the_new_one_after(
        self, bus: Bus, application_id: str, database: Database
    ) -> None:
        old = await make_key(bus, application_id, "send", "read", name="shop floor")
        new = await rotate(bus, old.key_id, grace_s=3600)
        for each in (old, new):
            assert (await authenticate(bus, each.api_key)).scopes == ["read", "send"]
        assert {key.name for key in await keys_of(bus, application_id)} == {"shop floor"}
        until_ms = (await view(bus, application_id, old.key_id)).expires_at_ms
        assert until_ms is not None
        assert abs(until_ms - from_now(3_600_000)) < 60_000
        async with single_connection(database.admin_dsn) as c:
            await c.execute(EXPIRE, old.key_id)
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, old.api_key)
        assert (await authenticate(bus, new.api_key)).key_id == new.key_id

    async def test_without_grace_the_old_one_ends_at_once(self, bus: Bus, application_id: str) -> None:
        old = await make_key(bus, application_id)
        await rotate(bus, old.key_id, grace_s=0)
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, old.api_key)

    async def test_a_successor_lives_as_long_as_its_predecessor_was_made_to(
        self, bus: Bus, application_id: str
    ) -> None:
        first = await make_key(bus, application_id, expires_at_ms=from_now(30 * DAY_MS))
        second = await rotate(bus, first.key_id, grace_s=60)
        third = await rotate(bus, second.key_id, grace_s=60)
        expires = (await view(bus, application_id, third.key_id)).expires_at_ms
        assert expires is not None
        assert abs(expires - from_now(30 * DAY_MS)) < 60_000

    async def test_a_grace_prolongs_no_life(self, bus: Bus, application_id: str) -> None:
        key = await make_key(bus, application_id, expires_at_ms=from_now(60_000))
        before = (await view(bus, application_id, key.key_id)).expires_at_ms
        await rotate(bus, key.key_id, grace_s=86_400)
        assert (await view(bus, application_id, key.key_id)).expires_at_ms == before

    async def test_what_was_revoked_does_not_come_back(self, bus: Bus, application_id: str) -> None:
        key = await make_key(bus, application_id)
        await revoke(bus, key.key_id)
        with pytest.raises(ResourceNotFound):
            await rotate(bus, key.key_id)
        assert len(await keys_of(bus, application_id)) == 1

    @pytest.mark.parametrize("grace_s", [-1, 90 * 86_400 + 1])
    async def test_a_grace_has_bounds(self, bus: Bus, application_id: str, grace_s: int) -> None:
        key = await make_key(bus, application_id)
        with pytest.raises(ValidationFailed):
            await rotate(bus, key.key_id, grace_s=grace_s)

    async def test_rotating_and_revoking_at_once_leaves_no_way_back(self, bus: Bus, application_id: str) -> None:
        key = await make_key(bus, application_id)
        await asyncio.gather(
            *(revoke(bus, key.key_id) for _ in range(4)), rotate(bus, key.key_id), return_exceptions=True
        )
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, key.api_key)
        actions = [entry.action for entry in await audit_of(bus, application_id, f"key/{key.key_id}")]
        assert actions.count("key.revoke") == 1


class TestScopes:
    async def test_client_stands_alone(self, bus: Bus, application_id: str) -> None:
        made = await make_key(bus, application_id, "client", "client")
        assert (await authenticate(bus, made.api_key)).scopes == ["client"]
        for other in ("send", "read", "manage"):
            with pytest.raises(ValidationFailed) as refused:
                await make_key(bus, application_id, "client", other)
            assert list(refused.value.details["fields"]) == ["scopes"]


class TestLastUse:
    async def test_it_is_noted_beside_authentication(self, bus: Bus, application_id: str) -> None:
        key = await make_key(bus, application_id)
        assert (await view(bus, application_id, key.key_id)).last_used_at_ms is None
        await authenticate(bus, key.api_key)

        async def noted() -> bool:
            return (await view(bus, application_id, key.key_id)).last_used_at_ms is not None

        await until(noted, "the use is noted")

    async def test_it_is_written_once_a_minute(
        self, bus: Bus, application_id: str, second_replica: None, database: Database
    ) -> None:
        fresh, stale = await make_key(bus, application_id), await make_key(bus, application_id)
        async with single_connection(database.admin_dsn) as c:
            await c.execute(USED, fresh.key_id, "50 seconds")
            await c.execute(USED, stale.key_id, "70 seconds")
            before = await c.fetchval(WRITES, fresh.key_id), await c.fetchval(WRITES, stale.key_id)
            for _ in range(20):
                await asyncio.gather(authenticate(bus, fresh.api_key), authenticate(bus, stale.api_key))

            async def written() -> bool:
                return bool(await c.fetchval(WRITES, stale.key_id) != before[1])

            await until(written, "the use is noted")
            once = await c.fetchval(WRITES, stale.key_id)
            for _ in range(20):
                await asyncio.gather(authenticate(bus, fresh.api_key), authenticate(bus, stale.api_key))
            third = await make_key(bus, application_id)
            await authenticate(bus, third.api_key)

            async def later_one_written() -> bool:
                return (await view(bus, application_id, third.key_id)).last_used_at_ms is not None

            await until(later_one_written, "the later use is noted")
            assert await c.fetchval(WRITES, fresh.key_id) == before[0]
            assert await c.fetchval(WRITES, stale.key_id) == once

    async def test_a_locked_key_keeps_nobody_waiting(self, bus: Bus, application_id: str, database: Database) -> None:
        """Noting a use skips a key that somebody is changing."""
        key = await make_key(bus, application_id)
        async with single_connection(database.admin_dsn) as c, c.transaction():
            await c.execute("SELECT FROM application.api_keys WHERE id = $1 FOR UPDATE", key.key_id)
            await authenticate(bus, key.api_key)
            other = await make_key(bus, application_id)
            await authenticate(bus, other.api_key)

            async def noted() -> bool:
                return (await view(bus, application_id, other.key_id)).last_used_at_ms is not None

            await until(noted, "the use is noted")


class TestTenancy:
    async def test_keys_are_listed_with_a_hint_and_only_to_their_application(
        self, bus: Bus, application_id: str, stranger_id: str
    ) -> None:
        made = await make_key(bus, application_id)
        (listed,) = await keys_of(bus, application_id)
        assert made.api_key.startswith(f"as_{listed.hint}")
        assert len(listed.hint) == 4
        assert await keys_of(bus, stranger_id) == []

    async def test_a_stranger_rotates_and_revokes_nothing(
        self, bus: Bus, application_id: str, stranger_id: str
    ) -> None:
        made = await make_key(bus, application_id)
        for owner in (stranger_id, "nonsense"):
            with pytest.raises(ResourceNotFound):
                await rotate(bus, made.key_id, application_id=owner)
            with pytest.raises(ResourceNotFound):
                await revoke(bus, made.key_id, application_id=owner)
        await revoke(bus, made.key_id.upper(), application_id=application_id.upper())
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, made.api_key)


async def test_each_change_is_recorded_once_with_who_and_never_the_key(
    bus: Bus, application_id: str, database: Database
) -> None:
    key = await make_key(bus, application_id)
    successor = await rotate(bus, key.key_id, actor="cli:ann", request_id="r1")
    for _ in range(2):
        await revoke(bus, key.key_id, actor="cli:ben")
    log = await audit_of(bus, application_id, f"key/{key.key_id}")
    assert [(entry.action, entry.actor, entry.request_id) for entry in log] == [
        ("key.revoke", "cli:ben", ""),
        ("key.rotate", "cli:ann", "r1"),
        ("key.create", "cli", ""),
    ]
    assert log[1].data == {"successor": successor.key_id, "grace_s": 86_400}
    async with single_connection(database.admin_dsn) as c:
        everything = await c.fetchval("SELECT string_agg(audit_log::text, '') FROM application.audit_log")
    assert not any(made.api_key[7:] in everything for made in (key, successor))


async def test_many_keys_authenticate_at_once_each_as_itself(bus: Bus, application_id: str) -> None:
    made = [await make_key(bus, application_id) for _ in range(5)]
    asked = made * 40
    found = await asyncio.gather(*(authenticate(bus, each.api_key) for each in asked))
    assert [principal.key_id for principal in found] == [each.key_id for each in asked]
