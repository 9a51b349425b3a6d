"""Servers, databases and services for every test. Tests reach this machine only."""

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs import seal
from libs.bus import Bus
from libs.config import Nats
from tests import databases, servers
from tests.databases import Database
from tests.servers import NatsServer

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    given = [os.environ.get(name) for name in ("TEST_DATABASE_URL", "TEST_NATS_URL")]
    hosts = [urlsplit(url).hostname or "" for url in given if url]
    config.option.allow_hosts = ",".join([*LOOPBACK, *hosts])
    config.option.allow_unix_socket = True  # a Docker engine


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """DSN of a server where databases and roles may be made."""
    with servers.postgres() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def _nats_server() -> Iterator[str]:
    with servers.nats() as url:
        yield url


@pytest.fixture(scope="session")
def _template(postgres_server: str) -> Iterator[list[str]]:
    """The template's name, once the first test that needs a database has made it."""
    made: list[str] = []
    yield made
    for name in made:
        asyncio.run(databases.drop(postgres_server, name))


@pytest.fixture
async def database(postgres_server: str, _template: list[str]) -> AsyncIterator[Database]:
    """A migrated, empty database of this test's own."""
    if not _template:
        _template.append(await databases.create_template(postgres_server))
    async with databases.cloned(postgres_server, _template[0]) as found:
        yield found


@pytest.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[Database]:
    """A database without any of our schemas."""
    async with databases.cloned(postgres_server, None) as found:
        yield found


@pytest.fixture
async def nats_url(_nats_server: str) -> AsyncIterator[str]:
    """A NATS server without streams, and with nobody else on it."""
    with _alone_on_given_server():
        yield _nats_server
        await _delete_streams(_nats_server)


@pytest.fixture
def nats_settings(nats_url: str) -> Nats:
    return Nats(url=nats_url, max_stream_bytes=256 * 1024**2)


@pytest.fixture
async def bus(nats_settings: Nats) -> AsyncIterator[Bus]:
    """Connected, with all streams made."""
    connected = await Bus.connect(nats_settings, "test")
    await connected.ensure_streams()
    yield connected
    await connected.close()


@pytest.fixture
def own_nats() -> Iterator[NatsServer]:
    """A NATS server that the test may stop, kill and wipe."""
    with servers.own_nats() as server:
        yield server


@pytest.fixture
def key_ring_file(tmp_path: Path) -> Path:
    path = tmp_path / "ring.json"
    path.touch(mode=0o600)
    path.write_bytes(seal.new_ring())
    return path


@contextlib.contextmanager
def _alone_on_given_server() -> Iterator[None]:
    """Test processes have a server each, but for one given by URL: there they take turns."""
    if "TEST_NATS_URL" not in os.environ:
        yield
        return
    with (Path(tempfile.gettempdir()) / "automata-test-nats.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def _delete_streams(url: str) -> None:
    cleaner = await Bus.connect(Nats(url=url), "cleaner")
    for stream in await cleaner.js.streams_info():
        await cleaner.js.delete_stream(stream.config.name or "")
    await cleaner.close()
