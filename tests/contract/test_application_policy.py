"""What an application may set for its own sending: refused where it is wrong, told as it is, nobody else's."""

import asyncio
from typing import Any

import pytest

from libs import rpc
from libs.bus import Bus
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import single_connection
from libs.policy import FrequencyCap, Policy, QuietHours
from tests.contract.application_harness import audit_of
from tests.databases import Database

pytest_plugins = ["tests.contract.application_fixtures"]

ALL = {
    "timezone": "Asia/Seoul",
    "quiet_hours": {"start": "21:30", "end": "08:00", "action": "drop", "categories": ["ad"]},
    "frequency_caps": [{"limit": 2, "per": "day", "category": "ad", "action": "drop"}, {"limit": 20, "per": "week"}],
    "rates": {"apns": 500, "fcm": 0.5},
    "receipt_timeout_hours": 48,
}


async def change(bus: Bus, application_id: str, settings: dict[str, Any], **more: Any) -> rpc.ApplicationView:
    request = rpc.UpdateApplication(application_id, "key:k1", settings=settings, request_id="r-1", **more)
    return await bus.call("application", "update_application", request, rpc.ApplicationView)


async def policy(bus: Bus, application_id: str) -> Policy:
    return (await bus.call("application", "policy", rpc.GetPolicy(application_id), rpc.PolicyFound)).policy


async def application(bus: Bus, application_id: str) -> rpc.ApplicationView:
    request = rpc.GetApplication(application_id)
    return await bus.call("application", "get_application", request, rpc.ApplicationView)


async def test_nothing_is_limited_until_it_is_set(bus: Bus, application_id: str) -> None:
    assert await policy(bus, application_id) == Policy()


async def test_what_is_set_is_told(bus: Bus, application_id: str, stranger_id: str) -> None:
    changed = await change(bus, application_id, {**ALL, "colour": ["free"]})
    assert changed.settings == {**ALL, "colour": ["free"]}
    assert await application(bus, application_id) == changed
    assert await policy(bus, application_id.upper()) == Policy(
        timezone="Asia/Seoul",
        quiet_hours=QuietHours("21:30", "08:00", "drop", ("ad",)),
        frequency_caps=(FrequencyCap(2, "day", "ad", "drop"), FrequencyCap(20, "week")),
        rates={"apns": 500.0, "fcm": 0.5},
        receipt_timeout_hours=48,
    )
    assert await policy(bus, stranger_id) == Policy()
    assert (await application(bus, stranger_id)).settings == {}


async def test_a_setting_replaces_the_whole_of_what_there_was_and_null_takes_it_away(
    bus: Bus, application_id: str
) -> None:
    await change(bus, application_id, ALL)
    changed = await change(
        bus, application_id, {"quiet_hours": {"start": "22:00", "end": "07:00"}, "rates": None, "timezone": None}
    )
    assert set(changed.settings) == {"quiet_hours", "frequency_caps", "receipt_timeout_hours"}
    found = await policy(bus, application_id)
    assert (found.quiet_hours, found.rates, found.timezone) == (QuietHours("22:00", "07:00"), {}, None)


