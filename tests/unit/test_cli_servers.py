"""The embedded servers, for real: killed without warning they come back with their data."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.bus import Bus
from libs.config import Nats
from services.cli import nats_server, ports, postgres, procfs, vault
from services.cli.datadir import DataDir
from services.cli.process import Process
from services.cli.supervisor import Supervisor

READY = 60.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Servers:
    """Postgres and NATS under one supervisor, in a directory below one that is closed to everybody but us."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o700)
        self.data = DataDir(directory / "data")
        self.data.create()
        self.passwords = vault.passwords(self.data)
        self.ports = ports.choose(["postgres", "nats", "monitor"], None, {})
        self.dsn = vault.postgres_dsn(self.ports["postgres"], self.passwords.postgres)
        self.nats_url = vault.nats_url(self.ports["nats"], self.passwords.nats)
        self.supervisor = Supervisor(self.data.logs, lambda: None, lambda _: None)

    async def start(self) -> None:
        await asyncio.to_thread(postgres.prepare, self.data, self.ports["postgres"], self.passwords.postgres)
        nats = nats_server.spec(self.data, self.ports["nats"], self.ports["monitor"], self.passwords)
        specs = [postgres.spec(self.data, self.ports["postgres"]), nats]
        await self.supervisor.until_ready(self.supervisor.start(specs), READY, lambda _: None)

    async def kill(self, name: str) -> None:
        (process,) = [process for process in self.supervisor.processes if process.spec.name == name]
        killed = process.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(READY):
            while process.pid in (None, killed):
                await asyncio.sleep(0.01)
        await self.supervisor.until_ready([process], READY, lambda _: None)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("servers"))
    try:
        await started.start()
        yield started
    finally:
        await started.supervisor.stop()


async def test_a_killed_postmaster_comes_back_with_its_data(servers: Servers) -> None:
    connection = await asyncpg.connect(servers.dsn)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.execute("INSERT INTO kept VALUES (42)")
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))  # holds the shared memory
    await servers.kill("postgres")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await sleeping
    again = await asyncpg.connect(servers.dsn)
    assert await again.fetchval("SELECT number FROM kept") == 42
    await again.close()


async def test_postgres_waits_for_the_disk_and_keeps_statements_out_of_its_log(servers: Servers) -> None:
    connection = await asyncpg.connect(servers.dsn)
    try:
        shown = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "jit")}
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("ALTER ROLE nobody_of_this_name PASSWORD 'a-password'")
    finally:
        await connection.close()
    assert shown == {"fsync": "on", "synchronous_commit": "on", "jit": "off"}
    assert "a-password" not in (servers.data.logs / "postgres.log").read_text()


async def test_postgres_refuses_a_wrong_password(servers: Servers) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(vault.postgres_dsn(servers.ports["postgres"], "wrong"))


async def test_killed_nats_keeps_what_it_acknowledged(servers: Servers) -> None:
    bus = await Bus.connect(
        Nats(url=servers.nats_url, max_stream_bytes=nats_server.stream_bytes(servers.data.path)), "t"
    )
    try:
        await bus.ensure_streams()
        await bus.publish("signal.events.a", b"kept", msg_id="1")
        await servers.kill("nats")
        async with asyncio.timeout(READY):
            while not await bus.is_ready():
                await asyncio.sleep(0.05)
        assert (await bus.stream_state("EVENTS")).state.messages == 1
    finally:
        await bus.close()


async def test_nats_starts_again_after_its_directory_was_deleted(servers: Servers) -> None:
    await servers.supervisor.hold("nats")
    await asyncio.to_thread(shutil.rmtree, servers.data.nats)
    assert await servers.supervisor.release("nats", READY)
    bus = await Bus.connect(Nats(url=servers.nats_url), "t")
    assert await bus.is_ready()
    await bus.close()


@pytest.mark.parametrize(
    ("status", "text", "room", "damaged"),
    [
        ("503 Service Unavailable", b"stream X write error: no space left on device", True, True),
        (
            "503 Service Unavailable",
            b"stream X write error: no space left on device",
            False,
            False,
        ),
        ("503 Service Unavailable", b"stream X is not current", True, False),
        ("200 OK", b'{"status":"ok"}', True, False),
    ],
)
async def test_nats_that_could_not_write_is_restarted_once_there_is_room(
    status: str, text: bytes, room: bool, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is as nats-server 2.15.1 gave it; tests/faults/test_disk_full_nats.py fills a disk."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        writer.close()

    monkeypatch.setattr(nats_server, "ROOM", 0 if room else 2**62)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as monitor:
        port = monitor.sockets[0].getsockname()[1]
        assert await nats_server.cannot_write(port, tmp_path) is damaged


async def test_a_healthy_nats_is_left_alone(servers: Servers) -> None:
    assert not await nats_server.cannot_write(servers.ports["monitor"], servers.data.nats)


async def test_jetstream_files_are_encrypted(servers: Servers) -> None:
    bus = await Bus.connect(Nats(url=servers.nats_url, max_stream_bytes=1024**2), "t")
    try:
        await bus.ensure_streams()
        await bus.publish("signal.events.a", b"a-token-of-somebody", msg_id="1")
    finally:
        await bus.close()
    stored = b"".join(path.read_bytes() for path in (servers.data.nats / "store").rglob("*") if path.is_file())
    assert stored
    assert b"a-token-of-somebody" not in stored


async def test_everything_in_the_data_directory_is_closed_to_others(servers: Servers) -> None:
    open_to_others = [str(path) for path in servers.data.path.rglob("*") if path.lstat().st_mode & 0o077]
    assert open_to_others == []


async def test_no_password_is_on_a_command_line_or_in_an_environment(servers: Servers) -> None:
    secrets = (servers.passwords.postgres, servers.passwords.nats, servers.passwords.nats_store)
    for process in servers.supervisor.processes:
        visible = " ".join([*process.spec.argv, *process.spec.env.values()])
        assert not any(secret in visible for secret in secrets), process.spec.name


async def test_a_pid_file_that_names_a_foreign_process_does_not_keep_postgres_down(servers: Servers) -> None:
    (process,) = [process for process in servers.supervisor.processes if process.spec.name == "postgres"]
    await servers.supervisor.hold("postgres")
    _leave_stale_pid_file(servers.data.postgres, process)
    await servers.supervisor.release("postgres", READY)
    assert procfs.working_in(servers.data.postgres, "postgres")


def _leave_stale_pid_file(cluster: Path, process: Process) -> None:
    """As if the pid of a postmaster that died with its machine now belonged to another process: this one."""
    assert process.pid is None
    path = cluster / "postmaster.pid"
    path.write_text(f"{os.getpid()}\n{cluster}\n1\n1\n\n127.0.0.1\n1 1\nready\n")
    if process.spec.account is not None:
        os.chown(path, process.spec.account.uid, process.spec.account.gid)
    path.chmod(0o600)
