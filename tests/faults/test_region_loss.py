"""Two regions; the senders of one are lost for a while: the other takes its messages over, and hands back."""

from collections.abc import Iterator

import pytest

from tests.faults.conftest import run_story
from tests.faults.plan import Shape
from tests.faults.story import Story, hold
from tests.faults.system import SHORT_RETRIES, System, until

pytestmark = pytest.mark.faults

ENVIRONMENT = SHORT_RETRIES | {"AUTOMATA_SENDER__TAKEOVER_AFTER": "3"}
LOST = ("sender-apns-icn", "sender-fcm-icn")
SECONDS = 40.0
AWAY_SECONDS = 12.0
SENT_BY = """
SELECT data ->> 'region' AS region, coalesce(data ->> 'sent_from', data ->> 'region') AS sent_from, count(*) AS messages
FROM lifecycle.message_events WHERE kind = 'sent' GROUP BY 1, 2
"""


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest) -> Iterator[Story]:
    system = System(ENVIRONMENT, up=("--region", "icn=KR,JP", "--region", "fra=DE"))
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_another_region_takes_over_and_hands_back(story: Story) -> None:
    async with story.flow(Shape(story.messages, seconds=SECONDS)) as flow:
        await flow.reached(0.15)
        for name in LOST:
            story.kills += 1
            story.system.kill(name)
            await story.system.stop(name)
        await hold(AWAY_SECONDS)

        async def taken_over() -> bool:
            return await _sent(story, "icn", "fra") > 0

        await until(taken_over, "fra sends what is icn's", 30)
        for name in LOST:
            await story.system.start(name)
        before = await _sent(story, "icn", "icn")

        async def handed_back() -> bool:
            return await _sent(story, "icn", "icn") > before

        await until(handed_back, "icn sends for itself again", 30)
    story.notes["sent_from_elsewhere"] = await _sent(story, "icn", "fra")
    await story.check("region-loss")


async def _sent(story: Story, region: str, sent_from: str) -> int:
    rows = await story.system.fetch(SENT_BY)
    return sum(row["messages"] for row in rows if (row["region"], row["sent_from"]) == (region, sent_from))
