"""An application's own settings over REST, down to Postgres."""

from typing import Any

import pytest

from tests.contract.rest_gateway import Answer
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

QUIET = {"start": "21:30", "end": "08:00"}


@pytest.fixture
async def shop(whole: Whole) -> Tenant:
    return await whole.tenant(tier="premium")


async def patch(tenant: Tenant, body: Any, **headers: str) -> Answer:
    return await tenant.call("PATCH", "/application", body, headers=headers)


async def test_settings_are_merged_and_null_takes_one_away(whole: Whole, shop: Tenant) -> None:
    stranger = await whole.tenant()
    before = (await shop.get("/application")).data
    assert before == {"id": shop.application_id, "name": "Test", "tier": "premium", "settings": {}}
    answer = await patch(
        shop, {"settings": {"quiet_hours": QUIET, "timezone": "Asia/Seoul", "colour": {"hex": "#f00"}}}
    )
    assert answer.status == 200
    changed = await patch(shop, {"name": "가게", "settings": {"timezone": None, "rates": {"apns": 500}}})
    settings = {"quiet_hours": QUIET, "colour": {"hex": "#f00"}, "rates": {"apns": 500}}
    assert changed.data == {**before, "name": "가게", "settings": settings}
    assert (await shop.get("/application")).data == changed.data
    assert (await stranger.get("/application")).data["settings"] == {}


@pytest.mark.parametrize("body", [{}, {"settings": {}}, {"name": None}, {"settings": {"timezone": None}}])
async def test_what_changes_nothing_changes_nothing(whole: Whole, shop: Tenant, body: dict[str, Any]) -> None:
    await patch(shop, {"settings": {"colour": "red"}})
    entries = (await shop.get("/audit-log")).data["pagination"]["total_items"]
    assert (await patch(shop, body)).data["settings"] == {"colour": "red"}
    assert (await shop.get("/audit-log")).data["pagination"]["total_items"] == entries


async def test_a_change_is_in_the_audit_log_once(shop: Tenant) -> None:
    answer = await patch(shop, {"settings": {"quiet_hours": QUIET}})
    entries = (await shop.get("/audit-log", params={"action": "application.update"})).data["entries"]
    assert [(each["data"], each["request_id"]) for each in entries] == [
        ({"fields": ["settings"], "settings": ["quiet_hours"]}, answer.headers["X-Request-Id"])
    ]
    assert entries[0]["actor"].startswith("key:")


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (
            {"quiet_hours": {"start": "9:00", "end": "24:00"}, "rates": {"apns": 0, "sms": 1}, "timezone": 1},
            {"quiet_hours.start", "quiet_hours.end", "rates.apns", "rates.sms", "timezone"},
        ),
        ({"frequency_caps": [{"limit": 0, "per": "month"}]}, {"frequency_caps.0.limit", "frequency_caps.0.per"}),
        ({"receipt_timeout_hours": 721}, {"receipt_timeout_hours"}),
        ({"timezone": "Mars/Olympus"}, {"timezone"}),
        ({"quiet_hours": {"start": "08:00", "end": "08:00"}}, {"quiet_hours.end"}),
    ],
)
async def test_every_wrong_setting_is_named_in_both_languages(
    shop: Tenant, settings: dict[str, Any], wrong: set[str]
) -> None:
    english = await patch(shop, {"settings": settings})
    assert (english.status, english.code) == (422, "validation_error")
    assert set(english.details["fields"]) == {f"settings.{name}" for name in wrong}
    korean = await patch(shop, {"settings": settings}, **{"Accept-Language": "ko"})
    assert set(korean.details["fields"]) == set(english.details["fields"])
    assert not any(reason.isascii() for reason in korean.details["fields"].values())
    assert (await shop.get("/application")).data["settings"] == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"settings": {"free": 2**64}}, "settings"),
        ({"settings": {"free": "a\0b"}}, "settings"),
        ({"settings": {"free": "x" * 17_000}}, "settings"),
        ({"settings": None}, "settings"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\tb"}, "name"),
        ({"tier": "unlimited"}, "tier"),
        ({"id": "x"}, "id"),
    ],
)
async def test_what_cannot_be_kept_or_is_not_theirs_to_change_is_refused(
    shop: Tenant, body: dict[str, Any], field: str
) -> None:
    answer = await patch(shop, body, **{"Accept-Language": "ko"})
    assert (answer.status, set(answer.details["fields"])) == (422, {field})
    assert not answer.details["fields"][field].isascii()
