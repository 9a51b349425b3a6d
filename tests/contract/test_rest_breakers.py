"""GET /application/breakers."""

import pytest

from libs import rpc
from libs.pg import single_connection
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

KOREAN = {"Accept-Language": "ko"}


async def report(whole: Whole, shop: Tenant, **fields: str) -> None:
    told = {"channel": "apns", "verdict": "failed", "reason": "ExpiredProviderToken", "retry_class": "credentials"}
    request = rpc.ReportBreaker(shop.application_id, **{**told, **fields})  # type: ignore[arg-type]
    await whole.bus.call("lifecycle", "report_breaker", request, rpc.Empty)


async def test_nothing_is_open_at_first(whole: Whole) -> None:
    shop = await whole.tenant()
    assert (await shop.get("/application/breakers")).data == {"breakers": []}


async def test_what_is_open_is_told_with_its_reason_in_english_and_korean(whole: Whole) -> None:
    shop = await whole.tenant()
    await report(whole, shop)
    (found,) = (await shop.get("/application/breakers")).data["breakers"]
    assert {name: found[name] for name in ("channel", "state", "cause", "reason", "failures", "waiting")} == {
        "channel": "apns",
        "state": "open",
        "cause": "credentials",
        "reason": "ExpiredProviderToken",
        "failures": 1,
        "waiting": 0,
    }
    assert found["why"] == (
        "APNs does not take the application's credential (ExpiredProviderToken): messages wait until it is set anew."
    )
    assert found["since"] < found["next_probe_at"]
    (korean,) = (await shop.get("/application/breakers", headers=KOREAN)).data["breakers"]
    assert korean["why"] == (
        "APNs에서 애플리케이션의 자격 증명을 받아들이지 않습니다(ExpiredProviderToken). 다시 설정할 때까지 메시지가 "
        "대기합니다."
    )


@pytest.mark.parametrize(("retry_class", "word"), [("outage", "fails to take"), ("network", "cannot be reached")])
async def test_an_outage_is_told_from_a_way_that_is_broken(whole: Whole, retry_class: str, word: str) -> None:
    shop = await whole.tenant()
    await report(whole, shop, channel="fcm", reason="UNAVAILABLE", retry_class=retry_class)
    (found,) = (await shop.get("/application/breakers")).data["breakers"]
    assert (found["cause"], word in found["why"], found["why"].startswith("FCM")) == (retry_class, True, True)


async def test_while_it_is_probed_it_is_half_open(whole: Whole) -> None:
    shop = await whole.tenant()
    await report(whole, shop)
    async with single_connection(whole.database.admin_dsn) as admin:
        await admin.execute("UPDATE lifecycle.breakers SET probe_at = now()")
    (found,) = (await shop.get("/application/breakers")).data["breakers"]
    assert found["state"] == "half_open"
    assert found["why"].endswith("Single messages try now whether it works.")
    await report(whole, shop, verdict="healed")
    assert (await shop.get("/application/breakers")).data == {"breakers": []}


async def test_another_applications_breakers_are_not_seen(whole: Whole) -> None:
    shop, stranger = await whole.tenant(), await whole.tenant()
    await report(whole, shop)
    assert (await stranger.get("/application/breakers")).data == {"breakers": []}


@pytest.mark.parametrize("scope", ["send", "manage", "client"])
async def test_only_read_may(whole: Whole, scope: str) -> None:
    shop = await whole.tenant(scopes=[scope])
    assert (await shop.get("/application/breakers")).status == 403
