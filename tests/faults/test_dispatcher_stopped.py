"""A consumer that is stopped for a while has a backlog; it is a backlog and not a loss: nothing is repeated (R6)."""

import time

import pytest

from tests.faults.story import Story, hold

pytestmark = pytest.mark.faults


async def test_a_mere_backlog_is_never_repeated(story: Story) -> None:
    async with story.flow() as flow:
        await flow.reached(0.2)
        await story.system.stop("dispatcher")
        stopped = time.monotonic()
    seconds = 15 if story.short else 60
    await hold(seconds - (time.monotonic() - stopped))
    await story.system.start("dispatcher")
    report = await story.check("dispatcher-stopped")
    assert report.repeats == 0
    assert report.calls == sum(report.statuses.values())
