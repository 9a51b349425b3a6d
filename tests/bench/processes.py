"""What each process of the system costs: CPU seconds, and memory at its peak, children included."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec
import psutil

INTERVAL = 1.0
"""Seconds between looks."""
_MB = 1_000_000
SHARED = frozenset({"postgres"})
"""Their processes share most of their memory: what counts is each one's proportional share (PSS)."""


class Usage(msgspec.Struct, frozen=True):
    """One name of runtime.json over one measurement."""

    cpu_seconds: float
    peak_mb: float
    """Million bytes of resident memory, all its processes together; for Postgres the PSS at the end."""
    processes: int
    """Direct and descended, at the end."""
    restarted: bool
    """True if it ran under other process ids at the end than at the start: the figures are then a lower bound."""


@dataclass
class _Known:
    """Of one root process: CPU at the first and the latest look, memory at the largest."""

    pid: int
    first_cpu: float
    cpu: float
    peak: int = 0
    size: int = 0


@dataclass
class _Named:
    roots: dict[int, _Known] = field(default_factory=dict)
    first_pids: frozenset[int] = frozenset()
    peak: int = 0


class Meter:
    """`async with Meter(pids)`: watches the processes that `pids` names; after the block it knows their `usage`.

    The CPU of children that ended meanwhile is counted through their parent (`RUSAGE_CHILDREN`).
    """

    def __init__(self, pids: Callable[[], dict[str, list[int]]]) -> None:
        self._pids = pids
        self._named: dict[str, _Named] = {}
        self._task: asyncio.Task[None] | None = None
        self.usage: dict[str, Usage] = {}
        self.machine_seconds = 0.0
        """CPU seconds that all cores together were busy, whoever used them."""

    async def __aenter__(self) -> Self:
        self.machine_seconds = _machine_busy()
        self._look(first=True)
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if error is not None:
            return
        self._look(first=False)
        self.machine_seconds = _machine_busy() - self.machine_seconds
        self.usage = {name: self._usage(name, named) for name, named in self._named.items()}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._look(first=False)

    def _look(self, *, first: bool) -> None:
        children = _children()
        for name, pids in self._pids().items():
            named = self._named.setdefault(name, _Named())
            if first:
                named.first_pids = frozenset(pids)
            resident = sum(self._look_at(named, pid, children, first=first) for pid in pids)
            named.peak = max(named.peak, resident)

    def _look_at(self, named: _Named, pid: int, children: dict[int, list[int]], *, first: bool) -> int:
        tree = _tree(pid, children)
        cpu, resident = 0.0, 0
        for member in tree:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(member)
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
                cpu += times.user + times.system + times.children_user + times.children_system
        known = named.roots.setdefault(pid, _Known(pid, cpu if first else 0.0, cpu))
        known.cpu, known.size = max(known.cpu, cpu), len(tree)
        return resident

    def _usage(self, name: str, named: _Named) -> Usage:
        now = frozenset(self._pids().get(name, []))
        alive = [known for pid, known in named.roots.items() if pid in now]
        peak = _proportional(now) if name in SHARED else named.peak
        return Usage(
            cpu_seconds=sum(known.cpu - known.first_cpu for known in named.roots.values()),
            peak_mb=peak / _MB,
            processes=sum(known.size for known in alive),
            restarted=now != named.first_pids,
        )


def own_cpu() -> float:
    """CPU seconds of this process so far: the generator's price."""
    times = psutil.Process().cpu_times()
    return times.user + times.system


def cpu_of(pid: int) -> float:
    """CPU seconds of one process and its children so far."""
    total = 0.0
    for member in _tree(pid, _children()):
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(member).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _machine_busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        found.setdefault(process.info["ppid"], []).append(process.pid)
    return found


def _tree(pid: int, children: dict[int, list[int]]) -> list[int]:
    tree = [pid]
    for member in tree:
        tree += children.get(member, [])
    return tree


def _proportional(pids: frozenset[int]) -> int:
    children, total = _children(), 0
    for pid in pids:
        for member in _tree(pid, children):
            with contextlib.suppress(psutil.Error, AttributeError):
                total += psutil.Process(member).memory_full_info().pss
    return total
