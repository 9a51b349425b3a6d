"""Quiet hours and night consent over REST: set by a back end, by an app for itself, by an import; read everywhere."""

import csv
import io
import json
from typing import Any

import pytest

from libs.ids import new_id
from tests.contract.test_rest_imports import CSV, export, exported, line, put
from tests.contract.test_rest_subscriptions_whole import NEXT, SECRET, TOKEN, install, make
from tests.contract.test_rest_users import export as export_of_person
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

NIGHT = {"start": "22:00", "end": "07:00"}
ADS = {"start": "18:00", "end": "09:00", "action": "drop", "categories": ["ad"]}
DEVICE = {"timezone": "Asia/Seoul"}


@pytest.fixture
async def shop(whole: Whole) -> Tenant:
    return await whole.tenant()


async def read(tenant: Tenant, subscription_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await tenant.get(f"/subscriptions/{subscription_id}")).data
    return found


async def test_they_are_registered_read_changed_and_taken_away(shop: Tenant) -> None:
    made = await make(shop, quiet_hours=ADS, night_consent=True, device_info=DEVICE)
    found = await read(shop, made)
    assert (found["quiet_hours"], found["night_consent"], found["device_info"]) == (ADS, True, DEVICE)
    path = f"/subscriptions/{made}"
    changed = await shop.call("PATCH", path, {"quiet_hours": NIGHT, "device_info": {"timezone": "Europe/Berlin"}})
    assert (changed.data["quiet_hours"], changed.data["device_info"]) == (NIGHT, {"timezone": "Europe/Berlin"})
    assert (await shop.call("PUT", path, {"night_consent": False})).data["quiet_hours"] == NIGHT
    assert (await shop.call("PATCH", path, {"quiet_hours": None})).data["quiet_hours"] is None
    again = {"type": "iOSPush", "token": TOKEN, "quiet_hours": NIGHT}
    assert (await shop.call("PUT", "/subscriptions", again)).status == 200
    assert (await read(shop, made))["quiet_hours"] == NIGHT
    events = (await shop.get(f"{path}/events")).data["events"]
    told = [event["data"] for event in events if event["event_type"] == "consent_changed"]
    assert told == [{"quiet_hours": NIGHT}, {"quiet_hours": None}, {"night_consent": False}, {"quiet_hours": NIGHT}]


async def test_an_app_sets_its_own_and_nobody_elses(whole: Whole, shop: Tenant) -> None:
    app = await install(whole, shop)
    other = await make(shop, NEXT)
    changed = await app.call("PATCH", body={"quiet_hours": NIGHT, "night_consent": True})
    assert (changed.status, changed.data["quiet_hours"], changed.data["night_consent"]) == (200, NIGHT, True)
    (event, *_) = (await shop.get(f"/subscriptions/{app.id}/events")).data["events"]
    assert (event["source"], event["event_type"]) == ("sdk", "consent_changed")
    stranger = await app.tenant.call(
        "PATCH", f"/subscriptions/{other}", {"quiet_hours": NIGHT}, headers={SECRET: app.headers[SECRET]}
    )
    assert (stranger.status, (await read(shop, other))["quiet_hours"]) == (404, None)


