"""The platform behind the REST API, all of it: what one part keeps the others find."""

from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]


async def test_a_message_to_a_registered_device_is_accepted_and_found(whole: Whole) -> None:
    shop = await whole.tenant()
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": "ab" * 32})
    sent = await shop.post("/messages", {"subscription_id": made.data["subscription_id"], "title": "Hello"})
    found = await shop.get(f"/messages/{sent.data['message_id']}")
    assert (found.status, found.data["title"], found.data["status"]) == (200, "Hello", "pending")
