"""The tables a reader sees at the end; the same figures and more are in the JSON."""

from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench import bars, floors_http, floors_nats, floors_postgres
from tests.bench.batch import BatchResult
from tests.bench.critical import CriticalResult
from tests.bench.fairness import FairnessResult
from tests.bench.results import Results
from tests.bench.single import SingleResult

WIDTH = 120
QUIET = 1.15
"""CPU of the whole machine ÷ CPU of the system, up to which nobody else was at work to speak of."""
_COLOURS = {"met": "green", "missed": "red", "not measured": "dim"}
_BESIDE_BATCH = (
    floors_nats.ENVELOPES,
    floors_postgres.CREATED,
    floors_postgres.OUTCOME,
    floors_http.HTTP2,
)
"""Steps that a batch passes through: none of them can be beaten."""


def console() -> Console:
    """As wide as the tables need where the output is no terminal."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=WIDTH)


def show(results: Results, out: Console) -> None:
    machine = results.machine
    out.print(
        f"\n{machine.cores} cores, {machine.memory_gib:.0f} GiB, {machine.system}, Python {machine.python}, "
        f"load before the start {machine.load_before:.2f}"
    )
    for table in _tables(results):
        out.print()
        out.print(table)
    for part, problem in results.problems.items():
        out.print(f"\n[red]{part} was not measured:[/] {problem}", soft_wrap=True)


def _tables(results: Results) -> Iterable[Table]:
    if results.floors:
        yield _floors(results)
    if results.baseline:
        yield _baseline(results)
    if results.batch:
        largest = results.runs(results.sizes()[-1])[-1]
        yield _batch(results)
        yield _costs(f"Where the time goes: batch of {largest.messages:,}", largest, largest.messages)
        yield _memory(results)
    if results.single is not None:
        yield _single(results.single)
        yield _costs("Where the time goes: single POST", results.single, results.single.accepted)
    if results.critical is not None:
        yield _critical(results.critical)
    if results.fairness is not None:
        yield _fairness(results.fairness)
    ratios = _ratios(results)
    if ratios.row_count:
        yield ratios
    yield _bars(results)


def _table(title: str, *columns: str) -> Table:
    """The first column is text, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _floors(results: Results) -> Table:
    table = _table("Floors", "step", "per second", "client µs", "server µs", "ARCHITECTURE §4")
    for floor in results.floors:
        server = "" if floor.server_micros is None else f"{floor.server_micros:.1f}"
        table.add_row(floor.step, f"{floor.per_second:,.0f}", f"{floor.client_micros:.1f}", server, floor.reference)
    return table


def _baseline(results: Results) -> Table:
    title = "Written by hand: one job at a time, aioapns and firebase-admin"
    table = _table(title, "workers", "messages", "seconds", "per second", "µs a message")
    for found in results.baseline:
        workers = f"{found.processes} process{'es' * (found.processes > 1)} × {found.workers}"
        figures = (
            f"{found.messages:,}",
            f"{found.seconds:.1f}",
            f"{found.per_second:,.0f}",
            f"{found.cpu_micros:,.0f}",
        )
        table.add_row(workers, *figures)
    return table


def _batch(results: Results) -> Table:
    title = "Batch API: accepted → provider answered → outcome committed"
    columns = ("messages", "seconds", "per second", "accepted/s", "first/s", "last/s", "last ÷ first", "503", "repeats")
    table = _table(title, *columns)
    for run in results.batch:
        table.add_row(
            f"{run.messages:,}",
            f"{run.seconds:.1f}",
            f"{run.per_second:,.0f}",
            f"{run.accepted_per_second:,.0f}",
            f"{run.first_per_second:,.0f}",
            f"{run.last_per_second:,.0f}",
            f"{run.growth:.2f}",
            str(run.put_off),
            str(run.sandbox_repeated),
        )
    return table


def _costs(title: str, run: BatchResult | SingleResult, messages: int) -> Table:
    table = _table(title, "process", "CPU s", "µs a message", "peak MB", "processes")

    def add(name: str, seconds: float, *rest: str, end_section: bool = False) -> None:
        figures = (f"{seconds:.1f}", f"{seconds * 1e6 / messages:.1f}")
        table.add_row(name, *figures, *rest, end_section=end_section)

    for name, used in sorted(run.usage.items(), key=lambda item: -item[1].cpu_seconds):
        shown = f"{name} (restarted)" if used.restarted else name
        add(shown, used.cpu_seconds, f"{used.peak_mb:.0f}", str(used.processes))
    add("load generator and watching", run.generator_cpu_seconds, end_section=True)
    total = sum(used.cpu_seconds for used in run.usage.values()) + run.generator_cpu_seconds
    add("together", total)
    add("all cores, anybody", run.machine_cpu_seconds)
    if run.machine_cpu_seconds > QUIET * total:
        table.caption = "[yellow]others used this machine meanwhile: the rates would be higher without[/]"
    return table


