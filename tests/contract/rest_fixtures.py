"""A gateway on a free port, over real NATS. Loaded as a plugin by the tests of the REST contract."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from libs.bus import Bus
from libs.clock import FakeClock
from libs.config import Nats
from libs.service import Runtime
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Keys
from services.ingest.exchange import Gateway
from services.ingest.recipients import Recipients
from services.ingest.routes import application
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import Platform, Rest


@pytest.fixture
def http_settings() -> GatewayHttp:
    """Override it to change the gateway's limits."""
    return GatewayHttp()


@pytest.fixture
async def rest(nats_settings: Nats, http_settings: GatewayHttp) -> AsyncIterator[Rest]:
    behind, bus = await asyncio.gather(*(Bus.connect(nats_settings, name) for name in ("behind", "ingest")))
    platform = Platform(behind)
    await platform.serve()
    runtime, clock = Runtime("ingest"), FakeClock()
    runtime.readiness("nats", bus.is_ready)
    gateway = Gateway(bus, Keys(bus, clock), Recipients(bus), Acceptor(bus))
    runner = web.AppRunner(application(gateway, http_settings, runtime), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield Rest(session, platform, clock)
    await runner.cleanup()
    await bus.close()
    await behind.close()