async def test_receipts_may_be_asked_for_without_saying_how_long(bus: Bus, application_id: str) -> None:
    assert (await change(bus, application_id, {"receipt_timeout_hours": True})).settings == {
        "receipt_timeout_hours": 72
    }
    assert (await policy(bus, application_id)).receipt_timeout_hours == 72
    await change(bus, application_id, {"receipt_timeout_hours": None})
    assert (await policy(bus, application_id)).receipt_timeout_hours is None


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"timezone": "Asia/Soul"}, {"settings.timezone": "must be the IANA name of a time zone, such as Asia/Seoul"}),
        ({"timezone": "../../etc/passwd"}, {"settings.timezone": None}),
        ({"timezone": "Asia"}, {"settings.timezone": None}),
        ({"timezone": ""}, {"settings.timezone": "must be str of length >= 1"}),
        ({"timezone": 9}, {"settings.timezone": "must be str | null, got int"}),
        (
            {"quiet_hours": {"start": "24:00", "end": "07:00"}},
            {"settings.quiet_hours.start": "must be a time of day, such as 21:30"},
        ),
        ({"quiet_hours": {"start": "22:00", "end": "07:00\n"}}, {"settings.quiet_hours.end": None}),
        ({"quiet_hours": {"start": "22:00"}}, {"settings.quiet_hours.end": "is required"}),
        ({"quiet_hours": {"start": "08:00", "end": "08:00"}}, {"settings.quiet_hours.end": "must differ from start"}),
        (
            {"quiet_hours": {"start": "22:00", "end": "07:00", "until": 1}},
            {"settings.quiet_hours.until": "is not a known field"},
        ),
        (
            {"quiet_hours": {"start": "22:00", "end": "07:00", "action": "wait"}},
            {"settings.quiet_hours.action": "does not know 'wait'"},
        ),
        (
            {"quiet_hours": {"start": "22:00", "end": "07:00", "categories": []}},
            {"settings.quiet_hours.categories": None},
        ),
        ({"quiet_hours": "22:00-07:00"}, {"settings.quiet_hours": "must be object | null, got str"}),
        ({"frequency_caps": [{"limit": 0, "per": "day"}]}, {"settings.frequency_caps.0.limit": "must be int >= 1"}),
        (
            {"frequency_caps": [{"limit": 1, "per": "day"}, {"limit": 1, "per": "month"}]},
            {"settings.frequency_caps.1.per": "does not know 'month'"},
        ),
        ({"frequency_caps": [{"limit": 1, "per": "day"}] * 11}, {"settings.frequency_caps": None}),
        ({"rates": {"sms": 1}}, {"settings.rates": "does not know 'sms'"}),
        ({"rates": {"apns": 0}}, {"settings.rates": "must be float >= 0.001"}),
        ({"rates": {"apns": 10**6}}, {"settings.rates": None}),
        ({"receipt_timeout_hours": 0}, {"settings.receipt_timeout_hours": "must be int >= 1"}),
        ({"receipt_timeout_hours": False}, {"settings.receipt_timeout_hours": None}),
        ({"receipt_timeout_hours": 2.5}, {"settings.receipt_timeout_hours": None}),
        ({"timezone": "Mars", "rates": [], "colour": "red"}, {"settings.timezone": None, "settings.rates": None}),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_changed(
    bus: Bus, application_id: str, settings: dict[str, Any], wrong: dict[str, str | None]
) -> None:
    await change(bus, application_id, ALL)
    with pytest.raises(ValidationFailed) as refused:
        await change(bus, application_id, {**settings, "other": 1}, name="Renamed")
    fields = refused.value.details["fields"]
    assert set(fields) == set(wrong)
    assert all(reason is None or fields[name] == reason for name, reason in wrong.items())
    assert (await application(bus, application_id)).settings == ALL
    made = rpc.CreateApplication(new_id(), "Shop", settings=settings)
    with pytest.raises(ValidationFailed):
        await bus.call("application", "create_application", made, rpc.ApplicationCreated)
    with pytest.raises(ResourceNotFound):
        await application(bus, made.application_id)


async def test_an_application_may_begin_with_its_settings(bus: Bus, service: None) -> None:
    made = rpc.CreateApplication(new_id(), "Shop", settings={**ALL, "rates": None})
    await bus.call("application", "create_application", made, rpc.ApplicationCreated)
    assert (await policy(bus, made.application_id)).receipt_timeout_hours == 48
    assert "rates" not in (await application(bus, made.application_id)).settings


async def test_simultaneous_changes_are_all_kept(bus: Bus, application_id: str) -> None:
    await asyncio.gather(*(change(bus, application_id, {name: value}) for name, value in ALL.items()))
    assert (await application(bus, application_id)).settings == ALL


@pytest.mark.parametrize("nobody", ["0199a1b2-0000-7000-8000-0000000000ff", "x", "", "a\0"])
async def test_nobody_has_no_policy(bus: Bus, service: None, nobody: str) -> None:
    with pytest.raises(ResourceNotFound):
        await policy(bus, nobody)
    with pytest.raises(ResourceNotFound):
        await application(bus, nobody)


