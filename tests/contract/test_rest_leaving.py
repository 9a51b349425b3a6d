"""A gateway that is told to end answers what it was asked, and sends nobody away without a word. Real HTTP and NATS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

import services.ingest.__main__ as ingest
from libs.bus import Bus
from libs.clock import FakeClock
from libs.config import Health, Nats
from libs.service import Runtime
from services.cli import ports
from services.ingest.settings import GatewayHttp, Settings
from tests.contract.rest_gateway import Platform, Rest
from tests.contract.streams_harness import until
from tests.in_process import running

MESSAGE = {"title": "Hello", "body": "there"}


class Ending:
    """A gateway process, and the services behind it."""

    def __init__(self, rest: Rest, runtime: Runtime, health_url: str) -> None:
        self.rest = rest
        self.runtime = runtime
        self.health_url = health_url

    async def send(self) -> tuple[int, str | None]:
        """Status and `Connection` of the answer to one message."""
        subscription = self.rest.platform.subscribe()
        answer = await self.rest.post("/messages", {"subscription_id": subscription, **MESSAGE})
        return answer.status, answer.headers.get("Connection")

    async def readiness(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{self.health_url}/readyz") as response:
            return response.status


@contextlib.asynccontextmanager
async def ending(nats: Nats, leave_after: float) -> AsyncIterator[Ending]:
    chosen = ports.choose(["api"], None, {})
    behind = await Bus.connect(nats, "behind")
    platform = Platform(behind)
    await platform.serve()
    http = GatewayHttp(port=chosen["api"], leave_after=leave_after)
    url = f"http://127.0.0.1:{chosen['api']}"
    try:
        async with (
            running("ingest", ingest.start, Settings(nats, Health(), http)) as runtime,
            aiohttp.ClientSession(url) as session,
        ):
            yield Ending(Rest(session, platform, FakeClock()), runtime, url)
    finally:
        platform.hold.set()
        await behind.close()


async def test_requests_under_way_are_answered_and_their_connections_closed(nats_settings: Nats) -> None:
    async with ending(nats_settings, leave_after=0.0) as gateway:
        platform = gateway.rest.platform
        platform.hold.clear()
        sends = [asyncio.create_task(gateway.send()) for _ in range(5)]
        await until(lambda: bool(platform.resolves))
        gateway.runtime.stopping.set()
        await until(lambda: refuses(gateway))
        assert not any(send.done() for send in sends)
        platform.hold.set()
        assert await asyncio.gather(*sends) == [(201, "close")] * 5


async def refuses(gateway: Ending) -> bool:
    """The port is closed."""
    try:
        await gateway.readiness()
    except aiohttp.ClientConnectionError:
        return True
    return False


async def test_it_is_not_ready_before_it_takes_no_more_and_clients_are_asked_to_leave(nats_settings: Nats) -> None:
    async with ending(nats_settings, leave_after=3.0) as gateway:
        assert await gateway.readiness() == 200
        assert await gateway.send() == (201, None)
        gateway.runtime.stopping.set()
        assert await gateway.readiness() == 503
        assert await gateway.send() == (201, "close")
        assert await gateway.send() == (201, "close"), "a new connection, as long as the port is open"


async def test_a_connection_without_a_request_does_not_delay_the_end(nats_settings: Nats) -> None:
    loop = asyncio.get_running_loop()
    async with ending(nats_settings, leave_after=0.0) as gateway:
        assert await gateway.send() == (201, None)  # the session keeps its connection
        began = loop.time()
        gateway.runtime.stopping.set()
        await until(lambda: refuses(gateway))
    assert loop.time() - began < 5.0


@pytest.mark.parametrize("leave_after", [0.0, 0.3])
async def test_a_client_that_asks_all_the_time_is_answered_until_it_is_refused(
    nats_settings: Nats, leave_after: float
) -> None:
    """No 500, no 503, no wait: an answer, or no connection."""
    answered = 0
    async with ending(nats_settings, leave_after) as gateway:

        async def ask() -> str:
            nonlocal answered
            while True:
                try:
                    status, _ = await gateway.send()
                except (aiohttp.ClientConnectionError, aiohttp.ServerDisconnectedError) as error:
                    return type(error).__name__
                assert status == 201
                answered += 1

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        await until(lambda: answered > 50)
        gateway.runtime.stopping.set()
        ends = await asyncio.wait_for(asyncio.gather(*asking), 10)
    assert set(ends) <= {
        "ClientConnectorError",
        "ClientConnectionResetError",
        "ClientOSError",
        "ServerDisconnectedError",
    }
