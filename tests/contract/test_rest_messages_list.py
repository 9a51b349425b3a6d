"""GET /messages over the whole platform: filters, pages, cursors, and how much one page may look at."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from libs.ids import new_id
from libs.pg import single_connection
from services.lifecycle import queries_messages
from tests.contract.rest_requests import push_token
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def device(shop: Tenant, kind: str = "iOSPush") -> str:
    made = await shop.post("/subscriptions", {"type": kind, "token": push_token(), "ad_consent": True})
    return str(made.data["subscription_id"])


async def send(shop: Tenant, subscription: str, count: int = 1, **more: Any) -> list[str]:
    """Message ids, newest first."""
    items = [{"subscription_id": subscription, "title": "Hello", **more}] * count
    results = (await shop.post("/messages/batch", {"messages": items})).data["results"]
    return [each["message_id"] for each in reversed(results)]


async def listed(shop: Tenant, **query: Any) -> Any:
    answer = await shop.get("/messages", params={name: str(value) for name, value in query.items()})
    assert answer.status == 200, answer.body
    return answer.data


async def ids(shop: Tenant, **query: Any) -> list[str]:
    return [each["id"] for each in (await listed(shop, **query))["messages"]]


async def walked(shop: Tenant, **query: Any) -> list[str]:
    """All pages by cursor."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(shop, **query, **cursor)
        found += [each["id"] for each in page["messages"]]
        if page["pagination"]["next_cursor"] is None:
            return found
        cursor = {"cursor": page["pagination"]["next_cursor"]}


async def test_what_waits_says_until_when(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    phone = await device(shop)
    moment = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%dT%H:%M:%S}.000Z"
    (at_once,) = await send(shop, phone)
    later, held = await send(shop, phone, 2, scheduled_at=moment)
    async with single_connection(shared_whole.database.admin_dsn) as c:
        await c.execute("UPDATE lifecycle.due SET reason = 'emergency_stop:apns' WHERE message_id = $1", held)
    found = {each["id"]: each for each in (await listed(shop))["messages"]}
    told = {name: {key: found[name].get(key) for key in ("scheduled_at", "next_attempt_at")} for name in found}
    assert told == {
        at_once: {"scheduled_at": None, "next_attempt_at": None},
        later: {"scheduled_at": moment, "next_attempt_at": moment},
        held: {"scheduled_at": None, "next_attempt_at": None},  # until somebody ends it
    }
    assert "scheduled_at" not in found[at_once]