def _memory(results: Results) -> Table:
    sizes = results.sizes()
    table = _table("Memory peak, MB", "service", *(f"{size:,}" for size in sizes))
    peaks = {size: bars.service_peaks(results, size) for size in sizes}
    for name in sorted(peaks[sizes[0]]):
        table.add_row(name, *(f"{peaks[size].get(name, 0):.0f}" for size in sizes))
    return table


def _single(single: SingleResult) -> Table:
    title = f"Single POST /messages, {single.connections} connections, {single.seconds:.0f} s"
    table = _table(title, "accepted/s", "committed/s", "backlog", "s of work", "p50 ms", "p95 ms", "p99 ms", "worst ms")
    latency = single.latency
    table.add_row(
        f"{single.accepted_per_second:,.0f}",
        f"{single.committed_per_second:,.0f}",
        f"{single.backlog:,}",
        f"{single.backlog_seconds:.2f}",
        *(f"{value:.1f}" for value in (latency.p50, latency.p95, latency.p99, latency.worst)),
    )
    table.caption = "answers: " + ", ".join(f"{count:,} × {status}" for status, count in sorted(single.answers.items()))
    return table


def _critical(found: CriticalResult) -> Table:
    title = (
        f"Critical messages beside bulk ones: {found.delivered:,} of {found.messages:,} delivered, "
        f"{found.waiting_at_start:,} → {found.waiting_at_end:,} bulk waiting, {found.bulk_per_second:,.0f}/s"
    )
    table = _table(title, "milliseconds", "p50", "p95", "p99", "worst")
    rows = {
        "created → provider answered": found.to_provider,
        "request due → provider answered": found.from_request,
        "request due → 201": found.accepting,
    }
    for name, latency in rows.items():
        table.add_row(name, *(f"{value:,.1f}" for value in (latency.p50, latency.p95, latency.p99, latency.worst)))
    return table


def _fairness(found: FairnessResult) -> Table:
    table = _table(f"Neighbours: {found.few:,} messages of one tenant", "", "alone", "beside or behind", "ratio")
    alone, behind = median(found.alone_seconds), median(found.behind_seconds)
    table.add_row(f"behind {found.many:,} of another", f"{alone:.2f} s", f"{behind:.2f} s", f"{behind / alone:.1f}")
    for each in found.beside:
        name = f"p95 beside one that {'hangs' if each.trouble == 'hangs' else 'is refused'}"
        table.add_row(name, f"{each.alone.p95:.1f} ms", f"{each.beside.p95:.1f} ms", f"{each.ratio:.2f}")
    return table


def _ratios(results: Results) -> Table:
    table = _table("Ratios of this run", "product", "against", "ratio")
    best = results.best_baseline()
    if results.batch:
        size = results.sizes()[-1]
        rate = results.batch_rate(size)
        product = f"batch of {size:,}: {rate:,.0f}/s"
        for step in _BESIDE_BATCH:
            floor = results.floor(step)
            if floor is not None:
                table.add_row(product, f"{step}: {floor.per_second:,.0f}/s", f"{rate / floor.per_second:.2f}")
        if best is not None:
            table.add_row(product, f"by hand, best: {best.per_second:,.0f}/s", f"{rate / best.per_second:.1f}")
    floor = results.floor(floors_http.AIOHTTP)
    if results.single is not None:
        rate = results.single.committed_per_second
        product = f"single POST: {rate:,.0f}/s"
        if floor is not None:
            table.add_row(product, f"{floor.step}: {floor.per_second:,.0f}/s", f"{rate / floor.per_second:.2f}")
        if best is not None:
            table.add_row(product, f"by hand, best: {best.per_second:,.0f}/s", f"{rate / best.per_second:.1f}")
    return table


def _bars(results: Results) -> Table:
    table = _table("Bars of ARCHITECTURE §7", "work", "bar", "reach", "measured", "")
    for bar in bars.judge(results):
        verdict = f"[{_COLOURS[bar.verdict]}]{bar.verdict}[/]"
        table.add_row(bar.work, bar.bar, bar.reach, bar.measured, verdict)
    return table
