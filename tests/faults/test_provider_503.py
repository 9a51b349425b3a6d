"""The providers answer 503 for ten seconds: every message waits in `due` and is sent, no call more than the policy."""

import pytest

from tests.faults.evidence import put_faults
from tests.faults.story import Story, hold

pytestmark = pytest.mark.faults

RETRY_SCALE = 0.004
"""`outage` waits 15 minutes by the table: here 3.6 s."""

AWAY = [
    {"provider": "apns", "status": 503, "reason": "ServiceUnavailable"},
    {"provider": "fcm", "status": 503, "reason": "UNAVAILABLE"},
]
ATTEMPTS = "SELECT max(attempt) AS highest FROM lifecycle.messages"


async def test_an_outage_costs_no_message(story: Story) -> None:
    async with story.flow() as flow:
        await flow.reached(0.2)
        await put_faults(story.system, AWAY)
        await hold(10)
        await put_faults(story.system, [])
    report = await story.check("provider-503")
    assert report.calls > report.statuses["successful"], "the outage met no call"
    [row] = await story.system.fetch(ATTEMPTS)
    # Ten seconds hold three waits of 3.6 s - 20 %; the first call and the last one come on top.
    assert 2 <= row["highest"] <= 6
