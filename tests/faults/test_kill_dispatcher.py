"""`kill -9` of the dispatcher: after a fetch, after a publish, before the ack (I2, repeats absorbed)."""

import pytest

from tests.faults.story import Story, kill_at

pytestmark = [pytest.mark.faults, pytest.mark.kills]


async def test_killed_dispatcher_loses_nothing(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "dispatcher", (0.1, 0.4, 0.7))
    await story.check("kill-dispatcher")
