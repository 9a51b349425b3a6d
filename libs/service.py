"""How every process lives: read settings, connect, run, drain. Entry points only name what is theirs."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import msgspec
import uvloop
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from libs import telemetry
from libs.clock import Clock, SystemClock
from libs.config import Health, SettingsError, load

S = TypeVar("S", bound=msgspec.Struct)
Closer = Callable[[], Awaitable[object]]
Check = Callable[[], Awaitable[bool]]

DRAIN_SECONDS = 15.0
"""For what workers have in hand: a provider call takes up to 10 s, and its outcome is to be stored."""
CLOSE_SECONDS = 4.0
"""For the closing of what they used, in all, beyond what is left of `DRAIN_SECONDS`: supervisors kill after 20 s."""
_log = telemetry.logger("service")


class Worker(Protocol):
    async def run(self) -> None: ...

    async def stop(self) -> None: ...


class Runtime:
    """What a running service hands to its parts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock: Clock = SystemClock()
        self.stopping = asyncio.Event()
        self._started = False
        self._checks: dict[str, Check] = {}
        self._closers: list[Closer] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._workers: dict[asyncio.Task[Any], Worker] = {}
        self._failure: BaseException | None = None

    def on_stop(self, close: Closer) -> None:
        """Closers run last in, first out."""
        self._closers.append(close)

    def readiness(self, dependency: str, check: Check) -> None:
        """`/readyz` answers 503 while `check` says no."""
        self._checks[dependency] = check

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that lives as long as the service. Its failure stops the process: a supervisor starts a clean one."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def serve(self, worker: Worker, name: str) -> None:
        """Run `worker` until the service stops; what it holds then is finished first."""
        self._workers[self.spawn(worker.run(), name)] = worker

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if failure is not None and not self.stopping.is_set():
            self._failure = failure
            _log.error("task_failed", task=task.get_name(), exc_info=self._failure)
            self.stopping.set()

    async def ready(self) -> dict[str, bool]:
        """Each dependency and whether it is there."""
        found = {"started": self._started, "draining": not self.stopping.is_set()}
        for dependency, check in list(self._checks.items()):  # while it starts, there are more and more
            try:
                found[dependency] = await asyncio.wait_for(check(), 2)
            except Exception:
                found[dependency] = False
        return found

    async def run(self, start: Coroutine[Any, Any, None]) -> None:
        starting = asyncio.create_task(start)
        stopped = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            self._started = True
            _collect_less_often()
            _log.info("started")
        await stopped
        starting.cancel()
        _log.info("draining")
        await self._drain()
        if self._failure is not None:
            raise SystemExit(1)

    async def _drain(self) -> None:
        """Workers are told first, and end side by side; then what they used is closed: all of it in bounded time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS + CLOSE_SECONDS
        await self._finish()
        for close in reversed(self._closers):
            try:
                await asyncio.wait_for(close(), max(0.1, deadline - loop.time()))
            except Exception as error:
                _log.warning("close_failed", exc_info=error)
        await _end(self._tasks)

    async def _finish(self) -> None:
        for worker in self._workers.values():
            await worker.stop()
        if not self._workers:
            return
        _, late = await asyncio.wait(self._workers, timeout=DRAIN_SECONDS)
        for task in late:
            _log.warning("not_drained_in_time", task=task.get_name())
        await _end(late)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Bounded: libraries are known to swallow a cancellation."""
    ending = set(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=1.0)


def _collect_less_often() -> None:
    """What start-up made stays for good, and batches of short-lived rows hold no cycles: at the default thresholds a
    fifth of the time went into looking for some."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000)


def health_routes(runtime: Runtime) -> list[web.RouteDef]:
    """`/livez`, `/readyz`, `/healthz` and `/metrics`, the same on every process."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        found = await runtime.ready()
        return web.json_response(found, status=200 if all(found.values()) else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        web.get("/livez", live),
        web.get("/healthz", live),
        web.get("/readyz", ready),
        web.get("/metrics", metrics),
    ]


async def serve_health(runtime: Runtime, settings: Health) -> None:
    if settings.port == 0:
        return
    app = web.Application()
    app.add_routes(health_routes(runtime))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port).start()
    runtime.on_stop(runner.cleanup)


def main(name: str, settings_type: type[S], start: Callable[[S, Runtime], Coroutine[Any, Any, None]]) -> None:
    """Run a service until SIGTERM or SIGINT. Settings that are wrong end it with status 2 and the variable's name."""
    telemetry.configure_logging(name, version("automata-signal"))
    try:
        settings = load(settings_type)
    except SettingsError as error:
        sys.stderr.write(f"automata {name}: {error}\n")
        raise SystemExit(2) from None

    async def body() -> None:
        runtime = Runtime(name)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, runtime.stopping.set)
        health: Health = getattr(settings, "health", Health())
        await serve_health(runtime, health)
        await runtime.run(start(settings, runtime))

    uvloop.run(body())
