"""`kill -9` of NATS with publishes in flight: no task hangs, and what was lost comes back from the log (I2)."""

import pytest

from tests.faults.story import Story, kill_at

pytestmark = [pytest.mark.faults, pytest.mark.kills]


async def test_killed_nats_loses_nothing(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "nats", (0.2, 0.6))
    await story.check("kill-nats")
