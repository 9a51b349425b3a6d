"""A message through everything, from the request to the providers' strict stand-in.

What is shown on the device; what the timeline says of a provider that asked for time, and of a region that stood in.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.request import Request, urlopen

import pytest

from libs import config
from libs.push import AD_MARK
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher
from services.dispatcher.settings import Settings as DispatcherSettings
from services.senders import __main__ as sender
from services.senders.settings import Apns, Fcm, Settings
from services.senders.settings import Sender as SenderSettings
from tests.contract.regions_harness import AFTER, soon
from tests.contract.rest_requests import push_token
from tests.contract.sandbox_server import SandboxServer, running_sandbox
from tests.contract.streams_harness import until
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]

Channel = Literal["apns", "fcm"]
CHANNELS: tuple[Channel, ...] = ("apns", "fcm")
TYPES = {"apns": "iOSPush", "fcm": "AndroidPush"}
NAMES = {"apns": "APNs", "fcm": "FCM"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


class World:
    """The platform with dispatcher and senders, one tenant, and what its devices were sent."""

    def __init__(self, shop: Tenant, sandbox: SandboxServer) -> None:
        self.shop = shop
        self._sandbox = sandbox

    async def open(self) -> None:
        for channel, secret in (("apns", self._sandbox.apns), ("fcm", self._sandbox.account)):
            assert (await self.shop.call("PUT", f"/credentials/{channel}", secret)).status == 201

    async def device(self, channel: Channel, country: str, **more: Any) -> str:
        body = {"type": TYPES[channel], "token": push_token(), "device_info": {"country_code": country}, **more}
        return str((await self.shop.post("/subscriptions", body)).data["subscription_id"])

    async def send(self, subscription_id: str, **content: Any) -> str:
        answer = await self.shop.post("/messages", {"subscription_id": subscription_id, **content})
        assert answer.status == 201, answer
        return str(answer.data["message_id"])

    async def arrived(self, message_id: str) -> dict[str, Any]:
        """What the provider was given."""
        found: list[dict[str, Any]] = []

        async def has() -> bool:
            found[:] = await asyncio.to_thread(self._asked, f"/v1/deliveries?message_id={message_id}")
            return bool(found)

        await until(has)
        (one,) = found
        payload: dict[str, Any] = one["payload"]
        return payload

    async def told(self, message_id: str, kind: str, language: str = "en") -> dict[str, Any]:
        """The event of this kind, once it is there."""
        found: list[dict[str, Any]] = []

        async def has() -> bool:
            answer = await self.shop.get(f"/messages/{message_id}/events", headers={"Accept-Language": language})
            found[:] = [event for event in answer.data["events"] if event["event_type"] == kind]
            return bool(found)

        await until(has)
        return found[0]

    @contextlib.contextmanager
    def failing(self, **rule: Any) -> Iterator[None]:
        self._asked("/v1/faults", [rule])
        try:
            yield
        finally:
            self._asked("/v1/faults", [])

    def _asked(self, path: str, rules: Any = None) -> Any:
        data = None if rules is None else json.dumps(rules).encode()
        method = "GET" if rules is None else "PUT"
        with urlopen(Request(f"{self._sandbox.control}{path}", data, method=method)) as answer:
            return json.loads(answer.read() or b"null")


def sender_of(channel: Channel, region: str, nats: config.Nats, sandbox: SandboxServer) -> Settings:
    ca = str(sandbox.tls_files.ca)
    own = SenderSettings(channel, region, slots=2, concurrency=4, takeover_after=AFTER)
    return Settings(own, nats, apns=Apns(sandbox.url, sandbox.url, ca), fcm=Fcm(sandbox.url, ca))


@pytest.fixture
def home() -> str:
    """The region whose senders run. Messages are routed to `local`."""
    return "local"


@pytest.fixture
async def world(
    whole: Whole, nats_settings: config.Nats, key_ring_file: Path, sandbox: SandboxServer, home: str
) -> AsyncIterator[World]:
    routing = DispatcherSettings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(soon())
        await stack.enter_async_context(running("dispatcher", dispatcher.start, routing))
        for channel in CHANNELS:
            settings = sender_of(channel, home, nats_settings, sandbox)
            await stack.enter_async_context(running("sender", sender.start, settings))
        found = World(await whole.tenant(), sandbox)
        await found.open()
        yield found


# advertising ----------------------------------------------------------------------------------------------------------


def shown(channel: Channel, payload: dict[str, Any]) -> dict[str, Any]:
    """What the person reads."""
    alert: dict[str, Any] = payload["aps"]["alert"] if channel == "apns" else payload["message"]["notification"]
    return alert


@pytest.mark.parametrize("channel", CHANNELS)
async def test_an_ad_to_korea_begins_with_the_laws_word_on_the_device(world: World, channel: Channel) -> None:
    """Agreed to ads at night too: whatever the time is, it goes."""
    korean = await world.device(channel, "kr", night_consent=True)
    abroad = await world.device(channel, "US")
    contents = (
        ({"title": "Sale", "body": "Today"}, {"title": f"{AD_MARK} Sale", "body": "Today"}),
        ({"title": f"{AD_MARK} Sale", "body": "Today"}, {"title": f"{AD_MARK} Sale", "body": "Today"}),
        ({"body": "Sale today"}, {"body": f"{AD_MARK} Sale today"}),
    )
    for content, read in contents:
        ad = await world.send(korean, category="ad", **content)
        assert shown(channel, await world.arrived(ad)) == read
    ad, news = await world.send(abroad, category="ad", title="Sale"), await world.send(korean, title="News")
    assert shown(channel, await world.arrived(ad)) == {"title": "Sale"}
    assert shown(channel, await world.arrived(news)) == {"title": "News"}
    assert AD_MARK not in json.dumps(await world.arrived(news), ensure_ascii=False)


async def test_an_ad_from_a_template_is_marked_when_it_is_rendered(world: World) -> None:
    made = await world.shop.post(
        "/templates", {"name": "sale", "title_template": "{{ name }}님, 세일", "body_template": "오늘만"}
    )
    assert made.status == 201, made
    korean = await world.device("apns", "KR", night_consent=True)
    body = {
        "template_id": made.data["template_id"],
        "subscription_id": korean,
        "variables": {"name": "지은"},
        "category": "ad",
    }
    sent = await world.shop.post("/messages/template", body)
    assert sent.status == 201, sent
    alert = shown("apns", await world.arrived(sent.data["message_id"]))
    assert alert == {"title": f"{AD_MARK} 지은님, 세일", "body": "오늘만"}


# time that a provider asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_retry_that_a_provider_put_off_says_who_asked_and_for_how_long(world: World, channel: Channel) -> None:
    device = await world.device(channel, "DE")
    with world.failing(provider=channel, status=503, retry_after=7_200):
        message = await world.send(device, title="Hello")
        english = await world.told(message, "errored")
    korean = await world.told(message, "errored", "ko")
    data = english["data"]
    assert data["retry_after"] == 7_200
    failed_ms = datetime.fromisoformat(english["occurred_at"]).astimezone(UTC).timestamp() * 1000
    assert 7_199_000 <= data["retry_at_ms"] - failed_ms <= 7_200_000 * 1.2 + 5_000
    assert MOMENT.sub("<moment>", english["why"]).endswith(
        f"attempt 1 of 24 (outage); {NAMES[channel]} asked to wait for at least 7200 s; the next is due at <moment>."
    )
    assert f"{NAMES[channel]}에서 최소 7200초 후에 다시 시도하도록 요청했습니다" in korean["why"]


async def test_a_message_whose_ttl_ends_before_the_provider_wants_it_says_so(world: World) -> None:
    device = await world.device("apns", "DE")
    with world.failing(provider="apns", status=503, retry_after=7_200):
        message = await world.send(device, title="Hello", ttl=3_600)
        ended = await world.told(message, "expired")
    assert (ended["data"]["retry_after"], ended["data"]["last_reason"]) == (7_200, "ServiceUnavailable")
    assert "APNs asked to wait for at least 7200 s" in ended["why"]


async def test_the_senders_tell_what_they_send(world: World) -> None:
    await world.told(await world.send(await world.device("apns", "DE"), title="Hello"), "sent")

    async def measured() -> bool:
        rates = (await world.shop.get("/application/rates")).data["rates"]
        return [(each["channel"], each["processes"], each["achieved"] > 0) for each in rates] == [("apns", 1, True)]

    await until(measured)


# regions --------------------------------------------------------------------------------------------------------------


class TestAway:
    @pytest.fixture
    def home(self) -> str:
        return "icn"

    async def test_what_another_region_sent_says_from_where_and_why(self, world: World) -> None:
        message = await world.send(await world.device("apns", "DE"), title="Hello")
        english, korean = await world.told(message, "sent"), await world.told(message, "sent", "ko")
        assert (english["data"]["region"], english["data"]["sent_from"]) == ("local", "icn")
        assert english["why"] == "APNs accepted it: sent from region icn, because no sender of local was heard."
        assert korean["why"] == ("APNs에서 수락했습니다: local 리전 발송기의 신호가 없어 icn 리전에서 발송했습니다.")
