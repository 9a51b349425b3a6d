"""`automata keys`: the key ring, which wraps the keys that messages and tokens are encrypted with."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from libs.bus import Bus
from libs.config import Nats
from libs.ring import holders
from libs.rpc import RingReport
from services.cli import rotation
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option, json_option

T = TypeVar("T")
Say = Callable[[str], None]

EXAMPLES = """\b
On one machine:
  automata keys rotate           a fresh key, and everything wrapped with it
  automata keys status           which key wraps how much
  automata keys retire k1        remove the old one

\b
In a cluster, where the ring is a mounted secret, with NATS_URL and a copy of the ring:
  automata keys add --ring ring.json         then update the secret with the file
  automata keys activate k2 --ring ring.json waits until every process knows k2; update the secret again
  automata keys rewrap --ring ring.json
  automata keys retire k1 --ring ring.json   then update the secret a last time
"""

ring_option = click.option(
    "--ring",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    envvar="AUTOMATA_KEYS__RING_FILE",
    metavar="FILE",
    help="The key ring, of an installation that NATS_URL names. Default: what runs in DIR.",
)
wait_option = click.option(
    "--wait", type=float, default=30.0, show_default=True, help="Seconds to wait until every process agrees."
)


class Place(NamedTuple):
    """Which installation is meant."""

    nats_url: str
    ring: Path
    expected: dict[str, int]
    """Processes of each service that must answer."""


@click.group(epilog=EXAMPLES)
def keys() -> None:
    """Rotate the key ring with the system running. Nothing is encrypted anew: only the keys are wrapped again."""


@keys.command()
@data_dir_option
@ring_option
@wait_option
@json_option
def rotate(data_dir: Path, ring: Path | None, wait: float, as_json: bool) -> None:
    """Add a fresh key, make it active once every process knows it, and wrap all data keys with it.

    Interrupted, give it again: it goes on. The old key stays in the ring until `automata keys retire`.
    """
    place = _place(data_dir, ring)

    async def work(bus: Bus, on_page: rotation.OnPage, say: Say) -> rotation.Rotated:
        return await rotation.rotate(bus, place.ring, place.expected, wait, on_page, say)

    _show_rotated(asyncio.run(_with_progress(place, work, as_json)), as_json)


@keys.command()
@click.option("--ring", type=click.Path(dir_okay=False, exists=True, path_type=Path), required=True, metavar="FILE")
def add(ring: Path) -> None:
    """Step one: write a fresh key into FILE, known to all and used by nobody yet. Prints its name."""
    click.echo(rotation.add_key(ring))


@keys.command()
@click.argument("name")
@data_dir_option
@ring_option
@wait_option
def activate(name: str, data_dir: Path, ring: Path | None, wait: float) -> None:
    """Step two: make the key NAME the active one in the file, once every process says that it knows it."""
    place = _place(data_dir, ring)

    async def work() -> None:
        async with _bus(place) as bus:
            await rotation.agreed(bus, place.expected, f"knows {name}", lambda report: name in report.keys, wait)

    asyncio.run(work())
    rotation.make_active(place.ring, name)
    click.echo(f"{name} is active in {place.ring}.")


@keys.command()
@data_dir_option
@ring_option
@wait_option
@json_option
def rewrap(data_dir: Path, ring: Path | None, wait: float, as_json: bool) -> None:
    """Step three: wrap every data key with the active key, once every process does. Goes on after an interruption."""
    place = _place(data_dir, ring)
    active = rotation.read_ring(place.ring).active

    async def work(bus: Bus, on_page: rotation.OnPage, _: Say) -> rotation.Rotated:
        await rotation.agreed(bus, place.expected, f"wraps with {active}", lambda r: r.active == active, wait)
        return await rotation.rewrap_all(bus, active, on_page)

    _show_rotated(asyncio.run(_with_progress(place, work, as_json)), as_json)


@keys.command()
@click.argument("name")
@data_dir_option
@ring_option
@click.option("--settle", type=float, default=rotation.RETIRE_AFTER, hidden=True)
def retire(name: str, data_dir: Path, ring: Path | None, settle: float) -> None:
    """Remove the key NAME. Refused while it is active, or anything is wrapped by it.

    Backups made before hold the keys of their time: they stay readable.
    """
    place = _place(data_dir, ring)

    async def work(bus: Bus, on_page: rotation.OnPage, _: Say) -> None:
        await rotation.retire(bus, place.ring, name, place.expected, on_page, settle)

    asyncio.run(_with_progress(place, work, as_json=False))
    click.echo(f"{name} is no more in {place.ring}.")


class KeyStatus(msgspec.Struct, frozen=True):
    name: str
    active: bool
    wraps: dict[str, int]
    """By what is wrapped."""
    known_by: int
    """Processes."""
    in_file: bool


class RingStatus(msgspec.Struct, frozen=True):
    keys: list[KeyStatus]
    processes: list[RingReport]


@keys.command()
@data_dir_option
@ring_option
@json_option
def status(data_dir: Path, ring: Path | None, as_json: bool) -> None:
    """Show for each key of the ring what it still wraps, and which processes know it."""
    place = _place(data_dir, ring)

    async def work(bus: Bus, on_page: rotation.OnPage, _: Say) -> RingStatus:
        reports = await holders(bus)
        return _status(place.ring, reports, await rotation.walk(bus, False, on_page))

    found = asyncio.run(_with_progress(place, work, as_json))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(highlight=False).print(_table(found))


def _status(path: Path, reports: list[RingReport], counts: rotation.Counts) -> RingStatus:
    ring = rotation.read_ring(path)
    names = sorted({*ring.keys, *counts.wraps, *(name for report in reports for name in report.keys)})
    found = [
        KeyStatus(
            name,
            name == ring.active,
            counts.wraps.get(name, {}),
            sum(name in report.keys for report in reports),
            name in ring.keys,
        )
        for name in names
    ]
    return RingStatus(found, reports)


def _table(found: RingStatus) -> Table:
    table = Table()
    parts = [name for name, _, _ in rotation.PARTS]
    for column in ("key", "active", *parts, "processes", "in the file"):
        table.add_column(column, justify="left" if column in ("key", "active", "in the file") else "right")
    for key in found.keys:
        wraps = [f"{key.wraps.get(part, 0):,}" for part in parts]
        known = f"{key.known_by} of {len(found.processes)}"
        table.add_row(
            key.name,
            "[green]yes[/]" if key.active else "",
            *wraps,
            known,
            "yes" if key.in_file else "[red]no[/]",
        )
    return table


def _place(data_dir: Path, ring: Path | None) -> Place:
    url = os.environ.get("NATS_URL")
    if url is not None and ring is not None:
        return Place(url, ring, rotation.at_least_one())
    data = DataDir(data_dir)
    runtime = data.runtime()
    expected = {name: max(len(runtime.processes.get(name, [])), 1) for name in rotation.at_least_one()}
    return Place(runtime.nats_url, ring or data.secrets / "ring.json", expected)


@contextlib.asynccontextmanager
async def _bus(place: Place) -> AsyncIterator[Bus]:
    try:
        async with asyncio.timeout(10):
            bus = await Bus.connect(Nats(url=place.nats_url), "keys")
    except (OSError, TimeoutError):
        raise Failure("NATS cannot be reached", "check NATS_URL, or `automata status`") from None
    try:
        yield bus
    finally:
        await bus.close()


async def _with_progress(place: Place, work: Callable[[Bus, rotation.OnPage, Say], Awaitable[T]], as_json: bool) -> T:
    async with _bus(place) as bus:
        with _progress(as_json) as (on_page, say):
            return await work(bus, on_page, say)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[tuple[rotation.OnPage, Say]]:
    """Bars on standard error, one for each part; nothing with --json."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def on_page(part: str, rows: int, total: int) -> None:
            bar = bars.setdefault(part, TaskID(-1))
            if bar < 0:
                bar = bars[part] = progress.add_task(part, total=max(total, rows))
            progress.advance(bar, rows)

        yield on_page, lambda text: None if quiet else progress.console.print(text)


def _show_rotated(rotated: rotation.Rotated, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(rotated).decode())
        return
    click.echo(f"{rotated.rewrapped} data keys are wrapped with {rotated.active} now ({rotated.seconds:.1f} s).")
    if rotated.unreadable:
        click.echo(f"{rotated.unreadable} could not be read by any key of the ring.")
