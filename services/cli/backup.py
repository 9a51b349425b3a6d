"""`automata backup`."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console

from libs.bus import Bus
from libs.config import Nats
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.events import EventBatch
from libs.pg import Connection, single_connection
from libs.ring import united
from libs.subscribe import first_unread
from services.cli import archive, datadir, rotation
from services.cli.archive import Erasures, Manifest, Position
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from services.cli.forgetting import kept_erasures
from services.cli.options import data_dir_option, json_option
from services.cli.progress import Terminal

EXAMPLES = """\b
Examples:
  automata backup /backups/monday
  automata backup --erasures-only /backups/erasures.json   small and quick: take it often
"""
NOW = "SELECT now() AS now, (SELECT max(epoch) FROM lifecycle.epochs) AS epoch"
RELAY_AT = "SELECT epoch, txid::text AS txid, position FROM lifecycle.cursors WHERE name = 'relay'"


class Taken(msgspec.Struct, frozen=True):
    """What --json prints."""

    path: str
    taken_at: datetime
    bytes: int
    epoch: int = 0
    erasures: int | None = None


@click.command(epilog=EXAMPLES)
@click.argument("target", type=click.Path(path_type=Path))
@data_dir_option
@click.option("--erasures-only", is_flag=True, help="Write only who was erased, by ids, into the file TARGET.")
@json_option
def backup(target: Path, data_dir: Path, erasures_only: bool, as_json: bool) -> None:
    """Copy what runs in DIR into the new directory TARGET, while it runs.

    The copy is consistent. It holds the whole database AND the secrets that open it: the key ring, the passwords of
    the servers, the provider credentials of the demonstration. Keep it as safe as the installation itself; its files
    are 0600. Streams, logs and the sandbox are not in it: what is unfinished is in the database.

    A person who is erased later is still in older copies: keep those no longer than your rules allow, and keep a
    recent --erasures-only file beside them, so that `automata restore` can forget the person again.
    """
    data = DataDir(data_dir)
    runtime = data.runtime()
    os.umask(0o077)
    console = Console(stderr=True, highlight=False, quiet=as_json)
    if erasures_only:
        taken = asyncio.run(_write_erasures(runtime, target))
    else:
        taken = _whole(data, runtime, target, Terminal(console))
    if as_json:
        click.echo(msgspec.json.encode(taken).decode())
    elif taken.erasures is not None:
        click.echo(f"{taken.erasures} erasures are in {taken.path}.")
    else:
        click.echo(f"{taken.path}: {taken.bytes / 1024**2:,.1f} MiB, as of {taken.taken_at:%Y-%m-%d %H:%M:%S} UTC.")
        click.echo("It holds the secrets that open it: keep it as safe as the installation.")


def _whole(data: DataDir, runtime: Runtime, target: Path, terminal: Terminal) -> Taken:
    """Made beside its final place, so that what lies there is always whole."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Failure(f"{target} is not empty", "name a directory that does not exist yet")
    draft = target.with_name(f".{target.name}.unfinished")
    archive.remove(draft)
    try:
        draft.mkdir(mode=0o700, parents=True)
        manifest = _copy(data, runtime, draft, terminal)
        draft.replace(target)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}", "check free space and permissions") from None
    finally:
        archive.remove(draft)
    return Taken(str(target), manifest.taken_at, archive.size_of(target), manifest.epoch)


def _copy(data: DataDir, runtime: Runtime, draft: Path, terminal: Terminal) -> Manifest:
    ring = data.secrets / "ring.json"
    started_at, _ = asyncio.run(_now(runtime))
    readers_at = asyncio.run(_readers_at(runtime))
    before = rotation.read_ring(ring)
    terminal.begin("database")
    server = urlsplit(runtime.postgres_dsn)
    archive.copy_postgres(server.port or 5432, server.password or "", draft / "postgres")
    terminal.done("database")
    taken_at, epoch = asyncio.run(_now(runtime))
    archive.copy_secrets(data.secrets, draft / "secrets")
    # A key may have come or gone while the database was copied: the copy may need either.
    copied = draft / "secrets" / "ring.json"
    datadir.write_bytes(copied, msgspec.json.encode(united(rotation.read_ring(copied), before)))
    manifest = Manifest(
        archive.FORMAT,
        version("automata-signal"),
        archive.postgres_version(),
        started_at,
        taken_at,
        epoch,
        readers_at,
    )
    datadir.write(draft / "backup.json", manifest)
    terminal.ready()
    return manifest


async def _now(runtime: Runtime) -> tuple[datetime, int]:
    async with _postgres(runtime) as c:
        row = await c.fetchrow(NOW)
    if row is None or row["epoch"] is None:
        raise Failure("the database has no epoch", "it is not an installation of ours")
    return row["now"], row["epoch"]


async def _readers_at(runtime: Runtime) -> Position | None:
    """Behind it are events that a reader had not acknowledged, or that were not published yet."""
    async with _postgres(runtime) as c:
        relay = await c.fetchrow(RELAY_AT)  # first: what is published from now on may be read after the copy
    bus = await _connected(runtime)
    try:
        found = await first_unread(bus)
    except ResourceNotFound:
        found = None
    except ServiceUnavailable:
        raise Failure("NATS does not answer", "`automata status` shows whether it runs") from None
    finally:
        await bus.close()
    if found is not None:
        return _first(found)
    return None if relay is None else Position(*relay)


def _first(batch: EventBatch) -> Position:
    event = batch.events[0]
    return Position(event.epoch, event.txid, event.position)


async def _write_erasures(runtime: Runtime, target: Path) -> Taken:
    """Of the database: it has each one from the moment at which it was answered."""
    async with _postgres(runtime) as c:
        found = Erasures(datetime.now(UTC), await kept_erasures(c))
    datadir.write(target, found)
    return Taken(str(target), found.taken_at, target.stat().st_size, erasures=len(found.records))  # noqa: ASYNC240 - ends


@contextlib.asynccontextmanager
async def _postgres(runtime: Runtime) -> AsyncIterator[Connection]:
    """Raises `Failure`."""
    try:
        async with single_connection(runtime.postgres_dsn) as c:
            yield c
    except OSError:
        raise Failure("the database cannot be reached", "`automata status` shows whether it runs") from None


async def _connected(runtime: Runtime) -> Bus:
    try:
        async with asyncio.timeout(10):
            return await Bus.connect(Nats(url=runtime.nats_url), "backup")
    except (OSError, TimeoutError):
        raise Failure("NATS cannot be reached", "`automata status` shows whether it runs") from None
