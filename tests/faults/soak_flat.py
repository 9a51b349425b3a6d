"""Whether a soak stays flat: what is said of memory, open files, table sizes and dead rows, from samples of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

FLAT = 1.25
"""Memory and files: median of the last quarter ÷ median of the second one."""
SMALL = 64
"""Megabytes, or files, below which that is not asked."""
TABLES_FLAT = 1.5
"""Tables: highest of the last quarter ÷ highest of the second one. What grows steadily from nothing comes to 2."""
TABLE_FLOOR = {"MB": 16.0, "dead rows": 10_000.0}
"""What is below is not judged: a table that is filled and emptied has some pages, and autovacuum comes once a minute to
those that have 2,000 dead rows or more."""
KEPT = ("lifecycle.messages_", "lifecycle.message_events_", "lifecycle.idempotency_keys")
"""Tables whose rows stay for a day or longer: they may grow as the messages do, and no faster."""
# Tables far below the floors are left out; so are all while Postgres is down.
SIZES = """
SELECT schemaname || '.' || relname AS name, pg_total_relation_size(relid)::bigint AS bytes, n_dead_tup AS dead
FROM pg_stat_user_tables
WHERE pg_total_relation_size(relid) > 1000000 OR n_dead_tup > 1000
"""


class Sample(msgspec.Struct, frozen=True):
    seconds: float
    answered: int
    """Messages accepted so far."""
    rss_mb: dict[str, float]
    descriptors: dict[str, int]
    table_mb: dict[str, float]
    """With indexes. Empty while Postgres is down."""
    dead_rows: dict[str, int]


class Flatness(msgspec.Struct):
    growth: dict[str, float] = {}
    """By name and unit: the last quarter ÷ the second one."""
    wrong: list[str] = []


def judge(samples: Sequence[Sample]) -> Flatness:
    """The last quarter against the second; the first is for warming up. Fewer than 12 samples say nothing.

    Memory and open files by their medians: they should not move at all, and a process that was just killed, or has just
    begun, is an outlier in both directions.

    Tables by their highest values: dead rows and free space go up and down with each vacuum, so a median, or two single
    moments, would compare where in the saw-tooth they were met. What must not happen is that the teeth grow: vacuum
    does not keep up then. One quarter may have met a longer wait for the vacuum than the other, hence the factor. Both
    figures are needed: a size is true, but never shrinks, so that a table which was once full of dead rows looks flat
    ever after; dead rows tell sooner, but are an estimate that a crash of Postgres sets to nothing.

    Of tables whose rows are kept, by design, the values count in proportion to the messages accepted by then. Of the
    others it is the number of dead rows that counts, not their share: what is emptied all the time is dead but for an
    instant.
    """
    quarter = len(samples) // 4
    found = Flatness()
    if quarter < 3:
        return found
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    _judge_processes(found, "MB", *(_series(each.rss_mb for each in part) for part in (early, late)))
    _judge_processes(found, "files", *(_series(each.descriptors for each in part) for part in (early, late)))
    total = samples[-1].answered
    for unit, of in _TABLE_VALUES.items():
        _judge_tables(found, unit, *(_highest(part, of, total) for part in (early, late)))
    return found


_TABLE_VALUES: dict[str, Callable[[Sample], Mapping[str, float]]] = {
    "MB": lambda sample: sample.table_mb,
    "dead rows": lambda sample: sample.dead_rows,
}


def _series(values: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    series: dict[str, list[float]] = {}
    for each in values:
        for name, value in each.items():
            series.setdefault(name, []).append(value)
    return series


def _judge_processes(found: Flatness, unit: str, before: dict[str, list[float]], after: dict[str, list[float]]) -> None:
    for name in sorted(before.keys() & after.keys()):
        early, late = _median(before[name]), _median(after[name])
        growth = round(late / early, 2) if early else 1.0
        found.growth[f"{name} {unit}"] = growth
        if growth > FLAT and late > SMALL:
            found.wrong.append(f"{name} grew from {early:.0f} to {late:.0f} {unit}")


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _highest(samples: Sequence[Sample], of: Callable[[Sample], Mapping[str, float]], total: int) -> dict[str, float]:
    """Of each table; of one that keeps its rows, as if all `total` messages had been accepted."""
    highest: dict[str, float] = {}
    for sample in samples:
        for name, value in of(sample).items():
            scale = total / max(1, sample.answered) if name.startswith(KEPT) else 1.0
            highest[name] = max(highest.get(name, 0.0), value * scale)
    return highest


def _judge_tables(found: Flatness, unit: str, before: dict[str, float], after: dict[str, float]) -> None:
    """What is not there was too small to be sampled."""
    floor = TABLE_FLOOR[unit]
    for name, late in sorted(after.items()):
        early = before.get(name, 0.0)
        growth = late / max(early, floor / TABLES_FLAT)
        found.growth[f"{name} {unit}"] = round(growth, 2)
        if growth > TABLES_FLAT:
            kept = ", for as many messages" if name.startswith(KEPT) else ""
            found.wrong.append(f"{name}: {unit} rose from {early:,.0f} to {late:,.0f}{kept}")
