"""`kill -9` of Postgres: an honest 503 meanwhile, nothing accepted is lost (I1, I4)."""

import pytest

from tests.faults.story import Story, kill_at

pytestmark = [pytest.mark.faults, pytest.mark.kills]


async def test_killed_postgres_loses_nothing(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "postgres", (0.2, 0.6))
    await story.check("kill-postgres")
