"""Subscriptions in bulk over REST: line by line accepted or refused, resumed, exported."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

from libs.ids import new_id
from libs.pg import single_connection
from tests.contract.rest_gateway import Answer
from tests.contract.whole_platform import Tenant, Whole
from tests.waiting import until

pytest_plugins = ["tests.contract.whole_fixtures"]

NDJSON = {"Content-Type": "application/x-ndjson"}
CSV = {"Content-Type": "text/csv; charset=utf-8"}


def line(number: int, **more: Any) -> bytes:
    return json.dumps({"type": "iOSPush", "token": f"{number:064x}", **more}).encode() + b"\n"


async def put(shop: Tenant, import_id: str, body: bytes, headers: dict[str, str] = NDJSON) -> Answer:
    return await shop.call("PUT", f"/subscriptions/imports/{import_id}", data=body, headers=headers)


async def export(shop: Tenant, **params: str) -> str:
    path = "/api/v1/subscriptions/export"
    async with shop.session.get(path, params=params, headers={"X-API-Key": shop.api_key}) as answer:
        assert answer.status == 200
        return await answer.text()


async def exported(shop: Tenant, **params: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in (await export(shop, **params)).splitlines()]


async def test_every_line_is_imported_or_named_with_its_reason(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    body = b"".join(
        [
            line(1, tags={"tier": "gold"}, device_info={"country_code": "kr"}, user_id="u-1"),
            b"not json\n",
            b"\n",
            line(2, colour="red"),
            json.dumps({"type": "Email", "token": "nobody"}).encode() + b"\n",
            json.dumps({"type": "SMS", "token": "+82 10-1234-5678"}).encode(),
        ]
    )
    done = (await put(shop, import_id, body)).data
    assert (done["status"], done["lines_done"]) == ("completed", 6)
    assert (done["created"], done["updated"], done["failed"]) == (2, 0, 3)
    refused = (await shop.get(f"/subscriptions/imports/{import_id}/errors")).data
    assert refused["errors"] == [
        {"line": 2, "code": "invalid_request", "field": None},
        {"line": 4, "code": "validation_error", "field": "colour"},
        {"line": 5, "code": "invalid_token", "field": None},
    ]
    rows = await exported(shop)
    phone, device = sorted(rows, key=lambda row: row["type"])
    assert (phone["token_hint"], phone["ad_consent"]) == ("5678", False)
    assert (device["tags"], device["external_id"]) == ({"tier": "gold"}, "u-1")
    assert (device["device_info"], device["ad_consent"]) == ({"country_code": "KR"}, True)


async def test_the_same_file_again_changes_nothing(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    body = b"".join(line(number) for number in range(5_000))
    first = (await put(shop, import_id, body)).data
    again = (await put(shop, import_id, body)).data
    assert {**again, "updated_at": "", "finished_at": ""} == {**first, "updated_at": "", "finished_at": ""}
    assert again["created"] == 5_000


async def test_a_longer_file_goes_on_behind_what_is_done(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    whole_file = b"".join(line(number) for number in range(5_000))
    cut = whole_file[: whole_file.index(line(4_000))]  # two parts of 2,000 lines
    assert (await put(shop, import_id, cut)).data["lines_done"] == 4_000
    done = (await put(shop, import_id, whole_file)).data
    assert (done["lines_done"], done["created"]) == (5_000, 5_000)


async def test_another_file_under_the_same_id_is_refused(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    await put(shop, import_id, line(1))
    before = (await shop.get(f"/subscriptions/imports/{import_id}")).data
    refused = await put(shop, import_id, line(2))
    assert (refused.status, list(refused.details["fields"])) == (422, ["line 1"])
    after = (await shop.get(f"/subscriptions/imports/{import_id}")).data
    assert (after["status"], after["finished_at"]) == ("completed", before["finished_at"])


async def test_another_file_at_the_same_time_is_refused_too(whole: Whole) -> None:
    """Both began before either had a part done: what comes second must not count as imported."""
    shop, import_id = await whole.tenant(), new_id()
    first, second = asyncio.Event(), asyncio.Event()

    async def later(content: bytes, go: asyncio.Event) -> AsyncIterator[bytes]:
        yield content[:10]
        await go.wait()
        yield content[10:]

    path = f"/subscriptions/imports/{import_id}"
    bodies = later(line(1), first), later(line(2), second)
    one, other = (asyncio.create_task(shop.call("PUT", path, data=body, headers=NDJSON)) for body in bodies)
    async with single_connection(whole.database.admin_dsn) as c:
        begun = "SELECT updated_at <> started_at FROM subscription.imports"
        await until(lambda: c.fetchval(begun), "both have begun")
    first.set()
    assert (await one).data["created"] == 1
    second.set()
    refused = await other
    assert (refused.status, list(refused.details["fields"])) == (422, ["line 1"])


async def test_a_column_that_is_named_twice_is_refused_by_line(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    body = f"type,token,tags,tags.a\niOSPush,{1:064x},x,y\niOSPush,{2:064x},,y\n".encode()
    done = (await put(shop, import_id, body, CSV)).data
    assert (done["created"], done["failed"]) == (1, 1)
    refused = (await shop.get(f"/subscriptions/imports/{import_id}/errors")).data["errors"]
    assert refused == [{"line": 2, "code": "validation_error", "field": "tags"}]


async def test_csv_of_many_long_columns_is_imported(whole: Whole) -> None:
    """Each line names them all again on its way between the services."""
    shop = await whole.tenant()
    names = [f"tags.{number:0128}" for number in range(95)]
    rows = [["iOSPush", f"{number:064x}", *["1"] * len(names)] for number in range(2_001)]
    body = "\n".join(",".join(row) for row in [["type", "token", *names], *rows]).encode()
    assert (await put(shop, new_id(), body, CSV)).data["created"] == 2_001


async def test_what_is_known_is_brought_up_to_date_and_a_refusal_stays(whole: Whole) -> None:
    shop = await whole.tenant()
    await put(shop, new_id(), line(1, subscription_status=-2, tags={"a": "1"}) + line(2, tags={"a": "1"}))
    done = (await put(shop, new_id(), line(1, tags={"b": "2"}) + line(2, subscription_status=-2))).data
    assert (done["created"], done["updated"]) == (0, 2)
    rows = await exported(shop)
    assert [(row["subscription_status"], row["tags"]) for row in rows] == [
        (-2, {"a": "1", "b": "2"}),
        (-2, {"a": "1"}),
    ]


async def test_a_token_in_two_lines_is_one_subscription(whole: Whole) -> None:
    shop = await whole.tenant()
    done = (await put(shop, new_id(), line(1, tags={"a": "1"}) + line(1, tags={"a": "2"}))).data
    assert done["created"] == 1
    assert [row["tags"] for row in await exported(shop)] == [{"a": "2"}]


async def test_csv_has_nested_columns_and_goes_on_too(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    text = "type,token,ad_consent,tags.등급,device_info.country_code\r\n"
    text += "".join(f"iOSPush,{number:064x},false,금,KR\r\n" for number in range(2_500))
    for _ in range(2):
        done = (await put(shop, import_id, text.encode("cp949"), CSV)).data
        assert (done["created"], done["failed"]) == (2_500, 0)
    row = (await exported(shop))[0]
    assert (row["tags"], row["ad_consent"], row["device_info"]) == ({"등급": "금"}, False, {"country_code": "KR"})


async def test_csv_of_a_wrong_value_names_the_column(whole: Whole) -> None:
    shop, import_id = await whole.tenant(), new_id()
    body = f"type,token,device_info.country_code\niOSPush,{1:064x},Korea\n".encode()
    assert (await put(shop, import_id, body, CSV)).data["failed"] == 1
    refused = (await shop.get(f"/subscriptions/imports/{import_id}/errors")).data["errors"]
    assert refused == [{"line": 2, "code": "validation_error", "field": "device_info.country_code"}]


async def test_export_as_csv_is_read_back_and_runs_no_formula(whole: Whole) -> None:
    shop = await whole.tenant()
    await put(shop, new_id(), line(1, user_id="=1+1") + line(2))
    rows = list(csv.DictReader(io.StringIO((await export(shop, format="csv")).removeprefix("\ufeff"))))
    assert [row["external_id"] for row in rows] == ["'=1+1", ""]


async def test_export_is_filtered(whole: Whole) -> None:
    shop = await whole.tenant()
    await put(shop, new_id(), line(1) + line(2, subscription_status=-31))
    assert [row["subscription_status"] for row in await exported(shop, status="-31")] == [-31]
    assert await exported(shop, type="Email") == []


async def test_imports_of_another_application_are_unknown(whole: Whole) -> None:
    shop, other, import_id = await whole.tenant(), await whole.tenant(), new_id()
    await put(shop, import_id, line(1))
    for path in (f"/subscriptions/imports/{import_id}", f"/subscriptions/imports/{import_id}/errors"):
        assert (await other.get(path)).status == 404
    assert (await put(other, import_id, line(2))).data["created"] == 1
    assert len(await exported(shop)) == len(await exported(other)) == 1


async def test_each_line_has_a_history_and_a_key_of_its_own(whole: Whole) -> None:
    shop = await whole.tenant()
    await put(shop, new_id(), line(1) + line(2))
    async with single_connection(whole.database.admin_dsn) as c:
        kinds = await c.fetch("SELECT kind, source FROM subscription.subscription_events")
        keys = await c.fetchval("SELECT count(DISTINCT wrapped_key) FROM subscription.subscriptions")
    assert [tuple(row) for row in kinds] == [("created", "import")] * 2
    assert keys == 2


async def test_an_imported_device_can_be_written_to(whole: Whole) -> None:
    shop = await whole.tenant()
    await put(shop, new_id(), line(1))
    (row,) = await exported(shop)
    assert (await shop.post("/messages", {"subscription_id": row["id"], "title": "Hello"})).status == 201
