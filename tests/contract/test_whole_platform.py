"""The platform behind the REST API, all of it: what one part keeps the others find."""

import pytest

from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]


async def test_a_message_to_a_registered_device_is_accepted_and_found(whole: Whole) -> None:
    shop = await whole.tenant()
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": "ab" * 32})
    sent = await shop.post("/messages", {"subscription_id": made.data["subscription_id"], "title": "Hello"})
    found = await shop.get(f"/messages/{sent.data['message_id']}")
    assert (found.status, found.data["title"], found.data["status"]) == (200, "Hello", "pending")


@pytest.mark.parametrize("query", ["/messages?to=", "/messages?from=x", "/audit-log?to=", "/templates?is_active=null"])
async def test_a_query_that_says_nothing_is_refused_by_name(whole: Whole, query: str) -> None:
    shop = await whole.tenant()
    refused = await shop.get(query)
    assert (refused.status, list(refused.details["fields"])) == (422, [query.partition("?")[2].partition("=")[0]])


async def test_a_number_that_would_not_come_back_is_refused(whole: Whole) -> None:
    shop = await whole.tenant()
    refused = await shop.post("/templates", {"name": "a", "body_template": "x", "data_template": {"x": [5.9e89]}})
    assert (refused.status, list(refused.details["fields"])) == (422, ["data_template"])
