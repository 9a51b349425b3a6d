"""What an import may do to subscriptions that are there: the same as any other caller, and never less consent."""

import asyncio
from typing import Any

import pytest

from libs import rpc
from libs.ids import new_id
from libs.pg import single_connection
from tests.contract.subscription_harness import ACTOR, MAIL, SHOP, Service, apns
from tests.databases import Database

pytest_plugins = ["tests.contract.subscription_fixtures"]


async def imported(service: Service, *rows: rpc.ImportRow) -> rpc.ImportView:
    import_id = new_id()
    await service.bus.call("subscription", "begin_import", rpc.BeginImport(SHOP, import_id, ACTOR), rpc.ImportBegun)
    part = rpc.ImportPart(SHOP, import_id, ACTOR, 1, len(rows), b"d" * 32, list(rows), [])
    await service.bus.call("subscription", "import_part", part, rpc.Empty, timeout=20)
    return await service.bus.call("subscription", "end_import", rpc.EndImport(SHOP, import_id, ACTOR), rpc.ImportView)


def line(token: str = apns(1), kind: str = "iOSPush", number: int = 1, **more: Any) -> rpc.ImportRow:
    return rpc.ImportRow(number, kind, token, **more)


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        ({"subscription_status": -18}, -2, -2),
        ({"subscription_status": -22}, -2, -2),
        ({"event": "disable_by_api"}, -2, -2),
        ({"subscription_status": -18}, -31, -31),
        ({"event": "disable"}, -31, -2),
        ({"event": "disable"}, 1, -2),
        ({"event": "disable_by_api"}, 1, -31),
        ({"subscription_status": -18}, 1, -18),
    ],
)
async def test_who_unsubscribed_elsewhere_is_unsubscribed_whatever_the_state_was(
    service: Service, before: dict[str, Any], given: int, after: int
) -> None:
    made = await service.make()
    await (service.set_status(made.id, **before) if "event" in before else service.update(made.id, **before))
    await imported(service, line(status=given))
    assert (await service.get(made.id)).subscription_status == after
    assert (await service.update(made.id, token=apns(2))).subscription_status == (1 if after == -18 else after)


async def test_an_address_that_waits_for_its_confirmation_can_be_unsubscribed(service: Service) -> None:
    made = await service.make(MAIL, "Email", double_opt_in=True)
    await imported(service, line(MAIL, "Email", status=-2))
    assert (await service.get(made.id)).subscription_status == -2


async def test_the_history_tells_what_an_import_changed_and_nothing_else(service: Service) -> None:
    made = await service.make()
    await imported(service, line())
    assert await service.kinds(made.id) == ["created"]
    await imported(service, line(status=-31, ad_consent=False, tags={"a": "b"}))
    events = (await service.events(made.id)).events
    assert {event.kind for event in events} == {"created", "disabled", "consent_changed", "tags_changed"}
    assert {event.source for event in events if event.kind != "created"} == {"import"}
    assert all("import_id" in event.data for event in events if event.kind != "created")


async def test_a_line_that_would_give_too_many_tags_is_refused_alone(service: Service) -> None:
    made = await service.make(tags={f"old{n}": "" for n in range(60)})
    other = await service.make(apns(2))
    many = {f"new{n}": "" for n in range(60)}
    view = await imported(service, line(tags=many), line(apns(2), number=2, tags=many))
    assert (view.updated, view.failed) == (1, 1)
    assert len((await service.get(made.id)).tags) == 60
    assert len((await service.get(other.id)).tags) == 60


async def test_work_that_postgres_gave_up_for_a_deadlock_is_begun_anew(service: Service, database: Database) -> None:
    first, last = sorted([(await service.make(apns(n))).id for n in (1, 2)])
    lock = "SELECT FROM subscription.subscriptions WHERE id = $1 FOR UPDATE"
    for work in (
        lambda: service.tag([first, last], add={"a": "b"}),
        lambda: imported(service, line(apns(1), tags={"c": "d"}), line(apns(2), number=2, tags={"c": "d"})),
    ):
        async with single_connection(database.admin_dsn) as c, c.transaction():
            await c.execute("SET LOCAL deadlock_timeout = '30s'")  # so that the others are given up first
            await c.execute(lock, last)
            working = asyncio.create_task(work())
            await _waiting(service)
            await c.execute(lock, first)
        await working
    assert (await service.get(first)).tags == (await service.get(last)).tags == {"a": "b", "c": "d"}


async def _waiting(service: Service) -> None:
    """Until a statement waits for a lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while not await service.admin.fetchval(asked):
            await asyncio.sleep(0.02)
