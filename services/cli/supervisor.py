"""Keeps a set of processes alive, in groups that start in order and stop in reverse order."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from services.cli.failure import Failure
from services.cli.logfile import LogFile
from services.cli.process import Process, Spec

_POLL = 0.1
_TEND_EVERY = 2.0
_EXITS_ALLOWED = 3
"""Ends of one process during the start after which it is given up."""
_TAIL_LINES = 25


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process as `automata status` shows it."""

    name: str
    pid: int | None
    state: str
    ready: bool
    restarts: int
    last_exit: int | None
    started_at: float
    """Unix seconds; 0 before the first start."""


class Supervisor:
    """`changed` is called whenever the processes that run are others than before."""

    def __init__(self, logs: Path, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._logs = logs
        self._changed = changed
        self._say = say
        self._groups: list[list[Process]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._tending: asyncio.Task[None] | None = None

    @property
    def processes(self) -> list[Process]:
        return [process for group in self._groups for process in group]

    def start(self, specs: Iterable[Spec]) -> list[Process]:
        """Start a group. It will be stopped together, before the groups started earlier."""
        group = [Process(spec, self._log(spec.name, number), self._on_change) for number, spec in _numbered(specs)]
        self._groups.append(group)
        for process in group:
            task = asyncio.create_task(process.run(), name=process.spec.name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend())
        return group

    async def until_ready(self, group: Sequence[Process], timeout: float, on_ready: Callable[[Process], None]) -> None:
        """Wait for every process of `group`. Raises `Failure` naming one that keeps ending or is not ready in time."""
        deadline = time.monotonic() + timeout
        waits = [asyncio.create_task(self._until_ready(process, deadline, on_ready)) for process in group]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    async def hold(self, name: str) -> bool:
        """Keep every process called `name` down. False: there is none."""
        named = self._named(name)
        await asyncio.gather(*(process.hold() for process in named))
        return bool(named)

    async def release(self, name: str, timeout: float) -> bool:
        """Start what `hold` stopped, and wait until it is ready. False: there is no process called `name`."""
        named = self._named(name)
        for process in named:
            process.release()
        await self.until_ready(named, timeout, lambda _: None)
        return bool(named)

    async def stop(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
        for group in reversed(self._groups):
            await asyncio.gather(*(process.stop() for process in group))
        await asyncio.gather(*self._tasks)

    def pids(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for process in self.processes:
            mine = found.setdefault(process.spec.name, [])
            if process.pid is not None:
                mine.append(process.pid)
        return found

    async def status(self) -> list[ProcessStatus]:
        ready = await asyncio.gather(*(_is_ready(process) for process in self.processes))
        return [
            ProcessStatus(
                process.spec.name, process.pid, process.state, is_ready, process.restarts, process.last_exit,
                process.started_at,
            )
            for process, is_ready in zip(self.processes, ready, strict=True)
        ]  # fmt: skip

    def _named(self, name: str) -> list[Process]:
        return [process for process in self.processes if process.spec.name == name]

    def _log(self, name: str, number: int) -> LogFile:
        return LogFile(self._logs / (f"{name}.log" if number == 1 else f"{name}-{number}.log"))

    def _on_change(self, process: Process) -> None:
        if process.state == "waiting":
            self._say(f"{process.spec.name} {how_it_ended(process.last_exit)}; starting it again")
        self._changed()

    async def _until_ready(self, process: Process, deadline: float, on_ready: Callable[[Process], None]) -> None:
        allowed = process.restarts + _EXITS_ALLOWED
        while not await _is_ready(process):
            if process.restarts >= allowed:
                raise _given_up(process, f"{how_it_ended(process.last_exit)} {_EXITS_ALLOWED} times while starting")
            if time.monotonic() > deadline:
                raise _given_up(process, "is not ready")
            await asyncio.sleep(_POLL)
        on_ready(process)

    async def _tend(self) -> None:
        """Logs stay bounded, and what only a restart helps is restarted."""
        while True:
            await asyncio.sleep(_TEND_EVERY)
            for process in self.processes:
                with contextlib.suppress(OSError):
                    process.log.rotate()
                with contextlib.suppress(OSError):
                    await self._mend(process)

    async def _mend(self, process: Process) -> None:
        damaged = process.spec.damaged
        if damaged is not None and process.state == "running" and await damaged():
            self._say(f"{process.spec.name} is damaged; starting it again")
            await process.restart()


def how_it_ended(code: int | None) -> str:
    """`exited with code 1`, `was ended by SIGKILL`, `could not be started`."""
    if code is None:
        return "could not be started"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


async def _is_ready(process: Process) -> bool:
    return process.pid is not None and await process.spec.ready()


def _given_up(process: Process, what: str) -> Failure:
    return Failure(
        f"{process.spec.name} {what}",
        f"the last lines of {process.log.path} are above; mend the cause and start again",
        process.log.tail(_TAIL_LINES),
    )


def _numbered(specs: Iterable[Spec]) -> list[tuple[int, Spec]]:
    counts: dict[str, int] = {}
    numbered = []
    for spec in specs:
        counts[spec.name] = counts.get(spec.name, 0) + 1
        numbered.append((counts[spec.name], spec))
    return numbered
