"""The product as a company runs it: every service by `automata serve`, three NATS servers, Postgres with a standby."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import asyncpg
import msgspec
import psutil

from services.cli import ports
from services.cli.probe import answers_ok
from services.cli.process import Spec
from tests.faults import nats_nodes
from tests.faults.compose import ROOT, Addresses, Compose
from tests.faults.disk import SmallDisk
from tests.faults.keeper import Keeper
from tests.faults.nats_nodes import Node
from tests.faults.postgres_pair import WAIT_FOR_STANDBY, Server
from tests.faults.system import BACK_SECONDS, SHORT_RETRIES, Runtime, System, until

OWNERS = ("application", "subscription", "templating", "lifecycle")
FLOW = ("dispatcher", "sender-apns", "sender-fcm")
STREAM_BYTES = 256 * 1024**2


class Layout(msgspec.Struct, frozen=True):
    """Which servers there are."""

    nats: int = 1
    standby: bool = False
    replicas: Mapping[str, int] = {}
    """Service to processes; 1 where it is not named."""
    disks: Mapping[str, int] = {}
    """Server (`nats-1`, `postgres-1`) to the bytes of a filesystem of its own."""


class ClusterSystem(System):
    """The same interface as `System`. Servers are called nats-1, nats-2, nats-3, postgres-1 and postgres-2."""

    def __init__(self, layout: Layout, environment: Mapping[str, str] = SHORT_RETRIES) -> None:
        super().__init__(environment)
        self.layout = layout
        self._for_services = dict(environment)
        self._ports = ports.choose(_port_names(layout), None, {})
        self.disks = {name: SmallDisk(self.data_dir / name, size) for name, size in layout.disks.items()}
        secrets = self.data_dir / "secrets"
        secrets.mkdir(mode=0o700)
        self.nodes = [self._node(f"nats-{number + 1}") for number in range(layout.nats)]
        servers = ["postgres-1", "postgres-2"] if layout.standby else ["postgres-1"]
        addresses = Addresses(
            postgres=[f"127.0.0.1:{self._ports[name]}" for name in servers],
            nats=[node.address for node in self.nodes],
            sandbox_tls=f"127.0.0.1:{self._ports['sandbox-tls']}",
        )
        self._compose = Compose(secrets, addresses)
        self.dsn = self._compose.values["OWNER_DATABASE_URL"]
        self._environment["DATABASE_URL"] = self.dsn
        password = self._compose.values["POSTGRES_PASSWORD"]
        self.databases = [Server(name, self.data_dir / name, self._ports[name], password) for name in servers]
        self._frozen: set[str] = set()
        self._application = ("", "")
        self._keeper: Keeper | None = None

    # life ------------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Raises `Failure` where something is not ready in time. Skips the test where a small disk cannot be had."""
        for disk in self.disks.values():
            disk.mount()
        for directory in ("logs", "sandbox", "demo"):
            (self.data_dir / directory).mkdir(mode=0o700, exist_ok=True)
        self._keeper = Keeper(self.data_dir / "logs", self._write_down)
        self._start_servers(self._keeper)
        self._automata("migrate", self._compose.environment("migrate"))
        self._keeper.start([self._sandbox()])
        self._keeper.start([self._service(name) for name in OWNERS for _ in range(self._replicas(name))])
        self._keeper.start([self._service(name) for name in FLOW for _ in range(self._replicas(name))])
        self._application = self._demonstration()
        self._keeper.start([self._service("ingest")])
        self._write_down()

    def down(self) -> None:
        if self._keeper is not None:
            self._keeper.stop()
        for disk in self.disks.values():
            disk.unmount()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _start_servers(self, keeper: Keeper) -> None:
        primary = self.databases[0]
        primary.create()
        keeper.start([primary.spec()])
        for node in self.nodes:
            node.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        keeper.start([nats_nodes.spec(node, self.nodes, self._compose.values) for node in self.nodes])
        if self.layout.standby:
            standby = self.databases[1]
            standby.copy_from(primary)
            keeper.start([standby.spec()])
            asyncio.run(primary.execute(*WAIT_FOR_STANDBY))

    # faults ----------------------------------------------------------------------------------------------------------

    @property
    def keeper(self) -> Keeper:
        assert self._keeper is not None
        return self._keeper

    def kill_for_good(self, name: str) -> None:
        """SIGKILL, and nobody starts it again until `bring_back`: the machine has gone."""
        self.keeper.leave_down(name)
        self.kill(name)

    def freeze(self, name: str) -> None:
        """SIGSTOP to a server and all its children: it answers nobody and closes nothing, as without power."""
        self.keeper.leave_down(name)
        self._frozen.add(name)
        for pid in self.runtime.processes[name]:
            server = psutil.Process(pid)
            for process in (server, *server.children(recursive=True)):
                process.suspend()

    async def roles(self) -> tuple[Server, Server]:
        """Who takes changes, and who follows."""
        one, other = self.databases
        return (other, one) if await one.fetchval("SELECT pg_is_in_recovery()") else (one, other)

    async def rejoin(self, lost: Server, primary: Server) -> None:
        """What was lost comes back as a copy of the new primary, and is waited for again (R1)."""
        self.kill(lost.name)
        await asyncio.to_thread(lost.copy_from, primary)
        await self.bring_back(lost.name)
        await primary.execute(*WAIT_FOR_STANDBY)

    async def bring_back(self, name: str) -> None:
        self.keeper.let_up(name)
        self._frozen.discard(name)
        await self.ready(name)

    async def ready(self, name: str) -> None:
        """For a NATS server: it has caught up as well, so that the next one may fail."""
        for node in self.nodes:
            if node.name == name:
                await until(partial(nats_nodes.is_current, node), f"{name} has caught up", BACK_SECONDS)
        for database in self.databases:
            if database.name == name:
                await until(partial(database.fetchval, "SELECT true"), f"{name} lets clients in", BACK_SECONDS)
        await super().ready(name)

    async def stop(self, name: str) -> None:
        await asyncio.to_thread(self.keeper.hold, name)

    async def start(self, name: str) -> None:
        await asyncio.to_thread(self.keeper.release, name)
        await self.ready(name)

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        for database in sorted(self.databases, key=lambda each: each.name in self._frozen):
            try:
                return await asyncpg.connect(
                    f"{database.dsn}?target_session_attrs=primary",
                    timeout=5,
                    server_settings={"default_transaction_read_only": "on"},
                )
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError):
                continue
        raise ConnectionError("no database takes changes")

    # processes -------------------------------------------------------------------------------------------------------

    def _service(self, name: str) -> Spec:
        port = ports.choose(["health"], None, {})["health"]
        environment = self._compose.environment(name) | {
            "AUTOMATA_NATS__REPLICAS": str(self.layout.nats),
            "AUTOMATA_NATS__MAX_STREAM_BYTES": str(STREAM_BYTES),
            "AUTOMATA_HEALTH__HOST": ports.HOST,
            "AUTOMATA_HEALTH__PORT": str(port),
            **self._for_services,
        }
        if name == "ingest":
            environment |= {"AUTOMATA_HTTP__HOST": ports.HOST, "AUTOMATA_HTTP__PORT": str(self._ports["api"])}
        return self._spec(name, environment, f"http://127.0.0.1:{port}")

    def _sandbox(self) -> Spec:
        environment = self._compose.environment("sandbox") | {
            "AUTOMATA_SANDBOX__HOST": ports.HOST,
            "AUTOMATA_SANDBOX__PORT": str(self._ports["sandbox"]),
            "AUTOMATA_SANDBOX__TLS_PORT": str(self._ports["sandbox-tls"]),
            "AUTOMATA_SANDBOX__PARENT_PID": str(os.getpid()),
        }
        return self._spec("sandbox", environment, f"http://127.0.0.1:{self._ports['sandbox']}")

    def _spec(self, name: str, environment: dict[str, str], health_url: str) -> Spec:
        return Spec(
            name=name,
            argv=(sys.executable, "-m", "services.cli.main", *self._compose.command(name)),
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
            ready=partial(answers_ok, f"{health_url}/readyz"),
            death_signal=signal.SIGTERM if name == "sandbox" else signal.SIGKILL,
            health_url=health_url,
        )

    def _automata(self, command: str, environment: dict[str, str]) -> None:
        self._run([sys.executable, "-m", "services.cli.main", command], environment)

    def _demonstration(self) -> tuple[str, str]:
        """Id and key of the application that `docker compose run demo` makes."""
        demo = self.data_dir / "demo"
        environment = self._compose.environment("demo") | {"DEMO_DIRECTORY": str(demo), "PYTHONPATH": str(ROOT)}
        self._run([sys.executable, "deploy/compose/demo.py"], environment)
        made = msgspec.json.decode((demo / "secrets/application.json").read_bytes())
        return made["application_id"], made["api_key"]

    def _run(self, command: list[str], environment: dict[str, str]) -> None:
        subprocess.run(
            command, env={**os.environ, **environment}, cwd=ROOT, check=True, capture_output=True, timeout=BACK_SECONDS
        )

    def _write_down(self) -> None:
        """`runtime.json`, from which everybody reads what runs."""
        if self._application[0] and self._keeper is not None:
            found = Runtime(
                api_url=f"http://127.0.0.1:{self._ports['api']}",
                sandbox_url=f"http://127.0.0.1:{self._ports['sandbox']}",
                application_id=self._application[0],
                api_key=self._application[1],
                postgres_dsn=self.dsn,
                nats_url=self._compose.values["NATS_URL"],
                processes=self._keeper.pids(),
                health=self._keeper.health(),
            )
            draft = self.data_dir / "runtime.new"
            draft.write_bytes(msgspec.json.encode(found))
            draft.replace(self.data_dir / "runtime.json")

    def _replicas(self, name: str) -> int:
        return self.layout.replicas.get(name, 1)

    def _node(self, name: str) -> Node:
        store = self.data_dir / name / "store"
        return Node(name, store, self._ports[name], self._ports[f"{name}-monitor"], self._ports[f"{name}-cluster"])


def _port_names(layout: Layout) -> list[str]:
    nodes = [f"nats-{number + 1}" for number in range(layout.nats)]
    return [
        "api",
        "sandbox",
        "sandbox-tls",
        "postgres-1",
        "postgres-2",
        *nodes,
        *(f"{node}-{kind}" for node in nodes for kind in ("monitor", "cluster")),
    ]
