"""POST, GET and DELETE /emergency-stops."""

from typing import Any

import pytest

from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]


async def stopped(shop: Tenant) -> list[str | None]:
    found = await shop.get("/emergency-stops")
    return [stop["channel"] for stop in found.data["emergency_stops"]]


async def test_a_channel_is_stopped_and_released(whole: Whole) -> None:
    shop = await whole.tenant()
    answer = await shop.post("/emergency-stops", {"channel": "apns", "reason": "Wrong price"})
    assert answer.status == 201
    assert (answer.data["channel"], answer.data["reason"]) == ("apns", "Wrong price")
    assert answer.data["actor"].startswith("key:")
    assert await stopped(shop) == ["apns"]
    released = await shop.call("DELETE", "/emergency-stops/apns")
    assert (released.status, released.data) == (200, {"channel": "apns"})
    assert await stopped(shop) == []


async def test_stopping_what_is_stopped_changes_nothing(whole: Whole) -> None:
    shop = await whole.tenant()
    first = await shop.post("/emergency-stops", {"channel": "fcm", "reason": "first"})
    second = await shop.post("/emergency-stops", {"channel": "fcm", "reason": "second"})
    assert (second.status, second.data) == (200, first.data)


async def test_a_whole_application_is_stopped_and_released_apart_from_its_channels(whole: Whole) -> None:
    shop = await whole.tenant()
    for channel in (None, "apns"):
        assert (await shop.post("/emergency-stops", {"channel": channel})).status == 201
    assert await stopped(shop) == [None, "apns"]
    released = await shop.call("DELETE", "/emergency-stops/all")
    assert (released.status, released.data) == (200, {"channel": None})
    assert await stopped(shop) == ["apns"]


@pytest.mark.parametrize("channel", ["apns", "all", "pigeon", "%2A%2A", "%00"])
async def test_releasing_what_is_not_stopped_is_not_found(whole: Whole, channel: str) -> None:
    shop = await whole.tenant()
    assert (await shop.call("DELETE", f"/emergency-stops/{channel}")).status == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "channel"),
        ({"channel": "pigeon"}, 422, "channel"),
        ({"channel": "apns", "reason": "x" * 501}, 422, "reason"),
        ({"channel": "apns", "reason": "a\0b"}, 422, "reason"),
        ({"channel": "apns", "why": ""}, 422, "why"),
    ],
)
async def test_a_wrong_body_stops_nothing(whole: Whole, body: dict[str, Any], status: int, field: str) -> None:
    shop = await whole.tenant()
    answer = await shop.post("/emergency-stops", body)
    assert (answer.status, list(answer.details["fields"])) == (status, [field])
    assert await stopped(shop) == []


async def test_another_applications_stops_are_neither_seen_nor_released(whole: Whole) -> None:
    shop, stranger = await whole.tenant(), await whole.tenant()
    await shop.post("/emergency-stops", {"channel": None})
    assert await stopped(stranger) == []
    assert (await stranger.call("DELETE", "/emergency-stops/all")).status == 404
    assert await stopped(shop) == [None]


@pytest.mark.parametrize("scopes", [["send"], ["read"], ["client"]])
async def test_only_manage_may(whole: Whole, scopes: list[str]) -> None:
    shop = await whole.tenant(scopes=scopes)
    answers = [
        await shop.post("/emergency-stops", {"channel": None}),
        await shop.get("/emergency-stops"),
        await shop.call("DELETE", "/emergency-stops/all"),
    ]
    assert [answer.status for answer in answers] == [403, 403, 403]


async def test_each_change_is_in_the_audit_log_once_with_its_reason(whole: Whole) -> None:
    shop = await whole.tenant()
    for _ in range(2):
        await shop.post("/emergency-stops", {"channel": None, "reason": "Wrong price"})
    for _ in range(2):
        await shop.call("DELETE", "/emergency-stops/all")
    log = (await shop.get("/audit-log", params={"resource": "emergency_stop/all"})).data["entries"]
    assert [(entry["action"], entry["data"]) for entry in log] == [
        ("emergency_stop.release", {}),
        ("emergency_stop.set", {"reason": "Wrong price"}),
    ]
