"""The connection to NATS: several servers, a verb that has more to do than it can, and an end for good."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import uvloop

from libs import nats_client
from libs.bus import Bus, ConnectionGone
from libs.config import Nats
from libs.errors import ServiceUnavailable
from libs.service import Runtime
from tests import servers
from tests.contract.streams_harness import until
from tests.servers import NatsServer, free_port

SERVICES = Path(__file__).parents[2] / "services"


class Question(msgspec.Struct):
    number: int


def _port(bus: Bus) -> int | None:
    url = bus.client.connected_url
    return None if url is None else url.port


@pytest.fixture
async def asker(nats_settings: Nats) -> AsyncIterator[Bus]:
    bus = await Bus.connect(nats_settings, "asker")
    yield bus
    await bus.close()


async def test_a_server_that_is_down_is_passed_over(nats_url: str) -> None:
    bus = await Bus.connect(Nats(url=f"nats://127.0.0.1:{free_port()}, {nats_url}"), "test")
    assert await bus.is_ready()
    await bus.close()


async def test_another_server_is_found_when_one_is_lost(own_nats: NatsServer) -> None:
    with servers.own_nats() as other:
        bus = await Bus.connect(Nats(url=f"{own_nats.url},{other.url}"), "test")
        used, left = (own_nats, other) if _port(bus) == own_nats.port else (other, own_nats)
        used.end()
        await until(lambda: bus.reconnects == 1)
        await until(bus.is_ready)
        assert _port(bus) == left.port
        await bus.close()


def test_a_write_to_a_connection_that_was_cut_finds_another(own_nats: NatsServer) -> None:
    """With uvloop, as services run: what it raises must not keep nats-py from connecting again."""

    async def cut_and_write(turns: int) -> None:
        bus = await Bus.connect(Nats(url=own_nats.url), "test")
        bus.client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        for _ in range(turns):  # of the event loop: each finds the connection in another state
            await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            await bus.client.publish("anything", bytes(100_000))
        await until(lambda: bus.reconnects == 1)
        await until(bus.is_ready)
        await bus.close()

    for turns in range(5):
        uvloop.run(cut_and_write(turns))


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("nats://a:4222", {}),
        ("a:4222", {}),
        ("nats://t0ken@a:4222", {"token": "t0ken"}),
        ("nats://user:p%40ss@a:4222", {"user": "user", "password": "p@ss"}),
    ],
)
def test_servers_that_the_cluster_names_get_the_same_credentials(url: str, credentials: dict[str, str]) -> None:
    assert nats_client._credentials(url) == credentials


async def test_a_connection_that_the_server_ends_for_good_ends_the_process(nats_settings: Nats) -> None:
    """It would live on and refuse everything: nats-py does not connect again after `-ERR`."""
    runtime = Runtime("test")
    bus = await Bus.join(runtime, nats_settings, "test")

    async def start() -> None:
        bus.client._transport.write(b"NONSENSE\r\n")  # type: ignore[union-attr]

    with pytest.raises(SystemExit) as ended:
        await runtime.run(start())
    assert ended.value.code == 1
    with pytest.raises(ConnectionGone):
        await bus.until_gone()


@pytest.mark.parametrize("entry", sorted(SERVICES.glob("*/__main__.py")), ids=lambda path: path.parent.name)
def test_every_service_ends_with_its_connection(entry: Path) -> None:
    """By `Bus.join`: none has a connection of another kind."""
    assert "Bus.connect(" not in entry.read_text()


async def test_a_connection_that_we_end_ourselves_is_no_failure(nats_settings: Nats) -> None:
    runtime = Runtime("test")
    await Bus.join(runtime, nats_settings, "test")

    async def start() -> None:
        runtime.stopping.set()

    await runtime.run(start())


async def test_a_slow_verb_refuses_what_is_too_much_at_once(bus: Bus, asker: Bus) -> None:
    release = asyncio.Event()

    async def slow(question: Question) -> Question:
        await release.wait()
        return question

    await bus.serve("slow", {"say": (Question, slow)}, max_pending=5)
    asked = [asyncio.create_task(asker.call("slow", "say", Question(n), Question, timeout=30)) for n in range(50)]
    await until(lambda: sum(task.done() for task in asked) == 45)
    assert {type(task.exception()) for task in asked if task.done()} == {ServiceUnavailable}
    release.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Question) for answer in answers) == 5
