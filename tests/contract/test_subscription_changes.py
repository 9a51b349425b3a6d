"""Changes to subscriptions: tokens, devices, consent, tags, archiving; each once, in order, with its history."""

import asyncio
from typing import Any

import pytest

from libs import rpc
from libs.errors import (
    DuplicateSubscription,
    InvalidToken,
    PermissionDenied,
    ResourceNotFound,
    SignalError,
    ValidationFailed,
)
from tests.contract.subscription_harness import MAIL, NOBODY, OTHER, SHOP, Service, apns, outcome

pytest_plugins = ["tests.contract.subscription_fixtures"]


# tokens ---------------------------------------------------------------------------------------------------------------


async def test_a_new_token_takes_the_place_of_the_old_one(service: Service) -> None:
    made = await service.make(apns(1))
    changed = await service.update(made.id, token=apns(2).upper())
    (recipient,) = (await service.resolve(made.id)).recipients
    assert await service.token(made.id) == apns(2)
    assert (recipient.token_version, changed.token_hint) == (2, apns(2)[-4:])
    assert recipient.registered_at_ms == changed.token_updated_at_ms
    assert (changed.token_updated_at_ms or 0) >= made.created_at_ms
    assert await service.kinds(made.id) == ["created", "token_updated"]


async def test_the_same_token_again_is_no_new_version(service: Service) -> None:
    made = await service.make(apns(1))
    await service.update(made.id, token=apns(1))
    assert (await service.resolve(made.id)).recipients[0].token_version == 1
    assert await service.kinds(made.id) == ["created"]


async def test_a_token_that_another_one_has_is_refused(service: Service) -> None:
    mine, theirs = await service.make(apns(1)), await service.make(apns(2))
    with pytest.raises(DuplicateSubscription) as refused:
        await service.update(mine.id, token=apns(2), device_info=rpc.DeviceInfo(app_version="9"))
    assert refused.value.details == {"subscription_id": theirs.id}
    assert await service.get(mine.id) == mine


async def test_of_simultaneous_claims_to_one_token_one_wins(service: Service) -> None:
    made = [await service.make(apns(n)) for n in range(8)]
    answers = await asyncio.gather(*(outcome(service.update(each.id, token=apns(99))) for each in made))
    (winner,) = [answer for answer in answers if isinstance(answer, rpc.SubscriptionView)]
    losers = [answer for answer in answers if isinstance(answer, DuplicateSubscription)]
    assert len(losers) == 7
    assert {error.details["subscription_id"] for error in losers} == {winner.id}


async def test_tokens_that_are_claimed_while_they_are_registered_stay_one_each(service: Service) -> None:
    made = [await service.make(apns(n)) for n in range(10)]
    calls = [service.update(each.id, token=apns(100 + n)) for n, each in enumerate(made)]
    calls += [service.make(apns(100 + n)) for n in range(10)]
    answers = await asyncio.gather(*map(outcome, calls))
    assert sum(isinstance(answer, DuplicateSubscription) for answer in answers) == 10
    assert not [a for a in answers if isinstance(a, SignalError) and not isinstance(a, DuplicateSubscription)]


@pytest.mark.parametrize("token", ["", "nonsense", "a" * 9000])
async def test_a_token_must_fit_the_type(service: Service, token: str) -> None:
    made = await service.make(apns(1))
    with pytest.raises(InvalidToken):
        await service.update(made.id, token=token)
    assert await service.get(made.id) == made


async def test_the_kind_of_a_token_changes_only_if_told(service: Service) -> None:
    made = await service.make("first", "AndroidPush", token_kind="fid")
    await service.update(made.id, token="second")
    assert (await service.resolve(made.id)).recipients[0].token_kind == "fid"
    await service.update(made.id, token="f:third", token_kind="token")
    assert (await service.resolve(made.id)).recipients[0].token_kind == "token"


# status ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([{"event": "disable"}], -2),
        ([{"event": "disable_by_api"}], -31),
        ([{"event": "disable"}, {"event": "disable_by_api"}], -2),
        ([{"event": "disable"}, {"token": apns(9)}], -2),
        ([{"event": "disable"}, {"subscription_status": 1}], -2),
        ([{"event": "disable"}, {"event": "enable"}], 1),
        ([{"event": "disable_by_api"}, {"subscription_status": 1}], -31),
        ([{"event": "disable_by_api"}, {"event": "enable"}], 1),
        ([{"subscription_status": -18}, {"subscription_status": 1}], 1),
        ([{"subscription_status": -22}, {"token": apns(9)}], -22),
        ([{"subscription_status": -22}, {"subscription_status": 1}], 1),
        ([{"subscription_status": -14}, {"token": apns(9)}], 1),
        ([{"subscription_status": -14, "token": apns(9)}], -14),
    ],
    ids=str,
)
async def test_the_table_of_transitions_is_what_is_stored(
    service: Service, steps: list[dict[str, Any]], status: int
) -> None:
    made = await service.make(apns(1))
    for step in steps:
        if "event" in step:
            found = await service.set_status(made.id, step["event"])
        else:
            found = await service.update(made.id, act="sdk", **step)
    assert found.subscription_status == status
    assert (await service.get(made.id)) == found
    assert found.unsubscribed_at_ms is not None


