"""The bars of ARCHITECTURE §7, and whether this run met them."""

from statistics import median
from typing import Literal

import msgspec

from tests.bench.results import Results

Verdict = Literal["met", "missed", "not measured"]

LONG_RUN = 1_000_000
SHORT_RUN = 100_000
SERVERS = frozenset({"postgres", "nats"})
"""Not services of ours: their memory is a matter of their settings."""


class Bar(msgspec.Struct, frozen=True):
    work: str
    bar: str
    reach: str
    measured: str
    verdict: Verdict


def judge(results: Results) -> list[Bar]:
    return [
        _batch(results),
        *_single(results),
        *_critical(results),
        *_fairness(results),
        _growth(results),
        *_memory(results),
    ]


def _verdict(met: bool) -> Verdict:
    return "met" if met else "missed"


def _open(work: str, bar: str, reach: str = "", why: str = "") -> Bar:
    return Bar(work, bar, reach, why, "not measured")


def _batch(results: Results) -> Bar:
    work, bar, reach = "batch API, push", "5,000/s", "7,000/s"
    if not results.batch:
        return _open(work, bar, reach)
    size = results.sizes()[-1]
    rate = results.batch_rate(size)
    return Bar(work, bar, reach, f"{rate:,.0f}/s over {size:,}", _verdict(rate >= 5000))


def _single(results: Results) -> list[Bar]:
    names = ("single POST, outcomes committed", "  answer p95", "  backlog at the end")
    bars = (("2,500/s", "4,000/s"), ("50 ms", ""), ("1 s of work", ""))
    single = results.single
    if single is None:
        return [_open(name, *bar) for name, bar in zip(names, bars, strict=True)]
    measured = (
        (f"{single.committed_per_second:,.0f}/s", single.committed_per_second >= 2500),
        (f"{single.latency.p95:.1f} ms", single.latency.p95 < 50),
        (f"{single.backlog_seconds:.2f} s ({single.backlog:,})", single.backlog_seconds <= 1),
    )
    return [Bar(name, *bar, text, _verdict(met)) for name, bar, (text, met) in zip(names, bars, measured, strict=True)]


def _critical(results: Results) -> list[Bar]:
    work, bar, reach = "critical beside ≥ 500,000 bulk, p95", "500 ms", "150 ms"
    rate = "  bulk beside them ÷ bulk alone"
    found = results.critical
    if found is None:
        return [_open(work, bar, reach), _open(rate, "0.9")]
    text = f"{found.to_provider.p95:,.0f} ms, {found.waiting_at_end:,} waiting at the end"
    share = found.bulk_per_second / found.bulk_alone_per_second
    beside = Bar(rate, "0.9", "", f"{share:.2f}", _verdict(share >= 0.9))
    if found.delivered < found.messages:
        return [Bar(work, bar, reach, f"{found.delivered} of {found.messages} delivered", "missed"), beside]
    if found.waiting_at_end < 500_000:
        return [_open(work, bar, reach, text), beside]
    return [Bar(work, bar, reach, text, _verdict(found.to_provider.p95 < 500)), beside]


def _fairness(results: Results) -> list[Bar]:
    found = results.fairness
    behind = "1,000 behind another's 1,000,000"
    names = ("p95 beside a tenant that hangs ÷ alone", "p95 beside a tenant that is refused ÷ alone")
    if found is None:
        return [_open(behind, "2 × alone + 1 s"), *(_open(name, "1.2") for name in names)]
    alone, took = median(found.alone_seconds), median(found.behind_seconds)
    text = f"{took:.2f} s; alone {alone:.2f} s"
    bars = [Bar(behind, "2 × alone + 1 s", "", text, _verdict(took <= 2 * alone + 1))]
    for name, each in zip(names, found.beside, strict=True):
        bars.append(Bar(name, "1.2", "", f"{each.ratio:.2f}", _verdict(each.ratio <= 1.2)))
    return bars


def _growth(results: Results) -> Bar:
    work, bar, reach = "rate, last 100k ÷ first 100k of 1M", "0.9", "flat"
    runs = results.runs(LONG_RUN)
    if not runs:
        return _open(work, bar, reach)
    growth = median(run.growth for run in runs)
    return Bar(work, bar, reach, f"{growth:.2f}", _verdict(growth >= 0.9))


def _memory(results: Results) -> list[Bar]:
    grown, size = "memory at 1M ÷ at 100k, worst service", "memory, worst service"
    peaks = {count: service_peaks(results, count) for count in results.sizes()}
    if not peaks:
        return [_open(grown, "1.1"), _open(size, "200 MB")]
    largest = max(((peak, name) for found in peaks.values() for name, peak in found.items()))
    bars = [Bar(size, "200 MB", "", f"{largest[0]:.0f} MB, {largest[1]}", _verdict(largest[0] < 200))]
    if LONG_RUN not in peaks or SHORT_RUN not in peaks:
        return [_open(grown, "1.1"), *bars]
    growth = max((peaks[LONG_RUN][name] / peaks[SHORT_RUN][name], name) for name in peaks[SHORT_RUN])
    return [Bar(grown, "1.1", "", f"{growth[0]:.2f}, {growth[1]}", _verdict(growth[0] <= 1.1)), *bars]


def service_peaks(results: Results, messages: int) -> dict[str, float]:
    """MB by service, the highest over the runs of one size."""
    runs = results.runs(messages)
    names = runs[0].usage.keys() - SERVERS
    return {name: max(run.usage[name].peak_mb for run in runs) for name in names}
