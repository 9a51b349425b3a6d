"""`python -m tests.bench`: start the system, measure it, print the tables, write the JSON."""

import asyncio
import gc
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console

from tests.bench import baseline, batch, critical, fairness, floors, report, results, single
from tests.bench.recipients import Recipients, register
from tests.bench.results import Results
from tests.bench.system import Running, System

PARTS = ("floors", "baseline", "batch", "single", "critical", "fairness")
"""In the order in which they run: what needs a quiet system first, what leaves a backlog last."""
SCRATCH = Path(".run")
WARM_UP = 5000


class Plan(msgspec.Struct, frozen=True):
    parts: tuple[str, ...]
    data_dir: Path | None
    sizes: tuple[int, ...]
    repeat: int
    subscriptions: int
    ios_share: float
    connections: int
    single_connections: int
    single_seconds: float
    bulk: int
    critical_seconds: float
    fairness_seconds: float
    baseline_messages: int
    workers: int
    keep: bool
    output: Path


class Bench:
    """Runs the parts of a plan one after the other; after each, what is known so far is on disk."""

    def __init__(self, plan: Plan, system: System, found: Results, out: Console) -> None:
        self._plan = plan
        self._system = system
        self._found = found
        self._out = out
        self._pool: Recipients | None = None

    async def run(self) -> None:
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "floors": self._floors,
            "baseline": self._baseline,
            "batch": self._batch,
            "single": self._single,
            "critical": self._critical,
            "fairness": self._fairness,
        }
        for part in PARTS:
            if part not in self._plan.parts:
                continue
            self._out.print(f"[bold]{part}[/]")
            try:
                await steps[part]()
            except Exception as error:  # one part's failure must not cost the figures of the others
                traceback.print_exc()
                self._found.problems[part] = _text(error)
            self._found.write(self._plan.output)

    async def _floors(self) -> None:
        async for floor in floors.run(self._system, SCRATCH):
            self._found.floors.append(floor)
            self._out.print(f"  {floor.step}: {floor.per_second:,.0f}/s")

    async def _baseline(self) -> None:
        plan = self._plan
        async for shape in baseline.run(self._system, SCRATCH, plan.baseline_messages, plan.ios_share):
            self._found.baseline.append(shape)
            self._out.print(f"  {shape.processes} × {shape.workers}: {shape.per_second:,.0f}/s")

    async def _batch(self) -> None:
        pool = await self._recipients()
        for size in sorted(self._plan.sizes):
            for _ in range(self._plan.repeat):
                run = await batch.run(self._system, pool, size, self._plan.connections)
                self._found.batch.append(run)
                self._out.print(f"  {size:,}: {run.per_second:,.0f}/s")
                self._found.write(self._plan.output)

    async def _single(self) -> None:
        pool, plan = await self._recipients(), self._plan
        self._found.single = await single.run(self._system, pool, plan.single_connections, plan.single_seconds)

    async def _critical(self) -> None:
        pool, plan = await self._recipients(), self._plan
        self._found.critical = await critical.run(self._system, pool, plan.bulk, plan.critical_seconds)

    async def _fairness(self) -> None:
        pool, plan = await self._recipients(), self._plan
        self._found.fairness = await fairness.run(self._system, pool, plan.bulk, plan.fairness_seconds)

    async def _recipients(self) -> Recipients:
        """Registered once, and the system warmed up with them; neither is counted."""
        if self._pool is None:
            pool = await register(self._system, self._plan.subscriptions, self._plan.ios_share)
            await batch.run(self._system, pool, WARM_UP, self._plan.connections)
            self._pool = pool
            gc.collect()
            gc.freeze()  # the generator's pauses would count as the system's latency
        return self._pool


async def measure(plan: Plan) -> bool:
    """True when every part that was asked for could be measured."""
    out = report.console()
    task = asyncio.current_task()
    if task is not None:  # SIGINT cancels it anyhow; a system started here must not outlive a SIGTERM either
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = results.Settings(plan.subscriptions, plan.ios_share, plan.connections, plan.workers)
    found = results.begin(settings)
    out.print("starting the system" if plan.data_dir is None else f"using the system in {plan.data_dir}")
    async with Running(plan.data_dir, ("--workers", str(plan.workers)), SCRATCH, keep=plan.keep) as system:
        await Bench(plan, system, found, out).run()
    report.show(found, out)
    out.print(f"\nAll figures: {plan.output}")
    return not found.problems


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_text(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _sizes(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(size.replace("_", "")) for size in value.split(","))
    except ValueError:
        raise click.BadParameter("numbers with commas between, such as 10_000,100_000") from None


def _default_output() -> Path:
    return SCRATCH / f"bench-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Measure the system that runs there; else start one.")
@click.option("--output", type=click.Path(path_type=Path), default=_default_output, help="Where the JSON goes.")
@click.option(
    "--sizes", default="10_000,100_000,1_000_000", callback=_sizes, show_default=True, help="batch: messages."
)
@click.option("--repeat", default=1, show_default=True, help="batch: runs of each size; medians are judged.")
@click.option("--connections", default=4, show_default=True, help="batch: at once, 1,000 messages a request.")
@click.option("--subscriptions", default=20_000, show_default=True, help="Registered devices that take turns.")
@click.option("--ios-share", default=0.5, show_default=True, help="Of the devices; the others are Android.")
@click.option("--single-connections", default=64, show_default=True)
@click.option("--single-seconds", default=30.0, show_default=True)
@click.option("--bulk", default=1_000_000, show_default=True, help="critical, fairness: messages put in the way.")
@click.option("--critical-seconds", default=60.0, show_default=True)
@click.option("--fairness-seconds", default=30.0, show_default=True, help="fairness: beside each tenant in trouble.")
@click.option("--baseline-messages", default=3000, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Gateway processes of the system started here.")
@click.option("--keep", is_flag=True, help="Leave the data directory of the system started here, with its logs.")
def main(parts: tuple[str, ...], sizes: tuple[int, ...], **options: object) -> None:
    """Measure the product, its floors and a hand-written baseline in one run on this machine.

    PARTS: floors, baseline, batch, single, critical, fairness; all of them if none is named.
    """
    SCRATCH.mkdir(mode=0o700, exist_ok=True)
    plan = msgspec.convert({"parts": parts or PARTS, "sizes": sizes, **options}, Plan)
    try:
        complete = uvloop.run(measure(plan))
    except asyncio.CancelledError:
        sys.exit("stopped")
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