async def test_enabling_is_recorded_as_consent_each_time(service: Service) -> None:
    made = await service.make(apns(1))
    await service.set_status(made.id, "disable", act="user")
    for act in ("user", "api"):
        await service.set_status(made.id, "enable", act=act)
    events = (await service.events(made.id)).events
    assert [(e.kind, e.source, e.data) for e in events[:3]] == [
        ("subscribed", "api", {"from": 1, "status": 1}),
        ("subscribed", "user", {"from": -2, "status": 1}),
        ("unsubscribed", "user", {"from": 1, "status": -2}),
    ]
    assert all(event.actor.startswith("key:") and event.occurred_at_ms > 0 for event in events)


async def test_times_of_subscribing_follow_the_status(service: Service) -> None:
    made = await service.make(MAIL, "Email", double_opt_in=True)
    confirmed = await service.set_status(made.id, "confirm")
    assert (made.subscribed_at_ms, made.subscription_status) == (None, -98)
    assert confirmed.subscribed_at_ms is not None
    disabled = await service.set_status(made.id, "disable")
    assert disabled.unsubscribed_at_ms is not None
    assert disabled.subscribed_at_ms == confirmed.subscribed_at_ms
    assert await service.kinds(made.id) == ["created", "confirmed", "unsubscribed"]


async def test_a_persons_app_cannot_confirm_an_address(service: Service) -> None:
    made = await service.make(MAIL, "Email", double_opt_in=True)
    with pytest.raises(PermissionDenied):
        await service.set_status(made.id, "enable", act="user")
    assert (await service.set_status(made.id, "enable", act="api")).subscription_status == 1


async def test_only_what_waits_is_confirmed(service: Service) -> None:
    made = await service.make(MAIL, "Email")
    assert (await service.set_status(made.id, "confirm")).subscription_status == 1
    await service.set_status(made.id, "disable")
    with pytest.raises(ValidationFailed):
        await service.set_status(made.id, "confirm")


@pytest.mark.parametrize("code", [-3, -70, -2, 0, 2, -31])
async def test_a_code_of_another_type_changes_nothing(service: Service, code: int) -> None:
    made = await service.make(apns(1))
    with pytest.raises(ValidationFailed) as refused:
        await service.update(made.id, subscription_status=code, device_info=rpc.DeviceInfo(app_version="9"))
    assert list(refused.value.details["fields"]) == ["subscription_status"]
    assert await service.get(made.id) == made


# device and consent ---------------------------------------------------------------------------------------------------


async def test_what_is_not_told_of_a_device_stays(service: Service) -> None:
    made = await service.make(device_info=rpc.DeviceInfo(device_model="A", country_code="KR", device_language="ko"))
    changed = await service.update(made.id, device_info=rpc.DeviceInfo(app_version="2", country_code="US"))
    assert changed.device_info == rpc.DeviceInfo(
        device_model="A", country_code="US", device_language="ko", app_version="2"
    )
    (recipient,) = (await service.resolve(made.id)).recipients
    assert (recipient.country, recipient.language) == ("US", "ko")
    assert (await service.events(made.id)).events[0].data == {"fields": ["app_version", "country_code"]}


async def test_consent_to_ads_is_recorded(service: Service) -> None:
    made = await service.make(apns(1))
    changed = await service.update(made.id, ad_consent=False, night_consent=True)
    assert (changed.ad_consent, changed.night_consent) == (False, True)
    await service.update(made.id, ad_consent=False)
    assert await service.kinds(made.id) == ["created", "consent_changed"]
    assert (await service.resolve(made.id)).recipients[0].ad_consent is False


async def test_a_sign_of_life_is_kept_once_a_minute_and_is_no_update(service: Service) -> None:
    made = await service.make(apns(1))
    first = await service.update(made.id)
    again = await service.update(made.id)
    assert made.last_active_at_ms is None
    assert first.last_active_at_ms is not None
    assert again == first
    assert first.updated_at_ms == made.updated_at_ms
    await service.admin.execute("UPDATE subscription.subscriptions SET last_active_at = now() - interval '61 seconds'")
    assert ((await service.update(made.id)).last_active_at_ms or 0) >= first.last_active_at_ms


async def test_what_postgres_cannot_keep_is_refused(service: Service) -> None:
    made = await service.make(apns(1))
    with pytest.raises(ValidationFailed):
        await service.update(made.id, device_info=rpc.DeviceInfo(device_model="\0"))


# tags -----------------------------------------------------------------------------------------------------------------


