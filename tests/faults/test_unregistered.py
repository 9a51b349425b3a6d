"""A token that the provider calls gone: `failed`, the reason kept, and the subscription refused from then on."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.faults.evidence import put_faults
from tests.faults.load import register
from tests.faults.story import Story
from tests.faults.system import until

pytestmark = [pytest.mark.faults, pytest.mark.kills]

UNSUBSCRIBED = -10
DAY_MS = 86_400_000


class Api:
    """The calls of this page."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def send(self, subscription: str) -> tuple[int, dict[str, Any]]:
        body = {"subscription_id": subscription, "title": "hello"}
        async with self.session.post(f"{self.url}/messages", json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}{path}") as response:
            response.raise_for_status()
            found: dict[str, Any] = (await response.json())["data"]
        return found

    async def finished(self, message_id: str) -> dict[str, Any]:
        async def final() -> dict[str, Any] | None:
            found = await self.get(f"/messages/{message_id}")
            return found if found["status"] not in ("pending", "errored") else None

        found = await until(final, "the message is final", 20)
        assert found is not None
        return found


@pytest.fixture
async def api(story: Story) -> AsyncIterator[Api]:
    runtime = story.system.runtime
    async with aiohttp.ClientSession(headers={"X-API-Key": runtime.api_key}) as session:
        yield Api(session, f"{runtime.api_url}/api/v1")


@pytest.mark.parametrize(
    ("kind", "provider", "status", "reason"),
    [("iOSPush", "apns", 410, "Unregistered"), ("AndroidPush", "fcm", 404, "UNREGISTERED")],
)
async def test_an_unregistered_token_ends_its_subscription(
    story: Story, api: Api, kind: str, provider: str, status: int, reason: str
) -> None:
    await ends_its_subscription(story, api, kind, gone(provider, "", status, reason))


async def ends_its_subscription(story: Story, api: Api, kind: str, rule: dict[str, Any]) -> None:
    token = f"fa{secrets.token_hex(31)}"
    subscription = await register(api.session, api.url, kind, token)
    await put_faults(story.system, [rule | {"token_prefix": token}])

    code, answer = await api.send(subscription)
    assert code == 201, answer
    message = await api.finished(answer["data"]["message_id"])
    assert message["status"] == "failed"
    assert rule["reason"].lower() in str(message).lower(), "the provider's reason is kept"

    async def disabled() -> bool:
        return bool((await api.get(f"/subscriptions/{subscription}"))["subscription_status"] == UNSUBSCRIBED)

    await until(disabled, f"the subscription is at {UNSUBSCRIBED}", 20)
    code, answer = await api.send(subscription)
    assert (code, answer["error"]["code"]) == (400, "subscription_disabled")


async def test_a_410_older_than_the_registration_changes_no_subscription(story: Story, api: Api) -> None:
    """The token was registered again after Apple saw it go."""
    token = f"fa{secrets.token_hex(31)}"
    subscription = await register(api.session, api.url, "iOSPush", token)
    old = int(time.time() * 1000) - DAY_MS
    await put_faults(story.system, [gone("apns", token, 410, "Unregistered") | {"timestamp": old}])

    code, answer = await api.send(subscription)
    assert code == 201, answer
    await api.finished(answer["data"]["message_id"])
    await put_faults(story.system, [])

    # A later fact about the same application has passed the same way to `subscription` when this one is refused.
    await ends_its_subscription(story, api, "iOSPush", gone("apns", "", 410, "Unregistered"))
    assert (await api.get(f"/subscriptions/{subscription}"))["subscription_status"] == 1
    code, answer = await api.send(subscription)
    assert code == 201, answer
    assert (await api.finished(answer["data"]["message_id"]))["status"] == "successful"


def gone(provider: str, token: str, status: int, reason: str) -> dict[str, Any]:
    return {"provider": provider, "token_prefix": token, "status": status, "reason": reason}
