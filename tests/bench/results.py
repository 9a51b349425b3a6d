"""What one run of the benchmarks found: the content of the JSON file."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import psutil

from tests.bench.baseline import BaselineResult
from tests.bench.batch import BatchResult
from tests.bench.critical import CriticalResult
from tests.bench.fairness import FairnessResult
from tests.bench.floor import Floor
from tests.bench.single import SingleResult


class Machine(msgspec.Struct, frozen=True):
    cores: int
    memory_gib: float
    system: str
    python: str
    load_before: float
    """One-minute load average before anything was started: above about 0.3, others were at work."""


class Settings(msgspec.Struct, frozen=True):
    subscriptions: int
    ios_share: float
    batch_connections: int
    gateway_processes: int


class Results(msgspec.Struct):
    started_at: datetime
    machine: Machine
    settings: Settings
    floors: list[Floor] = []
    baseline: list[BaselineResult] = []
    batch: list[BatchResult] = []
    single: SingleResult | None = None
    critical: CriticalResult | None = None
    fairness: FairnessResult | None = None
    problems: dict[str, str] = {}
    """Part to what went wrong in it."""

    def floor(self, step: str) -> Floor | None:
        return next((floor for floor in self.floors if floor.step == step), None)

    def sizes(self) -> list[int]:
        return sorted({run.messages for run in self.batch})

    def runs(self, messages: int) -> list[BatchResult]:
        return [run for run in self.batch if run.messages == messages]

    def batch_rate(self, messages: int) -> float:
        """The median over the runs of this size."""
        return median(run.per_second for run in self.runs(messages))

    def best_baseline(self) -> BaselineResult | None:
        return max(self.baseline, key=lambda result: result.per_second, default=None)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def begin(settings: Settings) -> Results:
    machine = Machine(
        cores=os.cpu_count() or 1,
        memory_gib=psutil.virtual_memory().total / 1024**3,
        system=platform.platform(),
        python=platform.python_version(),
        load_before=os.getloadavg()[0],
    )
    return Results(datetime.now(UTC), machine, settings)
