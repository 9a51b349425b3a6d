"""A gateway on a free port, over real NATS. Loaded as a plugin by the tests of the REST contract."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from aiohttp import web

from libs.bus import Bus
from libs.clock import FakeClock
from libs.config import Nats
from libs.policies import PolicyBoard
from libs.reference_time import reference_clock
from libs.service import Runtime
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Keys
from services.ingest.exchange import Gateway, Route
from services.ingest.recipients import Recipients
from services.ingest.routes import ROUTES, application, runner_of
from services.ingest.schedule import Schedules
from services.ingest.settings import GatewayHttp
from services.ingest.templated import Renderer
from services.ingest.tls import context_of
from tests.contract.rest_gateway import AnotherGateway, Platform, Rest
from tests.contract.rest_probe import Probe


@pytest.fixture
def http_settings() -> GatewayHttp:
    """Override it to change the gateway's limits."""
    return GatewayHttp()


@pytest.fixture
def rest_routes() -> Sequence[Route]:
    """Override it to serve other operations."""
    return ROUTES


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def rest(nats_settings: Nats, http_settings: GatewayHttp, rest_routes: Sequence[Route]) -> AsyncIterator[Rest]:
    behind = await Bus.connect(nats_settings, "behind")
    platform = Platform(behind)
    await platform.serve()
    async with gateway(platform, FakeClock(), http_settings, rest_routes) as found:
        yield found
    await behind.close()


@pytest.fixture
def another_gateway(rest: Rest, rest_routes: Sequence[Route]) -> AnotherGateway:
    """Makes a second process, as far as anybody can tell, before the same services."""
    return lambda: gateway(rest.platform, rest.clock, GatewayHttp(), rest_routes)


@contextlib.asynccontextmanager
async def gateway(
    platform: Platform, clock: FakeClock, settings: GatewayHttp, routes: Sequence[Route]
) -> AsyncIterator[Rest]:
    bus = await Bus.connect(platform.bus.settings, "ingest")
    runtime = Runtime("ingest")
    runtime.clock = clock
    runtime.readiness("nats", bus.is_ready)
    schedules = Schedules(reference_clock(bus, clock), PolicyBoard(bus, clock))
    parts = Gateway(bus, Keys(bus, clock), Recipients(bus), Acceptor(bus), Renderer(bus), schedules)
    runner = runner_of(application(parts, settings, runtime, routes), settings, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context_of(settings))
    await site.start()
    scheme = "https" if settings.tls_cert_file else "http"
    async with aiohttp.ClientSession(f"{scheme}://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield Rest(session, platform, clock)
    await runner.cleanup()
    await bus.close()
