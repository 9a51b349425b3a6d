"""Starts the application service. Loaded as a plugin: `pytest_plugins = ["tests.contract.application_fixtures"]`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs import config
from libs.bus import Bus
from services.application.__main__ import start
from services.application.settings import Settings
from tests.contract.application_harness import make_application
from tests.databases import Database
from tests.in_process import running


@pytest.fixture
def application_settings(database: Database, key_ring_file: Path, nats_settings: config.Nats) -> Settings:
    database_settings = config.Database(database.dsn("application"), pool=4)
    return Settings(database_settings, config.Keys(str(key_ring_file)), nats_settings)


@pytest.fixture
async def service(application_settings: Settings) -> AsyncIterator[None]:
    async with running("application", start, application_settings):
        yield


@pytest.fixture
async def second_replica(service: None, application_settings: Settings) -> AsyncIterator[None]:
    async with running("application", start, application_settings):
        yield


@pytest.fixture
async def application_id(service: None, bus: Bus) -> str:
    return await make_application(bus)


@pytest.fixture
async def stranger_id(service: None, bus: Bus) -> str:
    """Another application."""
    return await make_application(bus)
