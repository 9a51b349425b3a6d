"""One operating-system process, started again whenever it ends without having been told to."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.cli.logfile import LogFile
from services.cli.wheels import Account

State = Literal["starting", "running", "waiting", "held", "stopped"]

FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0
HEALTHY_AFTER = 10.0
"""Seconds of life after which an end counts as the first again."""
_KILL_GRACE = 5.0


@dataclass(frozen=True)
class Spec:
    """How to run a process and to know that it is ready."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    ready: Callable[[], Awaitable[bool]]
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 20.0),)
    """Each with the seconds to wait before the next; SIGKILL comes last."""
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when the supervisor itself is killed."""
    account: Account | None = None
    before_start: Callable[[], Awaitable[None]] | None = None
    health_url: str | None = None
    damaged: Callable[[], Awaitable[bool]] | None = None
    """True while it runs, but nothing than a restart helps; asked every few seconds."""


class Process:
    """`run` keeps it alive until `stop`; `hold` keeps it down until `release`."""

    def __init__(self, spec: Spec, log: LogFile, changed: Callable[["Process"], None]) -> None:
        self.spec = spec
        self.log = log
        self.pid: int | None = None
        self.started_at = 0.0
        """Unix seconds."""
        self.restarts = 0
        self.last_exit: int | None = None
        self.state: State = "starting"
        self._changed = changed
        self._held = asyncio.Event()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._spawning = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._gone = asyncio.Event()
        self._gone.set()

    async def run(self) -> None:
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            if self._held.is_set():
                await self._pause("held", None)
                continue
            began = time.monotonic()
            await self._live_once()
            if self._stopping.is_set() or self._held.is_set():
                continue
            self.restarts += 1
            delay = FIRST_DELAY if time.monotonic() - began >= HEALTHY_AFTER else delay
            await self._pause("waiting", delay)
            delay = min(delay * 2, LONGEST_DELAY)
        self._show("stopped")

    async def hold(self) -> None:
        """Stop it and keep it down."""
        self._held.set()
        await self._terminate()

    def release(self) -> None:
        """Let it run again."""
        self._held.clear()
        self._wake.set()

    async def restart(self) -> None:
        """End it; `run` starts it again."""
        await self._terminate()

    async def stop(self) -> None:
        self._stopping.set()
        await self._terminate()
        self._wake.set()

    async def _live_once(self) -> None:
        try:
            async with self._spawning:
                if self._stopping.is_set() or self._held.is_set():
                    return
                child = self._child = await self._spawn()
        except OSError as error:
            self.last_exit = None
            self._note(f"cannot be started: {error.strerror}")
            return
        self.pid, self.started_at = child.pid, time.time()
        self._show("running")
        self.last_exit = await child.wait()
        # Workers of a killed process would keep its ports; each process leads a group of its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        self._child = self.pid = None
        self._gone.set()
        self._changed(self)

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.before_start is not None:
            await self.spec.before_start()
        output = self.log.open()
        try:
            child = await asyncio.create_subprocess_exec(
                *launched(self.spec.argv, self.spec.account, self.spec.death_signal),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.spec.env,
                cwd=self.spec.cwd,
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._gone.clear()
        return child

    async def _terminate(self) -> None:
        async with self._spawning:
            child = self._child
        if child is None:
            self._wake.set()
            return
        for sign, grace in (*self.spec.stop_signals, (signal.SIGKILL, _KILL_GRACE)):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(sign)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), grace)
                return

    async def _pause(self, state: State, seconds: float | None) -> None:
        """Wait to be woken, at most `seconds`."""
        self._wake.clear()
        self._show(state)
        if self._stopping.is_set() or (state == "held" and not self._held.is_set()):
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _show(self, state: State) -> None:
        self.state = state
        self._changed(self)

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the attempts
            output = self.log.open()
            try:
                os.write(output, f"automata: {self.spec.name} {text}\n".encode())
            finally:
                os.close(output)


def launched(argv: Sequence[str], account: Account | None, death_signal: signal.Signals) -> list[str]:
    """The command that runs `argv` under `launch.py`."""
    launcher = str(Path(__file__).with_name("launch.py"))
    user = "-" if account is None else f"{account.uid}:{account.gid}"
    head = [sys.executable, "-I", "-S", launcher, str(os.getpid()), str(int(death_signal)), user, "--"]
    return [*head, *argv]
