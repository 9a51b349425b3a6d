"""Processes are kept alive, held down, and ended with their supervisor. The processes are real; each only sleeps."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.cli import procfs, supervisor
from services.cli.failure import Failure
from services.cli.logfile import LogFile
from services.cli.process import Process, Spec, launched
from services.cli.supervisor import Supervisor, how_it_ended

SLEEP = "import signal, time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


class Rig:
    """A supervisor with what it said."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.said: list[str] = []
        self.ended: list[str] = []
        self.supervisor = Supervisor(logs, self._changed, self.said.append)

    def _changed(self) -> None:
        for process in self.supervisor.processes:
            if process.last_exit is not None and process.spec.name not in self.ended:
                self.ended.append(process.spec.name)

    def spec(self, name: str, code: str, ready: Callable[[], Awaitable[bool]] | None = None, **more: object) -> Spec:
        async def has_printed() -> bool:
            return "up" in LogFile(self.logs / f"{name}.log").tail(5)

        argv = (sys.executable, "-I", "-S", "-c", code)
        return Spec(name, argv, dict(os.environ), self.logs, ready or has_printed, **more)  # type: ignore[arg-type]

    async def start(self, *specs: Spec) -> list[Process]:
        group = self.supervisor.start(specs)
        await self.supervisor.until_ready(group, 20, lambda _: None)
        return group


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.supervisor.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    return procfs.start_time(pid) is not None


async def test_a_killed_process_is_started_again(rig: Rig) -> None:
    (process,) = await rig.start(rig.spec("worker", SLEEP))
    killed = process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await until(lambda: process.pid not in (None, killed))
    assert process.restarts == 1
    assert rig.said == ["worker was ended by SIGKILL; starting it again"]
    assert rig.supervisor.pids() == {"worker": [process.pid]}


async def test_delays_between_starts_grow_and_are_bounded(rig: Rig) -> None:
    async def never() -> bool:
        return False

    (process,) = rig.supervisor.start([rig.spec("broken", "print('once', flush=True)", never)])
    began = time.monotonic()
    await until(lambda: process.restarts >= 3)
    assert time.monotonic() - began >= 0.1 + 0.2


async def test_a_process_that_keeps_ending_fails_the_start_with_its_last_words(rig: Rig) -> None:
    async def never() -> bool:
        return False

    group = rig.supervisor.start([rig.spec("broken", "raise SystemExit('no such table')", never)])
    with pytest.raises(Failure, match="broken exited with code 1 3 times") as caught:
        await rig.supervisor.until_ready(group, 20, lambda _: None)
    assert "no such table" in caught.value.detail


async def test_a_process_that_never_gets_ready_fails_the_start(rig: Rig) -> None:
    async def never() -> bool:
        return False

    group = rig.supervisor.start([rig.spec("slow", SLEEP, never)])
    with pytest.raises(Failure, match="slow is not ready"):
        await rig.supervisor.until_ready(group, 0.2, lambda _: None)


async def test_a_program_that_is_missing_is_reported(rig: Rig) -> None:
    spec = Spec("absent", ("/nonexistent/program",), dict(os.environ), rig.logs, lambda: asyncio.sleep(0, False))
    group = rig.supervisor.start([spec])
    with pytest.raises(Failure, match="absent"):
        await rig.supervisor.until_ready(group, 20, lambda _: None)


async def test_a_held_process_stays_down_until_released(rig: Rig) -> None:
    (process,) = await rig.start(rig.spec("worker", SLEEP))
    assert await rig.supervisor.hold("worker")
    await until(lambda: process.state == "held")
    assert process.pid is None
    assert await rig.supervisor.release("worker", 20)
    await until(lambda: process.pid is not None)
    assert process.restarts == 0


async def test_a_held_process_can_be_stopped(rig: Rig) -> None:
    await rig.start(rig.spec("worker", SLEEP))
    await rig.supervisor.hold("worker")
    await rig.supervisor.stop()
    assert [process.state for process in rig.supervisor.processes] == ["stopped"]


async def test_a_process_that_only_a_restart_helps_is_restarted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_TEND_EVERY", 0.05)
    broken: list[int] = []

    async def damaged() -> bool:
        return rig.supervisor.pids()["ill"] == broken

    process, other = await rig.start(rig.spec("ill", SLEEP, damaged=damaged), rig.spec("well", SLEEP))
    first, unharmed = process.pid, other.pid
    assert first is not None
    broken.append(first)
    await until(lambda: process.pid not in (None, first))
    assert other.pid == unharmed
    assert "ill is damaged; starting it again" in rig.said


async def test_an_unknown_name_is_neither_held_nor_released(rig: Rig) -> None:
    assert not await rig.supervisor.hold("nobody")
    assert not await rig.supervisor.release("nobody", 1)


async def test_a_process_that_ignores_its_signal_is_killed(rig: Rig) -> None:
    await rig.start(rig.spec("stubborn", STUBBORN, stop_signals=((signal.SIGTERM, 0.1),)))
    await rig.supervisor.stop()
    assert [process.last_exit for process in rig.supervisor.processes] == [-signal.SIGKILL]


async def test_groups_stop_in_reverse_order(rig: Rig) -> None:
    for name in ("first", "second", "third"):
        await rig.start(rig.spec(name, SLEEP))
    await rig.supervisor.stop()
    assert rig.ended == ["third", "second", "first"]


async def test_two_processes_of_one_name_have_logs_of_their_own(rig: Rig) -> None:
    await rig.start(rig.spec("twin", SLEEP), rig.spec("twin", SLEEP))
    await until(lambda: (rig.logs / "twin-2.log").exists())
    assert len(rig.supervisor.pids()["twin"]) == 2


async def test_the_workers_of_a_killed_process_go_with_it(rig: Rig) -> None:
    forks = "import os, time; print('up', os.fork() or os.getpid(), flush=True); time.sleep(600)"
    (process,) = await rig.start(rig.spec("parent", forks))
    await until(lambda: len(process.log.tail(5).splitlines()) == 2)
    pids = [int(line.split()[1]) for line in process.log.tail(5).splitlines()]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time worth a thread
        [sys.executable, "-c", _PARENT, str(tmp_path / "pid"), sys.executable, SLEEP],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child = int((tmp_path / "pid").read_text())
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    await until(lambda: not alive(child))


_PARENT = """
import signal, subprocess, sys, time
from pathlib import Path
from services.cli.process import launched
child = subprocess.Popen(launched([sys.argv[2], "-I", "-S", "-c", sys.argv[3]], None, signal.SIGKILL))
Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def test_a_child_whose_supervisor_is_gone_does_not_start() -> None:
    command = launched([sys.executable, "-c", "print('ran')"], None, signal.SIGKILL)
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ran" not in done.stdout


async def test_a_log_that_grew_too_large_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.log", max_bytes=100)
    descriptor = log.open()
    with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as writer:
        writer.write(b"x" * 101)
        log.rotate()
        writer.write(b"after")
    assert log.path.read_bytes() == b"after"
    older = tmp_path / "worker.log.1"
    assert older.stat().st_size == 101
    assert older.stat().st_mode & 0o777 == log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("code", "text"),
    [(None, "could not be started"), (2, "exited with code 2"), (-9, "was ended by SIGKILL"), (-99, "signal 99")],
)
def test_an_end_is_told_in_words(code: int | None, text: str) -> None:
    assert text in how_it_ended(code)
