"""POST /messages/resend: all that failed and that a filter finds, over the whole platform."""

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner

from libs.ids import new_id
from services.cli import resend
from services.cli.main import main
from tests.contract.test_rest_messages_control import FAILED, after, sent
from tests.contract.test_rest_messages_to_persons import device, person
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def failed(whole: Whole, shop: Tenant, subscription: str | None = None) -> str:
    return await after(whole, shop, FAILED, await sent(shop, subscription))


async def attempts(shop: Tenant, *messages: str) -> list[int]:
    return [(await shop.get(f"/messages/{message}")).data["attempt"] for message in messages]


async def test_what_failed_is_sent_again_and_nothing_else(shared_whole: Whole) -> None:
    shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
    bad = [await failed(shared_whole, shop) for _ in range(3)]
    others = [await sent(shop)]
    theirs = await failed(shared_whole, stranger)
    answer = await shop.post("/messages/resend", {})
    assert (answer.status, answer.data) == (200, {"resent": 3, "skipped": 0, "next_cursor": None})
    assert await attempts(shop, *bad, *others) == [2, 2, 2, 1]
    assert await attempts(stranger, theirs) == [1]
    assert (await shop.get(f"/messages/{bad[0]}")).data["status"] == "pending"
    assert (await shop.post("/messages/resend", {})).data["resent"] == 0


async def test_a_page_at_a_time(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    bad = [await failed(shared_whole, shop) for _ in range(5)]
    counts, cursor = [], None
    while True:
        answer = await shop.post("/messages/resend", {"limit": 2, **({"cursor": cursor} if cursor else {})})
        counts.append(answer.data["resent"])
        cursor = answer.data["next_cursor"]
        if cursor is None:
            break
    assert counts == [2, 2, 1]
    assert await attempts(shop, *bad) == [2] * 5


async def test_the_filter_is_that_of_the_list(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    apple, android = await device(shop), await device(shop, "AndroidPush")
    name = await person(shop, apple)
    on_apple, on_android = await failed(shared_whole, shop, apple), await failed(shared_whole, shop, android)
    accepted = (await shop.get(f"/messages/{on_apple}")).data["created_at"]
    nothing: list[dict[str, Any]] = [
        {"status": "cancelled"},
        {"priority": "critical"},
        {"category": "ad"},
        {"user_id": "nobody"},
        {"template_id": "no-such-template"},
        {"to": accepted},
        {"from": "2099-01-01T00:00:00Z"},
        {"subscription_id": new_id()},
    ]
    for fields in nothing:
        assert (await shop.post("/messages/resend", fields)).data["resent"] == 0, fields
    assert await attempts(shop, on_apple, on_android) == [1, 1]
    assert (await shop.post("/messages/resend", {"channel": "fcm"})).data["resent"] == 1
    assert (await shop.post("/messages/resend", {"user_id": name, "subscription_id": apple})).data["resent"] == 1
    assert await attempts(shop, on_apple, on_android) == [2, 2]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"status": "successful"}, "status"),
        ({"limit": 1001}, "limit"),
        ({"limit": 0}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"from": "yesterday"}, "from"),
        ({"channel": "pigeon"}, "channel"),
    ],
)
async def test_what_cannot_be_asked_is_named(shared_whole: Whole, fields: dict[str, Any], named: str) -> None:
    shop = await shared_whole.tenant()
    answer = await shop.post("/messages/resend", fields)
    assert (answer.status, answer.code, list(answer.details["fields"])) == (422, "validation_error", [named])


async def test_under_an_idempotency_key_the_answer_is_the_first_one(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    bad = [await failed(shared_whole, shop) for _ in range(2)]
    headers = {"Idempotency-Key": new_id()}
    first = await shop.post("/messages/resend", {}, headers=headers)
    again = await shop.post("/messages/resend", {}, headers=headers)
    assert first.data == again.data == {"resent": 2, "skipped": 0, "next_cursor": None}
    assert await attempts(shop, *bad) == [2, 2]


async def test_several_at_once_begin_one_attempt_each(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    bad = [await failed(shared_whole, shop) for _ in range(4)]
    answers = await asyncio.gather(*(shop.post("/messages/resend", {}) for _ in range(4)))
    assert sum(answer.data["resent"] for answer in answers) == 4
    assert await attempts(shop, *bad) == [2] * 4


async def test_what_was_erased_is_skipped(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    subscription = await device(shop)
    name = await person(shop, subscription)
    await failed(shared_whole, shop, subscription)
    kept = await failed(shared_whole, shop)
    assert (await shop.call("DELETE", f"/users/{name}")).status == 200
    answer = await shop.post("/messages/resend", {})
    assert (answer.data["resent"], answer.data["skipped"]) == (1, 1)
    assert await attempts(shop, kept) == [2]


async def test_the_command_goes_through_all_pages(shared_whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await shared_whole.tenant()
    bad = [await failed(shared_whole, shop) for _ in range(3)]
    monkeypatch.setenv("AUTOMATA_API_URL", str(shared_whole.session._base_url))
    monkeypatch.setenv("AUTOMATA_API_KEY", shop.api_key)
    monkeypatch.setattr(resend, "PAGE", 2)
    for arguments, said in ((["--channel", "fcm"], "sent again: 0"), (["--since", "1h"], "sent again: 3")):
        found = await asyncio.to_thread(CliRunner().invoke, main, ["resend", "--yes", *arguments])
        assert (found.exit_code, found.output.strip()) == (0, said)
    assert await attempts(shop, *bad) == [2, 2, 2]
    assert CliRunner().invoke(main, ["resend"], input="n\n").exit_code == 1
