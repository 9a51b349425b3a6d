"""Architecture: every route is in the table, authenticates, and has its scope."""

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from libs import errors, rpc
from libs.clock import FakeClock
from libs.policies import PolicyBoard
from libs.reference_time import reference_clock
from libs.service import Runtime
from services.ingest.acceptor import Acceptor
from services.ingest.auth import KNOWN_FOR, MAX_REMEMBERED, Keys, Memory
from services.ingest.exchange import Gateway, Route
from services.ingest.recipients import Recipients
from services.ingest.routes import PREFIX, ROUTES, application
from services.ingest.schedule import Schedules
from services.ingest.settings import GatewayHttp
from services.ingest.templated import Renderer

OPEN = {"/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs"}


class NobodyKnown:
    """A bus on which every key is refused, and nothing else is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def call(self, service: str, verb: str, *_: Any) -> Any:
        assert (service, verb) == ("application", "authenticate")
        self.asked += 1
        await asyncio.sleep(0)
        raise errors.AuthenticationFailed


def gateway(bus: Any) -> Gateway:
    schedules = Schedules(reference_clock(bus, FakeClock()), PolicyBoard(bus, FakeClock()))
    return Gateway(bus, Keys(bus, FakeClock()), Recipients(bus), Acceptor(bus), Renderer(bus), schedules)


def routes(app: web.Application) -> list[tuple[str, str]]:
    found = [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource]
    return [(method, path) for method, path in found if path not in OPEN and method != "*"]


async def test_the_application_serves_the_table_health_and_documentation_alone() -> None:
    app = application(gateway(NobodyKnown()), GatewayHttp(), Runtime("ingest"))
    table = [(route.method, PREFIX + route.path) for route in ROUTES]
    heads = [("HEAD", path) for method, path in table if method == "GET"]
    assert sorted(routes(app)) == sorted(table + heads)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_authenticates(route: Route) -> None:
    app = application(gateway(NobodyKnown()), GatewayHttp(), Runtime("ingest"))
    for headers in ({}, {"X-API-Key": "guess"}):
        path = PREFIX + re.sub(r"\{\w+\}", "x", route.path)
        request = make_mocked_request(route.method, path, headers=headers, app=app)
        match = await app.router.resolve(request)
        response = await match.handler(request)
        assert response.status == 401


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_key_that_may_only_read_changes_nothing(route: Route) -> None:
    if "read" in route.scopes:
        assert route.method == "GET" or route.repeat == "pure"
        assert route.audit is None or route.size == "stream"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_input_is_a_body_or_a_query(route: Route) -> None:
    assert route.body is None or route.query is None


async def test_simultaneous_questions_about_a_key_are_one() -> None:
    bus = NobodyKnown()
    keys = gateway(bus).keys
    answers = await asyncio.gather(*(keys.identify("guess") for _ in range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {errors.AuthenticationFailed}
    assert bus.asked == 1


async def test_caller_who_leaves_does_not_take_the_answer_along() -> None:
    class Slow:
        released = asyncio.Event()

        async def call(self, *_: Any) -> rpc.Principal:
            await self.released.wait()
            return rpc.Principal("a", "k", ["send"], "unlimited")

    bus = Slow()
    keys = gateway(bus).keys
    leaves, stays = (asyncio.create_task(keys.identify("key")) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    bus.released.set()
    assert (await stays).application_id == "a"


async def test_an_answer_grows_old_from_the_moment_it_was_asked_for() -> None:
    class Slow:
        released = asyncio.Event()
        asked = 0

        async def call(self, *_: Any) -> rpc.Principal:
            self.asked += 1
            await self.released.wait()
            return rpc.Principal("a", "k", ["send"], "unlimited")

    bus: Any = Slow()
    clock = FakeClock()
    keys = Keys(bus, clock)
    asking = asyncio.create_task(keys.identify("key"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(KNOWN_FOR - 0.5)  # a revocation may have come before the answer did
    bus.released.set()
    await asking
    await keys.identify("key")
    assert bus.asked == 1
    clock.advance(0.5)
    await keys.identify("key")
    assert bus.asked == 2


def test_memory_is_bounded_and_forgets_the_least_used() -> None:
    memory = Memory[int](5, FakeClock())
    for number in range(MAX_REMEMBERED):
        memory.put(number.to_bytes(4), number)
    assert memory.get((0).to_bytes(4)) == 0
    memory.put(b"new", -1)
    assert memory.get((0).to_bytes(4)) == 0
    assert memory.get((1).to_bytes(4)) is None
