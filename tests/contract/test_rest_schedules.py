"""Messages for later: at a moment, at a time of the recipient's day, and moved; over the whole platform."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from libs import rpc
from libs.ids import new_id
from libs.pg import single_connection
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import until
from tests.contract.test_rest_messages_to_persons import count_messages, device, person
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

SEOUL, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")


def after(**time: float) -> str:
    """So much later than now, on a whole second."""
    return f"{datetime.now(UTC) + timedelta(**time):%Y-%m-%dT%H:%M:%S}.000Z"


def shown(moment: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(zone):%H:%M:%S}"


def is_next(moment: str, since: str | None = None) -> bool:
    """Whether it is within a day from now, or from `since`."""
    begin = datetime.now(UTC) if since is None else datetime.fromisoformat(since)
    return timedelta(minutes=-1) <= datetime.fromisoformat(moment) - begin <= timedelta(hours=25)


async def at(shop: Tenant, timezone: str | None = None, country: str | None = None) -> str:
    """A device somewhere."""
    info = {name: value for name, value in (("timezone", timezone), ("country_code", country)) if value is not None}
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token(), "device_info": info})
    assert made.status == 201, made.body
    return str(made.data["subscription_id"])


async def scheduled(shop: Tenant, subscription: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"subscription_id": subscription or await at(shop), "title": "Hello", **fields}
    sent = await shop.post("/messages", body)
    assert sent.status == 201, sent.body
    return dict(sent.data)


async def timeline(shop: Tenant, message: str) -> dict[str, Any]:
    return dict((await shop.get(f"/messages/{message}/events")).data)


async def come(whole: Whole, message: str) -> None:
    """Its time comes."""
    async with single_connection(whole.database.admin_dsn) as admin:
        await admin.execute("UPDATE lifecycle.due SET due_at = now() WHERE message_id = $1", message)


class TestAtAMoment:
    async def test_waits_for_it_and_says_so(self, shared_whole: Whole) -> None:
        shop, moment = await shared_whole.tenant(), after(days=3)
        sent = await scheduled(shop, scheduled_at=moment)
        assert (sent["status"], sent["scheduled_at"]) == ("pending", moment)
        found = (await shop.get(f"/messages/{sent['message_id']}")).data
        assert (found["status"], found["scheduled_at"], found["sent_at"]) == ("pending", moment, None)
        told = await timeline(shop, sent["message_id"])
        assert [event["event_type"] for event in told["events"]] == ["created", "scheduled"]
        assert told["next_attempt_at"] == moment
        assert told["why"] == f"Scheduled: it is to be sent at {moment[:10]} {moment[11:19].removesuffix(':00')} UTC."

    async def test_its_time_comes(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = (await scheduled(shop, scheduled_at=after(hours=1)))["message_id"]
        await come(shared_whole, message)

        async def went() -> bool:
            return "routed" in {event["event_type"] for event in (await timeline(shop, message))["events"]}

        await until(went)
        told = await timeline(shop, message)
        assert "next_attempt_at" not in told
        assert told["events"][-1]["why"].startswith("Its time had come, and it was handed on")
        answer = await shop.post(f"/messages/{message}/reschedule", {"scheduled_at": after(days=1)})
        assert (answer.status, answer.code) == (400, "message_already_processed")

    @pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
    async def test_what_is_past_is_sent_at_once(self, shared_whole: Whole, moment: str) -> None:
        shop = await shared_whole.tenant()
        sent = await scheduled(shop, scheduled_at=moment)
        assert "scheduled_at" not in sent
        found = (await shop.get(f"/messages/{sent['message_id']}")).data
        assert "scheduled_at" not in found
        assert [event["event_type"] for event in found["events"]] == ["created"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("scheduled_at", "tomorrow"),
            ("scheduled_at", "2026-07-01T09:00:00"),
            ("scheduled_at", "9999-12-31T23:59:59Z"),
            ("scheduled_at", 1_782_864_000),
            ("send_at_local", "9:00"),
            ("send_at_local", "24:00"),
            ("send_at_local", "09:00\n"),
            ("send_at_local", "09:00:00"),
        ],
    )
    async def test_what_is_no_time_is_refused_by_name(self, shared_whole: Whole, field: str, value: Any) -> None:
        shop = await shared_whole.tenant()
        body = {"subscription_id": await at(shop), "title": "Hello", field: value}
        message = (await scheduled(shop, scheduled_at=after(days=1)))["message_id"]
        for path, wanted in (("/messages", body), (f"/messages/{message}/reschedule", {field: value})):
            answer = await shop.post(path, wanted)
            assert (answer.status, answer.code) == (422, "validation_error")
            assert list(answer.details["fields"]) == [field]
        batch = (await shop.post("/messages/batch", {"messages": [body]})).data
        assert (batch["accepted"], list(batch["results"][0]["error"]["details"]["fields"])) == (0, [field])

    async def test_too_far_away_is_said_in_the_callers_language(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        body = {"subscription_id": await at(shop), "title": "Hello", "scheduled_at": after(days=367)}
        for language, said in (("en", "must be at most 366 days ahead"), ("ko", "지금부터 366일 이내여야 합니다")):
            answer = await shop.post("/messages", body, headers={"Accept-Language": language})
            assert answer.details["fields"] == {"scheduled_at": said}


class TestAtALocalTime:
    @pytest.mark.parametrize(
        ("timezone", "country", "default", "zone", "source"),
        [
            ("America/New_York", "KR", "Europe/Paris", "America/New_York", "subscription"),
            (None, "KR", "Europe/Paris", "Asia/Seoul", "country"),
            ("here", None, "Europe/Paris", "Europe/Paris", "application"),
            (None, None, None, "UTC", "utc"),
        ],
    )
    async def test_the_zone_is_the_first_that_is_known(
        self, shared_whole: Whole, timezone: str, country: str, default: str, zone: str, source: str
    ) -> None:
        shop = await shared_whole.tenant()
        if default is not None:
            change = rpc.UpdateApplication(shop.application_id, "test", settings={"timezone": default})
            await shared_whole.bus.call("application", "update_application", change, rpc.ApplicationView)
        sent = await scheduled(shop, await at(shop, timezone, country), send_at_local="09:00")
        assert is_next(sent["scheduled_at"])
        assert shown(sent["scheduled_at"], ZoneInfo(zone)) == "09:00:00"
        (event,) = [e for e in (await timeline(shop, sent["message_id"]))["events"] if e["event_type"] == "scheduled"]
        given = {name: event["data"][name] for name in ("send_at_local", "timezone", "timezone_from")}
        assert given == {"send_at_local": "09:00", "timezone": zone, "timezone_from": source}
        assert f"09:00 {zone}: asked for at 09:00 of the recipient's time" in event["why"]

    async def test_with_a_moment_it_is_the_first_such_time_from_then_on(self, shared_whole: Whole) -> None:
        shop, moment = await shared_whole.tenant(), after(days=30)
        sent = await scheduled(shop, await at(shop, "Asia/Seoul"), send_at_local="07:30", scheduled_at=moment)
        assert is_next(sent["scheduled_at"], moment)
        assert shown(sent["scheduled_at"], SEOUL) == "07:30:00"

    async def test_every_device_of_a_person_has_its_own(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        seoul, new_york = await at(shop, "Asia/Seoul"), await at(shop, "America/New_York")
        name = await person(shop, seoul, new_york)
        body = {"external_id": name, "strategy": "all", "title": "Hello", "send_at_local": "09:00"}
        sent = (await shop.post("/messages", body)).data
        found = {each["subscription_id"]: each["scheduled_at"] for each in sent["messages"]}
        assert shown(found[seoul], SEOUL) == shown(found[new_york], NEW_YORK) == "09:00:00"
        assert sent["scheduled_at"] == sent["messages"][0]["scheduled_at"]
        for each in sent["messages"]:
            assert (await shop.get(f"/messages/{each['message_id']}")).data["scheduled_at"] == each["scheduled_at"]


class TestBatch:
    async def test_each_item_has_its_own_time(self, shared_whole: Whole) -> None:
        shop, moment = await shared_whole.tenant(), after(days=2)
        seoul, new_york = await at(shop, "Asia/Seoul"), await at(shop, "America/New_York")
        name = await person(shop, await at(shop, "Asia/Seoul"))
        hello = {"title": "Hello"}
        items = [
            {"subscription_id": seoul, "send_at_local": "09:00", **hello},
            {"subscription_id": new_york, "send_at_local": "09:00", **hello},
            {"subscription_id": seoul, "scheduled_at": moment, **hello},
            {"subscription_id": seoul, **hello},
            {"subscription_id": seoul, "scheduled_at": after(days=400), **hello},
            {"external_id": name, "send_at_local": "21:15", **hello},
        ]
        sent = (await shop.post("/messages/batch", {"messages": items})).data
        assert (sent["accepted"], sent["refused"]) == (5, 1)
        one, two, three, four, five, six = sent["results"]
        assert shown(one["scheduled_at"], SEOUL) == shown(two["scheduled_at"], NEW_YORK) == "09:00:00"
        assert three["scheduled_at"] == moment
        assert "scheduled_at" not in four
        assert list(five["error"]["details"]["fields"]) == ["scheduled_at"]
        assert shown(six["scheduled_at"], SEOUL) == "21:15:00"
        assert six["messages"][0]["scheduled_at"] == six["scheduled_at"]
        for each in (one, two, three, six):
            assert (await shop.get(f"/messages/{each['message_id']}")).data["scheduled_at"] == each["scheduled_at"]


class TestValidateOnly:
    async def test_tells_the_time_and_accepts_nothing(self, shared_whole: Whole) -> None:
        shop, moment = await shared_whole.tenant(), after(days=2)
        item = {"subscription_id": await at(shop), "title": "Hello", "scheduled_at": moment}
        one = await shop.post("/messages", {**item, "validate_only": True})
        assert (one.status, one.data["status"], one.data["scheduled_at"]) == (200, "valid", moment)
        many = await shop.post("/messages/batch", {"messages": [item], "validate_only": True})
        assert many.data["results"] == [{"message_id": None, "status": "valid", "scheduled_at": moment}]
        far = await shop.post("/messages", {**item, "scheduled_at": after(days=400), "validate_only": True})
        assert far.code == "validation_error"
        assert await count_messages(shared_whole, shop) == 0


class TestRepetition:
    async def test_under_an_idempotency_key_gives_the_time_that_was_found_first(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        subscription = await at(shop, "Asia/Seoul")
        made = await shop.post("/templates", {"name": f"t-{new_id()}", "body_template": "Hi"})
        to = {"subscription_id": subscription, "send_at_local": "09:00"}
        requests = {
            "/messages": {**to, "title": "Hello"},
            "/messages/template": {**to, "template_id": made.data["template_id"]},
            "/messages/batch": {"messages": [{**to, "title": "Hello"}, {**to, "title": "Again"}]},
        }
        keys = {path: {"Idempotency-Key": new_id()} for path in requests}
        first = {path: (await shop.post(path, body, headers=keys[path])).data for path, body in requests.items()}
        moved = {"device_info": {"timezone": "America/New_York"}}
        assert (await shop.call("PATCH", f"/subscriptions/{subscription}", moved)).status == 200
        for path, body in requests.items():
            again = await shop.post(path, body, headers=keys[path])
            assert again.headers["Idempotency-Replayed"] == "true"
            assert again.data == first[path]
        assert shown(first["/messages"]["scheduled_at"], SEOUL) == "09:00:00"


class TestReschedule:
    async def test_the_last_time_counts_and_each_is_told(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = (await scheduled(shop, await at(shop, "Asia/Seoul"), scheduled_at=after(days=1)))["message_id"]
        later = after(days=9)
        answer = await shop.post(f"/messages/{message}/reschedule", {"scheduled_at": later})
        assert (answer.status, answer.data) == (200, {"id": message, "status": "pending", "scheduled_at": later})
        local = await shop.post(f"/messages/{message}/reschedule", {"scheduled_at": later, "send_at_local": "09:00"})
        assert is_next(local.data["scheduled_at"], later)
        assert shown(local.data["scheduled_at"], SEOUL) == "09:00:00"
        assert (await shop.get(f"/messages/{message}")).data["scheduled_at"] == local.data["scheduled_at"]
        told = await timeline(shop, message)
        assert told["next_attempt_at"] == local.data["scheduled_at"]
        assert told["why"].startswith("Given another time: it is to be sent at")
        assert told["why"].endswith("the time zone is the subscription's own; its time was set 3 times.")

    async def test_a_past_time_is_now(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = (await scheduled(shop, scheduled_at=after(days=1)))["message_id"]
        answer = await shop.post(f"/messages/{message}/reschedule", {"scheduled_at": "2020-01-01T00:00:00Z"})
        assert abs(datetime.fromisoformat(answer.data["scheduled_at"]) - datetime.now(UTC)) < timedelta(minutes=1)

        async def went() -> bool:
            return "routed" in {event["event_type"] for event in (await timeline(shop, message))["events"]}

        await until(went)

    async def test_only_what_waits_for_its_time(self, shared_whole: Whole) -> None:
        shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
        at_once = (await scheduled(shop))["message_id"]
        cancelled = (await scheduled(shop, scheduled_at=after(days=1)))["message_id"]
        assert (await shop.post(f"/messages/{cancelled}/cancel")).status == 200
        theirs = (await scheduled(stranger, scheduled_at=after(days=1)))["message_id"]
        for body in ({"scheduled_at": after(days=2)}, {"send_at_local": "09:00"}):
            for message in (at_once, cancelled):
                answer = await shop.post(f"/messages/{message}/reschedule", body)
                assert (answer.status, answer.code) == (400, "message_already_processed")
            for message in (theirs, new_id(), "m1"):
                answer = await shop.post(f"/messages/{message}/reschedule", body)
                assert (answer.status, answer.code) == (404, "resource_not_found")
        nothing = await shop.post(f"/messages/{theirs}/reschedule", {})
        assert (nothing.status, nothing.code) == (400, "invalid_request")
        assert set(nothing.details["fields"]) == {"scheduled_at", "send_at_local"}

    async def test_without_its_subscription_the_applications_day_counts(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        change = rpc.UpdateApplication(shop.application_id, "test", settings={"timezone": "Asia/Tokyo"})
        await shared_whole.bus.call("application", "update_application", change, rpc.ApplicationView)
        subscription = await at(shop, "America/New_York")
        message = (await scheduled(shop, subscription, scheduled_at=after(days=1)))["message_id"]
        assert (await shop.call("DELETE", f"/subscriptions/{subscription}")).status == 200
        answer = await shop.post(f"/messages/{message}/reschedule", {"send_at_local": "09:00"})
        assert shown(answer.data["scheduled_at"], ZoneInfo("Asia/Tokyo")) == "09:00:00"

    async def test_twice_at_the_same_time_and_against_cancel(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = (await scheduled(shop, await device(shop), scheduled_at=after(days=1)))["message_id"]
        times = [after(days=day) for day in range(2, 7)]
        answers = await asyncio.gather(
            *(shop.post(f"/messages/{message}/reschedule", {"scheduled_at": time}) for time in times)
        )
        assert {answer.status for answer in answers} == {200}
        found = (await shop.get(f"/messages/{message}")).data
        assert found["scheduled_at"] in times
        assert (await timeline(shop, message))["next_attempt_at"] == found["scheduled_at"]
        cancel, move = await asyncio.gather(
            shop.post(f"/messages/{message}/cancel"),
            shop.post(f"/messages/{message}/reschedule", {"scheduled_at": after(days=8)}),
        )
        assert cancel.status == 200
        assert move.status in (200, 400)
        assert (await shop.get(f"/messages/{message}")).data["status"] == "cancelled"
