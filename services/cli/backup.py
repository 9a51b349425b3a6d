"""`automata backup`."""

import asyncio
import os
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
from libs.pg import single_connection
from libs.ring import united
from libs.rpc import ErasureRecord
from libs.subjects import ERASURES, erasures
from libs.subscribe import first_unread, stored
from services.cli import archive, datadir, rotation
from services.cli.archive import Erasures, Manifest, Position
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from services.cli.options import data_dir_option, json_option
from services.cli.progress import Terminal

EXAMPLES = """\b
Examples:
  automata backup /backups/monday
  automata backup --erasures-only /backups/erasures.json   small and quick: take it often
"""
NOW = "SELECT now() AS now, (SELECT max(epoch) FROM lifecycle.epochs) AS epoch"


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
    try:
        async with single_connection(runtime.postgres_dsn) as c:
            row = await c.fetchrow(NOW)
    except OSError:
        raise Failure("the database cannot be reached", "`automata status` shows whether it runs") from None
    if row is None or row["epoch"] is None:
        raise Failure("the database has no epoch", "it is not an installation of ours")
    return row["now"], row["epoch"]


async def _readers_at(runtime: Runtime) -> Position | None:
    bus = await _connected(runtime)
    try:
        found = await first_unread(bus)
    except ResourceNotFound:
        return None
    except ServiceUnavailable:
        raise Failure("NATS does not answer", "`automata status` shows whether it runs") from None
    finally:
        await bus.close()
    return None if found is None else _first(found)


def _first(batch: EventBatch) -> Position:
    event = batch.events[0]
    return Position(event.epoch, event.txid, event.position)


async def _write_erasures(runtime: Runtime, target: Path) -> Taken:
    bus = await _connected(runtime)
    try:
        records = await read_erasures(bus)
    except ServiceUnavailable:
        raise Failure("NATS does not answer", "`automata status` shows whether it runs") from None
    finally:
        await bus.close()
    found = Erasures(datetime.now(UTC), records)
    datadir.write(target, found)
    return Taken(str(target), found.taken_at, target.stat().st_size, erasures=len(records))  # noqa: ASYNC240 - ends


async def read_erasures(bus: Bus) -> list[ErasureRecord]:
    """All of the stream ERASURES, once each. Raises `ServiceUnavailable`."""
    found: dict[str, ErasureRecord] = {}
    try:
        async for message in stored(bus, ERASURES, erasures("*")):
            record = msgspec.msgpack.decode(message.data, type=ErasureRecord)
            found[record.request_id] = record
    except ResourceNotFound:
        return []
    return list(found.values())


async def _connected(runtime: Runtime) -> Bus:
    try:
        async with asyncio.timeout(10):
            return await Bus.connect(Nats(url=runtime.nats_url), "backup")
    except (OSError, TimeoutError):
        raise Failure("NATS cannot be reached", "`automata status` shows whether it runs") from None
