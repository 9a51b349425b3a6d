"""One process with its clock five minutes off: no event is skipped; ttl, JWT and schedules hold."""

from collections.abc import Iterator

import msgspec
import pytest

from tests.faults.conftest import run_story
from tests.faults.plan import shape_of
from tests.faults.story import Story, kill_at
from tests.faults.system import SHORT_RETRIES, System, skewed

pytestmark = pytest.mark.faults

MINUTES_5 = 300
TTL = 120
"""Seconds: less than the clock is off. A process that compared a deadline with its own clock would drop these."""


SKEWS = [(name, seconds) for name in ("dispatcher", "sender-apns", "lifecycle") for seconds in (MINUTES_5, -MINUTES_5)]


@pytest.fixture(params=SKEWS, ids=lambda param: f"{param[0]}{param[1]:+d}")
def skew(request: pytest.FixtureRequest, messages: int) -> Iterator[tuple[Story, str, int]]:
    name, seconds = request.param
    for story in run_story(request, System(SHORT_RETRIES, {name: skewed(seconds)}), messages):
        yield story, name, seconds


async def test_a_clock_that_is_off_changes_nothing(skew: tuple[Story, str, int]) -> None:
    story, name, seconds = skew
    shape = msgspec.structs.replace(shape_of(story.messages), ttl=TTL)
    async with story.flow(shape) as flow:
        await kill_at(story, flow, name, (0.5,))
    await story.check(f"clock-{name}{seconds:+d}")