async def test_many_ask_at_once_and_each_gets_its_own(bus: Bus, application_id: str, stranger_id: str) -> None:
    await change(bus, application_id, {"timezone": "Asia/Seoul"})
    asked = [application_id, stranger_id] * 50
    found = await asyncio.gather(*(policy(bus, each) for each in asked))
    assert [each.timezone for each in found] == ["Asia/Seoul", None] * 50


async def test_a_setting_from_before_that_cannot_be_read_hides_no_other(
    bus: Bus, application_id: str, database: Database
) -> None:
    stored = {**ALL, "quiet_hours": {"from": 22}, "timezone": "Mars", "rates": {"sms": 1}, "colour": None}
    async with single_connection(database.admin_dsn) as admin:
        await admin.execute("UPDATE application.applications SET settings = $2 WHERE id = $1", application_id, stored)
    found = await policy(bus, application_id)
    assert (found.timezone, found.quiet_hours, found.rates) == (None, None, {})
    assert (found.receipt_timeout_hours, len(found.frequency_caps)) == (48, 2)
    async with single_connection(database.admin_dsn) as admin:
        nothing = dict.fromkeys(ALL)
        await admin.execute("UPDATE application.applications SET settings = $2 WHERE id = $1", application_id, nothing)
    assert await policy(bus, application_id) == Policy()


async def test_what_a_later_release_stored_counts_as_far_as_it_is_known(
    bus: Bus, application_id: str, database: Database
) -> None:
    stored = {
        "quiet_hours": {"start": "22:00", "end": "07:00", "days": ["mon"]},
        "frequency_caps": [{"limit": 2, "per": "day", "burst": 1}],
    }
    async with single_connection(database.admin_dsn) as admin:
        await admin.execute("UPDATE application.applications SET settings = $2 WHERE id = $1", application_id, stored)
    found = await policy(bus, application_id)
    assert (found.quiet_hours, found.frequency_caps) == (QuietHours("22:00", "07:00"), (FrequencyCap(2, "day"),))
    assert (await change(bus, application_id, {"timezone": "Asia/Seoul"})).settings == {
        **stored,
        "timezone": "Asia/Seoul",
    }


async def test_a_setting_from_before_that_cannot_be_read_stands_in_no_other_changes_way(
    bus: Bus, application_id: str, database: Database
) -> None:
    stored = {**ALL, "quiet_hours": {"from": 22}, "timezone": "Mars"}
    async with single_connection(database.admin_dsn) as admin:
        await admin.execute("UPDATE application.applications SET settings = $2 WHERE id = $1", application_id, stored)
    assert (await change(bus, application_id, {}, name="Renamed", tier="premium")).name == "Renamed"
    changed = await change(bus, application_id, {"timezone": "Asia/Seoul", "rates": {"apns": 7}})
    assert changed.settings == {**stored, "timezone": "Asia/Seoul", "rates": {"apns": 7}}
    with pytest.raises(ValidationFailed) as refused:
        await change(bus, application_id, {"quiet_hours": {"from": 23}})
    assert set(refused.value.details["fields"]) == {"settings.quiet_hours.from"}
    assert "quiet_hours" not in (await change(bus, application_id, {"quiet_hours": None})).settings


async def test_the_audit_log_names_what_was_changed_without_values(bus: Bus, application_id: str) -> None:
    await change(bus, application_id, {"timezone": "Asia/Seoul", "colour": "red"}, name="Renamed")
    await change(bus, application_id, {"timezone": "Asia/Seoul"})
    await change(bus, application_id, {"colour": "blue"})
    second, first = (each for each in await audit_of(bus, application_id) if each.action == "application.update")
    assert first.data == {"fields": ["name", "settings"], "settings": ["timezone"]}
    assert (first.actor, first.request_id, first.resource) == ("key:k1", "r-1", f"application/{application_id}")
    assert second.data == {"fields": ["settings"]}
