"""POST /messages and its like to a person, from a template, and only validated: over the whole platform."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from libs.ids import new_id
from libs.pg import single_connection
from tests.contract.rest_requests import push_token
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

CHANNEL = {"iOSPush": "apns", "AndroidPush": "fcm"}


async def device(shop: Tenant, kind: str = "iOSPush", language: str | None = None, **more: Any) -> str:
    token = push_token() if kind == "iOSPush" else f"fcm-{new_id()}"
    body = {"type": kind, "token": token, "ad_consent": True, **more}
    if language is not None:
        body["device_info"] = {"device_language": language}
    made = await shop.post("/subscriptions", body)
    assert made.status == 201, made.body
    return str(made.data["subscription_id"])


async def person(shop: Tenant, *subscriptions: str) -> str:
    """The external id of a new user with these subscriptions."""
    name = f"user-{new_id()}"
    made = await shop.post("/users/identify", {"external_id": name, "subscriptions": list(subscriptions)})
    assert made.status in (200, 201), made.body
    return name


async def count_messages(whole: Whole, shop: Tenant) -> int:
    async with single_connection(whole.database.dsn("lifecycle")) as c:
        sql = "SELECT count(*) FROM lifecycle.messages WHERE application_id = $1"
        return int(await c.fetchval(sql, shop.application_id))


class TestPerson:
    async def test_the_first_available_of_the_preferred_types_gets_it(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        apple, android = await device(shop), await device(shop, "AndroidPush")
        name = await person(shop, apple, android)
        for channels, reached in (
            (["AndroidPush", "iOSPush"], android),
            (["iOSPush"], apple),
            (["Email", "SMS", "iOSPush"], apple),
        ):
            sent = await shop.post("/messages", {"external_id": name, "channels": channels, "title": "Hello"})
            assert (sent.status, sent.data["subscription_id"]) == (201, reached), channels
            (only,) = sent.data["messages"]
            assert (only["message_id"], only["subscription_id"]) == (sent.data["message_id"], reached)
            found = (await shop.get(f"/messages/{only['message_id']}")).data
            assert (found["channel"], found["title"]) == (CHANNEL[only["type"]], "Hello")

    async def test_all_reaches_every_active_subscription_in_one_transaction(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        devices = [await device(shop), await device(shop, "AndroidPush"), await device(shop)]
        asleep = await device(shop)
        name = await person(shop, *devices, asleep)
        assert (await shop.post(f"/subscriptions/{asleep}/disable")).status == 200
        sent = await shop.post("/messages", {"external_id": name, "strategy": "all", "title": "Hello"})
        assert sent.status == 201
        assert {each["subscription_id"] for each in sent.data["messages"]} == set(devices)
        assert sent.data["message_id"] == sent.data["messages"][0]["message_id"]
        ids = [each["message_id"] for each in sent.data["messages"]]
        async with single_connection(shared_whole.database.dsn("lifecycle")) as c:
            sql = "SELECT count(DISTINCT txid) FROM lifecycle.message_events WHERE message_id = ANY ($1::uuid[])"
            assert await c.fetchval(sql, ids) == 1

    async def test_our_own_id_of_the_user_is_as_good(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        name = await person(shop, subscription := await device(shop))
        sent = await shop.post("/messages", {"external_id": name, "title": "Hello"})
        user_id = (await shop.get(f"/messages/{sent.data['message_id']}")).data["user_id"]
        again = await shop.post("/messages", {"external_id": user_id, "title": "Hello"})
        assert (again.status, again.data["subscription_id"]) == (201, subscription)

    async def test_nobody_reachable_says_why(self, shared_whole: Whole) -> None:
        shop, other = await shared_whole.tenant(), await shared_whole.tenant()
        stranger = await person(other, await device(other))
        asleep = await device(shop)
        name = await person(shop, asleep)
        await shop.post(f"/subscriptions/{asleep}/disable")
        unwilling = await person(shop, await device(shop, ad_consent=False))
        for body, expected in (
            ({"external_id": "nobody"}, (404, "resource_not_found")),
            ({"external_id": stranger}, (404, "resource_not_found")),
            ({"external_id": new_id()}, (404, "resource_not_found")),
            ({"external_id": name}, (400, "subscription_disabled")),
            ({"external_id": name, "strategy": "all"}, (400, "subscription_disabled")),
            ({"external_id": name, "channels": ["AndroidPush"]}, (400, "subscription_disabled")),
            ({"external_id": unwilling, "category": "ad"}, (400, "subscription_disabled")),
        ):
            answer = await shop.post("/messages", {"title": "Hello", **body})
            assert (answer.status, answer.code) == expected, body
            assert stranger not in str(answer.body)
        assert await count_messages(shared_whole, shop) == 0

    async def test_there_is_exactly_one_recipient(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        subscription = await device(shop)
        name = await person(shop, subscription)
        for body, status, fields in (
            ({}, 400, {"subscription_id", "external_id"}),
            ({"subscription_id": subscription, "external_id": name}, 422, {"external_id"}),
            (
                {"subscription_id": subscription, "channels": ["iOSPush"], "strategy": "all"},
                422,
                {"channels", "strategy"},
            ),
            ({"external_id": name, "channels": ["Telegraph"]}, 422, {"channels.0"}),
            ({"external_id": name, "channels": []}, 422, {"channels"}),
            ({"external_id": name, "strategy": "some"}, 422, {"strategy"}),
            ({"external_id": ""}, 422, {"external_id"}),
        ):
            answer = await shop.post("/messages", {"title": "Hello", **body})
            assert (answer.status, set(answer.details["fields"])) == (status, fields), body

    async def test_the_same_key_gives_the_same_messages(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        name = await person(shop, await device(shop), await device(shop))
        body, headers = {"external_id": name, "strategy": "all", "title": "Hello"}, {"Idempotency-Key": "once"}
        answers = await asyncio.gather(*(shop.post("/messages", body, headers=headers) for _ in range(4)))
        assert {str(answer.data) for answer in answers} == {str(answers[0].data)}
        assert await count_messages(shared_whole, shop) == 2

    async def test_is_an_item_of_a_batch_too(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        apple, android = await device(shop), await device(shop, "AndroidPush")
        name = await person(shop, apple, android)
        items = [
            {"external_id": name, "strategy": "all", "title": "1"},
            {"external_id": "nobody", "title": "2"},
            {"subscription_id": apple, "title": "3"},
            {"external_id": name, "channels": ["AndroidPush"], "title": "4"},
            {"title": "5"},
        ]
        headers = {"Idempotency-Key": "batch"}
        answer = await shop.post("/messages/batch", {"messages": items}, headers=headers)
        assert (answer.data["accepted"], answer.data["refused"]) == (3, 2)
        first, unknown, plain, fourth, nobody = answer.data["results"]
        assert {each["subscription_id"] for each in first["messages"]} == {apple, android}
        assert first["message_id"] == first["messages"][0]["message_id"]
        assert (unknown["error"]["code"], nobody["error"]["code"]) == ("resource_not_found", "invalid_request")
        assert "messages" not in plain
        assert [each["type"] for each in fourth["messages"]] == ["AndroidPush"]
        again = await shop.post("/messages/batch", {"messages": items}, headers=headers)
        assert (again.body, again.headers["Idempotency-Replayed"]) == (answer.body, "true")
        assert await count_messages(shared_whole, shop) == 4

    async def test_a_batch_leads_to_no_more_messages_than_it_may_have_items(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        name = await person(shop, await device(shop), await device(shop), await device(shop))
        items = [{"external_id": name, "strategy": "all", "title": "Hello"}] * 335
        answer = await shop.post("/messages/batch", {"messages": items, "validate_only": True})
        assert (answer.data["accepted"], answer.data["refused"]) == (333, 2)
        assert answer.data["results"][-1]["error"]["code"] == "validation_error"


@pytest_asyncio.fixture(loop_scope="module")
async def shop(shared_whole: Whole) -> Tenant:
    """With a template in English and Korean."""
    found = await shared_whole.tenant()
    made = await found.post(
        "/templates",
        {
            "name": "order",
            "title_template": "Hello {{ name }}",
            "body_template": "Order {{ order | default: 'none' }}",
            "data_template": {"order": "{{ order | default: '' }}", "highlight": True},
            "default_locale": "en",
            "variants": [{"locale": "ko", "title_template": "안녕 {{ name }}", "body_template": "주문"}],
        },
    )
    assert made.status == 201, made.body
    return found


class TestTemplate:
    async def test_speaks_the_language_of_the_device(self, shop: Tenant) -> None:
        for language, locale, title in (
            (None, None, "Hello Ada"),
            ("ko-KR", None, "안녕 Ada"),
            ("ko", "en", "Hello Ada"),
        ):
            body: dict[str, Any] = {"subscription_id": await device(shop, language=language), "template_id": "order"}
            body |= {"variables": {"name": "Ada", "order": "7"}} | ({} if locale is None else {"locale": locale})
            sent = await shop.post("/messages/template", body)
            assert sent.status == 201, sent.body
            found = (await shop.get(f"/messages/{sent.data['message_id']}")).data
            assert (found["title"], found["data"]["highlight"]) == (title, True)

    async def test_records_template_version_and_locale(self, shop: Tenant) -> None:
        template = (await shop.get("/templates")).data["templates"][0]["id"]
        subscription = await device(shop, language="ko")
        body = {"subscription_id": subscription, "template_id": template, "variables": {"name": "Ada"}}
        sent = await shop.post("/messages/template", body)
        found = (await shop.get(f"/messages/{sent.data['message_id']}")).data
        assert (found["template_id"], found["template_version"]) == (template, 1)
        timeline = (await shop.get(f"/messages/{sent.data['message_id']}/events")).data
        assert timeline["events"][0]["data"]["template_locale"] == "ko"
        assert "version 1 of its template for ko" in timeline["events"][0]["why"]
        listed = (await shop.get("/messages", params={"template_id": "order"})).data["messages"]
        assert sent.data["message_id"] in {each["id"] for each in listed}

    async def test_is_rendered_for_each_device_of_a_person(self, shop: Tenant) -> None:
        name = await person(shop, await device(shop, language="ko"), await device(shop, "AndroidPush", language="en"))
        body = {"external_id": name, "strategy": "all", "template_id": "order", "variables": {"name": "Ada"}}
        sent = await shop.post("/messages/template", body)
        titles = {
            each["type"]: (await shop.get(f"/messages/{each['message_id']}")).data["title"]
            for each in sent.data["messages"]
        }
        assert titles == {"iOSPush": "안녕 Ada", "AndroidPush": "Hello Ada"}

    async def test_stands_beside_content_in_a_batch(self, shop: Tenant) -> None:
        subscription = await device(shop)
        items: list[dict[str, Any]] = [
            {"template_id": "order", "variables": {"name": "Ada"}},
            {"title": "plain"},
            {"template_id": "order"},
            {"template_id": "no such"},
            {"template_id": "order", "title": "twofold"},
            {"title": "plain", "variables": {}},
            {"template_id": "order", "variables": {"name": "Bob", "n": 2**70}},
        ]
        batch = {"messages": [{"subscription_id": subscription, **item} for item in items]}
        results = (await shop.post("/messages/batch", batch)).data["results"]
        assert [each.get("error", {}).get("code") for each in results] == [
            None,
            None,
            "missing_required_variable",
            "template_not_found",
            "invalid_message_content",
            "validation_error",
            "validation_error",
        ]
        assert (await shop.get(f"/messages/{results[0]['message_id']}")).data["title"] == "Hello Ada"
        assert (await shop.get(f"/messages/{results[1]['message_id']}")).data["title"] == "plain"

    async def test_what_cannot_be_rendered_is_not_accepted(self, shop: Tenant, shared_whole: Whole) -> None:
        subscription, other = await device(shop), await shared_whole.tenant()
        before = await count_messages(shared_whole, shop)
        for who, body, expected in (
            (shop, {"template_id": "order"}, (400, "missing_required_variable")),
            (shop, {"template_id": "no such"}, (404, "template_not_found")),
            (shop, {"template_id": new_id()}, (404, "template_not_found")),
            (shop, {"template_id": "order", "title": "x"}, (422, "validation_error")),
            (shop, {"template_id": "order", "variables": {"name": "x" * 9000}}, (400, "message_too_large")),
            (shop, {"template_id": "order", "subscription_id": new_id()}, (404, "resource_not_found")),
            (other, {"template_id": "order", "subscription_id": await device(other)}, (404, "template_not_found")),
            (other, {"template_id": "order", "variables": {"name": "x"}}, (404, "resource_not_found")),
        ):
            answer = await who.post("/messages/template", {"subscription_id": subscription, **body})
            assert (answer.status, answer.code) == expected, body
        assert await count_messages(shared_whole, shop) == before

    async def test_a_disabled_one_is_refused(self, shop: Tenant) -> None:
        made = await shop.post("/templates", {"name": "old", "body_template": "Hi"})
        body = {"subscription_id": await device(shop), "template_id": made.data["template_id"]}
        assert (await shop.post("/messages/template", body)).status == 201
        await shop.post(f"/templates/{made.data['template_id']}/disable")
        answer = await shop.post("/messages/template", body)
        assert (answer.status, answer.code) == (400, "template_inactive")


class TestValidateOnly:
    async def test_checks_all_and_accepts_nothing(self, shop: Tenant, shared_whole: Whole) -> None:
        before = await count_messages(shared_whole, shop)
        subscription = await device(shop)
        name = await person(shop, subscription)
        good = {"template_id": "order", "variables": {"name": "Ada"}, "validate_only": True}
        answer = await shop.post("/messages/template", {"subscription_id": subscription, **good})
        assert (answer.status, answer.data) == (200, {"status": "valid", "subscription_id": subscription})
        answer = await shop.post("/messages", {"external_id": name, "title": "x", "validate_only": True})
        assert answer.data["messages"] == [{"subscription_id": subscription, "type": "iOSPush"}]
        answer = await shop.post("/messages/template", {"subscription_id": subscription, **good, "variables": {}})
        assert answer.code == "missing_required_variable"
        answer = await shop.post("/messages", {"external_id": "nobody", "title": "x", "validate_only": True})
        assert answer.code == "resource_not_found"
        assert await count_messages(shared_whole, shop) == before
