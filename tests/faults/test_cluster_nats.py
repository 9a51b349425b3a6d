"""Three NATS servers: `kill -9` of those that lead, one at a time and back before the next, loses nothing."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from libs.bus import Bus
from libs.config import Nats
from libs.kv import Bucket
from libs.subjects import STREAMS
from tests.faults import evidence
from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.load import Flow
from tests.faults.nats_nodes import meta_leader
from tests.faults.pauses import longest_pause, longest_refusal
from tests.faults.plan import Shape
from tests.faults.story import Story
from tests.faults.system import until

pytestmark = pytest.mark.faults

LANE = "normal"
SECONDS = 24.0
"""Of a flow: beside a vote for a new leader, which takes 4 to 9 s, there is time to send."""


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(nats=3, replicas={"lifecycle": 2}))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


@pytest.fixture
async def bus(story: Story) -> AsyncIterator[Bus]:
    bus = await Bus.connect(Nats(url=story.system.runtime.nats_url, replicas=3), "test")
    yield bus
    await bus.close()


async def test_every_stream_and_consumer_has_three_copies_on_disk_at_once(
    story: Story, system: ClusterSystem, bus: Bus
) -> None:
    await Bucket(bus, "copies", ttl=60.0).get("nothing")
    streams = {stream.config.name or "": stream for stream in await bus.js.streams_info()}
    assert {stream.name for stream in STREAMS} | {"KV_copies"} <= set(streams)
    assert {name for name, stream in streams.items() if stream.config.num_replicas != 3} == set()
    found = [consumer for name in streams for consumer in await bus.js.consumers_info(name)]
    consumers = [consumer for consumer in found if consumer.config.durable_name]  # others keep nothing
    assert {c.name for c in consumers if c.config.num_replicas not in (None, 0, 3)} == set()
    assert {c.name for c in consumers if c.cluster is None or len(c.cluster.replicas or []) != 2} == set()
    for node in system.nodes:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{node.monitor}/jsz?config=1") as response,
        ):
            assert (await response.json())["config"]["sync_always"] is True


async def test_killed_leaders_lose_nothing(story: Story, system: ClusterSystem, bus: Bus) -> None:
    async def of_the_cluster() -> str | None:
        return await meta_leader(system.nodes)

    def of_stream(stream: str) -> Callable[[], Awaitable[str | None]]:
        async def leader() -> str | None:
            cluster = (await bus.stream_state(stream)).cluster
            return None if cluster is None else cluster.leader

        return leader

    leaders: dict[str, Callable[[], Awaitable[str | None]]] = {
        "meta": of_the_cluster,
        "dispatch": of_stream(f"DISPATCH_{LANE}"),
        "send": of_stream(f"SEND_{LANE}"),
        "outcome": of_stream(f"OUTCOME_{LANE}"),
    }
    began = time.time()
    async with story.flow(Shape(story.messages, SECONDS * 2)) as flow:
        for n, (name, leader) in enumerate(leaders.items()):
            await flow.reached((n + 1) / (len(leaders) + 2))
            await _kill(story, flow, name, leader)
    await _note_pauses(story, began)
    await story.check("cluster-nats-leaders")


async def test_one_server_away_all_the_time_loses_nothing(story: Story, system: ClusterSystem) -> None:
    leader = str(await until(lambda: meta_leader(system.nodes), "the cluster has a leader", 20))
    story.kills += 1
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.0)  # everybody is registered
        began = time.time()
        system.kill_for_good(leader)
    await _note_pauses(story, began)
    left = await story.settled()
    await system.bring_back(leader)
    assert (left.unfinished, left.due) == (0, 0)
    await story.check("cluster-nats-one-away")


async def _kill(story: Story, flow: Flow, name: str, leader: Callable[[], Awaitable[Any]]) -> None:
    node = await until(leader, f"{name} has a leader", 20)
    await flow.volley()
    killed_at = time.time()
    await story.kill(node)
    story.notes[f"{name}_back_after_seconds"] = time.time() - killed_at


async def _note_pauses(story: Story, began: float) -> None:
    now = time.time()
    story.notes["longest_pause_seconds"] = longest_pause(await evidence.calls(story.system), began, now)
    story.notes["longest_refusal_seconds"] = longest_refusal(story.client, began, now)
