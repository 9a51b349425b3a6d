"""The audit log: recorded in batches, never changed, listed newest first."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest

from libs import rpc
from libs.bus import Bus
from libs.errors import ResourceNotFound, ValidationFailed
from libs.pg import single_connection
from tests.contract.application_harness import audit_of, make_application
from tests.databases import Database

pytest_plugins = ["tests.contract.application_fixtures"]

MANY = """
INSERT INTO application.audit_log (application_id, actor, action, resource, request_id)
SELECT $1, 'key:1', 'template.create', 'template/1', '' FROM generate_series(1, $2)
"""


async def record(bus: Bus, *entries: rpc.AuditEntry) -> None:
    await bus.call("application", "record_audit", rpc.RecordAudit(list(entries)), rpc.Empty)


async def page(bus: Bus, application_id: str, **options: Any) -> rpc.AuditPage:
    return await bus.call("application", "list_audit", rpc.ListAudit(application_id, **options), rpc.AuditPage)


def entry(owner: str, **changes: Any) -> rpc.AuditEntry:
    good = rpc.AuditEntry(owner, "key:1", "template.create", "template/1", "r1", {"version": 1})
    return msgspec.structs.replace(good, **changes)


async def test_many_at_once_are_all_kept(bus: Bus, application_id: str, stranger_id: str) -> None:
    owners = [application_id, stranger_id] * 100
    await asyncio.gather(
        *(record(bus, entry(owner, resource=f"template/{i}"), entry(owner)) for i, owner in enumerate(owners))
    )
    for owner in (application_id, stranger_id):
        found = await page(bus, owner, limit=100, action="template.create")
        assert (len(found.entries), found.total, found.more) == (100, 200, True)
        positions = [each.position for each in found.entries]
        assert positions == sorted(positions, reverse=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"application_id": "nonsense"}, "application_id"),
        ({"actor": "a\0"}, "actor"),
        ({"resource": "x" * 301}, "resource"),
        ({"data": {"a": "x" * 5000}}, "data"),
        ({"data": {"a\0": 1}}, "data"),
    ],
)
async def test_a_bad_entry_is_refused_and_spoils_nobodys_batch(
    bus: Bus, application_id: str, changes: dict[str, Any], field: str
) -> None:
    bad, good = await asyncio.gather(
        record(bus, entry(application_id, **changes)), record(bus, entry(application_id)), return_exceptions=True
    )
    assert isinstance(bad, ValidationFailed)
    assert list(bad.details["fields"]) == [field]
    assert good is None
    assert (await page(bus, application_id, action="template.create")).total == 1


async def test_nothing_and_too_much(bus: Bus, application_id: str) -> None:
    await record(bus)
    with pytest.raises(ValidationFailed):
        await record(bus, *[entry(application_id)] * 1001)


async def test_the_role_can_neither_change_nor_remove_an_entry(
    bus: Bus, application_id: str, database: Database
) -> None:
    await record(bus, entry(application_id))
    async with single_connection(database.dsn("application")) as c:
        for statement in (
            "UPDATE application.audit_log SET actor = 'nobody'",
            "DELETE FROM application.audit_log",
            "TRUNCATE application.audit_log",
            "DROP TABLE application.audit_log",
            "ALTER TABLE application.audit_log ADD COLUMN more text",
            "SELECT FROM application.audit_log FOR UPDATE",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await c.execute(statement)
    assert (await page(bus, application_id, action="template.create")).total == 1


async def test_the_count_is_exact_to_ten_thousand(bus: Bus, application_id: str, database: Database) -> None:
    before = (await page(bus, application_id)).total
    async with single_connection(database.admin_dsn) as c:
        await c.execute(MANY, application_id, 10_000 - before)
        assert (await page(bus, application_id)).total == 10_000
        await c.execute(MANY, application_id, 5)
    assert (await page(bus, application_id)).total == 10_001
    assert (await page(bus, application_id, resource="template/1", actor="key:1")).total <= 10_001


async def test_limits_are_bounded(bus: Bus, application_id: str) -> None:
    await record(bus, *(entry(application_id) for _ in range(120)))
    assert len((await page(bus, application_id, limit=10**9)).entries) == 100
    assert len((await page(bus, application_id, limit=-1, offset=-1)).entries) == 1
    assert (await page(bus, application_id, offset=2**62)).entries == []


async def test_what_has_no_id_is_not_found_and_an_unknown_application_has_no_entries(
    bus: Bus, application_id: str
) -> None:
    with pytest.raises(ResourceNotFound):
        await page(bus, "nonsense")
    assert await page(bus, "01990000-0000-7000-8000-000000000000") == rpc.AuditPage([], 0)


async def test_creating_an_application_is_recorded_once(bus: Bus, service: None) -> None:
    application_id = await make_application(bus)
    again = rpc.CreateApplication(application_id, "Other")
    await bus.call("application", "create_application", again, rpc.ApplicationCreated)
    found = await audit_of(bus, application_id)
    assert [(each.action, each.resource) for each in found] == [("application.create", f"application/{application_id}")]
