"""`automata status`."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from libs.bus import Bus
from libs.config import Nats
from libs.errors import SignalError
from libs.rpc import ListBreakers, OpenBreaker, OpenBreakers
from services.cli import tables
from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option, json_option
from services.cli.supervisor import ProcessStatus, how_it_ended

_ASK_SECONDS = 3.0
_BREAKER_COLUMNS = ("application", "provider", "breaker", "reason", "since (UTC)", "failures", "waiting")


@click.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Show every process in DIR, and the providers that messages wait for. Exit code 1 when a process is not ready, or
    nothing runs.
    """
    data = DataDir(data_dir)
    found, breakers = asyncio.run(_look(data))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(as_objects(found, breakers))))
    else:
        Console(highlight=False).print(_table(found))
        if breakers:
            tables.show(_BREAKER_COLUMNS, map(as_row, breakers))
    if not all(process.ready for process in found):
        raise SystemExit(1)


async def _look(data: DataDir) -> tuple[list[ProcessStatus], list[OpenBreaker] | None]:
    """Processes and breakers; None where lifecycle does not answer."""
    found = (await ask(data, Request("status"), 15.0)).processes
    if not {"nats", "lifecycle"} <= {process.name for process in found if process.ready}:
        return found, None
    with contextlib.suppress(SignalError, Failure, OSError, TimeoutError):
        async with asyncio.timeout(_ASK_SECONDS):
            bus = await Bus.connect(Nats(url=data.runtime().nats_url), "status")
            try:
                question = ListBreakers(count_waiting=True)
                return found, (await bus.call("lifecycle", "breakers", question, OpenBreakers)).breakers
            finally:
                await bus.close()
    return found, None


def as_objects(found: list[ProcessStatus], breakers: list[OpenBreaker] | None) -> list[dict[str, Any]]:
    """For programs: one object a process. A sender's names the open breakers of its provider, where they are known."""
    objects = [msgspec.structs.asdict(process) for process in found]
    for each in objects:
        if breakers is not None and each["name"].startswith("sender-"):
            channel = each["name"].split("-")[1]
            each["breakers"] = [breaker for breaker in breakers if breaker.channel == channel]
    return objects


def as_row(breaker: OpenBreaker) -> tuple[str, ...]:
    """For people."""
    return (
        breaker.application_id,
        breaker.channel,
        "half open" if breaker.half_open else "open",
        f"{breaker.retry_class}: {breaker.reason}",
        tables.utc(breaker.opened_at_ms),
        str(breaker.failures),
        str(breaker.waiting),
    )


def _table(found: list[ProcessStatus]) -> Table:
    table = Table()
    for column in ("process", "pid", "state", "ready", "up", "restarts", "last end"):
        table.add_column(column, justify="right" if column in ("pid", "restarts") else "left")
    table.columns[0].min_width = max((len(process.name) for process in found), default=0)
    for process in found:
        table.add_row(
            process.name,
            str(process.pid or ""),
            process.state,
            "[green]yes[/]" if process.ready else "[red]no[/]",
            _age(process.started_at) if process.pid else "",
            str(process.restarts),
            "" if process.last_exit is None else how_it_ended(process.last_exit),
        )
    return table


def _age(started_at: float) -> str:
    minutes, seconds = divmod(int(time.time() - started_at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
