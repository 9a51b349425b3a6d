"""APNs takes requests and answers none: those calls are unknown and repeated, and FCM does not feel it (R11)."""

import asyncio

import aiohttp
import pytest

from tests.faults.evidence import TIMES, put_faults
from tests.faults.load import register
from tests.faults.story import Story, sent_some
from tests.faults.system import until

pytestmark = pytest.mark.faults

HANGING_CALLS = 100
OTHERS = 20


async def test_a_hanging_provider_harms_no_other(story: Story) -> None:
    await put_faults(story.system, [{"provider": "apns", "hang": True, "count": HANGING_CALLS}])
    async with story.flow() as flow:
        await flow.reached(0.2)
        await sent_some(story, 1)
    await put_faults(story.system, [{"provider": "apns", "hang": True}])
    story.notes["fcm_p95_seconds_meanwhile"] = await fcm_meanwhile(story)
    await put_faults(story.system, [])
    report = await story.check("provider-hangs")
    assert report.unknown_outcomes >= HANGING_CALLS
    assert report.notes["fcm_p95_seconds_meanwhile"] < 0.5


async def fcm_meanwhile(story: Story) -> float:
    """Seconds from acceptance to the outcome of FCM messages while APNs messages hang; the 95th percentile."""
    runtime = story.system.runtime
    api = f"{runtime.api_url}/api/v1"
    async with aiohttp.ClientSession(headers={"X-API-Key": runtime.api_key}) as session:
        stuck = await register(session, api, "iOSPush")
        phone = await register(session, api, "AndroidPush")
    flow = story.new_flow()
    await asyncio.gather(*(flow.send_one(stuck) for _ in range(OTHERS)))
    sent = [await flow.send_one(phone) for _ in range(OTHERS)]
    ids = [request.accepted[0] for request in sent]

    async def all_sent() -> bool:
        return len(await story.system.fetch(TIMES, ids)) == len(ids)

    await until(all_sent, "FCM's messages are sent although APNs hangs", 20)
    seconds = sorted(row["seconds"] for row in await story.system.fetch(TIMES, ids))
    return float(seconds[int(len(seconds) * 0.95) - 1])
