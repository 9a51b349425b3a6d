"""GET /audit-log."""

from datetime import UTC, datetime

import pytest

from libs import rpc
from libs.pg import single_connection
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

MOVE = "UPDATE application.audit_log SET occurred_at = $2 WHERE application_id = $1 AND resource = $3"


async def tell(whole: Whole, shop: Tenant, *numbers: int) -> None:
    entries = [
        rpc.AuditEntry(
            application_id=shop.application_id,
            actor=f"key:{number % 2}",
            action="template.update" if number % 3 else "template.create",
            resource=f"template/{number}",
            request_id=f"r{number}",
            data={"version": number},
        )
        for number in numbers
    ]
    await whole.bus.call("application", "record_audit", rpc.RecordAudit(entries), rpc.Empty)


async def resources(shop: Tenant, **filters: str) -> list[str]:
    found = await shop.get("/audit-log", params=filters)
    assert found.status == 200, found.body
    return [entry["resource"] for entry in found.data["entries"] if entry["resource"].startswith("template/")]


async def test_entries_come_newest_first_with_who_did_what_when(whole: Whole) -> None:
    shop = await whole.tenant()
    await tell(whole, shop, 1, 2)
    found = (await shop.get("/audit-log")).data
    newest = found["entries"][0]
    assert newest.pop("occurred_at").endswith("Z")
    assert newest.pop("id").isdecimal()
    assert newest == {
        "actor": "key:0",
        "action": "template.update",
        "resource": "template/2",
        "request_id": "r2",
        "data": {"version": 2},
    }
    assert found["pagination"]["total_items"] == len(found["entries"]) == 4  # the application, its key, and ours


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"actor": "key:1"}, [7, 5, 3, 1]),
        ({"action": "template.create"}, [6, 3]),
        ({"resource": "template/4"}, [4]),
        ({"actor": "key:1", "action": "template.create"}, [3]),
        ({"actor": "key:1", "resource": "template/4"}, []),
    ],
)
async def test_filters_hold_together(whole: Whole, filters: dict[str, str], expected: list[int]) -> None:
    shop = await whole.tenant()
    await tell(whole, shop, *range(1, 8))
    assert await resources(shop, **filters) == [f"template/{number}" for number in expected]


async def test_a_time_span_begins_with_from_and_ends_before_to(whole: Whole) -> None:
    shop = await whole.tenant()
    await tell(whole, shop, 1, 2, 3, 4)
    async with single_connection(whole.database.admin_dsn) as c:
        for number in (1, 2, 3, 4):
            moment = datetime(2020, 1, number, tzinfo=UTC)
            await c.execute(MOVE, shop.application_id, moment, f"template/{number}")
    span = {"from": "2020-01-02T00:00:00Z", "to": "2020-01-04T09:00:00+09:00"}
    assert await resources(shop, **span) == ["template/3", "template/2"]
    assert await resources(shop, **span, resource="template/2") == ["template/2"]
    assert await resources(shop, to="2020-01-02T00:00:00.001Z") == ["template/2", "template/1"]


async def test_a_cursor_walks_through_all_while_new_ones_come(whole: Whole) -> None:
    shop = await whole.tenant()
    await tell(whole, shop, *range(1, 12))
    seen: list[str] = []
    query = {"per_page": "4"}
    while True:
        page = (await shop.get("/audit-log", params=query)).data
        seen += [entry["resource"] for entry in page["entries"] if entry["resource"].startswith("template/")]
        await tell(whole, shop, 100 + len(seen))
        if page["pagination"]["next_cursor"] is None:
            break
        query["cursor"] = page["pagination"]["next_cursor"]
    assert seen == [f"template/{number}" for number in range(11, 0, -1)]


async def test_numbered_pages_divide_the_same_list(whole: Whole) -> None:
    shop = await whole.tenant()
    await tell(whole, shop, *range(1, 6))
    assert await resources(shop, per_page="2", page="2") == ["template/3", "template/2"]
    assert await resources(shop, per_page="2", page="10000") == []


async def test_another_application_sees_none_of_it(whole: Whole) -> None:
    shop, stranger = await whole.tenant(), await whole.tenant()
    await tell(whole, shop, 1)
    assert await resources(stranger) == []
    assert await resources(stranger, resource="template/1") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "5"}, "from"),
        ({"to": "2020-01-01T00:00:00"}, "to"),
        ({"to": "2020-13-01T00:00:00Z"}, "to"),
        ({"cursor": "abc"}, "cursor"),
        ({"cursor": "-1"}, "cursor"),
        ({"cursor": "9" * 30}, "cursor"),
        ({"per_page": "101"}, "per_page"),
        ({"actor": ""}, "actor"),
        ({"who": "me"}, "who"),
    ],
)
async def test_a_wrong_query_names_its_field_in_both_languages(whole: Whole, query: dict[str, str], field: str) -> None:
    shop = await whole.tenant()
    english = await shop.get("/audit-log", params=query)
    korean = await shop.get("/audit-log", params=query, headers={"Accept-Language": "ko"})
    assert (english.status, english.code, list(english.details["fields"])) == (422, "validation_error", [field])
    assert not korean.details["fields"][field].isascii()


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_the_ends_of_time_are_times(whole: Whole, moment: str) -> None:
    shop = await whole.tenant()
    assert (await shop.get("/audit-log", params={"from": moment, "to": moment})).data["entries"] == []


@pytest.mark.parametrize("scopes", [["send"], ["read"], ["client"]])
async def test_only_manage_may_read_it(whole: Whole, scopes: list[str]) -> None:
    shop = await whole.tenant(scopes=scopes)
    assert (await shop.get("/audit-log")).status == 403
