"""Every service is restarted in turn as by a deployment while messages flow: nothing is lost, or repeated."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import Literal

import pytest

from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from tests.faults.plan import Shape
from tests.faults.story import Story
from tests.faults.system import BACK_SECONDS, System, until

pytestmark = pytest.mark.faults

SERVICES = (
    "application",
    "subscription",
    "templating",
    "lifecycle",
    "dispatcher",
    "sender-apns",
    "sender-fcm",
    "ingest",
)
SECONDS_EACH = 5.0
RANDOM_ORDERS = 2


async def test_a_rolling_restart_loses_and_repeats_nothing(story: Story) -> None:
    shape = Shape(story.messages, seconds=SECONDS_EACH * (len(SERVICES) + 2))
    async with story.flow(shape) as flow:
        for n, service in enumerate(SERVICES, start=1):
            await flow.reached(n / (len(SERVICES) + 2))
            await story.system.stop(service)
            await story.system.start(service)
    await story.check("rolling-restart")


async def test_services_start_in_any_order(story: Story) -> None:
    """Whoever comes first waits for the others: the gateway before all and those that own data last; or as it falls."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    orders = [SERVICES[::-1], *(dice.sample(SERVICES, len(SERVICES)) for _ in range(RANDOM_ORDERS))]
    for order in orders:
        print("in the order", *order)  # shown where it fails
        await asyncio.gather(*(told(story.system, "stop", service) for service in SERVICES))
        await start_in(story.system, order)
        async with story.flow(Shape(story.messages // len(orders), seconds=2.0)):
            pass
    story.notes["seed"] = seed
    await story.check("start-in-any-order")


async def start_in(system: System, order: Sequence[str]) -> None:
    """The first is ready before there is anybody else; each other follows as soon as the one before it runs."""

    async def runs(service: str) -> bool:
        return bool(system.runtime.processes[service])

    async with asyncio.TaskGroup() as starts:
        for service in order:
            starts.create_task(told(system, "start", service))
            await until(partial(runs, service), f"{service} runs", BACK_SECONDS, every=0.02)
            if service == order[0]:
                await system.ready(service)
    for service in order:
        await system.ready(service)


async def told(system: System, verb: Literal["stop", "start"], service: str) -> None:
    """As `automata stop SERVICE` and `automata start SERVICE` say it, without a process for each. Raises `Failure`."""
    await ask(DataDir(system.data_dir), Request(verb, service), timeout=60)
