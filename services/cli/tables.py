"""Lists for people: nothing is cut off, however narrow the terminal, and what others named is shown as it is."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_WIDEST = 10_000


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*(Column(name, no_wrap=True) for name in columns))
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    console.width = max(console.width, Measurement.get(console, console.options.update_width(_WIDEST), table).maximum)
    console.print(table, crop=False)


def utc(unix_ms: int) -> str:
    """`2026-01-31 09:00`, UTC."""
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def or_never(unix_ms: int | None) -> str:
    return "never" if unix_ms is None else utc(unix_ms)
