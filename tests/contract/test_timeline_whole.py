"""The timeline of one message that met every rule: who reads it knows at each line why then, and why not before."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from libs import config
from libs.envelope import Delivery
from libs.pg import single_connection
from libs.rpc import ApplicationView, Credential, UpdateApplication
from services.dispatcher import __main__ as dispatcher
from services.dispatcher.settings import Dispatcher, Settings
from services.senders.contract import Result, TryLater
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import connected, until
from tests.contract.test_lifecycle_stops import Provider, delivering
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running

pytest_plugins = ["tests.contract.whole_fixtures"]
SEOUL = ZoneInfo("Asia/Seoul")
ENGLISH = [
    "Accepted: the subscription was active (status 1).",
    (
        "Scheduled: it is to be sent at <date> 09:30 Asia/Seoul: asked for at 09:30 of the recipient's time; not "
        "before <moment> Asia/Seoul; the time zone is the subscription's own."
    ),
    "Given another time: it is to be sent at <moment> UTC: its time was set 2 times.",
    "Its time had come, and it was handed on: it had waited for <time>.",
    (
        "Held back in quiet hours (<clock> to <clock>); it goes on at <moment> Asia/Seoul: the application's quiet "
        "hours; the time zone is the subscription's own."
    ),
    "Attempt 2 began: the quiet hours were over; it had waited for <time>.",
    (
        "Held back: 1 went to this person within the last day, and the limit is 1; it goes on at <moment> UTC: only "
        "those of category info count."
    ),
    "Attempt 3 began: the frequency cap was to have room again; it had waited for <time>.",
    "APNs could not take it (Reset): attempt 1 of 5 (network); the next is due at <moment> UTC.",
    "Attempt 4 began: the wait after the failure before it was over (network).",
    "APNs accepted it.",
]
KOREAN = [
    "접수되었습니다: 구독이 활성 상태였습니다(상태 1).",
    (
        "<date> 09:30 Asia/Seoul에 보내도록 예약되었습니다: 수신자 현지 시각 09:30 발송 요청입니다; "
        "<moment> Asia/Seoul 이후 발송 요청입니다; 시간대는 구독에 등록된 값입니다."
    ),
    "발송 시각이 <moment> UTC(으)로 변경되었습니다: 발송 시각을 2번 정했습니다.",
    "예약한 시각이 되어 다음 단계로 전달되었습니다: <time> 동안 기다렸습니다.",
    (
        "방해 금지 시간(<clock>~<clock>)이어서 보류되었으며, <moment> Asia/Seoul에 이어서 발송합니다: 애플리케이션이 "
        "정한 시간입니다; 시간대는 구독에 등록된 값입니다."
    ),
    "2번째 시도를 시작했습니다: 방해 금지 시간이 끝났습니다; <time> 동안 기다렸습니다.",
    (
        "최근 하루 동안 이 사람에게 1건을 보냈으며 한도는 1건입니다. 보류되었으며, <moment> UTC에 이어서 발송합니다: "
        "info 메시지만 셉니다."
    ),
    "3번째 시도를 시작했습니다: 빈도 한도에 여유가 생길 시각이 되었습니다; <time> 동안 기다렸습니다.",
    "APNs에서 처리하지 못했습니다(Reset): 5회 중 1번째 시도(network); 다음 시도 예정 시각은 <moment> UTC입니다.",
    "4번째 시도를 시작했습니다: 앞선 실패 후의 대기 시간이 끝났습니다(network).",
    "APNs에서 수락했습니다.",
]
PARTS = {
    "date": r"\d{4}-\d\d-\d\d",
    "moment": r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?",
    "clock": r"\d\d:\d\d",
    "time": r"\d+ ?(d|h|min|s|시간|분|초)( \d+ ?(min|s|분|초))?",
}


class Moody(Provider):
    """Fails as often as it is told to."""

    failures = 0

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result:
        if self.failures:
            self.failures -= 1
            return TryLater("Reset", "network")
        return await super().send(delivery, credential, application_id)


@pytest.fixture
async def provider(whole: Whole, nats_settings: config.Nats, key_ring_file: Path) -> AsyncIterator[Moody]:
    settings = Settings(config.Keys(str(key_ring_file)), nats_settings, dispatcher=Dispatcher(slots=2))
    found = Moody()
    async with (
        running("dispatcher", dispatcher.start, settings),
        connected(nats_settings, "sender") as bus,
        delivering(bus, found),
    ):
        yield found


def around(moment: datetime) -> dict[str, str]:
    return {"start": f"{moment - timedelta(hours=2):%H:%M}", "end": f"{moment + timedelta(hours=2):%H:%M}"}


def fits(text: str, form: str) -> bool:
    """`form` with its `<parts>` filled in."""
    pattern = re.sub(r"<(\w+)>", lambda part: PARTS[part[1]], re.escape(form))
    return re.fullmatch(pattern, text) is not None


class Story:
    def __init__(self, whole: Whole, shop: Tenant) -> None:
        self._whole = whole
        self._shop = shop
        self.message = ""

    async def told(self, language: str = "en") -> Any:
        answer = await self._shop.get(f"/messages/{self.message}/events", headers={"Accept-Language": language})
        return answer.data

    async def setting(self, **settings: Any) -> None:
        changed = UpdateApplication(self._shop.application_id, "test", settings=settings)
        await self._whole.bus.call("application", "update_application", changed, ApplicationView)

    async def send(self, **more: Any) -> None:
        answer = await self._shop.post("/messages", {"title": "Hello", **more})
        self.message = answer.data["message_id"]

    async def comes_to(self, *kinds: str) -> None:
        async def did() -> bool:
            return tuple(event["event_type"] for event in (await self.told())["events"])[-len(kinds) :] == kinds

        await until(did)

    async def its_time_comes(self, hours: float) -> None:
        """As if it had waited for so long."""
        async with single_connection(self._whole.database.admin_dsn) as c:
            await c.execute(
                "UPDATE lifecycle.due SET due_at = now(), since = since - $1 * interval '1 hour' WHERE message_id = $2",
                hours,
                self.message,
            )

    async def the_person_got_nothing(self) -> None:
        async with single_connection(self._whole.database.admin_dsn) as c:
            await c.execute("DELETE FROM lifecycle.reserved_sends")


async def test_every_line_says_why_then(whole: Whole, provider: Moody) -> None:
    shop = await whole.tenant()
    device = {"type": "iOSPush", "token": push_token(), "device_info": {"timezone": "Asia/Seoul"}}
    subscription = (await shop.post("/subscriptions", device)).data["subscription_id"]
    story = Story(whole, shop)
    # Rules are set before the dispatcher asks for any: it asks every two seconds.
    await story.setting(
        frequency_caps=[{"limit": 1, "per": "day", "category": "info"}], quiet_hours=around(datetime.now(SEOUL))
    )
    moment = (datetime.now(UTC) + timedelta(hours=20)).isoformat()
    await story.send(subscription_id=subscription, scheduled_at=moment, send_at_local="09:30")
    await shop.post(f"/messages/{story.message}/reschedule", {"scheduled_at": moment})
    await story.its_time_comes(20)
    await story.comes_to("created", "scheduled", "scheduled", "routed", "held")
    assert (await story.told())["why"] == (await story.told())["events"][-1]["why"]

    waiting = story.message
    await story.setting(quiet_hours=None)

    async def another_goes() -> bool:
        await story.send(subscription_id=subscription, ttl=3600)
        await until(lambda: _decided(story))
        return "sent" in await _kinds(story)

    await until(another_goes)
    story.message = waiting
    await story.its_time_comes(2)
    await story.comes_to("retried", "held")
    await story.the_person_got_nothing()
    provider.failures = 1
    await story.its_time_comes(23)
    await story.comes_to("retried", "errored")
    assert (await story.told())["why"].endswith("It will be tried again.")
    await story.its_time_comes(0)
    await story.comes_to("retried", "sent")
    for language, lines in (("en", ENGLISH), ("ko", KOREAN)):
        found = [event["why"] for event in (await story.told(language))["events"]]
        assert [(text, form) for text, form in zip(found, lines, strict=True) if not fits(text, form)] == []


async def _kinds(story: Story) -> set[str]:
    return {event["event_type"] for event in (await story.told())["events"]}


async def _decided(story: Story) -> bool:
    return bool({"sent", "held"} & await _kinds(story))