async def test_tags_are_added_replaced_and_removed(service: Service) -> None:
    made = await service.make(tags={"a": "1", "b": "1"})
    assert await service.tag([made.id], add={"b": "2", "c": "3"}) == {made.id: {"a": "1", "b": "2", "c": "3"}}
    assert await service.tag([made.id], remove=["a", "unknown"]) == {made.id: {"b": "2", "c": "3"}}
    events = (await service.events(made.id)).events
    assert [event.data for event in events[:2]] == [
        {"added": [], "removed": ["a"]},
        {"added": ["b", "c"], "removed": []},
    ]


async def test_tags_of_many_at_once_leave_unknown_ones_out(service: Service) -> None:
    mine = [await service.make(apns(n)) for n in range(3)]
    theirs = await service.make(apns(1), application_id=OTHER)
    found = await service.tag([*(each.id for each in mine), theirs.id, NOBODY, "nonsense"], add={"x": "1"})
    assert found == {each.id: {"x": "1"} for each in mine}
    assert (await service.get(theirs.id, OTHER)).tags == {}


async def test_simultaneous_tags_of_one_subscription_all_stay(service: Service) -> None:
    made = await service.make(apns(1))
    await asyncio.gather(*(service.tag([made.id], add={f"t{n}": str(n)}) for n in range(50)))
    assert len((await service.get(made.id)).tags) == 50


async def test_one_subscription_with_too_many_tags_stops_the_whole_request(service: Service) -> None:
    full, free = await service.make(apns(1), tags={str(n): "" for n in range(100)}), await service.make(apns(2))
    with pytest.raises(ValidationFailed) as refused:
        await service.tag([free.id, full.id], add={"one more": ""})
    assert refused.value.details["subscription_id"] == full.id
    assert (await service.get(free.id)).tags == {}
    assert len((await service.tag([full.id], add={"one more": ""}, remove=["0"]))[full.id]) == 100


@pytest.mark.parametrize(
    "wrong", [{"add": {"": "x"}}, {"add": {"x": "\0"}}, {"add": {"x": "y" * 257}}, {"remove": ["x" * 129]}], ids=str
)
async def test_tags_have_bounds(service: Service, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        await service.tag([NOBODY], **wrong)


async def test_a_request_for_too_many_is_refused(service: Service) -> None:
    with pytest.raises(ValidationFailed):
        await service.tag([NOBODY] * 1001, add={"x": "1"})


async def test_a_thousand_subscriptions_are_tagged_in_one_request(service: Service) -> None:
    made = await asyncio.gather(*(service.make(apns(n)) for n in range(1000)))
    found = await service.tag([each.id for each in made], add={"x": "1"})
    assert set(map(str, found.values())) == {"{'x': '1'}"}
    assert len(found) == 1000


# archiving and tenants ------------------------------------------------------------------------------------------------


async def test_an_archived_subscription_is_gone_but_its_history_and_its_key_are_not(service: Service) -> None:
    made = await service.make(apns(1))
    (recipient,) = (await service.resolve(made.id)).recipients
    assert (await service.archive(made.id)).archived_at_ms >= made.created_at_ms
    for call in (service.get(made.id), service.archive(made.id), service.update(made.id)):
        with pytest.raises(ResourceNotFound):
            await call
    assert await service.tag([made.id], add={"a": "b"}) == {}
    assert await service.kinds(made.id) == ["created", "archived"]
    found = await service.resolve(made.id, keys=[recipient.key_id])
    assert (found.recipients, set(found.keys)) == ([], {recipient.key_id})
    assert (await service.make(apns(1))).id != made.id


@pytest.mark.parametrize("owner", [OTHER, SHOP, "nonsense"])
async def test_another_applications_subscription_is_as_unknown_as_nobodys(service: Service, owner: str) -> None:
    made = await service.make(apns(1))
    asked = NOBODY if owner == SHOP else made.id
    for call in (
        service.get(asked, owner),
        service.update(asked, owner, token=apns(2)),
        service.set_status(asked, "disable", application_id=owner),
        service.archive(asked, owner),
        service.events(asked, owner),
    ):
        with pytest.raises(ResourceNotFound) as refused:
            await call
        assert refused.value.details == {"id": asked}
    assert await service.tag([asked], owner, add={"a": "b"}) == {}
    assert (await service.resolve(asked, application_id=owner)).recipients == []
    assert await service.get(made.id) == made


async def test_the_history_holds_no_personal_values(service: Service) -> None:
    made = await service.make(MAIL, "Email", user_id="customer-77", tags={"city": "Busan"})
    await service.update(made.id, device_info=rpc.DeviceInfo(device_model="Galaxy"), token="other@example.com")
    await service.tag([made.id], add={"plan": "gold"}, remove=["city"])
    history = str((await service.events(made.id)).events)
    assert "city" in history
    for value in ("Busan", "gold", "Galaxy", MAIL, "other@example.com", "customer-77"):
        assert value not in history