async def test_each_filter_finds_its_own(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    apple, android = await device(shop), await device(shop, "AndroidPush")
    person = f"user-{new_id()}"
    user_id = (await shop.post("/users/identify", {"external_id": person, "subscriptions": [android]})).data["user_id"]
    await shop.post("/templates", {"name": "t", "body_template": "Hi"})
    (critical,) = await send(shop, apple, priority="critical")
    (ad,) = await send(shop, apple, category="ad")
    (known,) = await send(shop, android)
    made = await shop.post("/messages/template", {"subscription_id": apple, "template_id": "t"})
    templated = made.data["message_id"]
    everything = [templated, known, ad, critical]
    assert await ids(shop) == everything
    for query, expected in (
        ({"status": "pending"}, everything),
        ({"status": "failed"}, []),
        ({"channel": "fcm"}, [known]),
        ({"priority": "critical"}, [critical]),
        ({"category": "ad"}, [ad]),
        ({"subscription_id": android}, [known]),
        ({"subscription_id": new_id()}, []),
        ({"user_id": person}, [known]),
        ({"user_id": user_id}, [known]),
        ({"user_id": "nobody"}, []),
        ({"user_id": new_id()}, []),
        ({"template_id": "t"}, [templated]),
        ({"template_id": "no such"}, []),
        ({"subscription_id": apple, "category": "ad", "priority": "bulk"}, [ad]),
        ({"from": "2020-01-01T00:00:00Z"}, everything),
        ({"to": "2020-01-01T00:00:00Z"}, []),
        ({"from": "2100-01-01T00:00:00Z"}, []),
    ):
        assert await ids(shop, **query) == expected, query
    first = (await listed(shop))["messages"][0]
    assert (first["template_version"], first["status"], first["priority"]) == (1, "pending", "normal")
    between = (await shop.get(f"/messages/{ad}")).data["created_at"]
    later, earlier = await ids(shop, **{"from": between}), await ids(shop, to=between)
    assert (later + earlier, ad in later) == (everything, True)


async def test_pages_and_cursors_see_everything_once(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    sent = await send(shop, await device(shop), 25)
    page = (await listed(shop, per_page=10, page=2))["pagination"]
    assert (page["total_items"], page["total_pages"], page["page"]) == (25, 3, 2)
    assert "total_is_estimate" not in page or page["total_is_estimate"] is False
    assert [i for number in (1, 2, 3, 4) for i in await ids(shop, per_page=10, page=number)] == sent
    assert await walked(shop, per_page=10) == sent
    assert await walked(shop, per_page=25) == sent
    assert (await listed(shop, per_page=25))["pagination"]["next_cursor"] is None


async def test_what_is_rare_comes_in_short_pages(shared_whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE_BY_APPLICATION", "COUNT_BY_APPLICATION"):
        statement = getattr(queries_messages, name).replace(f"LIMIT {queries_messages.LOOKED_AT}", "LIMIT 10")
        monkeypatch.setattr(queries_messages, name, statement)
    monkeypatch.setattr(queries_messages, "LOOKED_AT", 10)
    shop = await shared_whole.tenant()
    subscription = await device(shop)
    (oldest,) = await send(shop, subscription, priority="critical")
    await send(shop, subscription, 24)
    (newest,) = await send(shop, subscription, priority="critical")
    page = await listed(shop, priority="critical")
    assert [each["id"] for each in page["messages"]] == [newest]
    assert page["pagination"]["next_cursor"] is not None
    assert page["pagination"]["total_is_estimate"] is True
    assert await walked(shop, priority="critical") == [newest, oldest]


async def test_long_lists_are_estimated(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    await send(shop, await device(shop))
    async with single_connection(shared_whole.database.admin_dsn) as c:
        await c.execute(
            """
            INSERT INTO lifecycle.messages (
                id, application_id, subscription_id, channel, lane, category, ttl, handoff_id)
            SELECT uuidv7(make_interval(secs => -n)), $1::uuid, uuidv7(), 'apns', 'bulk', 'info', 60, uuidv7()
            FROM generate_series(1, 30000) AS n
            """,
            shop.application_id,
        )
        await c.execute("ANALYZE lifecycle.messages")
    page = (await listed(shop))["pagination"]
    assert page["total_is_estimate"] is True
    assert 20_000 <= page["total_items"] <= 45_000
    assert (await listed(shop, priority="normal"))["pagination"]["total_items"] < 20_000


async def test_another_applications_messages_do_not_exist(shared_whole: Whole) -> None:
    shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
    subscription = await device(stranger)
    name = f"user-{new_id()}"
    made = await stranger.post("/users/identify", {"external_id": name, "subscriptions": [subscription]})
    await stranger.post("/templates", {"name": "t", "body_template": "Hi"})
    await stranger.post("/messages/template", {"subscription_id": subscription, "template_id": "t"})
    (theirs,) = await ids(stranger)
    template = (await stranger.get(f"/messages/{theirs}")).data["template_id"]
    for query in (
        {},
        {"subscription_id": subscription},
        {"user_id": name},
        {"user_id": made.data["user_id"]},
        {"template_id": template},
        {"cursor": new_id()},
    ):
        page = await listed(shop, **query)
        assert (page["messages"], page["pagination"]["total_items"]) == ([], 0), query


@pytest.mark.parametrize(
    "query",
    [
        "status=gone",
        "channel=telegraph",
        "priority=high",
        "category=news",
        "subscription_id=7",
        "user_id=",
        "cursor=abc",
        "from=yesterday",
        "to=2026-01-01T00:00:00",
        "page=0",
        "per_page=101",
        "nonsense=1",
        "status=failed&status=pending",
    ],
)
async def test_a_wrong_filter_is_refused_and_named(shared_whole: Whole, query: str) -> None:
    shop = await shared_whole.tenant()
    answer = await shop.get(f"/messages?{quote(query, safe='=&:-')}")
    assert (answer.status, answer.code) == (422, "validation_error")
    assert list(answer.details["fields"]) == [query.partition("=")[0]]
