"""Real Postgres and NATS for tests: those given by URL, else containers where a Docker engine answers, else the wheels.

Data is thrown away at the end, so nothing is synced to disk.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from services.cli.process import launched
from services.cli.wheels import nats_server, postgres_account, postgres_bin

OWNER = "automata"
START_SECONDS = 30.0
MEMORY_NEEDED = 2 * 1024**3
"""Free bytes in /dev/shm at which servers keep their data there."""
POSTGRES_IMAGE = "postgres:18-alpine"
NATS_IMAGE = "nats:2.12-alpine"

_PREFIX = "automata-test-"
_POSTGRES = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "scram_iterations": "1",
    "autovacuum_naptime": "60s",
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
}
_NATS = """\
listen: "127.0.0.1:{port}"
max_payload: 8MB
jetstream {{ store_dir: "{store}" }}
"""


class NotStarted(Exception):
    """A server did not answer in time; the text is the end of its log."""


class Server:
    """One server program on a port of its own, in a folder of its own. It ends with this process at the latest."""

    def __init__(self, argv: list[str], port: int, folder: Path, death: signal.Signals) -> None:
        self.port = port
        self._argv = argv
        self._folder = folder
        self._log = folder / "server.log"
        self._death = death
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, answers: Callable[[int], bool]) -> None:
        """Returns when the server answers. Raises `NotStarted`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, cwd=self._folder, env=_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise NotStarted(self._log.read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def end(self, how: signal.Signals | None = None) -> None:
        """Stop it (SIGKILL: as a crash) and wait until it is gone."""
        if self._process is None:
            return
        self._process.send_signal(how or self._death)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class PostgresServer(Server):
    """PostgreSQL from the wheel; everybody on loopback is trusted."""

    def __init__(self, folder: Path) -> None:
        account = postgres_account(folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if account is not None:
            os.chown(data, account.uid, account.gid)
        programs = postgres_bin()
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", OWNER, "--auth=trust", "--no-sync"]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = launched([*initdb, *locale], account, signal.SIGKILL)
        subprocess.run(command, cwd=data, env=_environment(), check=True, capture_output=True)
        port = free_port()
        options = [part for name, value in _POSTGRES.items() for part in ("-c", f"{name}={value.strip(chr(39))}")]
        serve = [str(programs / "postgres"), "-D", str(data), "-p", str(port), *options]
        super().__init__(launched(serve, account, signal.SIGQUIT), port, folder, signal.SIGINT)
        self.dsn = f"postgresql://{OWNER}@127.0.0.1:{port}/postgres?sslmode=disable"

    def run(self) -> None:
        self.start(_postgres_answers)


class NatsServer(Server):
    """nats-server from the wheel, with JetStream. It keeps its port and its store over restarts."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.store = folder / "jetstream"
        configuration = folder / "nats.conf"
        configuration.write_text(_NATS.format(port=port, store=self.store))
        serve = launched([str(nats_server()), "-c", str(configuration)], None, signal.SIGKILL)
        super().__init__(serve, port, folder, signal.SIGTERM)
        self.url = f"nats://127.0.0.1:{port}"

    def run(self) -> None:
        self.start(_nats_answers)

    def wipe(self) -> None:
        """Delete the JetStream store of a stopped server."""
        shutil.rmtree(self.store)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The DSN of a database that may create others."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
    elif docker_answers():
        with _postgres_container() as dsn:
            yield dsn
    else:
        with _folder() as folder:
            server = PostgresServer(folder)
            server.run()
            try:
                yield server.dsn
            finally:
                server.end()


@contextlib.contextmanager
def nats() -> Iterator[str]:
    if given := os.environ.get("TEST_NATS_URL"):
        yield given
    elif docker_answers():
        with _nats_container() as url:
            yield url
    else:
        with own_nats() as server:
            yield server.url


@contextlib.contextmanager
def own_nats() -> Iterator[NatsServer]:
    """A NATS server that the test may stop, kill and wipe."""
    with _folder() as folder:
        server = NatsServer(folder)
        server.run()
        try:
            yield server
        finally:
            server.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def docker_answers() -> bool:
    """True only when an engine told its version: an installed client says nothing."""
    if not _something_listens(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")):
        return False  # asked first, because the client leaks the socket of a connection that failed
    import docker  # type: ignore[import-untyped]  # ships no types

    try:
        client = docker.from_env(timeout=3)
        client.close()
    except (docker.errors.DockerException, OSError):
        return False
    return True


def _something_listens(docker_host: str) -> bool:
    if not docker_host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(docker_host.removeprefix("unix://")) == 0


@contextlib.contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    container = PostgresContainer(POSTGRES_IMAGE, username=OWNER, password=OWNER, dbname="postgres", driver=None)
    with container.with_command("postgres -c fsync=off -c max_connections=200") as started:
        yield started.get_connection_url()


@contextlib.contextmanager
def _nats_container() -> Iterator[str]:
    from testcontainers.nats import NatsContainer

    configuration = b"max_payload: 8MB\njetstream { store_dir: /data }\n"
    container = NatsContainer(NATS_IMAGE).with_command("-c /etc/signal.conf")
    with container.with_copy_into_container(configuration, "/etc/signal.conf") as started:
        yield started.nats_uri()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """In memory where there is room: copying a database makes hundreds of files, ten times slower on a disk."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_NEEDED
    parent = memory if roomy else Path(tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed test runs left behind."""
    for left in parent.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _postgres_answers(port: int) -> bool:
    command = [str(postgres_bin() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False, env=_environment()).returncode == 0


def _nats_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False


def _environment() -> dict[str, str]:
    """Without the PG* variables of a machine that uses another Postgres."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
