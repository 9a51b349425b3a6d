"""A running subscription service. Loaded as a plugin: `pytest_plugins = ["tests.contract.subscription_fixtures"]`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs import config
from libs.bus import Bus
from tests.contract.subscription_harness import Service, serving
from tests.databases import Database


@pytest.fixture
async def service(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> AsyncIterator[Service]:
    async with serving(database, key_ring_file, nats_settings, bus) as found:
        yield found
