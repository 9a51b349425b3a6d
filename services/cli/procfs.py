"""Processes as /proc shows them: to find and end what a killed supervisor or postmaster left behind.

On a system without /proc nothing is found; there the death signal of `launch.py` is missing too.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_START_TIME = 19
"""Field 22 of /proc/PID/stat, counted after the command's closing bracket (proc(5))."""


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`: tells a process from a later one of the same number."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[_START_TIME])


def working_in(directory: Path, program: str) -> list[int]:
    """Processes whose working directory is `directory` and whose program file is called `program`."""
    found = []
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            inside = (entry / "cwd").readlink() == directory
            is_program = (entry / "exe").readlink().name.split(" ")[0] == program  # or "postgres (deleted)"
            if inside and is_program and start_time(int(entry.name)):
                found.append(int(entry.name))
    return found


def send(pids: Iterable[int], sign: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)


def end(recorded: dict[int, int], grace: float) -> None:
    """Wait up to `grace` seconds for the recorded processes (pid to start time), then kill what is left of them."""
    left = [pid for pid, started in recorded.items() if start_time(pid) == started]
    if not wait_gone(left, grace):
        send([pid for pid in left if start_time(pid) == recorded[pid]], signal.SIGKILL)
        wait_gone(left, grace)


def wait_gone(pids: Iterable[int], seconds: float) -> bool:
    """False when one of them is still there after `seconds`."""
    deadline = time.monotonic() + seconds
    while any(start_time(pid) is not None for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
