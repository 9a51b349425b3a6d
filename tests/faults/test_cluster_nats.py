"""Three NATS servers: `kill -9` of those that lead, one at a time and back before the next, loses nothing."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.story import Story

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(nats=3))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_plain(story: Story) -> None:
    async with story.flow():
        pass
    await story.check("cluster-plain")