async def test_another_applications_subscription_is_unknown(whole: Whole, shop: Tenant) -> None:
    made, stranger = await make(shop), await whole.tenant()
    assert (await stranger.call("PATCH", f"/subscriptions/{made}", {"quiet_hours": NIGHT})).status == 404
    assert (await read(shop, made))["quiet_hours"] is None


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"start": "25:00", "end": "7:00"}, {"start", "end"}),
        ({"start": "22:00", "end": "07:00", "action": "later"}, {"action"}),
        ({"start": "22:00", "end": "07:00", "categories": ["ads"]}, {"categories.0"}),
        ({"start": "22:00", "end": "07:00", "categories": []}, {"categories"}),
        ({"start": "22:00", "end": "07:00", "days": [1]}, {"days"}),
        ({"start": "08:00", "end": "08:00"}, {"end"}),
    ],
)
async def test_what_is_wrong_is_named(shop: Tenant, wrong: dict[str, Any], fields: set[str]) -> None:
    made = await make(shop)
    new = {"type": "iOSPush", "token": NEXT, "quiet_hours": wrong}
    korean = {"Accept-Language": "ko"}
    for refused in (
        await shop.post("/subscriptions", new, headers=korean),
        await shop.call("PATCH", f"/subscriptions/{made}", {"quiet_hours": wrong}, headers=korean),
    ):
        assert (refused.status, refused.code) == (422, "validation_error")
        assert set(refused.details["fields"]) == {f"quiet_hours.{name}" for name in fields}
        assert not any(reason.isascii() for reason in refused.details["fields"].values())
    assert (await shop.get("/subscriptions")).data["pagination"]["total_items"] == 1


async def test_a_file_brings_them_along_and_an_export_shows_them(whole: Whole, shop: Tenant) -> None:
    import_id = new_id()
    body = line(1, quiet_hours=ADS, night_consent=True) + line(2, quiet_hours={"start": "08:00", "end": "08:00"})
    assert (await put(shop, import_id, body + line(3))).data["created"] == 2
    refused = (await shop.get(f"/subscriptions/imports/{import_id}/errors")).data["errors"]
    assert refused == [{"line": 2, "code": "validation_error", "field": "quiet_hours.end"}]
    rows = {row["token_hint"]: row for row in await exported(shop)}
    assert sorted((hint[-1], row["night_consent"], row["quiet_hours"]) for hint, row in rows.items()) == [
        ("1", True, ADS),
        ("3", False, None),
    ]
    stranger = await whole.tenant()
    assert await exported(stranger) == []


async def test_a_table_brings_them_along_by_column(shop: Tenant) -> None:
    table = (
        "type,token,night_consent,quiet_hours.start,quiet_hours.end,quiet_hours.categories,device_info.timezone\r\n"
        f'iOSPush,{"1" * 64},true,22:00,07:00,"info,ad",Asia/Seoul\r\n'
        f"iOSPush,{'2' * 64},,,,,\r\n"
        f"iOSPush,{'3' * 64},,22:00,,,\r\n"
        f'iOSPush,{"4" * 64},,22:00,07:00,"ad,spam",\r\n'
    )
    import_id = new_id()
    done = (await put(shop, import_id, table.encode(), CSV)).data
    assert (done["created"], done["failed"]) == (2, 2)
    refused = (await shop.get(f"/subscriptions/imports/{import_id}/errors")).data["errors"]
    assert [(each["line"], each["field"]) for each in refused] == [
        (4, "quiet_hours.end"),
        (5, "quiet_hours.categories.1"),
    ]
    rows = {row["token_hint"][-1]: row for row in await exported(shop)}
    both = {**NIGHT, "categories": ["info", "ad"]}
    assert (rows["1"]["quiet_hours"], rows["1"]["night_consent"]) == (both, True)
    assert (rows["1"]["device_info"], rows["2"]["quiet_hours"]) == (DEVICE, None)
    cells = {row["token_hint"][-1]: row for row in csv.DictReader(io.StringIO(await export(shop, format="csv")))}
    assert json.loads(cells["1"]["quiet_hours"]) == both
    assert (cells["1"]["night_consent"], cells["2"]["quiet_hours"]) == ("true", "")


async def test_the_export_of_a_person_holds_them(shop: Tenant) -> None:
    made = await make(shop, user_id="ann", quiet_hours=ADS, night_consent=True)
    await shop.call("PATCH", f"/subscriptions/{made}", {"quiet_hours": NIGHT})
    held = await export_of_person(shop, "ann")
    (subscription,) = held["subscriptions"]
    assert (subscription["quiet_hours"], subscription["night_consent"]) == (NIGHT, True)
    told = [event["data"] for event in held["history"] if event["event_type"] == "consent_changed"]
    assert told == [{"quiet_hours": NIGHT}]
