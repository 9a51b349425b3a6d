"""From an empty directory to a running installation, and down again."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence

from libs.migrate import MigrationChanged, migrate
from services.cli import datadir, postgres, procfs
from services.cli.control import ControlServer, Reply, Request
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from services.cli.process import Process, Spec
from services.cli.progress import Reporter
from services.cli.provision import provision
from services.cli.stack import Options, Stack
from services.cli.supervisor import Supervisor
from services.cli.vault import Demo

READY_TIMEOUT = 120.0
_LEFTOVER_GRACE = 15.0
_RECORD_AGAIN = 5.0


class Installation:
    """One data directory brought to life. The caller holds its lock."""

    def __init__(self, data: DataDir, options: Options, reporter: Reporter) -> None:
        self.data = data
        self._options = options
        self._reporter = reporter
        self._leave: Callable[[], object] = lambda: None
        self._supervisor = Supervisor(data.logs, self._record, reporter.note)
        self._control = ControlServer(data, self._answer)
        self._stack: Stack | None = None
        self._demo: Demo | None = None

    async def run(self, on_ready: Callable[[Runtime], Awaitable[None]]) -> None:
        """Start, call `on_ready`, and stay until SIGTERM, SIGINT or `automata down`; then stop in order.

        Raises `Failure` when something cannot be started, after stopping the rest.
        """
        life = asyncio.create_task(self._live(on_ready))
        self._leave = life.cancel
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sign, life.cancel)
        try:
            await life
        except asyncio.CancelledError:
            self._reporter.failed(Failure("it was told to stop before it was ready"))  # unheard, if it was ready
            self._reporter.note("stopping")
        except Failure as failure:
            self._reporter.failed(failure)
            raise
        finally:
            await self.stop()

    async def _live(self, on_ready: Callable[[Runtime], Awaitable[None]]) -> None:
        runtime = await self.start()
        self._reporter.ready()
        await on_ready(runtime)
        await asyncio.Event().wait()

    async def start(self) -> Runtime:
        """Returns when everything is ready. Raises `Failure`; `stop` clears up then too."""
        await asyncio.to_thread(self._clear_leftovers)
        self._stack = stack = Stack(self.data, self._options)
        self._reporter.begin("prepare")
        await asyncio.to_thread(stack.prepare)
        self._reporter.done("prepare")
        await self._control.start()
        await self._start_servers(stack)
        await self._ready([self._launch(group) for group in stack.services()])
        self._reporter.begin("demonstration application")
        self._demo = await provision(self.data, stack.nats_url, stack.credentials)
        self._reporter.done("demonstration application")
        self._record()
        return self._runtime(stack, self._demo)

    async def stop(self) -> None:
        self.data.runtime_file.unlink(missing_ok=True)
        self._demo = None
        await self._supervisor.stop()
        await self._control.close()
        self.data.pids_file.unlink(missing_ok=True)

    async def _start_servers(self, stack: Stack) -> None:
        groups = [self._launch(group) for group in stack.servers()]
        await self._ready(groups[:1])
        self._reporter.begin("migrations")
        try:
            await migrate(stack.postgres_dsn, stack.passwords.roles)
        except MigrationChanged as error:
            raise Failure(
                f"migration {error} was changed after it had been applied",
                "restore the file, or start in a new --data-dir",
            ) from None
        self._reporter.done("migrations")
        await self._ready(groups[1:])

    def _launch(self, group: Sequence[Spec]) -> list[Process]:
        for name in dict.fromkeys(spec.name for spec in group):
            self._reporter.begin(name)
        return self._supervisor.start(group)

    async def _ready(self, groups: Sequence[Sequence[Process]]) -> None:
        waiting = [process for group in groups for process in group]
        left = [process.spec.name for process in waiting]

        def ready(process: Process) -> None:
            left.remove(process.spec.name)
            if process.spec.name not in left:
                self._reporter.done(process.spec.name)

        await self._supervisor.until_ready(waiting, READY_TIMEOUT, ready)

    def _clear_leftovers(self) -> None:
        """What a killed supervisor left is ending by itself (`launch.py`); wait for it, so that its ports are free."""
        self.data.runtime_file.unlink(missing_ok=True)
        with contextlib.suppress(Failure):  # a power failure may have damaged it, and ended them
            procfs.end(datadir.read(self.data.pids_file, dict[int, int]) or {}, _LEFTOVER_GRACE)
        postgres.clear_orphans(self.data.postgres)

    def _record(self) -> None:
        """Write down what runs; on a full disk later, because supervising goes on without it."""
        try:
            self._write_down()
        except OSError as error:
            self._reporter.note(f"{self.data.runtime_file} cannot be written: {error.strerror}")
            asyncio.get_running_loop().call_later(_RECORD_AGAIN, self._record)

    def _write_down(self) -> None:
        """Pids with their start times at once, runtime.json once everything is there."""
        pids = [pid for group in self._supervisor.pids().values() for pid in group]
        started = {pid: procfs.start_time(pid) for pid in pids}
        datadir.write(self.data.pids_file, {pid: ticks for pid, ticks in started.items() if ticks}, durable=False)
        if self._stack is not None and self._demo is not None:
            datadir.write(self.data.runtime_file, self._runtime(self._stack, self._demo), durable=False)

    def _runtime(self, stack: Stack, demo: Demo) -> Runtime:
        health: dict[str, list[str]] = {}
        for process in self._supervisor.processes:
            if process.spec.health_url is not None:
                health.setdefault(process.spec.name, []).append(process.spec.health_url)
        return Runtime(
            api_url=stack.api_url,
            sandbox_url=stack.sandbox_url,
            application_id=demo.application_id,
            api_key=demo.api_key,
            postgres_dsn=stack.postgres_dsn,
            nats_url=stack.nats_url,
            processes=self._supervisor.pids(),
            health=health,
        )

    async def _answer(self, request: Request) -> Reply:
        if request.verb == "down":
            asyncio.get_running_loop().call_soon(self._leave)
            return Reply()
        known = True
        if request.verb == "stop":
            known = await self._supervisor.hold(request.name)
        elif request.verb == "start":
            known = await self._supervisor.release(request.name, READY_TIMEOUT)
        if not known:
            return Reply(error=f"there is no process called {request.name}")
        return Reply(processes=await self._supervisor.status())
