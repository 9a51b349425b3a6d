"""Quiet hours, night consent and time zone of a subscription: set, told to the pipeline, noted, moved and forgotten."""

from typing import Any

import pytest

from libs import rpc
from libs.errors import ValidationFailed
from libs.policy import QuietHours
from tests.contract.subscription_harness import MAIL, SHOP, Service, apns, outcome
from tests.contract.test_subscription_imports import imported, line

pytest_plugins = ["tests.contract.subscription_fixtures"]

NIGHT = QuietHours("22:00", "07:00")
ADS = QuietHours("18:00", "09:00", "drop", ("ad",))
ALL_DAY = QuietHours("08:00", "08:00")


async def recipient(service: Service, subscription_id: str) -> rpc.Recipient:
    (found,) = (await service.resolve(subscription_id)).recipients
    return found


async def noted(service: Service, subscription_id: str) -> list[dict[str, Any]]:
    """What the history says of changes of mind, oldest first."""
    events = (await service.events(subscription_id)).events[::-1]
    return [event.data for event in events if event.kind == "consent_changed"]


async def test_what_is_registered_is_told_to_the_pipeline(service: Service) -> None:
    device = rpc.DeviceInfo(timezone="Asia/Seoul")
    made = await service.make(quiet_hours=ADS, night_consent=True, device_info=device)
    assert (made.quiet_hours, made.night_consent) == (ADS, True)
    assert await service.get(made.id) == made
    found = await recipient(service, made.id)
    assert (found.quiet_hours, found.night_consent, found.timezone) == (ADS, True, "Asia/Seoul")
    (created,) = (await service.events(made.id)).events
    hours = {"start": "18:00", "end": "09:00", "action": "drop", "categories": ["ad"]}
    assert (created.data["night_consent"], created.data["quiet_hours"]) == (True, hours)


async def test_without_them_the_applications_hold(service: Service) -> None:
    made = await service.make()
    found = await recipient(service, made.id)
    assert (found.quiet_hours, found.night_consent, found.timezone) == (None, False, None)


async def test_they_change_and_go_and_the_history_says_so(service: Service) -> None:
    made = await service.make(quiet_hours=ADS)
    for hours in (ADS, NIGHT, NIGHT, None, None):
        assert (await service.update(made.id, quiet_hours=hours)).quiet_hours == hours
    assert await noted(service, made.id) == [
        {"quiet_hours": {"start": "22:00", "end": "07:00"}},
        {"quiet_hours": None},
    ]
    assert (await recipient(service, made.id)).quiet_hours is None


async def test_other_changes_leave_them(service: Service) -> None:
    made = await service.make(quiet_hours=NIGHT)
    await service.update(made.id, night_consent=True, device_info=rpc.DeviceInfo(timezone="Europe/Berlin"))
    await service.update(made.id, device_info=rpc.DeviceInfo(app_version="2"))
    found = await recipient(service, made.id)
    assert (found.quiet_hours, found.night_consent, found.timezone) == (NIGHT, True, "Europe/Berlin")
    assert await noted(service, made.id) == [{"night_consent": True}]


async def test_what_a_later_release_stored_is_read_and_kept(service: Service) -> None:
    """As after the way back from it: what this release does not know hides nothing, and is there again afterwards."""
    made = await service.make(quiet_hours=NIGHT, device_info=rpc.DeviceInfo(timezone="Asia/Seoul"))
    hours, device = {"start": "22:00", "end": "07:00", "days": ["mon"]}, {"timezone": "Asia/Seoul", "fold": {"x": 1}}
    await service.admin.execute(
        "UPDATE subscription.subscriptions SET quiet_hours = $1, device_info = $2", hours, device
    )
    found = await recipient(service, made.id)
    assert (found.quiet_hours, found.timezone) == (NIGHT, "Asia/Seoul")
    changed = await service.update(made.id, night_consent=True, device_info=rpc.DeviceInfo(app_version="2"))
    assert (changed.quiet_hours, changed.device_info.app_version) == (NIGHT, "2")
    (stored,) = await service.admin.fetch("SELECT quiet_hours, device_info FROM subscription.subscriptions")
    assert (stored["quiet_hours"], stored["device_info"]) == (hours, device | {"app_version": "2"})


async def test_registering_again_brings_them_up_to_date_or_leaves_them(service: Service) -> None:
    made = await service.make(quiet_hours=NIGHT)
    assert (await service.make(upsert=True)).quiet_hours == NIGHT
    assert (await service.make(upsert=True, quiet_hours=ADS)).quiet_hours == ADS
    assert (await service.make(upsert=True, quiet_hours=None)).quiet_hours is None
    assert len(await noted(service, made.id)) == 2


@pytest.mark.parametrize("own", [None, ADS])
async def test_who_takes_a_token_over_keeps_the_peace_agreed_there(service: Service, own: QuietHours | None) -> None:
    await service.make(apns(1), quiet_hours=NIGHT)
    mine = await service.make(apns(2), installation_id="i1", quiet_hours=own)
    taken = await service.make(apns(1), installation_id="i1", upsert=True)
    assert (taken.id, taken.quiet_hours) == (mine.id, own or NIGHT)


async def test_a_day_that_is_quiet_throughout_is_refused(service: Service) -> None:
    made = await service.make()
    for refused in (
        await outcome(service.register(apns(2), quiet_hours=ALL_DAY)),
        await outcome(service.update(made.id, quiet_hours=ALL_DAY, night_consent=True)),
    ):
        assert isinstance(refused, ValidationFailed)
        assert refused.details["fields"] == {"quiet_hours.end": "must differ from start"}
    assert await service.get(made.id) == made
    assert await service.rows() == 1


async def test_an_import_brings_them_along_and_takes_none_away(service: Service) -> None:
    view = await imported(service, line(apns(1), quiet_hours=ADS, night_consent=True), line(MAIL, "Email", number=2))
    assert view.created == 2
    rows = {row.type: row for row in (await service.page()).subscriptions}
    assert (rows["iOSPush"].quiet_hours, rows["iOSPush"].night_consent) == (ADS, True)
    assert (rows["Email"].quiet_hours, rows["Email"].night_consent) == (None, False)
    await imported(service, line(apns(1)), line(MAIL, "Email", number=2, quiet_hours=NIGHT, night_consent=True))
    assert (await service.get(rows["iOSPush"].id)).quiet_hours == ADS
    changed = await service.get(rows["Email"].id)
    assert (changed.quiet_hours, changed.night_consent) == (NIGHT, True)
    told = await noted(service, changed.id)
    assert [{k: v for k, v in each.items() if k != "import_id"} for each in told] == [
        {"night_consent": True},
        {"quiet_hours": {"start": "22:00", "end": "07:00"}},
    ]
    page = await service.bus.call("subscription", "export", rpc.ExportSubscriptions(SHOP), rpc.SubscriptionsExport)
    assert {(row.type, row.quiet_hours, row.night_consent) for row in page.subscriptions} == {
        ("iOSPush", ADS, True),
        ("Email", NIGHT, True),
    }
