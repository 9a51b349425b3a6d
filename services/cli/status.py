"""`automata status`."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from libs.bus import Bus
from libs.config import Nats
from libs.errors import SignalError
from libs.rates import Rate, asked
from libs.rpc import ListBreakers, OpenBreaker, OpenBreakers
from services.cli import tables
from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option, json_option
from services.cli.supervisor import ProcessStatus, how_it_ended

T = TypeVar("T")
_ASK_SECONDS = 3.0
_ANSWER_SECONDS = 2.0
_BREAKER_COLUMNS = ("application", "provider", "breaker", "reason", "since (UTC)", "failures", "waiting")
_RATE_COLUMNS = ("application", "provider", "limit/s", "allowed now/s", "achieved/s", "senders")


class Seen(NamedTuple):
    """What is going on; None where nobody says."""

    processes: list[ProcessStatus]
    breakers: list[OpenBreaker] | None = None
    rates: list[Rate] | None = None
    """Of the applications that send most, first."""


@click.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Show every process in DIR, the providers that messages wait for, and what applications send a second. Exit code 1
    when a process is not ready, or nothing runs.
    """
    seen = asyncio.run(_look(DataDir(data_dir)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(as_objects(seen))))
    else:
        Console(highlight=False).print(_table(seen.processes))
        if seen.breakers:
            tables.show(_BREAKER_COLUMNS, map(as_row, seen.breakers))
        if seen.rates:
            tables.show(_RATE_COLUMNS, map(as_rate_row, seen.rates))
    if not all(process.ready for process in seen.processes):
        raise SystemExit(1)


async def _look(data: DataDir) -> Seen:
    found = (await ask(data, Request("status"), 15.0)).processes
    if not any(process.name == "nats" and process.ready for process in found):
        return Seen(found)
    with contextlib.suppress(Failure, OSError, TimeoutError):
        async with asyncio.timeout(_ASK_SECONDS):
            bus = await Bus.connect(Nats(url=data.runtime().nats_url), "status")
            try:
                return Seen(found, *await asyncio.gather(_known(_breakers(bus)), _known(asked(bus))))
            finally:
                await bus.close()
    return Seen(found)


async def _known(answer: Awaitable[T]) -> T | None:
    """None: who should say does not."""
    with contextlib.suppress(SignalError, TimeoutError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await answer
    return None


async def _breakers(bus: Bus) -> list[OpenBreaker]:
    return (await bus.call("lifecycle", "breakers", ListBreakers(count_waiting=True), OpenBreakers)).breakers


def as_objects(seen: Seen) -> list[dict[str, Any]]:
    """For programs: one object a process. A sender's names the open breakers of its provider, and the rates of all
    senders to it, where they are known."""
    objects = [msgspec.structs.asdict(process) for process in seen.processes]
    for each in objects:
        if not each["name"].startswith("sender-"):
            continue
        channel = each["name"].split("-")[1]
        told: dict[str, Sequence[OpenBreaker | Rate] | None] = {"breakers": seen.breakers, "rates": seen.rates}
        for name, found in told.items():
            if found is not None:
                each[name] = [one for one in found if one.channel == channel]
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


def as_rate_row(rate: Rate) -> tuple[str, ...]:
    """For people."""
    return (
        rate.application_id,
        rate.channel,
        "none" if rate.limit is None else _number(rate.limit),
        "any" if rate.effective is None else _number(rate.effective),
        _number(rate.achieved),
        str(rate.processes),
    )


def _number(rate: float) -> str:
    return f"{rate:.3f}".rstrip("0").rstrip(".")


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
