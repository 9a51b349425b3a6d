"""APNs takes requests and answers none: those calls are unknown and repeated, and FCM does not feel it (R11)."""

import asyncio
from datetime import datetime

import aiohttp
import pytest

from tests.faults.evidence import CREATED, calls, put_faults
from tests.faults.load import register
from tests.faults.story import Story, sent_some
from tests.faults.system import until

pytestmark = pytest.mark.faults

HANGING_CALLS = 100
OTHERS = 20
BAR_SECONDS = 0.5


async def test_a_hanging_provider_harms_no_other(story: Story) -> None:
    async with story.flow() as flow:
        await flow.reached(0.2)
        # Not from the start: until a connection has had its first answer, one call at a time is made on it.
        await sent_some(story, 50)
        await put_faults(story.system, [{"provider": "apns", "hang": True, "count": HANGING_CALLS}])
    await put_faults(story.system, [{"provider": "apns", "hang": True}])
    seconds = await fcm_meanwhile(story)
    story.notes["fcm_p95_seconds_meanwhile"] = seconds
    await put_faults(story.system, [])
    report = await story.check("provider-hangs")
    assert report.unknown_outcomes >= HANGING_CALLS
    assert seconds < BAR_SECONDS


async def fcm_meanwhile(story: Story) -> float:
    """Seconds from acceptance to the provider for FCM messages while APNs messages hang; the 95th percentile."""
    runtime = story.system.runtime
    api = f"{runtime.api_url}/api/v1"
    async with aiohttp.ClientSession(headers={"X-API-Key": runtime.api_key}) as session:
        stuck = await register(session, api, "iOSPush")
        phone = await register(session, api, "AndroidPush")
    flow = story.new_flow()
    await asyncio.gather(*(flow.send_one(stuck) for _ in range(OTHERS)))
    sent = [await flow.send_one(phone) for _ in range(OTHERS)]
    created = {
        row["id"]: row["seconds"]
        for row in await story.system.fetch(CREATED, [request.accepted[0] for request in sent])
    }

    async def all_arrived() -> dict[str, float] | None:
        arrived = {call.message_id: _seconds(call.at) for call in await calls(story.system) if call.accepted}
        return {i: arrived[i] for i in created} if created.keys() <= arrived.keys() else None

    arrived = await until(all_arrived, "FCM's messages arrive although APNs hangs", 20)
    assert arrived is not None
    waited: list[float] = sorted(arrived[i] - created[i] for i in created)
    return waited[int(len(waited) * 0.95) - 1]


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
