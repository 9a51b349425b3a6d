"""`restart: unless-stopped` for the processes of a test: the supervisor of `automata up`, in a thread of its own.

A thread, because each test has an event loop of its own while the system lives for a whole module.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from services.cli.process import Spec
from services.cli.supervisor import Supervisor

T = TypeVar("T")

START_SECONDS = 60.0


class Keeper:
    """`changed` is called in the keeper's thread whenever other processes run than before."""

    def __init__(self, logs: Path, changed: Callable[[], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keeper", daemon=True)
        self._supervisor = Supervisor(logs, changed, lambda _: None)
        self._down: set[str] = set()
        self._thread.start()

    def start(self, specs: Sequence[Spec]) -> None:
        """Start a group and wait until it is ready. Raises `Failure`."""
        self._ask(self._start([self._stoppable(spec) for spec in specs]))

    def leave_down(self, name: str) -> None:
        """What ends from now on under this name is not started again until `let_up`: its machine has gone."""
        self._down.add(name)

    def let_up(self, name: str) -> None:
        self._down.discard(name)

    def hold(self, name: str) -> None:
        """Stop it as a deployment does, and keep it down."""
        self._ask(self._supervisor.hold(name))

    def release(self, name: str) -> None:
        """Start what `hold` stopped, and wait until it is ready. Raises `Failure`."""
        self._ask(self._supervisor.release(name, START_SECONDS))

    def stop(self) -> None:
        """End everything, in reverse order of the start."""
        self._ask(self._supervisor.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pids(self) -> dict[str, list[int]]:
        return self._supervisor.pids()

    def health(self) -> dict[str, list[str]]:
        """Name to base URLs of /readyz and /metrics."""
        found: dict[str, list[str]] = {}
        for process in self._supervisor.processes:
            if process.spec.health_url is not None:
                found.setdefault(process.spec.name, []).append(process.spec.health_url)
        return found

    async def _start(self, specs: Sequence[Spec]) -> None:
        await self._supervisor.until_ready(self._supervisor.start(specs), START_SECONDS, lambda _: None)

    def _stoppable(self, spec: Spec) -> Spec:
        async def before_start() -> None:
            if spec.name in self._down:
                raise OSError("its machine is down")
            if spec.before_start is not None:
                await spec.before_start()

        return replace(spec, before_start=before_start)

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3 * START_SECONDS)
