"""Starts the whole platform. Loaded as a plugin: `pytest_plugins = ["tests.contract.whole_fixtures"]`."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import services.application.__main__ as application
import services.application.settings
import services.ingest.__main__ as ingest
import services.ingest.settings
import services.lifecycle.__main__ as lifecycle
import services.lifecycle.settings
import services.subscription.__main__ as subscription
import services.subscription.settings
import services.templating.__main__ as templating
import services.templating.settings
from libs import config, seal
from libs.bus import Bus
from services.cli import ports
from services.ingest.settings import GatewayHttp
from tests import databases, servers
from tests.contract.whole_platform import Whole
from tests.databases import Database
from tests.in_process import running


@pytest.fixture
def whole_http() -> GatewayHttp:
    """Override it to change the gateway's settings; host and port are filled in."""
    return GatewayHttp()


@pytest.fixture
async def whole(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus, whole_http: GatewayHttp
) -> AsyncIterator[Whole]:
    async with platform(database, key_ring_file, nats_settings, bus, whole_http) as found:
        yield found


@contextlib.asynccontextmanager
async def platform(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus, settings: GatewayHttp
) -> AsyncIterator[Whole]:
    """Every service that owns data, and a gateway on a free port."""
    keys, health = config.Keys(str(key_ring_file)), config.Health()
    port = ports.choose(["api"], None, {})["api"]

    def owner(name: str) -> config.Database:
        return config.Database(database.dsn(name), pool=4)

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            running(
                "application",
                application.start,
                services.application.settings.Settings(owner("application"), keys, nats_settings),
            )
        )
        await stack.enter_async_context(
            running(
                "subscription",
                subscription.start,
                services.subscription.settings.Settings(owner("subscription"), keys, nats_settings),
            )
        )
        await stack.enter_async_context(
            running(
                "lifecycle",
                lifecycle.start,
                services.lifecycle.settings.Settings(owner("lifecycle"), keys, nats_settings),
            )
        )
        await stack.enter_async_context(
            running(
                "templating",
                templating.start,
                services.templating.settings.Settings(owner("templating"), nats_settings),
            )
        )
        http = GatewayHttp(**{**_fields(settings), "host": "127.0.0.1", "port": port, "leave_after": 0.0})
        await stack.enter_async_context(
            running("ingest", ingest.start, services.ingest.settings.Settings(nats_settings, health, http))
        )
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        yield Whole(session, bus, database, key_ring_file)


def _fields(http: GatewayHttp) -> dict[str, Any]:
    return {name: getattr(http, name) for name in http.__struct_fields__}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_whole(
    postgres_server: str, _template: list[str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Whole]:
    """One platform for all tests of a module, which run in the module's loop and make applications of their own."""
    if not _template:
        _template.append(await databases.create_template(postgres_server))
    ring = tmp_path_factory.mktemp("keys") / "ring.json"
    ring.touch(mode=0o600)
    ring.write_bytes(seal.new_ring())
    with servers.own_nats() as server:
        nats = config.Nats(url=server.url, max_stream_bytes=256 * 1024**2)
        bus = await Bus.connect(nats, "test")
        await bus.ensure_streams()
        async with (
            databases.cloned(postgres_server, _template[0]) as database,
            platform(database, ring, nats, bus, GatewayHttp()) as found,
        ):
            yield found
        await bus.close()
