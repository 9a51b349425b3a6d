"""No room in JetStream: what is accepted waits in Postgres, and goes on by itself once there is room."""

import time
from collections.abc import Iterator

import pytest
from nats.js import JetStreamContext

from libs.subjects import stream_of
from tests.faults import evidence
from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.load import Flow
from tests.faults.plan import Shape
from tests.faults.story import Story
from tests.faults.system import SHORT_RETRIES, until

pytestmark = pytest.mark.faults

SECONDS = 40.0
FULL_SECONDS = 25.0
"""Longer than the reconciler would take to give a message up, were a repair counted that could not be published."""
DISK = 256 * 1024**2
SOON = {"AUTOMATA_LIFECYCLE__PUBLISH_TIMEOUT": "1", "AUTOMATA_LIFECYCLE__RECONCILE_AFTER": "2"}
BOUND = 256 * 1024
"""Bytes; the largest envelope of these tests has 180,000."""
STREAMS = (stream_of("DISPATCH", "normal"), stream_of("DISPATCH", "bulk"))


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(disks={"nats-1": DISK}), {**SHORT_RETRIES, **SOON})


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_a_full_disk_under_jetstream_loses_nothing(story: Story, system: ClusterSystem) -> None:
    disk = system.disks["nats-1"]
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.2)
        story.kills += 1  # the server is restarted
        disk.fill()
        await _accepted_or_refused(flow, FULL_SECONDS)
        disk.clear()
        story.notes["sent_after_seconds"] = await _until_sent(system)
    await story.check("disk-full-nats")


async def test_a_full_stream_refuses_and_loses_nothing(story: Story, system: ClusterSystem) -> None:
    """Hand-offs that find no room wait in Postgres, and the reconciler finds them."""
    await system.stop("dispatcher")
    client = await evidence.connect_nats(system)
    try:
        js = client.jetstream()
        await _bound(js)
        refused = _unpublished(system)
        async with story.flow(Shape(story.messages, SECONDS)) as flow:
            await flow.reached(0.9)
            assert max([await _stored(js, stream) for stream in STREAMS]) <= BOUND
            assert _unpublished(system) > refused
            await _accepted_or_refused(flow, 1.0)
            await system.start("dispatcher")
            story.notes["sent_after_seconds"] = await _until_sent(system)
    finally:
        await client.close()
    await story.check("full-stream")


async def _accepted_or_refused(flow: Flow, seconds: float) -> None:
    """201 is true, because Postgres has it; what is not taken is told at once."""
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        answer = await flow.probe()
        assert (answer.answer, answer.retry_after) in (("201", None), ("503", "1"))
        assert answer.seconds < 5.0


async def _until_sent(system: ClusterSystem) -> float:
    began, before = time.monotonic(), await evidence.sandbox_count(system, "accepted")

    async def more() -> bool:
        return await evidence.sandbox_count(system, "accepted") > before

    await until(more, "messages are sent again", 60)
    return time.monotonic() - began


async def _bound(js: JetStreamContext) -> None:
    for stream in STREAMS:
        config = (await js.stream_info(stream)).config
        config.max_bytes = BOUND
        await js.update_stream(config)


async def _stored(js: JetStreamContext, stream: str) -> int:
    return (await js.stream_info(stream)).state.bytes


def _unpublished(system: ClusterSystem) -> int:
    """Hand-offs that lifecycle could not publish, by its log."""
    return sum(path.read_text().count("handoff_unpublished") for path in system.logs() if "lifecycle" in path.name)
