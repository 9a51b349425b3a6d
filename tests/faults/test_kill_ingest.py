"""`kill -9` of the gateway: before the commit, after it, before the response (I1; the same key gives the same ids)."""

import pytest

from tests.faults.story import Story, kill_at

pytestmark = [pytest.mark.faults, pytest.mark.kills]


async def test_killed_gateway_leaves_no_request_half_done(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "ingest", (0.15, 0.4, 0.7))
    await story.check("kill-ingest")
